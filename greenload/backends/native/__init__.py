"""greenload's own kernel as a backend on the CPU: a segment's steps on one image after another, in compiled code."""
