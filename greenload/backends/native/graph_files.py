"""Files in TensorFlow's graph on their way into the kernel, which decodes plain JPEGs; of any other file tf.data's own
steps make a binary PPM, which the kernel reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from greenload.array_ops import TENSORFLOW
from greenload.backends import orientation as orienting
from greenload.backends.native.op import probe
from greenload.backends.native.table import TABLE
from greenload.backends.readers import Readers
from greenload.backends.tf import readers as tf_readers
from greenload.backends.tf.decode import decode
from greenload.backends.tf.orientation import orientation
from greenload.specs import ENCODED_SPEC, HWC, ImageSpec
from greenload.stages import primitives as p
from greenload.system.frameworks import tf

Convert = Callable[[Any], tuple[Any, Any]]
"""From a file to one that the kernel reads, and rows, columns and orientation of its image."""
_DECODED = ImageSpec((None, None, 3), "uint8", HWC)


class GraphFiles:
    """Looks at files before the kernel decodes them.

    Args:
        primitive: how they are decoded.
        readers: of the plan.
        kept: whether they come from a cache that keeps forms that only the kernel reads.
    """

    def __init__(self, primitive: p.Decoding, readers: Readers, kept: bool = False) -> None:
        self._decode = primitive
        self._kept = kept
        self._as_ppm = _as_ppm(primitive, readers)
        self._odd = _odd(primitive, self._as_ppm)

    def one(self, file: Any) -> tuple[Any, Any]:
        """A file as it is where the kernel decodes it, else a binary PPM; and rows, columns and orientation of its
        image, int64 ``[3]``. Fails where it can't be decoded."""
        plain, size = self._probed(file)
        upright = tf.constant([1], tf.int64)
        as_it_is = file, tf.concat([size, upright], 0)
        readable, size = tf.cond(plain, lambda: as_it_is, lambda: tuple(self._odd(file)))
        return tf.ensure_shape(readable, ()), tf.ensure_shape(size, (3,))

    def many(self, files: Any) -> tuple[Any, Any]:
        """The same of many, ``[n]`` and ``[n, 3]``. One that can't be decoded becomes an empty file, of one pixel."""
        plain, sizes = self._probed(files)
        as_they_are = files, tf.concat([sizes, tf.ones_like(sizes[:, :1])], 1)

        def with_odd() -> tuple[Any, Any]:
            rows = tf.where(~plain)
            return replaced(as_they_are, rows, each_one(self._odd, tf.gather_nd(files, rows)))

        readable, sizes = tf.cond(tf.reduce_all(plain), lambda: as_they_are, with_odd)
        return tf.ensure_shape(readable, (None,)), tf.ensure_shape(sizes, (None, 3))

    def pixels(self, files: Any) -> tuple[Any, Any]:
        """Many files, all as binary PPMs, as TensorFlow decodes them; else as ``many``."""
        return each_one(self._as_ppm, files)

    def _probed(self, files: Any) -> tuple[Any, Any]:
        return probe(files, self._decode.exif, self._decode.max_bytes, self._kept)


def each_one(convert: Convert, files: Any) -> tuple[Any, Any]:
    """Files through a function one by one, and their sizes, ``[n]`` and ``[n, 3]``. One that fails leaves an empty
    file, of one pixel."""

    def numbered(row: Any, file: Any) -> tuple[Any, Any, Any]:
        return row, *convert(file)

    count = tf.size(files, tf.int64)
    failed = tf.fill(tf.shape(files), ""), tf.ones([count, 3], tf.int64)
    # Only a dataset goes on behind an element that fails.
    tried = tf.data.Dataset.from_tensor_slices((tf.range(count), files)).map(numbered).ignore_errors().batch(count)
    none = tf.data.Dataset.from_tensors((tf.zeros([0], tf.int64), failed[0][:0], failed[1][:0]))
    rows, *done = tried.concatenate(none).take(1).get_single_element()
    return replaced(failed, rows[:, tf.newaxis], done)


def replaced(whole: Sequence[Any], rows: Any, parts: Sequence[Any]) -> tuple[Any, ...]:
    """Tensors with other values in some rows, int64 ``[k, 1]``."""
    return tuple(tf.tensor_scatter_nd_update(w, rows, part) for w, part in zip(whole, parts, strict=True))


def _odd(decode: p.Decoding, as_ppm: Convert) -> Convert:
    """What is done with a file that isn't a plain JPEG: the kernel turns one that only states an orientation."""
    if not decode.exif:
        return as_ppm

    def convert(file: Any) -> tuple[Any, Any]:
        plain, size = probe(file, False, decode.max_bytes)

        def turned() -> tuple[Any, Any]:
            turn = orientation(file)
            return file, tf.stack([*orienting.upright_size(size[0], size[1], turn, TENSORFLOW), turn])

        readable, size = tf.cond(plain, turned, lambda: tuple(as_ppm(file)))
        return readable, size

    return _apart(convert)


def _as_ppm(primitive: p.Decoding, readers: Readers) -> Convert:
    """A function from any file to a binary PPM of its upright pixels, and what ``sample`` says of their size."""
    whole = p.Decode(primitive.exif, primitive.max_bytes, primitive.truncated)
    kinds = sorted({*TABLE.kinds, *(readers.backends or {})})
    lowered = decode(whole, ENCODED_SPEC, _DECODED, tf_readers.to_readable_by(readers, primitive), kinds)

    def convert(file: Any) -> tuple[Any, Any]:
        image, _ = lowered(file, {})
        shape = tf.shape(image)
        count = tf.reduce_prod(shape)
        # The bytes of a tensor are the last field of what it is serialized as.
        values = tf.strings.substr(tf.io.serialize_tensor(image), -count, count)
        height, width = tf.as_string(shape[0]), tf.as_string(shape[1])
        ppm = tf.strings.join(["P6\n", width, " ", height, "\n255\n", values])
        return ppm, tf.concat([tf.cast(shape[:2], tf.int64), [1]], 0)

    return _apart(convert)


def _apart(convert: Convert) -> Convert:
    """A function that isn't inlined: each of its operations would cost a visit for every plain JPEG."""
    made: Convert = tf.function(
        convert,
        input_signature=[tf.TensorSpec((), tf.string)],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
    return made
