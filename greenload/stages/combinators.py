"""Stages made of stages: applied or not, one of several, or in any order, for each image by itself.

All three come down to one primitive, ``Choice``: params say which alternatives an image gets, at which turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.array_ops import NUMPY, Array, Ops
from greenload.errors import PipelineError
from greenload.public import public
from greenload.randomness import uniforms as draw_uniforms
from greenload.specs import ImageSpec, LabelSpec
from greenload.stages.arguments import is_number, need_decoded, probability
from greenload.stages.base import Params, Stage, keys_of
from greenload.stages.dataset import Decode
from greenload.stages.mixing import Mixing
from greenload.stages.primitives import Choice, Part, Primitive, params_of


@dataclass(frozen=True)
class _Combinator(Stage):
    """What the three share. ``prepare`` makes of a combinator's own draws the alternative at each turn, −1 for none;
    its numbers are these, then those of each stage inside."""

    stages: Any
    _named: ClassVar[bool] = False
    """Whether its key is made of its stages' types, too."""
    _counted: ClassVar[bool] = True
    """Whether its stages count among those behind it, as if they stood there by themselves."""

    @property
    def inside(self) -> tuple[Stage, ...]:
        inside: tuple[Stage, ...] = self.stages
        return inside

    @property
    def _alternatives(self) -> tuple[tuple[int, ...], ...]:
        """The indices of each alternative's stages."""
        return tuple((index,) for index in range(len(self.inside)))

    @property
    def _turns(self) -> int:
        return 1

    @property
    def _shares(self) -> tuple[float, ...]:
        """How often each alternative is applied to an image, in the mean."""
        raise NotImplementedError

    @property
    def draws(self) -> int:  # type: ignore[override]  # it depends on the stages inside
        """How many uniforms a sample needs, those of the stages inside among them."""
        return self._own_draws + sum(stage.draws for stage in self.inside)

    @property
    def _own_draws(self) -> int:
        return 1

    @property
    def numbers(self) -> int:  # type: ignore[override]  # it depends on the stages inside
        """How many numbers a sample carries, those of the stages inside among them."""
        return self._turns + sum(stage.numbers for stage in self.inside)

    @property
    def title(self) -> str:
        return f"{type(self).__name__}({', '.join(stage.title for stage in self.inside)})"

    @property
    def key_names(self) -> tuple[str, ...]:
        inside = [stage.key_names for stage in self.inside]
        name = type(self).__name__
        name += f"({', '.join(names[0] for names in inside)})" if self._named else ""
        return (name, *(n for names in inside for n in names)) if self._counted else (name,)

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_decoded(self, spec)
        for alternative in self._alternatives:
            after = spec
            for index in alternative:
                stage = self.inside[index]
                moves = type(stage).out_size is not Stage.out_size or type(stage).large_enough is not Stage.large_enough
                if moves and not spec.static:
                    raise PipelineError(
                        f"{self.title}: {stage} can stand in it only where all images have one size, but here they are "
                        f"{spec}: put Resize((height, width)) before it"
                    )
                after = stage.out_spec(after)
            if after != spec:
                shown = ", ".join(str(self.inside[index]) for index in alternative)
                raise PipelineError(
                    f"{self.title}: what it is applied to must leave as it enters, since other images pass it by, but "
                    f"{shown} makes {after} of {spec}: put it into the pipeline by itself"
                )
        return spec

    def draw(self, words: Array, key: int, ops: Ops = NUMPY) -> Array:
        own = self.prepare(draw_uniforms(words, key, self._own_draws, ops), ops)
        inside = [
            stage.draw(words, inner, ops)
            for stage, inner in zip(self.inside, keys_of(self.inside, key), strict=True)
            if stage.draws
        ]
        return ops.concat([own, *inside], axis=-1)

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        params: dict[str, Array] = {"choices": ops.i64(numbers[..., : self._turns])}
        starts = np.cumsum([self._turns, *(stage.numbers for stage in self.inside)]).tolist()
        for alternative in self._alternatives:
            rows, columns = height, width
            for index in alternative:
                stage = self.inside[index]
                own = stage.params(numbers[..., starts[index] : starts[index + 1]], rows, columns, ops)
                rows, columns = stage.out_size(own, rows, columns, ops)
                params |= {f"{index}.{name}": value for name, value in own.items()}
        return params

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        alternatives = tuple(self._parts(indices, spec) for indices in self._alternatives)
        return (Choice(alternatives, self._shares, self._turns),) if any(alternatives) else ()

    def _parts(self, indices: Sequence[int], spec: ImageSpec) -> tuple[Part, ...]:
        parts: list[Part] = []
        for index in indices:
            stage = self.inside[index]
            parts += [Part(index, *operation) for operation in stage.operations(spec)]
            spec = stage.out_spec(spec)
        return tuple(parts)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        for choice in np.asarray(params["choices"]).tolist():
            for index in self._alternatives[choice] if choice >= 0 else ():
                image = self.inside[index].reference(image, params_of(params, index))
        return image


