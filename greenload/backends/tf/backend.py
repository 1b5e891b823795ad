"""The tf.data backend: each step as a function from one sample's state to the next, run inside a parallel map.

A state is a dict of tensors: ``"image"``, ``"numbers"`` (the prepared numbers of all random stages) and whatever
rides along. TensorFlow is imported when a step is lowered, never at import.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.array_ops import tensorflow_ops
from greenload.backends.base import EXACT, Availability, Images, Records, Tolerance
from greenload.backends.image_sizes import decode_of, sides_of
from greenload.backends.readers import Readers
from greenload.backends.tf import decode as tf_decode
from greenload.backends.tf import filters, lowerings
from greenload.backends.tf import readers as tf_readers
from greenload.errors import BackendUnavailable, RecordError
from greenload.plans import claims
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Step, reads_params
from greenload.sources.formats import FormatError, opened
from greenload.specs import ImageSpec
from greenload.stages import Stage
from greenload.stages import primitives as p
from greenload.system import forking, shutdown

State = dict[str, Any]
"""One sample on its way: tensors by name."""
Element = Callable[[State], State]
"""What a step does to a sample."""


def elements(plan: Plan, steps: Sequence[Step]) -> list[Element]:
    """Lower steps on pixels to functions of one sample, to be composed in one map or run apart.

    Args:
        plan: the plan that the steps belong to.
        steps: steps of kind ``"pixels"``, in order.

    Returns:
        One function a step. The first step of a stage computes its params; a later step of the same stage finds them in
        the state.
    """
    numbers, readers = DrawLayout.of(plan.pipeline), Readers.of(plan)
    lowered = []
    for position, step in enumerate(steps):
        keep = any(later.stage == step.stage and reads_params(later) for later in steps[position + 1 :])
        known = reads_params(step) and any(before.stage == step.stage for before in steps[:position])
        lower = _lowering(step, _followers(plan, step), readers)
        lowered.append(_element(step.stage, lower, numbers, keep=keep, known=known))
    return lowered


def reads_numbers(step: Step) -> bool:
    """Whether a step on batches needs the numbers of its samples."""
    return step.spec_out.batched and step.primitive is not None and reads_params(step)


def _followers(plan: Plan, step: Step) -> Sequence[Step]:
    """The steps behind one, up to where its images are what its spec says: a cache, a batch, another backend."""
    after = plan.steps[plan.steps.index(step) + 1 :]
    ends = (i for i, later in enumerate(after) if later.kind != "pixels" or later.backend != step.backend)
    return after[: next(ends, len(after))]


_ROUNDING = (p.Resize, p.Warp, p.Color, p.Blur)


def _lowering(step: Step, later: Sequence[Step], readers: Readers) -> Any:
    primitive = step.primitive
    assert primitive is not None  # what makes a step one of pixels
    lower = LOWERINGS[type(primitive)]
    if isinstance(primitive, (p.Decode, p.DecodeCrop)):
        return lower(primitive, step.spec_in, step.spec_out, tf_readers.handing_on(readers, primitive))
    if isinstance(primitive, _ROUNDING) and step.spec_out.dtype == "uint8":
        after = next((s.primitive for s in later if not isinstance(s.primitive, p.Flip)), None)
        # Whole numbers 0 … 255 that become float next stay float: the same values, two conversions less.
        stays = isinstance(after, _ROUNDING) or (isinstance(after, p.Affine) and after.dtype == "float32")
        return lower(primitive, step.spec_in, step.spec_out, "float32" if stays else "uint8")
    return lower(primitive, step.spec_in, step.spec_out)


def _element(place: int | None, lower: Any, numbers: DrawLayout, *, keep: bool, known: bool) -> Element:
    slot = f"params{place}"

    def element(state: State) -> State:
        state = dict(state)
        computed: dict[str, Any] = {}

        def params(height: Any, width: Any) -> dict[str, Any]:
            assert place is not None
            stage = numbers.stages[place]
            ops = tensorflow_ops()
            # A pipeline without random stages carries no numbers.
            own = numbers.of_stage(state["numbers"], place) if stage.numbers else None
            height, width = ops.i64(height), ops.i64(width)
            if own is not None and own.shape.rank == 2:  # a batch, whose images have one size
                height, width = (side + ops.i64(own[:, 0] * 0.0) for side in (height, width))
            return dict(stage.params(own, *_fitting(stage, height, width), ops))

        state["image"], computed = lower(state["image"], state.pop(slot) if known else params)
        if keep:
            state[slot] = computed
        return state

    return element


def _fitting(stage: Stage, height: Any, width: Any) -> tuple[Any, Any]:
    """An image's size as it is, or an error where the image is too small for a stage."""
    import tensorflow as tf

    fits = stage.fits(height, width, tensorflow_ops())
    if fits is None:
        return height, width
    with tf.control_dependencies([tf.debugging.Assert(fits, [stage.misfit(), height, width])]):
        return tf.identity(height), tf.identity(width)


