"""Reads the orientation that a file states, inside TensorFlow's graph: the rule of ``formats.exif`` as ops.

It takes few ops for a JPEG whose EXIF segment comes first or behind an APP0 segment, and for one without metadata. In
other files there is a walk from segment to segment, or chunk to chunk, at some 10 µs a step; of a PNG only where the
chunk's name is found in the file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from greenload.backends.tf.formats import is_jpeg
from greenload.backends.tf.memory import among
from greenload.sources.formats import exif, others
from greenload.sources.formats.jpeg import EXIF

_APP1 = np.array([0xFFE1, 0, 0x4578, 0x6966, 0], np.int64)  # what an EXIF segment begins with; its length comes second
_ANY = np.array([False, True, False, False, False])
# What an entry of a directory holds: where it lies, how many bytes it takes, and what it is multiplied by.
_KEY = ((0, 2, 1), (4, 4, 1 << 16))  # the tag, and how many values
_ENTRY = (_KEY, ((2, 2, 1),), ((8, 1, 1),), ((8, 2, 1),), ((8, 4, 1),))  # and the type, and the value, of three sizes
_WANTED = exif.ORIENTATION + (1 << 16)


def orientation(data: Any) -> Any:
    """The orientation that a file states.

    Args:
        data: the file's bytes, a scalar string tensor.

    Returns:
        An int64 scalar, 1 … 8; 1 where it states none.
    """
    import tensorflow as tf

    start = _words(data, 0, 3)
    at = tf.where((start[0] == 0xFFD8) & (start[1] == 0xFFE0), 4 + start[2], 2)
    here, begin, end, kind = _segment(data, at)
    tables = (kind >= 0xFF00) & ~_in_front(kind)
    plain = here | (tables & ~_holds(_part(data, at, exif.JPEG_BEHIND), EXIF))
    which = tf.where(is_jpeg(data) & plain, tf.where(here, 0, 1), 2)
    return tf.switch_case(
        which, [lambda: _stated(data, begin, end), lambda: tf.constant(1, tf.int64), lambda: _elsewhere(data)]
    )


def _elsewhere(data: Any) -> Any:
    """``orientation`` of any file, by one op: a branch that isn't taken costs a visit to each of its ops."""
    import tensorflow as tf

    png = tf.strings.substr(data, 0, 8) == b"\x89PNG\r\n\x1a\n"
    webp = (tf.strings.substr(data, 0, 4) == b"RIFF") & (_part(data, 8, 8) == b"WEBPVP8X")
    (stated,) = tf.raw_ops.StatelessCase(
        branch_index=tf.argmax(tf.stack([is_jpeg(data), png, webp, tf.constant(True)]), output_type=tf.int32),
        input=[data],
        Tout=[tf.int64],
        branches=[_walker(walk) for walk in (_in_jpeg, _in_png, _in_webp, _nowhere)],
        output_shapes=[()],
    )
    return stated


@functools.cache
def _walker(walk: Callable[[Any], tuple[Any, Any]]) -> Any:
    """What a file states in the block of EXIF that is found by a walk."""
    import tensorflow as tf

    def stated(data: Any) -> Any:
        begin, end = walk(data)
        return tf.cond(end > begin, lambda: _stated(data, begin, end), lambda: tf.constant(1, tf.int64))

    with tf.init_scope():  # not inside the graph that asks for it first, which it would hold for ever
        return tf.function(stated, autograph=False).get_concrete_function(tf.TensorSpec((), tf.string))


