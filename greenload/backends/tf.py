"""The tf.data backend: each step as a function from one sample's state to the next, run inside a parallel map.

A state is a dict of tensors: ``"image"``, ``"numbers"`` (the prepared numbers of all random stages) and whatever
rides along. TensorFlow is imported when a step is lowered, never at import.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"


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
        return _resize(primitive, step.spec_in, step.spec_out, "float32" if stays else "uint8")
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


Wanted = Any
"""A stage's params, or the function of an image's height and width that computes them."""


def _resolve(wanted: Wanted, image: Any) -> dict[str, Any]:
    import tensorflow as tf

    if callable(wanted):
        shape = tf.shape(image)
        found: dict[str, Any] = wanted(shape[-3], shape[-2])
        return found
    known: dict[str, Any] = wanted
    return known


def decode_full(data: Any) -> Any:
    """Any supported format, wholly: what decides whether a record is good."""
    import tensorflow as tf

    def jpeg() -> Any:
        return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")

    def png() -> Any:
        eight_bit = tf.strings.substr(data, 0, 8) == _PNG
        eight_bit &= tf.strings.substr(data, 24, 1) != b"\x10"
        with tf.control_dependencies([tf.debugging.Assert(eight_bit, ["neither JPEG nor 8-bit PNG"])]):
            return tf.io.decode_png(data, channels=3)

    return tf.cond(tf.strings.substr(data, 0, 3) == _JPEG, jpeg, png)


def _decode(primitive: p.Primitive, before: ImageSpec, after: ImageSpec) -> Any:
    def lower(data: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        image = decode_full(data)
        image.set_shape((None, None, 3))
        return image, {}

    return lower


def _decode_crop(primitive: p.Primitive, before: ImageSpec, after: ImageSpec) -> Any:
    import tensorflow as tf

    def lower(data: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        def inside() -> Any:
            shape = tf.io.extract_jpeg_shape(data)
            params = wanted(shape[0], shape[1])
            window = tf.cast(params["window"], tf.int32)
            start, size = window[:2], window[2:]
            # The decoder upsamples chroma wrongly in a window's outermost columns; one pixel more on every side, cut
            # off again, makes the window's own pixels those of a full decode.
            low = tf.maximum(start - 1, 0)
            high = tf.minimum(start + size + 1, shape[:2])
            wider = tf.io.decode_and_crop_jpeg(
                data, tf.concat([low, high - low], 0), channels=3, dct_method="INTEGER_ACCURATE"
            )
            begin = tf.concat([start - low, [0]], 0)
            return tf.slice(wider, begin, tf.concat([size, [3]], 0)), params

        def whole() -> Any:
            image = decode_full(data)
            params = _resolve(wanted, image)
            return _cropped(image, params["window"]), params

        # A cropped decode doesn't see a file cut behind its window: without an end marker the whole is decoded.
        length = tf.strings.length(data)
        ends = tf.strings.substr(data, tf.maximum(length - 2, 0), 2) == b"\xff\xd9"
        image, params = tf.cond(ends & (tf.strings.substr(data, 0, 3) == _JPEG), inside, whole)
        image.set_shape((None, None, 3))
        return image, params

    return lower


def _cropped(image: Any, window: Any) -> Any:
    import tensorflow as tf

    channels = tf.cast(tf.shape(image)[-1:], window.dtype)
    cropped = tf.slice(
        image, tf.concat([window[:2], tf.zeros(1, window.dtype)], 0), tf.concat([window[2:], channels], 0)
    )
    cropped.set_shape((None, None, image.shape[-1]))
    return cropped


def _crop(primitive: p.Primitive, before: ImageSpec, after: ImageSpec) -> Any:
    def lower(image: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        params = _resolve(wanted, image)
        cropped = _cropped(image, params["window"])
        cropped.set_shape(after.shape)
        return cropped, params

    return lower


def _pad(primitive: p.Pad, before: ImageSpec, after: ImageSpec) -> Any:
    import tensorflow as tf

    def lower(image: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        params = _resolve(wanted, image)
        lead = tf.cast(params["pad"], tf.int32)
        rest = tf.constant([primitive.height, primitive.width]) - tf.shape(image)[:2] - lead

        def padded() -> Any:
            sides = tf.concat([tf.stack([lead, rest], axis=1), [[0, 0]]], axis=0)
            return tf.pad(image, sides)

        image = tf.cond(tf.reduce_any(lead + rest > 0), padded, lambda: image)
        image.set_shape(after.shape)
        return image, params

    return lower


def _resize(primitive: p.Resize, before: ImageSpec, after: ImageSpec, carried: str = "float32") -> Any:
    import tensorflow as tf

    def lower(image: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        params: dict[str, Any] = {}
        if primitive.height is not None and primitive.width is not None:
            size = tf.constant([primitive.height, primitive.width])
        else:
            params = _resolve(wanted, image)
            size = tf.cast(params["size"], tf.int32)
        batch = image[tf.newaxis]
        if primitive.antialias:
            scale = tf.cast(size, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32)
            resized = tf.raw_ops.ScaleAndTranslate(
                images=batch, size=size, scale=scale, translation=tf.zeros(2), kernel_type="triangle", antialias=True
            )[0]
        else:
            resized = tf.raw_ops.ResizeBilinear(images=batch, size=size, half_pixel_centers=True)[0]
        if before.dtype == "uint8":
            resized = tf.cast(resized + 0.5, tf.uint8) if carried == "uint8" else tf.floor(resized + 0.5)
        resized.set_shape(after.shape)
        return resized, params

    return lower


def _flip(primitive: p.Primitive, before: ImageSpec, after: ImageSpec) -> Any:
    import tensorflow as tf

    def lower(image: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        params = _resolve(wanted, image)
        flipped = tf.cond(params["flip"], lambda: tf.reverse(image, [1]), lambda: image)
        flipped.set_shape(after.shape)
        return flipped, params

    return lower


def _affine(primitive: p.Affine, before: ImageSpec, after: ImageSpec) -> Any:
    import tensorflow as tf

    def lower(image: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        values = tf.cast(image, tf.float32)
        if any(s != 1.0 for s in primitive.scale):
            values = values * _spread(primitive.scale, after)
        if any(o != 0.0 for o in primitive.offset):
            values = values + _spread(primitive.offset, after)
        if primitive.dtype == "uint8":
            values = tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.uint8)
        return values, {}

    return lower


def _spread(numbers: tuple[float, ...], spec: ImageSpec) -> Any:
    """Per-channel numbers as a constant that broadcasts fast: along a last dimension of three alone it is four times
    slower."""
    import tensorflow as tf

    if len(set(numbers)) == 1:
        return tf.constant(numbers[0], tf.float32)
    vector = np.array(numbers, np.float32)
    return tf.constant(np.tile(vector, (1, spec.shape[-2] or 1, 1)))


_LOWERINGS: dict[type[p.Primitive], Callable[..., Any]] = {
    p.Decode: _decode,
    p.DecodeCrop: _decode_crop,
    p.Crop: _crop,
    p.Pad: _pad,
    p.Resize: _resize,
    p.Flip: _flip,
    p.Affine: _affine,
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