LOWERINGS: dict[type[p.Primitive], Callable[..., Any]] = {
    p.Decode: tf_decode.decode,
    p.DecodeCrop: tf_decode.decode_crop,
    p.Crop: lowerings.crop,
    p.Pad: lowerings.pad,
    p.Resize: lowerings.resize,
    p.Flip: lowerings.flip,
    p.Affine: lowerings.affine,
    p.Warp: filters.warp,
    p.Color: filters.color,
    p.Blur: filters.blur,
    p.Erase: filters.erase,
    p.Call: filters.call,
}
"""What each primitive comes down to."""

# float32 weights put a value that lies on a rounding boundary to either side; in an image of few levels that resizing
# shrinks by a whole factor a sixth of all values do. Colours and filters have such ties rarely: up to 7e-4 of an
# image's values were seen, and one of a few hundred makes 5e-3. float32: the most seen was 2.5e-7.
_FILTERED = {"uint8": Tolerance(1.0, 5e-3), "float32": Tolerance(1e-6, 2e-7)}
_TOLERANCES: dict[type[p.Primitive], dict[str, Tolerance]] = {
    p.Resize: {"uint8": Tolerance(1.0, 0.25), "float32": Tolerance(4e-5, 3e-6)},
    p.Color: _FILTERED,
    p.Blur: _FILTERED,
}
"""By primitive and dtype that enters. ``Warp`` and ``Affine`` have their own; the rest moves pixels and is exact."""
# Warping counts positions in float32: over noise, values were off by up to 3e-7 of their range times the longer side
# (8e-7 where a map enlarges tenfold), by a sixth of it in the mean; sides from 32 to 3,000.
_PER_SIDE = 1e-6
_UNKNOWN_SIDE = 1000
_LARGEST = {"uint8": 255.0, "int8": 128.0}
# The distance between neighbours around 1: of float32 two steps, of the small types one, where a value lies on a
# rounding boundary.
_STEPS = {"float32": 2 * float(np.finfo(np.float32).eps), "float16": 2.0**-10, "bfloat16": 2.0**-7}


def _warp_tolerance(primitive: p.Warp, spec: ImageSpec) -> Tolerance:
    largest = _LARGEST.get(spec.dtype, 1.0)
    reach = max(largest, abs(primitive.fill), abs(largest - primitive.fill))
    error = reach * (2e-6 + _PER_SIDE * max(side or _UNKNOWN_SIDE for side in spec.image_shape[:2]))
    if spec.dtype == "uint8":
        return Tolerance(float(np.ceil(error)), 5e-3 + error / 5)
    return Tolerance(error, error / 5)


def _affine_tolerance(primitive: p.Affine, spec: ImageSpec) -> Tolerance:
    if primitive.dtype not in _STEPS:
        return Tolerance(1.0, 1e-3)  # a value within a float32 step of an integer is cut to either side
    reach = max(map(abs, primitive.scale)) * _LARGEST.get(spec.dtype, 1.0) + max(map(abs, primitive.offset))
    steps = _STEPS[primitive.dtype] * reach
    return Tolerance(steps, steps if primitive.dtype == "float32" else steps / 100)