def _nowhere(data: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    return tf.constant(0, tf.int64), tf.constant(0, tf.int64)


def _stated(data: Any, begin: Any, end: Any) -> Any:
    """What the block of EXIF states that lies between two places."""
    import tensorflow as tf

    def ordered(little: Any) -> Any:
        """Weights of bytes in the file's order, from those in which the least significant comes first."""
        return tf.where(big, tf.constant(little[::-1]), tf.constant(little))

    size, mark = end - begin, tf.strings.substr(data, begin, 4)
    big = mark == b"MM\0*"
    directory = tf.reduce_sum(_bytes(data, begin + 4, 4) * ordered(256 ** np.arange(4)))
    good = (big | (mark == b"II*\0")) & (size >= 8) & (directory + 2 <= size)
    at = tf.where(good, begin + directory, 0)
    promised = tf.reduce_sum(_bytes(data, at, 2) * ordered(256 ** np.arange(2)))
    count = tf.where(good, tf.minimum(promised, (size - directory - 2) // 12), 0)
    rows = tf.io.decode_raw(tf.strings.substr(data, at + 2, 12 * count), tf.uint8)
    weights = tf.where(big, *(tf.constant(_weights(order)) for order in (True, False)))
    numbers = tf.matmul(tf.cast(tf.reshape(rows, (-1, 12)), tf.int64), weights)
    # Of types that none is taken of there are no values.
    values = tf.gather(tf.constant(_of_types()), tf.minimum(numbers[:, 1], len(_of_types()) - 1)) * numbers[:, 2:]
    value = tf.reduce_sum(values, 1)
    holds = (numbers[:, 0] == _WANTED) & (value >= 1) & (value <= 8)
    stated = tf.concat([tf.where(holds, value, 0), [1]], 0)
    return stated[tf.argmax(stated > 0)]


def _weights(big: bool) -> Any:
    """What the twelve bytes of an entry count for in each of its numbers, int64 ``[12, numbers]``."""
    weights = np.zeros((12, len(_ENTRY)), np.int64)
    for column, parts in enumerate(_ENTRY):
        for at, size, factor in parts:
            powers = factor * 256 ** np.arange(size)
            weights[at : at + size, column] = powers[::-1] if big else powers
    return weights


def _of_types() -> Any:
    """Which of the three sizes a value has, by type: int64 ``[types, 3]``, of zeros and a one."""
    sizes = [exif.TYPES.get(kind, "").lower() for kind in range(max(exif.TYPES) + 2)]
    return np.array([[size == each for each in "bhi"] for size in sizes], np.int64)


def _segment(data: Any, at: Any) -> tuple[Any, Any, Any, Any]:
    """Whether a JPEG's segment is EXIF, where its block begins and ends, and the segment's marker."""
    import tensorflow as tf

    words = _words(data, at, len(_APP1))
    end = tf.minimum(at + 2 + words[1], _size(data))
    return tf.reduce_all((words == _APP1) | _ANY) & (end >= at + 10), at + 10, end, words[0]


def _in_front(marker: Any) -> Any:
    """Whether a marker is of the segments that a JPEG begins with, or a fill byte and what follows it."""
    first, last, comment = (0xFF00 + kind for kind in exif.JPEG_FRONT)
    return ((marker >= first) & (marker <= last)) | (marker >= comment)


def _in_jpeg(data: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    def walk(at: Any, count: Any, limit: Any, front: bool) -> Any:
        def going(at: Any, count: Any) -> Any:
            is_exif, _, _, kind = _segment(data, at)
            there = _in_front(kind) if front else (kind >= 0xFF00) & ~among(kind, (0xFFD9, 0xFFDA))
            return (at + 10 <= limit) & (count < exif.JPEG_STEPS) & there & ~is_exif

        def step(at: Any, count: Any) -> Any:
            words = _words(data, at, 2)
            return at + tf.where(words[0] < 0xFFFF, 2 + words[1], 1), count + 1

        return tf.while_loop(going, step, (at, count), parallel_iterations=1)

    size = _size(data)
    at, count = walk(tf.constant(2, tf.int64), tf.constant(0), size, front=True)
    tables = _part(data, at, exif.JPEG_BEHIND)
    limit = tf.minimum(size, at + exif.JPEG_BEHIND)
    at, count = tf.cond(_holds(tables, EXIF), lambda: tuple(walk(at, count, limit, front=False)), lambda: (at, count))
    is_exif, begin, end, _ = _segment(data, at)
    is_exif &= (count < exif.JPEG_STEPS) & (at + 10 <= limit)
    return tf.where(is_exif, begin, 0), tf.where(is_exif, end, 0)


def _in_png(data: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    begin, end = tf.cond(_holds(data, exif.PNG_NAME), lambda: _png_chunk(data), lambda: _nowhere(data))
    return begin, end


def _png_chunk(data: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    size = _size(data)
    most = exif.png_steps(size)

    def length(at: Any) -> Any:
        high, low = tf.unstack(_words(data, at, 2))
        return high * 65536 + low

    def name(at: Any) -> Any:
        return _part(data, at + 4, 4)

    def going(at: Any, count: Any) -> Any:
        whole = at + 12 + length(at) <= size
        return whole & (count < most) & (name(at) != exif.PNG_NAME) & (name(at) != b"IEND")

    def step(at: Any, count: Any) -> Any:
        return at + 12 + length(at), count + 1

    start = (tf.constant(8, tf.int64), tf.constant(0, tf.int64))
    at, count = tf.while_loop(going, step, start, parallel_iterations=1)
    end = at + 8 + length(at)
    is_exif = (end + 4 <= size) & (count < most) & (name(at) == exif.PNG_NAME)
    return _unprefixed(data, tf.where(is_exif, at + 8, 0), tf.where(is_exif, end, 0))


def _in_webp(data: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    def length(at: Any) -> Any:
        return tf.reduce_sum(_bytes(data, at + 4, 4) * 256 ** np.arange(4))

    end = tf.minimum(_size(data), 8 + length(0))

    def name(at: Any) -> Any:
        return _part(data, at, 4)

    def going(at: Any, count: Any) -> Any:
        return (at + 8 <= end) & (count < others.WEBP_CHUNKS) & (name(at) != b"EXIF")

    def step(at: Any, count: Any) -> Any:
        return at + 8 + length(at) + length(at) % 2, count + 1

    at, count = tf.while_loop(going, step, (tf.constant(12, tf.int64), tf.constant(0)), parallel_iterations=1)
    is_exif = (at + 8 <= end) & (count < others.WEBP_CHUNKS)
    return _unprefixed(data, tf.where(is_exif, at + 8, 0), tf.where(is_exif, tf.minimum(at + 8 + length(at), end), 0))


def _unprefixed(data: Any, begin: Any, end: Any) -> tuple[Any, Any]:
    """A block without what stands in front of it in JPEGs, which some writers put there in other files too."""
    import tensorflow as tf

    prefixed = (tf.strings.substr(data, begin, len(EXIF)) == EXIF) & (begin + len(EXIF) <= end)
    return begin + tf.where(prefixed, np.int64(len(EXIF)), 0), end


def _holds(data: Any, part: bytes) -> Any:
    """Whether some bytes are anywhere in a file."""
    import tensorflow as tf

    return tf.size(tf.raw_ops.StringSplitV2(input=[data], sep=part, maxsplit=1).values) > 1


def _size(data: Any) -> Any:
    import tensorflow as tf

    return tf.cast(tf.strings.length(data), tf.int64)


def _part(data: Any, at: Any, size: int) -> Any:
    """So many bytes from a place on, or those that are there."""
    import tensorflow as tf

    return tf.strings.substr(data, tf.minimum(tf.cast(at, tf.int64), _size(data)), size)


def _bytes(data: Any, at: Any, count: int) -> Any:
    """So many bytes from a place on, int64; of those that are not there, zeros count."""
    return _decoded(data, at, count, "uint8")


def _words(data: Any, at: Any, count: int) -> Any:
    """So many numbers of two bytes, the most significant one first, int64; of bytes that are not there, zeros count."""
    return _decoded(data, at, 2 * count, "uint16")


def _decoded(data: Any, at: Any, size: int, dtype: str) -> Any:
    import tensorflow as tf

    values = tf.io.decode_raw(_part(data, at, size), tf.as_dtype(dtype), little_endian=False, fixed_length=size)
    values.set_shape((size // tf.as_dtype(dtype).size,))
    return tf.cast(values, tf.int64)
