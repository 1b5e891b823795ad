"""Angles: a sine and a cosine that have the same bits in NumPy and in TensorFlow, whose own differ in the last."""

from __future__ import annotations

import math

from greenload.randomness import NUMPY, Array, Ops


def sin_cos(degrees: Array, ops: Ops = NUMPY) -> tuple[Array, Array]:
    """The sine and the cosine of an angle in degrees, the same bits everywhere; exact at multiples of 90.

    The angle is taken to −45 … 45 degrees around the nearest multiple of 90, exactly, and the Taylor polynomials of
    degree 17 and 16 of its radians are evaluated; the error is below 3e-16.
    """
    turns = ops.rint(ops.f64(degrees) * (1.0 / 90.0))
    x = (degrees - turns * 90.0) * (math.pi / 180.0)
    square = x * x
    sine = square * (1.0 / 355687428096000.0) + -1.0 / 1307674368000.0
    for k, factorial in enumerate((6227020800.0, 39916800.0, 362880.0, 5040.0, 120.0, 6.0, 1.0)):
        sine = sine * square + (1.0 - 2.0 * (k % 2)) / factorial
    sine = sine * x
    cosine = square * (1.0 / 20922789888000.0) + -1.0 / 87178291200.0
    for k, factorial in enumerate((479001600.0, 3628800.0, 40320.0, 720.0, 24.0, 2.0, 1.0)):
        cosine = cosine * square + (1.0 - 2.0 * (k % 2)) / factorial
    quarter = turns - ops.floor(turns * 0.25) * 4.0  # 0, 1, 2 or 3
    swapped = (quarter == 1.0) | (quarter == 3.0)
    up = ops.where(swapped, cosine, sine)
    across = ops.where(swapped, sine, cosine)
    return ops.where(quarter >= 2.0, -up, up), ops.where((quarter == 1.0) | (quarter == 2.0), -across, across)