def _why(plan: Plan, segment: Segment, image: Any, message: str) -> str:
    """Why a record failed: it is too small for a stage, or can't be decoded."""
    try:
        decode, head = decode_of(segment.steps), None
        if isinstance(image, bytes):
            head = opened(image, "tf", decode.max_bytes, decode.truncated, plan.readers)[1]
    except FormatError as error:
        return str(error)
    height, width = sides_of(image, head, decode.exif) if head else image.shape[:2]
    misfit = DrawLayout.of(plan.pipeline).misfit(np.array([height]), np.array([width]), segment.first, segment.end)
    return misfit[1] if misfit else f"can't be decoded: {message}"


class TensorFlowBackend:
    """tf.data on the CPU."""

    name = "tf"

    def availability(self) -> Availability:
        """Whether TensorFlow imports and can run in this process, and its version."""
        if forking.tensorflow_is_stuck():
            return Availability(
                self.name,
                False,
                f"TensorFlow was in use when this process ({os.getpid()}) was forked, and its threads are missing here",
                "start processes with the method 'spawn', or fork before anything uses TensorFlow",
            )
        if shutdown.is_ending() and "tensorflow" not in sys.modules:  # importing it now crashes
            return Availability(
                self.name,
                False,
                "the main thread has ended, and TensorFlow can't be imported behind its end",
                "import tensorflow before it ends, or use iterate with backend='pillow' or 'dali-cpu'",
            )
        try:
            import tensorflow as tf
        except ImportError as error:
            return Availability(
                self.name, False, f"TensorFlow can't be imported: {error}", "pip install 'greenload[tf]'"
            )
        return Availability(self.name, True, f"TensorFlow {tf.__version__}")

    def tolerance(self, primitive: p.Primitive, spec: ImageSpec) -> Tolerance | None:
        """What is held for a primitive on images of ``spec``."""
        if not claims.claimed(self.name, primitive, spec):
            return None
        if isinstance(primitive, p.Affine):
            return _affine_tolerance(primitive, spec)
        if isinstance(primitive, p.Warp):
            return _warp_tolerance(primitive, spec)
        return _TOLERANCES.get(type(primitive), {}).get(spec.dtype, EXACT)

    def runner(self, plan: Plan, segment: Segment, batch_size: int) -> TensorFlowRunner:
        """A segment that runs eagerly, one image after another: not what tf.data runs, but the same operations."""
        found = self.availability()
        if not found.usable:
            raise BackendUnavailable(f"backend 'tf': {found.detail}; {found.remedy}")
        return TensorFlowRunner(plan, segment)


class TensorFlowRunner:
    """A segment of a plan, run eagerly.

    Args:
        plan: that it belongs to.
        segment: on backend ``"tf"``.
    """

    def __init__(self, plan: Plan, segment: Segment) -> None:
        self._plan = plan
        self._segment = segment
        self._elements = elements(plan, segment.steps)

    def run(self, records: Records) -> Images:
        """A batch of records through the segment.

        Raises:
            RecordError: a record is bad; names it.
        """
        import tensorflow as tf

        if self._segment.batched:
            whole = np.stack([np.asarray(image) for image in records.images])
            done: NDArray[Any] = self._through(whole, records.numbers).numpy()
            return done
        images = []
        for image, numbers, name in zip(records.images, records.numbers, records.names, strict=True):
            try:
                images.append(self._through(image, numbers).numpy())
            except tf.errors.InvalidArgumentError as error:
                raise RecordError(name, _why(self._plan, self._segment, image, error.message)) from None
        return images

    def _through(self, image: Any, numbers: NDArray[np.float64]) -> Any:
        import tensorflow as tf

        state: State = {"image": tf.constant(image), "numbers": tf.constant(numbers)}
        for element in self._elements:
            state = element(state)
        return state["image"]

    def close(self) -> None:
        """Nothing is held."""
