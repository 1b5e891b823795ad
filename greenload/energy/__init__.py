"""Joules and CPU seconds of a window of time; this room knows nothing of pipelines."""
