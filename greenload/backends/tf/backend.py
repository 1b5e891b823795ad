"""The tf.data backend: each step as a function from one sample's state to the next, run inside a parallel map.

A state is a dict of tensors: ``"image"``, ``"numbers"`` (the prepared numbers of all random stages) and whatever
rides along. TensorFlow is imported when a step is lowered, never at import.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.array_ops import TENSORFLOW
from greenload.backends.base import Availability, Images, Records
from greenload.backends.clocks import StepClock
from greenload.backends.image_sizes import decode_of, sides_of
from greenload.backends.readers import Readers
from greenload.backends.tf import readers as tf_readers
from greenload.backends.tf.formats import decode_full
from greenload.backends.tf.lowerings import ROUNDING
from greenload.backends.tf.table import TABLE
from greenload.errors import BackendUnavailable, RecordError
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Step, reads_params
from greenload.sources.formats import FormatError, opened
from greenload.stages import Stage
from greenload.stages import primitives as p
from greenload.system import forking, shutdown
from greenload.system.frameworks import imported, tf

State = dict[str, Any]
"""One sample on its way: tensors by name."""
Element = Callable[[State], State]
"""What a step does to a sample."""


def elements(plan: Plan, steps: Sequence[Step], readers: Readers) -> list[Element]:
    """Lower steps on pixels to functions of one sample, to be composed in one map or run apart.

    Args:
        plan: the plan that the steps belong to.
        steps: steps of kind ``"pixels"``, in order.
        readers: of the plan.

    Returns:
        One function a step. The first step of a stage computes its params; a later step of the same stage finds them in
        the state.
    """
    numbers = DrawLayout.of(plan.pipeline)
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


def _lowering(step: Step, later: Sequence[Step], readers: Readers) -> Any:
    primitive = step.primitive
    assert primitive is not None  # what makes a step one of pixels
    lower = TABLE.lowering(primitive)
    if isinstance(primitive, p.Decoding):
        return lower(primitive, step.spec_in, step.spec_out, tf_readers.to_readable_by(readers, primitive))
    if isinstance(primitive, ROUNDING) and step.spec_out.dtype == "uint8":
        after = next((s.primitive for s in later if not isinstance(s.primitive, p.Flip)), None)
        # Whole numbers 0 … 255 that become float next stay float: the same values, two conversions less.
        stays = isinstance(after, ROUNDING) or (isinstance(after, p.Affine) and after.dtype == "float32")
        return lower(primitive, step.spec_in, step.spec_out, "float32" if stays else "uint8")
    return lower(primitive, step.spec_in, step.spec_out)


def _element(stage_index: int | None, lower: Any, numbers: DrawLayout, *, keep: bool, known: bool) -> Element:
    slot = f"params{stage_index}"

    def element(state: State) -> State:
        state = dict(state)
        computed: dict[str, Any] = {}

        def params(height: Any, width: Any) -> dict[str, Any]:
            assert stage_index is not None
            stage = numbers.stages[stage_index]
            ops = TENSORFLOW
            # A pipeline without random stages carries no numbers.
            own = numbers.of_stage(state["numbers"], stage_index) if stage.numbers else None
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
    enough = stage.large_enough(height, width, TENSORFLOW)
    if enough is None:
        return height, width
    with tf.control_dependencies([tf.debugging.Assert(enough, [stage.why_too_small(), height, width])]):
        return tf.identity(height), tf.identity(width)


def _why(plan: Plan, segment: Segment, readers: Readers, image: Any, message: str) -> str:
    """Why a record failed: it is too small for a stage, or can't be decoded."""
    try:
        decode, head = decode_of(segment.steps), None
        if isinstance(image, bytes):
            head = opened(image, readers.support(TABLE.name), decode.max_bytes, decode.truncated)[1]
    except FormatError as error:
        return str(error)
    height, width = sides_of(image, head, decode.exif) if head else image.shape[:2]
    sides = np.array([height]), np.array([width])
    too_small = DrawLayout.of(plan.pipeline).first_too_small(*sides, segment.first, segment.end)
    return too_small[1] if too_small else f"can't be decoded: {message}"


