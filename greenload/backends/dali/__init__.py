"""NVIDIA DALI as a backend, on the CPU and on a GPU."""
