"""The tf.data backend: each step as a function from one sample's state to the next, run inside a parallel map.

A state is a dict of tensors: ``"image"``, ``"numbers"`` (the prepared numbers of all random stages) and whatever
rides along. TensorFlow is imported when a step is lowered, never at import.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends import tf_decode, tf_lowerings
from greenload.backends.base import EXACT, Availability, Records, Tolerance
from greenload.draws import tensorflow_ops
from greenload.errors import BackendUnavailable, RecordError
from greenload.plan import Numbers, Plan, Step
from greenload.specs import ImageSpec
from greenload.stages import primitives as p

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
    numbers = Numbers.of(plan.pipeline)
    lowered = []
    for position, step in enumerate(steps):
        keep = any(later.stage == step.stage and _reads_params(later) for later in steps[position + 1 :])
        known = _reads_params(step) and any(before.stage == step.stage for before in steps[:position])
        lower = _lowering(step, plan.steps[plan.steps.index(step) + 1 :])
        lowered.append(_element(step.stage, lower, numbers, keep=keep, known=known))
    return lowered


def _reads_params(step: Step) -> bool:
    primitive = step.primitive
    static = isinstance(primitive, p.Resize) and primitive.height is not None and primitive.width is not None
    return step.stage is not None and not static and not isinstance(primitive, p.Affine)


def _lowering(step: Step, later: Sequence[Step]) -> Any:
    primitive = step.primitive
    assert primitive is not None  # what makes a step one of pixels
    if isinstance(primitive, p.Resize) and step.spec_out.dtype == "uint8":
        # Not over a cache or a batch, which have no primitive: there the image is what its spec says.
        after = next((s.primitive for s in later if not isinstance(s.primitive, p.Flip)), None)
        # Whole numbers 0 … 255 that become float next stay float: the same values, two conversions less.
        stays = isinstance(after, p.Affine) and after.dtype == "float32"
        return tf_lowerings.resize(primitive, step.spec_in, step.spec_out, "float32" if stays else "uint8")
    return _LOWERINGS[type(primitive)](primitive, step.spec_in, step.spec_out)


def _element(place: int | None, lower: Any, numbers: Numbers, *, keep: bool, known: bool) -> Element:
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
            return dict(stage.params(own, ops.i64(height), ops.i64(width), ops))

        state["image"], computed = lower(state["image"], state.pop(slot) if known else params)
        if keep:
            state[slot] = computed
        return state

    return element


_LOWERINGS: dict[type[p.Primitive], Callable[..., Any]] = {
    p.Decode: tf_decode.decode,
    p.DecodeCrop: tf_decode.decode_crop,
    p.Crop: tf_lowerings.crop,
    p.Pad: tf_lowerings.pad,
    p.Resize: tf_lowerings.resize,
    p.Flip: tf_lowerings.flip,
    p.Affine: tf_lowerings.affine,
}

_TOLERANCES: dict[type[p.Primitive], dict[str, Tolerance]] = {
    p.Decode: {"bytes": EXACT},
    p.DecodeCrop: {"bytes": EXACT},
    p.Crop: {"uint8": EXACT, "float32": EXACT},
    p.Pad: {"uint8": EXACT, "float32": EXACT},
    # float32 weights put a value that lies on a rounding boundary to either side; in an image of few levels
    # that shrinks by a whole factor a sixth of all values do
    p.Resize: {"uint8": Tolerance(1.0, 0.25), "float32": Tolerance(4e-5, 3e-6)},
    p.Flip: {"uint8": EXACT, "float32": EXACT},
}
_AFFINE_STEPS = 2 * float(np.finfo(np.float32).eps)


def _affine_tolerance(primitive: p.Affine, spec: ImageSpec) -> Tolerance:
    if primitive.dtype == "uint8":
        return Tolerance(1.0, 1e-3)  # a value within a float32 step of an integer is cut to either side
    largest = 255.0 if spec.dtype == "uint8" else 1.0
    reach = max(map(abs, primitive.scale)) * largest + max(map(abs, primitive.offset))
    return Tolerance(_AFFINE_STEPS * reach, _AFFINE_STEPS * reach)


class TensorFlowBackend:
    """tf.data on the CPU."""

    name = "tf"

    def availability(self) -> Availability:
        """Whether TensorFlow imports, and its version."""
        try:
            import tensorflow as tf
        except ImportError as error:
            return Availability(
                self.name, False, f"TensorFlow can't be imported: {error}", "pip install 'greenload[tf]'"
            )
        return Availability(self.name, True, f"TensorFlow {tf.__version__}")

    def tolerance(self, primitive: p.Primitive, spec: ImageSpec) -> Tolerance | None:
        """What is held for a primitive on images of ``spec``."""
        if isinstance(primitive, p.Affine):
            return _affine_tolerance(primitive, spec)
        return _TOLERANCES.get(type(primitive), {}).get(spec.dtype)

    def run(self, plan: Plan, records: Records) -> NDArray[Any]:
        """A batch of records, one after another."""
        found = self.availability()
        if not found.usable:
            raise BackendUnavailable(f"backend 'tf': {found.detail}; {found.remedy}")
        import tensorflow as tf

        single = [step for step in plan.steps if step.kind == "pixels" and not step.spec_out.batched]
        whole = [step for step in plan.steps if step.kind == "pixels" and step.spec_out.batched]
        images = []
        for image, numbers, name in zip(records.images, records.numbers, records.names, strict=True):
            state: State = {"image": tf.constant(image), "numbers": tf.constant(numbers)}
            try:
                for element in elements(plan, single):
                    state = element(state)
            except tf.errors.InvalidArgumentError as error:
                raise RecordError(name, f"can't be decoded: {error.message}") from None
            images.append(state["image"])
        state = {"image": tf.stack(images)}
        for element in elements(plan, whole):
            state = element(state)
        result: NDArray[Any] = state["image"].numpy()
        return result
