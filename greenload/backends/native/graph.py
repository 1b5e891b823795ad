"""A segment on the kernel as a part of TensorFlow's graph: batches go through it without a call into Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from greenload.array_ops import TENSORFLOW
from greenload.backends import orientation as orienting
from greenload.backends.base import BatchOutcome
from greenload.backends.image_sizes import decode_of
from greenload.backends.native.counters import counted_as
from greenload.backends.native.layout import Layout
from greenload.backends.native.library import Status
from greenload.backends.native.op import Operation, probe, read
from greenload.backends.native.table import TABLE
from greenload.backends.readers import Readers
from greenload.backends.tf import readers as tf_readers
from greenload.backends.tf.decode import decode
from greenload.backends.tf.orientation import orientation
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import reads_params
from greenload.specs import ENCODED_SPEC, HWC, ImageSpec
from greenload.stages import primitives as p
from greenload.system.frameworks import tf

Convert = Callable[[Any], tuple[Any, Any]]
"""From a file to one that the kernel reads, and rows, columns and orientation of its image."""
_DECODED = ImageSpec((None, None, 3), "uint8", HWC)


def fits(segment: Segment) -> bool:
    """Whether a segment can be one operation: its images leave with one size."""
    return segment.spec_out.static


class NativeGraphSegment:
    """A segment inside TensorFlow's graph. The kernel decodes plain JPEGs; of any other file tf.data's own steps make a
    binary PPM, which the kernel reads.

    Args:
        plan: that the segment belongs to.
        segment: on backend ``"native"``, one that ``fits``.
        readers: of the plan.
    """

    def __init__(self, plan: Plan, segment: Segment, readers: Readers) -> None:
        self._draws = DrawLayout.of(plan.pipeline)
        self._segment = segment
        self._decode = decode_of(segment.steps)
        self._layout = Layout.of(TABLE, segment.steps)
        steps, columns = self._layout.chosen_steps(), self._layout.columns
        self._operation = Operation(steps, columns, segment.spec_out, counted_as(self._layout))
        self._stages = tuple({step.stage for step in segment.steps if step.stage is not None and reads_params(step)})
        self._as_ppm = _as_ppm(self._decode, readers)
        self._odd = _odd(self._decode, self._as_ppm)

    def sample(self, file: Any) -> tuple[Any, Any]:
        """A file as it is where the kernel decodes it, else a binary PPM; and its size, as ``GraphSegment`` says."""
        plain, size = probe(file, self._decode.exif, self._decode.max_bytes)
        upright = tf.constant([1], tf.int64)
        as_it_is = file, tf.concat([size, upright], 0)
        readable, size = tf.cond(plain, lambda: as_it_is, lambda: tuple(self._odd(file)))
        return tf.ensure_shape(readable, ()), tf.ensure_shape(size, (3,))

    def read(self, paths: Any) -> Any:
        """Files, as ``GraphSegment`` says."""
        return read(paths)

    def files(self, files: Any) -> tuple[Any, Any]:
        """Many files as they are where the kernel decodes them, else binary PPMs; as ``GraphSegment`` says."""
        plain, sizes = probe(files, self._decode.exif, self._decode.max_bytes)
        as_they_are = files, tf.concat([sizes, tf.ones_like(sizes[:, :1])], 1)

        def with_odd() -> tuple[Any, Any]:
            rows = tf.where(~plain)
            readable, odd_sizes = _each(self._odd, tf.gather_nd(files, rows))
            return _replaced(as_they_are, rows, (readable, odd_sizes))

        readable, sizes = tf.cond(tf.reduce_all(plain), lambda: as_they_are, with_odd)
        return tf.ensure_shape(readable, (None,)), tf.ensure_shape(sizes, (None, 3))

    def batch(self, images: Any, sizes: Any, numbers: Any) -> BatchOutcome:
        """A batch through the segment, as ``GraphSegment`` says."""
        height, width = sizes[:, 0], sizes[:, 1]
        first, end = self._segment.first, self._segment.end
        enough = self._draws.large_enough(numbers, height, width, TENSORFLOW, first=first, end=end)
        params = self._draws.params(numbers, height, width, self._stages, TENSORFLOW, first=first)
        drawn = self._layout.choices(params)
        choices = TENSORFLOW.concat(drawn, -1) if drawn else tf.zeros([tf.size(height), 0], tf.int64)

        def rows(turns: Any) -> Any:
            further = {"orientation": turns, "upright_height": height, "upright_width": width}
            made = self._layout.rows(params, further, TENSORFLOW)
            return tf.zeros([tf.size(height), 0], tf.float64) if made is None else made

        done = self._operation.run(images, sizes, rows(sizes[:, 2]), choices)
        if self._segment.spec_in.encoded:
            bad = done[1] == Status.BAD_FILE

            def again() -> tuple[Any, ...]:
                which = tf.where(bad)
                files, upright = _each(self._as_ppm, tf.gather_nd(images, which))
                own = (tf.gather(part, which[:, 0]) for part in (rows(tf.ones_like(height)), choices))
                return _replaced(done, which, self._operation.run(files, upright, *own))

            done = tf.cond(tf.reduce_any(bad), again, lambda: done)
        images, status, reasons = done
        images.set_shape((None, *self._segment.spec_out.image_shape))
        return BatchOutcome(images, enough, status, reasons)


def _each(convert: Convert, files: Any) -> tuple[Any, Any]:
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
    return _replaced(failed, rows[:, tf.newaxis], done)


def _replaced(whole: Sequence[Any], rows: Any, parts: Sequence[Any]) -> tuple[Any, ...]:
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