@public
@dataclass(frozen=True)
class RandomApply(_Combinator):
    """Stages applied one after another with probability ``p``, all or none of them
    (``torchvision.transforms.v2.RandomApply``).

    It is decided for each image by itself; an image that they aren't applied to costs nothing. Together they must leave
    images as they enter, in size and dtype. Their draws are keyed below this stage's own key, which is made of their
    types: wrapping a stage changes no other stage's draws, except those of a ``RandomApply`` of its type behind it.

    Args:
        stages: a stage, or several.
        p: how likely, between 0 and 1.

    Example:
        >>> RandomApply(ColorJitter(0.4, 0.4, 0.4, 0.1), p=0.8)
    """

    _named: ClassVar[bool] = True

    stages: Stage | Sequence[Stage]
    p: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", _stages_inside("RandomApply", self.stages))
        object.__setattr__(self, "p", probability("RandomApply", self.p))

    @property
    def _alternatives(self) -> tuple[tuple[int, ...], ...]:
        return (tuple(range(len(self.inside))),)

    @property
    def _shares(self) -> tuple[float, ...]:
        return (self.p,)

    @property
    def title(self) -> str:
        return f"{super().title[:-1]}, p={self.p:g})"

    def prepare(self, uniforms: Array, ops: Ops = NUMPY) -> Array:
        return ops.where(uniforms < self.p, uniforms * 0.0, uniforms * 0.0 - 1.0)

    def __str__(self) -> str:
        return f"RandomApply({_shown(self.inside)}, p={self.p:g})"


@public
@dataclass(frozen=True)
class RandomChoice(_Combinator):
    """One of several stages, drawn for each image (``torchvision.transforms.v2.RandomChoice``); of ``MixUp`` and
    ``CutMix``, which stand behind ``Batch``, for each batch by its first sample.

    Those that an image doesn't get cost nothing for it. Each must leave images as they enter, in size and dtype; for
    several one after another as one alternative, see ``RandomApply`` with ``p=1``. Their draws are keyed below this
    stage's own key: another alternative at the end changes neither the draws of the others, nor those of any stage
    elsewhere, but which alternative an image gets.

    Args:
        stages: the alternatives.
        p: how likely each is, in any unit: they are divided by their sum. All alike if not given.

    Example:
        >>> RandomChoice([ColorJitter(0.4), GaussianBlur(5), RandomGrayscale(1.0)], p=[2, 1, 1])
        >>> RandomChoice([MixUp(0.2, num_classes=10), CutMix(num_classes=10)])
    """

    _counted: ClassVar[bool] = False

    stages: Sequence[Stage]
    p: Sequence[float] | None = None

    def __post_init__(self) -> None:
        inside = _stages_inside("RandomChoice", self.stages)
        object.__setattr__(self, "stages", inside)
        if self.p is None:
            return
        weights = scalars.several(self.p) or ()
        if len(weights) != len(inside) or not all(is_number(w) and w >= 0 for w in weights) or not sum(weights):
            raise PipelineError(
                f"RandomChoice: p must be a number from 0 for each of the {len(inside)} stages, not all 0, "
                f"not {self.p!r}"
            )
        object.__setattr__(self, "p", tuple(map(float, weights)))

    @property
    def mixes(self) -> bool:  # type: ignore[override]  # it depends on the stages inside
        """Whether it chooses among stages that mix a batch: then it draws once for each batch."""
        return isinstance(self.inside[0], Mixing)

    @property
    def changes_labels(self) -> bool:
        """Whether labels leave it other than they enter: where it mixes."""
        return self.mixes

    def out_label(self, spec: LabelSpec) -> LabelSpec:
        after = [stage.out_label(spec) for stage in self.inside]
        if len(set(after)) > 1:
            raise PipelineError(
                f"{self.title}: what it chooses from must give labels alike, but here they become "
                f"{' or '.join(map(str, dict.fromkeys(after)))}: give all the same num_classes"
            )
        return after[0]

    def wrong_label(self, labels: NDArray[np.int64]) -> tuple[int, str] | None:
        return self.inside[0].wrong_label(labels)

    def change_labels(self, labels: Array, params: Params, ops: Ops = NUMPY) -> Array:
        return self.inside[0].change_labels(labels, params, ops)

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        params = super().params(numbers, height, width, ops)
        if not self.mixes:
            return params
        # What mixes differs by its params alone: those of one of them, for all images of the batch.
        chosen = params["choices"][:1, 0]
        each = [params_of(params, index) for index in range(len(self.inside))]
        found = each[0]
        for index, own in enumerate(each[1:], 1):
            of_one = {name: chosen[..., None] if name == "box" else chosen for name in own}
            found = {name: ops.where(of_one[name] == index, own[name], found[name]) for name in own}
        return found

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return self.inside[0].primitives(spec) if self.mixes else super().primitives(spec)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return self.inside[0].reference(image, params) if self.mixes else super().reference(image, params)

    @property
    def _shares(self) -> tuple[float, ...]:
        weights = tuple(self.p or (1.0,) * len(self.inside))
        return tuple(weight / sum(weights) for weight in weights)

    def prepare(self, uniforms: Array, ops: Ops = NUMPY) -> Array:
        choice = uniforms * 0.0
        unit, last = choice + 1.0, max(index for index, share in enumerate(self._shares) if share)
        for bound in np.cumsum(self._shares)[:last].tolist():
            choice = choice + ops.where(uniforms >= bound, unit, unit * 0.0)
        return choice

    def __str__(self) -> str:
        return f"RandomChoice({_shown(self.inside, many=True)}{'' if self.p is None else f', p={list(self.p)}'})"


