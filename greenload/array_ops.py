"""Array operations that give the same bits in NumPy and in TensorFlow: what draws and stage params are written in.

Only operations whose result IEEE 754 or integer arithmetic fixes to the bit are in ``Ops``; ``exp`` and ``sin_cos``,
whose library versions differ in the last bit, are built from them.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from greenload.system.frameworks import tf

Array = Any
"""A NumPy array or a TensorFlow tensor: whatever ``ops`` works on."""


class Ops(Protocol):
    """The array operations that draws and stage params are written in; all are exact or correctly rounded.

    Here are those that both libraries call alike; the others are in each library's own class. ``positions`` numbers the
    elements of an array's first dimension; ``count_up_to`` says of each ``x`` ``[n]`` how many of ``levels`` ``[k]``,
    ascending, aren't above it.
    """

    library: Any

    def u64(self, x: Array) -> Array:
        return self.cast(x, "uint64")

    def i64(self, x: Array) -> Array:
        return self.cast(x, "int64")

    def f64(self, x: Array) -> Array:
        return self.cast(x, "float64")

    def floor(self, x: Array) -> Array:
        return self.library.floor(x)

    def sqrt(self, x: Array) -> Array:
        return self.library.sqrt(x)

    def minimum(self, x: Array, y: Array) -> Array:
        return self.library.minimum(x, y)

    def maximum(self, x: Array, y: Array) -> Array:
        return self.library.maximum(x, y)

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        return self.library.where(condition, x, y)

    def stack(self, arrays: list[Array], axis: int) -> Array:
        return self.library.stack(arrays, axis=axis)

    def cast(self, x: Array, dtype: str) -> Array: ...
    def xor(self, x: Array, y: Array) -> Array: ...
    def shift_right(self, x: Array, bits: int) -> Array: ...
    def rint(self, x: Array) -> Array: ...
    def any(self, x: Array, axis: int) -> Array: ...
    def argmax(self, x: Array, axis: int) -> Array: ...
    def argsort(self, x: Array) -> Array: ...
    def pick(self, x: Array, position: Array) -> Array: ...
    def take(self, x: Array, index: Array) -> Array: ...
    def concat(self, arrays: list[Array], axis: int) -> Array: ...
    def positions(self, x: Array) -> Array: ...
    def count_up_to(self, levels: Array, x: Array) -> Array: ...
    def walk(self, step: Any, x: Array, size: Array) -> Array: ...


class _NumPyOps(Ops):
    """Unsigned overflow wraps, as the hash wants."""

    library = np

    def cast(self, x: Array, dtype: str) -> Array:
        if dtype == "bfloat16":
            import ml_dtypes

            return np.asarray(x).astype(ml_dtypes.bfloat16)
        return np.asarray(x).astype(dtype)

    def xor(self, x: Array, y: Array) -> Array:
        return np.bitwise_xor(x, y)

    def shift_right(self, x: Array, bits: int) -> Array:
        return np.right_shift(x, np.uint64(bits))

    def rint(self, x: Array) -> Array:
        return np.rint(x)

    def any(self, x: Array, axis: int) -> Array:
        return np.any(x, axis=axis)

    def argmax(self, x: Array, axis: int) -> Array:
        return np.argmax(x, axis=axis)

    def argsort(self, x: Array) -> Array:
        return np.argsort(x, axis=-1, kind="stable")

    def pick(self, x: Array, position: Array) -> Array:
        return np.take_along_axis(x, np.asarray(position)[..., None], axis=-1)[..., 0]

    def take(self, x: Array, index: Array) -> Array:
        return np.take(x, index, axis=0)

    def concat(self, arrays: list[Array], axis: int) -> Array:
        return np.concatenate(arrays, axis=axis)

    def positions(self, x: Array) -> Array:
        return np.arange(len(x), dtype=np.int64)

    def count_up_to(self, levels: Array, x: Array) -> Array:
        return np.searchsorted(levels, x, side="right").astype(np.int64)

    def walk(self, step: Any, x: Array, size: Array) -> Array:
        y = step(x)
        while (outside := y >= size).any():
            y = np.where(outside, step(y), y)
        return y


NUMPY: Ops = _NumPyOps()
"""``Ops`` over NumPy arrays."""


class _TensorFlowOps(Ops):
    library = tf

    def cast(self, x: Array, dtype: str) -> Array:
        return tf.cast(x, dtype)

    def xor(self, x: Array, y: Array) -> Array:
        return tf.bitwise.bitwise_xor(x, y)

    def shift_right(self, x: Array, bits: int) -> Array:
        return tf.bitwise.right_shift(x, tf.constant(bits, tf.uint64))

    def rint(self, x: Array) -> Array:
        return tf.round(x)  # half to even, as NumPy's

    def any(self, x: Array, axis: int) -> Array:
        return tf.reduce_any(x, axis=axis)

    def argmax(self, x: Array, axis: int) -> Array:
        return tf.argmax(tf.cast(x, tf.int32), axis=axis)

    def argsort(self, x: Array) -> Array:
        return tf.cast(tf.argsort(x, stable=True), tf.int64)

    def pick(self, x: Array, position: Array) -> Array:
        return tf.gather(x, position, batch_dims=position.shape.rank, axis=-1)

    def take(self, x: Array, index: Array) -> Array:
        return tf.gather(x, index)

    def concat(self, arrays: list[Array], axis: int) -> Array:
        return tf.concat(arrays, axis=axis)

    def positions(self, x: Array) -> Array:
        return tf.range(tf.shape(x, tf.int64)[0])

    def count_up_to(self, levels: Array, x: Array) -> Array:
        return tf.searchsorted(levels, x, side="right", out_type=tf.int64)

    def walk(self, step: Any, x: Array, size: Array) -> Array:
        # The first step is taken inside the loop too: one copy in the graph, quicker to build and start.
        return tf.while_loop(
            lambda first, y: first | tf.reduce_any(y >= size),
            lambda first, y: (tf.constant(False), tf.where(first | (y >= size), step(y), y)),
            (tf.constant(True), x),
        )[1]


TENSORFLOW: Ops = _TensorFlowOps()
"""``Ops`` over TensorFlow tensors, usable inside ``tf.data`` functions. TensorFlow is imported when one is used."""


def exp(x: Array, ops: Ops = NUMPY) -> Array:
    """``e^x`` from additions and products alone, hence the same bits everywhere.

    ``exp(x) = exp(x / 64)^64``: a Taylor polynomial of degree 12, then six squarings; the relative error is below 2e-14
    for ``|x| ≤ 3``. Library ``exp`` functions differ in the last bit between NumPy and TensorFlow.
    """
    y = ops.f64(x) * (1.0 / 64.0)
    total = y * (1.0 / 479001600.0) + 1.0 / 39916800.0
    for factorial in (3628800.0, 362880.0, 40320.0, 5040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0):
        total = total * y + 1.0 / factorial
    for _ in range(6):
        total = total * total
    return total


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
