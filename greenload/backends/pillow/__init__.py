"""Pillow-SIMD, or plain Pillow, as a backend on the CPU."""