@public
@dataclass(frozen=True)
class RandomOrder(_Combinator):
    """Several stages in an order drawn for each image (``torchvision.transforms.v2.RandomOrder``).

    Each must leave images as they enter, in size and dtype. Their draws are keyed below this stage's own key; another
    stage at the end changes no draws of the others, and not the order that they have among each other.

    Args:
        stages: all that is applied.

    Example:
        >>> RandomOrder([ColorJitter(brightness=0.4), ColorJitter(hue=0.1), GaussianBlur(5)])
    """

    stages: Sequence[Stage]

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", _stages_inside("RandomOrder", self.stages))

    @property
    def _turns(self) -> int:
        return len(self.inside)

    @property
    def _own_draws(self) -> int:
        return len(self.inside)

    @property
    def _shares(self) -> tuple[float, ...]:
        return (1.0,) * len(self.inside)

    def prepare(self, uniforms: Array, ops: Ops = NUMPY) -> Array:
        return ops.f64(ops.argsort(uniforms))

    def __str__(self) -> str:
        return f"RandomOrder({_shown(self.inside, many=True)})"


def _stages_inside(name: str, value: Any) -> tuple[Stage, ...]:
    """Stages that may stand inside a combinator.

    Raises:
        PipelineError: one may not, or there are none.
    """
    alone = isinstance(value, Stage) and name == "RandomApply"
    stages = (value,) if alone else scalars.several(value)
    if not stages or not all(isinstance(stage, Stage) for stage in stages):
        or_one = "a stage or several" if name == "RandomApply" else "several stages"
        raise PipelineError(
            f"{name}: stages must be {or_one}, such as [ColorJitter(0.4), GaussianBlur(5)], not {value!r}"
        )
    if name == "RandomChoice" and all(isinstance(stage, Mixing) for stage in stages):
        return tuple(stages)
    for stage in stages:
        pixels = type(stage).primitives is not Stage.primitives and not isinstance(stage, Decode)
        if not pixels or stage.mixes or stage.changes_labels:
            why = "mixes a batch" if stage.mixes else "changes labels" if stage.changes_labels else "works on no pixels"
            raise PipelineError(
                f"{name}: {stage} {why}, and can't be done to some images only: put it into the pipeline by itself"
            )
    return tuple(stages)


def _shown(stages: Sequence[Stage], *, many: bool = False) -> str:
    text = ", ".join(map(str, stages))
    return f"[{text}]" if many or len(stages) > 1 else text
