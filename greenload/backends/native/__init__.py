"""Runs segments in a library of its own in C++: from files' bytes to the batch's memory, without Python on the way."""
