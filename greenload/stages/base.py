"""What a stage is: frozen data, a check of what it may follow, params from draws, and a float64 reference.

The model, in ten lines:

1. A stage takes an image and its label and gives both. ``out_spec`` and ``out_label`` say what leaves for what enters.
2. ``draw`` gives a sample's prepared random values, from the sample's word and the stage's key. ``params`` makes of
   them, and of the image's size, what is done to this image. Backends get params, never draws.
3. ``primitives`` says which operations on pixels a stage comes down to; each reads the stage's params.
4. A combinator holds stages, with keys of their own below its key. It comes down to one primitive, ``Choice``: which
   alternatives are applied to an image, in which order, is a param like any other. Names of the params of the stage
   of index ``i`` inside it begin with ``"i."``.
5. Labels are changed by ``change_labels``, a batch at a time, in the order of the stages, when the batch is handed
   over: in tf.data's graph or in NumPy, by the same formula.
6. A stage that ``mixes`` stands behind ``Batch``. Its params see the prepared values of the whole batch, so that they
   can name a second sample for each (``partners``), or go by the first sample's alone (``MixUp``), and its
   ``change_labels`` gets the same params.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from greenload.array_ops import NUMPY, Array, Ops
from greenload.public import is_public, public
from greenload.randomness import stage_key, uniforms
from greenload.specs import ImageSpec, LabelSpec
from greenload.stages.arguments import importable_name
from greenload.stages.primitives import Primitive

Params = Mapping[str, Array]
"""What a stage does to a sample: integer windows, booleans, sizes; leading dimensions are the samples'."""


