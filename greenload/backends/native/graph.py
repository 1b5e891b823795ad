"""A segment on the kernel as a part of TensorFlow's graph: batches go through it without a call into Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenload.array_ops import TENSORFLOW
from greenload.backends.base import BatchOutcome
from greenload.backends.image_sizes import decode_of
from greenload.backends.native.layout import Layout
from greenload.backends.native.library import Status
from greenload.backends.native.op import Operation, probe
from greenload.backends.native.table import TABLE
from greenload.backends.readers import Readers
from greenload.backends.tf import readers as tf_readers
from greenload.backends.tf.decode import decode
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import reads_params
from greenload.specs import ENCODED_SPEC, HWC, ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p
from greenload.system.frameworks import tf

_DECODED = ImageSpec((None, None, 3), "uint8", HWC)


def fits(segment: Segment) -> bool:
    """Whether a segment can be one operation: its images leave with one size, after the same steps."""
    return segment.spec_out.static and Layout.of(TABLE, segment.steps).straight is not None


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
        straight = self._layout.straight
        assert straight is not None  # as `fits` says
        self._operation = Operation(straight, self._layout.columns, segment.spec_out)
        self._stages = tuple({step.stage for step in segment.steps if step.stage is not None and reads_params(step)})
        self._as_ppm = _as_ppm(self._decode, readers)

    def sample(self, file: Any) -> tuple[Any, Any]:
        plain, size = probe(file, self._decode.exif, self._decode.max_bytes)
        readable, size = tf.cond(plain, lambda: (file, size), lambda: tuple(self._as_ppm(file)))
        return tf.ensure_shape(readable, ()), tf.ensure_shape(size, (2,))

    def batch(self, images: Any, sizes: Any, numbers: Any) -> BatchOutcome:
        height, width = sizes[:, 0], sizes[:, 1]
        first, end = self._segment.first, self._segment.end
        enough = self._draws.large_enough(numbers, height, width, TENSORFLOW, first=first, end=end)
        params = self._draws.params(numbers, height, width, self._stages, TENSORFLOW, first=first)
        rows = self._layout.rows(params, self._further(height, width), TENSORFLOW)
        if rows is None:
            rows = tf.zeros([tf.size(height), 0], tf.float64)
        done, status, reasons = self._operation.run(images, sizes, rows)
        if self._segment.spec_in.encoded:
            bad = status == Status.BAD_FILE
            outcome = tf.cond(
                tf.reduce_any(bad), lambda: self._again(images, sizes, rows, bad), lambda: (done, status, reasons)
            )
            done, status, reasons = outcome
        done.set_shape((None, *self._segment.spec_out.image_shape))
        return BatchOutcome(done, enough, status, reasons)

    def _further(self, height: Any, width: Any) -> Params:
        """What decoding needs where EXIF orientations are applied: in files that state one they have been."""
        if not self._decode.exif:
            return {}
        return {"orientation": tf.ones_like(height), "upright_height": height, "upright_width": width}

    def _again(self, files: Any, sizes: Any, rows: Any, bad: Any) -> tuple[Any, Any, Any]:
        """A batch some of whose files the kernel couldn't decode. TensorFlow decides whether they are bad."""

        def one(file: Any) -> Any:
            tried = tf.data.Dataset.from_tensors(file).map(lambda file: self._as_ppm(file)[0]).ignore_errors()
            return tried.concatenate(tf.data.Dataset.from_tensors("")).take(1).get_single_element()

        positions = tf.where(bad)
        mended = tf.map_fn(one, tf.gather_nd(files, positions))
        return self._operation.run(tf.tensor_scatter_nd_update(files, positions, mended), sizes, rows)


def _as_ppm(primitive: p.Decoding, readers: Readers) -> Callable[[Any], tuple[Any, Any]]:
    """A function from any file to a binary PPM of its upright pixels, and its rows and columns, int64 ``[2]``."""
    whole = p.Decode(primitive.exif, primitive.max_bytes, primitive.truncated)
    kinds = sorted({*TABLE.kinds, *(readers.backends or {})})
    to_readable = tf_readers.to_readable_by(readers, primitive)
    lowered = decode(whole, ENCODED_SPEC, _DECODED, to_readable, kinds)

    def convert(file: Any) -> tuple[Any, Any]:
        image, _ = lowered(file, {})
        shape = tf.shape(image)
        size = tf.reduce_prod(shape)
        # The bytes of a tensor are the last field of what it is serialized as.
        values = tf.strings.substr(tf.io.serialize_tensor(image), -size, size)
        height, width = tf.as_string(shape[0]), tf.as_string(shape[1])
        return tf.strings.join(["P6\n", width, " ", height, "\n255\n", values]), tf.cast(shape[:2], tf.int64)

    # A function that isn't inlined: each of its operations would cost a visit for every plain JPEG.
    apart: Callable[[Any], tuple[Any, Any]] = tf.function(
        convert,
        input_signature=[tf.TensorSpec((), tf.string)],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
    return apart