class TensorFlowBackend:
    """tf.data on the CPU."""

    name = TABLE.name
    table = TABLE

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
            version = imported("tensorflow").__version__
        except ImportError as error:
            return Availability(
                self.name, False, f"TensorFlow can't be imported: {error}", "pip install 'greenload[tf]'"
            )
        return Availability(self.name, True, f"TensorFlow {version}")

    def presence(self) -> Availability:
        """Whether TensorFlow is installed."""
        return Availability(self.name, importlib.util.find_spec("tensorflow") is not None, "found, not imported")

    def runner(self, plan: Plan, segment: Segment, batch_size: int, readers: Readers) -> TensorFlowRunner:
        """A segment that runs eagerly, one image after another: not what tf.data runs, but the same operations."""
        seen = self.availability()
        if not seen.usable:
            raise BackendUnavailable(f"backend 'tf': {seen.detail}; {seen.remedy}")
        return TensorFlowRunner(plan, segment, readers)

    def graph_segment(self, plan: Plan, segment: Segment, readers: Readers, counter: str = "") -> None:
        """``None``: tf.data's own segments are lowered by ``elements``."""

    def own_clocks(self, segment: Segment, counter: str = "") -> None:
        """``None``: it has no clocks of its own."""
        return None

    def decoder(self) -> TensorFlowDecoder:
        """A decoder, which holds nothing."""
        return TensorFlowDecoder()

    def replays(self) -> None:
        """``None``: tf.data replays its steps."""
        return None

    def refusal(self, data: bytes) -> str | None:
        """``None``: it gives no reason of its own."""
        return None


class TensorFlowDecoder:
    """Decodes single files eagerly, each wholly."""

    def pixels(self, data: bytes, kind: str) -> NDArray[np.uint8]:
        """A file's pixels, uint8 ``[H, W, 3]``.

        Raises:
            FormatError: TensorFlow can't decode it wholly.
            MemoryError: there is too little memory to tell.
        """
        try:
            with tf.device("/cpu:0"):
                # The header has been held against the limit of memory.
                decoded: NDArray[np.uint8] = decode_full(tf.constant(data), [kind], 1 << 62).numpy()
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(error.message) from None
        except tf.errors.OpError:
            raise FormatError("can't be decoded: TensorFlow gives no reason") from None
        return decoded

    def close(self) -> None:
        """Nothing is held."""


class TensorFlowRunner:
    """A segment of a plan, run eagerly.

    Args:
        plan: that it belongs to.
        segment: on backend ``"tf"``.
        readers: of the plan.
    """

    def __init__(self, plan: Plan, segment: Segment, readers: Readers) -> None:
        self._plan = plan
        self._readers = readers
        self._segment = segment
        self._elements = elements(plan, segment.steps, readers)

    @property
    def clocks(self) -> Sequence[StepClock]:
        """None: tf.data runs these steps, not this."""
        return ()

    def run(self, records: Records) -> Images:
        """A batch of records through the segment.

        Raises:
            RecordError: a record is bad; names it.
        """
        if self._segment.batched:
            whole = np.stack([np.asarray(image) for image in records.images])
            done: NDArray[Any] = self._through(whole, records.numbers).numpy()
            return done
        images = []
        for image, numbers, name in zip(records.images, records.numbers, records.names, strict=True):
            try:
                images.append(self._through(image, numbers).numpy())
            except tf.errors.InvalidArgumentError as error:
                raise RecordError(name, _why(self._plan, self._segment, self._readers, image, error.message)) from None
        return images

    def _through(self, image: Any, numbers: NDArray[np.float64]) -> Any:
        state: State = {"image": tf.constant(image), "numbers": tf.constant(numbers)}
        for element in self._elements:
            state = element(state)
        return state["image"]

    def close(self) -> None:
        """Nothing is held."""