@public
@dataclass(frozen=True)
class Stage:
    """Base of every stage. A stage is immutable, equal by value, and imports no framework.

    A stage of your own is a frozen dataclass at the top of a module of yours. It says what leaves it (``out_spec``),
    what it does to each image (``draws`` and ``params``, if it is random), and the operation on pixels that it comes
    down to: a ``Primitive`` with a function for each backend that can run it. Backends without one refuse the
    pipeline by name. ``to_dict`` stores the class by its importable name: only read descriptions you trust.

    To add one to the package, see "Adding a stage" in CONTRIBUTING.

    Example:
        >>> from dataclasses import dataclass
        >>> import greenload as gl
        >>> def invert_pixels(primitive, image, params):
        ...     return 255 - image
        >>> @dataclass(frozen=True)
        ... class Inverted(gl.Primitive):
        ...     lowerings = {"tf": invert_pixels, "pillow": invert_pixels}
        >>> @dataclass(frozen=True)
        ... class Invert(gl.Stage):
        ...     def out_spec(self, spec):
        ...         return spec
        ...     def primitives(self, spec):
        ...         return (Inverted(),)
        >>> stages = (gl.RandomApply(Invert(), p=0.5), gl.Batch(32))
    """

    draws: ClassVar[int] = 0
    """How many uniforms a sample needs; zero for a deterministic stage."""
    numbers: ClassVar[int] = 0
    """How many prepared random values ``draw`` makes of them."""
    mixes: ClassVar[bool] = False
    """Whether what becomes of an image depends on the others of its batch: then ``draws`` isn't zero, it stands behind
    ``Batch``, its ``params`` see a whole batch, and its ``reference`` takes one."""

    @property
    def title(self) -> str:
        """The stage in a few words, as a plan and a profile name it."""
        return type(self).__name__

    @property
    def inside(self) -> tuple[Stage, ...]:
        """The stages that it is made of, in order; none for most."""
        return ()

    @property
    def key_names(self) -> tuple[str, ...]:
        """What it counts as for the keys of the stages behind it; the first is what its own key is made of."""
        return (type(self).__name__,)

    @property
    def changes_labels(self) -> bool:
        """Whether labels leave it other than they enter."""
        return type(self).change_labels is not Stage.change_labels

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        """The spec after this stage.

        Raises:
            PipelineError: images of ``spec`` can't enter this stage.
        """
        raise NotImplementedError

    def out_label(self, spec: LabelSpec) -> LabelSpec:
        """The spec of a sample's label after this stage.

        Raises:
            PipelineError: labels of ``spec`` can't enter this stage.
        """
        return spec

    def change_labels(self, labels: Array, params: Params, ops: Ops = NUMPY) -> Array:
        """The labels of a batch after this stage.

        Args:
            labels: ``[n, …]`` of the spec that enters.
            params: of the batch; empty where the stage needs no numbers.
            ops: the array namespace.

        Returns:
            ``[n, …]`` of ``out_label``.
        """
        return labels

    def wrong_label(self, labels: NDArray[np.int64]) -> tuple[int, str] | None:
        """The index of the first of a source's labels ``[n]`` that this stage can't take, and why; ``None`` if it takes
        all."""
        return None

    def draw(self, words: Array, key: int, ops: Ops = NUMPY) -> Array:
        """A sample's prepared random values: all that can be computed before an image's size is known.

        Args:
            words: uint64 ``[…]`` of ``randomness.base``, one a sample.
            key: the stage's.
            ops: the array namespace.

        Returns:
            float64 ``[…, numbers]``.
        """
        return self.prepare(uniforms(words, key, self.draws, ops), ops)

    def prepare(self, uniforms: Array, ops: Ops = NUMPY) -> Array:
        """What can be computed from the draws before an image's size is known, vectorised over samples.

        Args:
            uniforms: float64 ``[…, draws]``.
            ops: the array namespace.

        Returns:
            float64 ``[…, numbers]``.
        """
        return uniforms

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        """What this stage does to images of a size.

        Args:
            numbers: float64 ``[…, numbers]`` of ``draw``.
            height: int64 ``[…]``, rows of each image that enters.
            width: int64 ``[…]``, its columns.
            ops: the array namespace.
        """
        return {}

    def large_enough(self, height: Array, width: Array, ops: Ops = NUMPY) -> Array | None:
        """Which images are large enough for this stage, a boolean each; ``None`` where all are."""
        return None

    def why_too_small(self) -> str:
        """Why an image that is too small is refused, and what to do about it."""
        return f"{self} can't work on an image of this size"

    def out_size(self, params: Params, height: Array, width: Array, ops: Ops = NUMPY) -> tuple[Array, Array]:
        """Rows and columns of the images that leave, each int64 ``[…]``."""
        return height, width

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        """The operations on pixels that this stage comes down to, for images of ``spec``."""
        return ()

    def operations(self, spec: ImageSpec) -> tuple[tuple[Primitive, ImageSpec, ImageSpec], ...]:
        """Its primitives in order, each with the spec of what enters and of what leaves it.

        Between the primitives of one stage there is a crop, whose size differs from image to image.
        """
        primitives = self.primitives(spec)
        if len(primitives) < 2:
            return tuple((primitive, spec, self.out_spec(spec)) for primitive in primitives)
        between = [ImageSpec((None, None, spec.shape[-1]), spec.dtype, spec.layout)] * (len(primitives) - 1)
        return tuple(zip(primitives, [spec, *between], [*between, self.out_spec(spec)], strict=True))

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        """The stage's formula in float64 NumPy, on one image: the oracle of the conformance suite.

        Args:
            image: ``[H, W, C]`` of its own dtype, except that float64 stands for float32; of a stage that ``mixes``
                the batch ``[n, H, W, C]``.
            params: of one sample; of a stage that ``mixes`` those of the batch.

        Returns:
            ``[H', W', C]``, of the dtype that the stage gives, float64 for float32; of a stage that ``mixes``
            ``[n, H', W', C]``.
        """
        return image

    def to_dict(self) -> dict[str, Any]:
        """The stage as JSON data: its type under ``"stage"`` and its arguments.

        Raises:
            PipelineError: it is a stage of your own, and its class can't be imported by a name.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"stage": _type_name(self)} | {name: _plain(value) for name, value in values.items()}

    def __str__(self) -> str:
        shown = ", ".join(
            f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default
        )
        return f"{type(self).__name__}({shown})"


def keys_of(stages: Sequence[Stage], within: int | None = None) -> tuple[int, ...]:
    """The keys of stages' draws: by a stage's type, and by how many of that type stand before it.

    So a stage that is added changes the draws of no stage of another type, and of none before it. The stages inside
    ``RandomApply`` and ``RandomOrder`` count as if they stood there by themselves, the alternatives of ``RandomChoice``
    don't: neither wrapping a stage nor adding an alternative changes the draws of others. ``RandomApply`` is of
    another type for other stages inside.

    Args:
        stages: of a pipeline or of a combinator, in order.
        within: the combinator's key.
    """
    prefix = "" if within is None else f"{within:016x}/"
    seen: Counter[str] = Counter()
    keys = []
    for stage in stages:
        names = stage.key_names
        keys.append(stage_key(f"{prefix}{names[0]}", seen[names[0]]))
        seen.update(names)
    return tuple(keys)


def partners(uniforms: Array, ops: Ops = NUMPY) -> Array:
    """A second sample for each of a batch: the samples form one circle in the order of their uniforms, and each has the
    one behind it.

    Args:
        uniforms: float64 ``[n]``, of a stage that ``mixes``.
        ops: the array namespace.

    Returns:
        int64 ``[n]``: each of ``0 … n−1`` once, and no sample its own partner, unless it is alone.
    """
    order = ops.argsort(uniforms)
    return ops.take(ops.concat([order[1:], order[:1]], axis=0), ops.argsort(order))


def _type_name(stage: Stage) -> str:
    kind = type(stage)
    return kind.__name__ if is_public(kind) else importable_name(str(stage), kind)


def _plain(value: Any) -> Any:
    if isinstance(value, Stage):
        return value.to_dict()
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
