"""Which of the kernel's steps the images of a segment go through, and where their params lie in an image's row.

Without a ``Choice`` there is one program. With one, images that get the same alternatives share a program. A
``WeightedSum`` is a choice whose alternatives each begin with the same image.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.array_ops import NUMPY, Array, Ops
from greenload.backends.base import BackendTable
from greenload.backends.native.abi import KernelStep, Op
from greenload.backends.native.lowerings import Lowering, Sides
from greenload.plans.steps import Step
from greenload.specs import ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p

Group = tuple[tuple[KernelStep, ...], NDArray[np.int64]]
"""The steps of a program, and the positions of the images that go through them, ascending."""


@dataclass(frozen=True)
class Placed:
    """A primitive whose params have their columns."""

    primitive: p.Primitive
    lowering: Lowering
    steps: tuple[KernelStep, ...]

    def params(self, params: Params, ops: Ops) -> Sequence[Array]:
        """Its part of the rows."""
        return self.lowering.params(self.primitive, params, ops)

    def sides(self, params: Params, height: Array, width: Array) -> Sides:
        """Rows and columns behind it."""
        return self.lowering.sides(self.primitive, params, height, width)


@dataclass(frozen=True)
class Branches:
    """A ``Choice`` whose parts' params have their columns."""

    turns: int
    alternatives: tuple[tuple[tuple[int, Placed | Branches], ...], ...]
    """Of each the parts, behind the index of the stage whose params each reads."""

    def params(self, params: Params, ops: Ops) -> Sequence[Array]:
        """All parts' parts of the rows."""
        return [
            columns
            for parts in self.alternatives
            for stage, part in parts
            for columns in part.params(p.params_of(params, stage), ops)
        ]

    def sides(self, params: Params, height: Array, width: Array) -> Sides:
        """The same: what moves pixels stands in a ``Choice`` only where all images keep one size."""
        return height, width

    def choices(self, params: Params) -> Iterator[Array]:
        """The alternatives at each turn, int64 ``[n, turns]``, of this and of each choice inside."""
        yield params["choices"]
        for parts in self.alternatives:
            for stage, part in parts:
                if isinstance(part, Branches):
                    yield from part.choices(p.params_of(params, stage))

    def chosen(self, choices: Iterator[Sequence[int]]) -> Iterator[KernelStep]:
        """The steps of one image, from its ``choices``."""
        own = next(choices)
        # Each choice inside takes its own, whether it is chosen or not.
        steps = [[step for _, part in parts for step in steps_of(part, choices)] for parts in self.alternatives]
        for alternative in own:
            yield from steps[alternative] if alternative >= 0 else ()

    def steps(self, columns: Iterator[int]) -> list[ChosenStep]:
        """All steps in order, each with the choices that lead to it; ``columns`` numbers those of ``choices``."""
        turns = list(itertools.islice(columns, self.turns))
        # Choices inside have columns of their own, the same ones at each turn.
        alternatives = self._steps_inside(columns)
        return [step for turn in turns for n, steps in enumerate(alternatives) for step in _behind(turn, n, steps)]

    def _steps_inside(self, columns: Iterator[int]) -> list[list[ChosenStep]]:
        """The same of each alternative, from within."""
        return [[step for _, own in parts for step in _chosen_steps(own, columns)] for parts in self.alternatives]


@dataclass(frozen=True)
class Sum(Branches):
    """A ``WeightedSum`` whose params have their columns: its weights, then its parts'. An alternative for each turn."""

    fork: KernelStep
    """Before the first alternative."""
    adds: tuple[KernelStep, ...]
    """Behind each alternative."""
    sum: KernelStep
    """Behind the last."""

    def params(self, params: Params, ops: Ops) -> Sequence[Array]:
        """The weights, and all parts' parts of the rows."""
        return [params["weights"], *super().params(params, ops)]

    def chosen(self, choices: Iterator[Sequence[int]]) -> Iterator[KernelStep]:
        """The steps of one image, from its ``choices``."""
        own = next(choices)
        steps = [[step for _, part in parts for step in steps_of(part, choices)] for parts in self.alternatives]
        yield self.fork
        for alternative in own:
            if alternative >= 0:
                yield from (*steps[alternative], self.adds[alternative])
        yield self.sum

    def steps(self, columns: Iterator[int]) -> list[ChosenStep]:
        """All steps in order, each with the choices that lead to it."""
        turns = list(itertools.islice(columns, self.turns))
        inside = zip(self._steps_inside(columns), self.adds, strict=True)
        chains = [
            step
            for turn, (number, (steps, add)) in zip(turns, enumerate(inside), strict=True)
            for step in _behind(turn, number, [*steps, ChosenStep(add)])
        ]
        return [ChosenStep(self.fork), *chains, ChosenStep(self.sum)]


def _behind(turn: int, alternative: int, steps: Sequence[ChosenStep]) -> list[ChosenStep]:
    """Steps of an alternative, from outside: with the choice that leads to it."""
    return [ChosenStep(inner.step, ((turn, alternative), *inner.choices)) for inner in steps]


def steps_of(part: Placed | Branches, choices: Iterator[Sequence[int]]) -> Iterator[KernelStep]:
    """The steps of one image in a part, from its choices at each ``Choice``, in order."""
    return iter(part.steps) if isinstance(part, Placed) else part.chosen(choices)


@dataclass(frozen=True)
class ChosenStep:
    """A step that only images go through that were drawn for it."""

    step: KernelStep
    choices: tuple[tuple[int, int], ...] = ()
    """What must have been drawn: columns of choices, and the alternative in each. None for a step of all images."""


@dataclass(frozen=True)
class Layout:
    """What the kernel does with the images of a segment.

    Example:
        >>> layout = Layout.of(TABLE, segment.steps)
        >>> rows = layout.rows(params, further)
        >>> for steps, positions in layout.groups(params, len(rows)):
        ...     Program(steps, layout.columns).run(…)
    """

    parts: tuple[tuple[int | None, Placed | Branches], ...]
    """The primitives in order, each behind the index of the stage whose params it reads."""
    columns: int
    """Of a row of params."""
    spec_out: ImageSpec
    """Of what leaves."""

    @classmethod
    def of(cls, table: BackendTable, steps: Sequence[Step]) -> Layout:
        """A segment's, or of some of its steps.

        Args:
            table: of the native backend.
            steps: with primitives; at least one.
        """
        columns = _Columns()
        parts = []
        for step in steps:
            assert step.primitive is not None  # what makes a step one of pixels
            parts.append((step.stage, _placed(table, step.primitive, (step.spec_in, step.spec_out), columns)))
        branches = any(isinstance(part, Branches) for _, part in parts)
        return cls(tuple(parts), columns.count + branches, steps[-1].spec_out)

    @property
    def straight(self) -> tuple[KernelStep, ...] | None:
        """The steps that every image goes through; ``None`` where images differ."""
        if any(isinstance(part, Branches) for _, part in self.parts):
            return None
        return tuple(step for _, part in self.parts if isinstance(part, Placed) for step in part.steps)

    def rows(self, params: Mapping[int, Params], further: Params, ops: Ops = NUMPY) -> Array | None:
        """The params of all steps as the kernel reads them, float64 ``[…, columns]``; ``None`` where they read none.

        Args:
            params: of the stages, by their indices.
            further: what decoding needs beside them.
            ops: the array namespace.
        """
        parts = [columns for index, part in self.parts for columns in part.params(_params(params, index, further), ops)]
        for index, part in self.parts:
            if isinstance(part, Branches):  # for what stands for no step
                return ops.concat([*parts, ops.f64(_params(params, index, further)["choices"][..., :1]) * 0.0], axis=-1)
        return ops.concat(parts, axis=-1) if parts else None

    def groups(
        self, params: Mapping[int, Params], count: int
    ) -> list[tuple[tuple[KernelStep, ...], NDArray[np.int64]]]:
        """Programs, and the positions of the images that go through each, ascending.

        Args:
            params: of the stages, by their indices.
            count: of the images.
        """
        straight = self.straight
        if straight is not None:
            return [(straight, np.arange(count))]
        choices = [np.asarray(own) for own in self.choices(params)]
        ends = np.cumsum([own.shape[-1] for own in choices])[:-1]
        different, which = np.unique(np.concatenate(choices, axis=-1), axis=0, return_inverse=True)
        programs: dict[tuple[KernelStep, ...], list[NDArray[np.int64]]] = {}
        for group, row in enumerate(different):
            own = iter([part.tolist() for part in np.split(row, ends)])
            steps = tuple(step for _, part in self.parts for step in steps_of(part, own))
            programs.setdefault(steps or (self._no_step(),), []).append(np.flatnonzero(which.reshape(-1) == group))
        return [(steps, np.sort(np.concatenate(positions))) for steps, positions in programs.items()]

    def choices(self, params: Mapping[int, Params]) -> list[Array]:
        """The alternatives at each turn of each ``Choice``, int64 ``[n, turns]``, from stages' params by index."""
        branches = [(index, part) for index, part in self.parts if isinstance(part, Branches)]
        return [own for index, part in branches for own in part.choices(_params(params, index, {}))]

    def chosen_steps(self) -> tuple[ChosenStep, ...]:
        """All steps in order, each with the choices that lead to it; columns are those of ``choices`` side by side."""
        columns = itertools.count()
        steps = [step for _, part in self.parts for step in _chosen_steps(part, columns)]
        return tuple(steps) if self.straight is not None else (*steps, ChosenStep(self._no_step()))

    def counters(self) -> list[list[int]]:
        """The numbers of the counters of each primitive's steps, in order."""
        return [sorted({s.step.counter for s in _chosen_steps(part, itertools.count())}) for _, part in self.parts]

    def _no_step(self) -> KernelStep:
        """What stands for no step at all: a flip that doesn't happen."""
        dtype = self.spec_out.dtype
        return KernelStep(Op.FLIP, column=self.columns - 1, dtype_in=dtype, dtype_out=dtype, counter=-1)

    def sides(self, params: Mapping[int, Params], further: Params, height: Array, width: Array) -> Sides:
        """Rows and columns of the images that leave, int64 ``[n]``, from those of the images that enter, upright."""
        for index, part in self.parts:
            height, width = part.sides(_params(params, index, further), height, width)
        return height, width


def _params(params: Mapping[int, Params], index: int | None, further: Params) -> Params:
    return {**further, **(params.get(index, {}) if index is not None else {})}


def _chosen_steps(part: Placed | Branches, columns: Iterator[int]) -> list[ChosenStep]:
    return [ChosenStep(step) for step in part.steps] if isinstance(part, Placed) else part.steps(columns)


class _Columns:
    """Hands out the columns of a row, and the numbers of counters, one after another."""

    def __init__(self) -> None:
        self.count = 0
        self._counters = itertools.count()

    def take(self, step: KernelStep, count: int) -> KernelStep:
        """A step with the first of so many columns, and a counter of its own."""
        column = self.count if count else -1
        self.count += count
        return replace(step, column=column, counter=next(self._counters))


def _placed(
    table: BackendTable, primitive: p.Primitive, specs: tuple[ImageSpec, ImageSpec], columns: _Columns
) -> Placed | Branches:
    if isinstance(primitive, p.Choice):
        sums = _sum_steps(primitive, columns) if isinstance(primitive, p.WeightedSum) else None
        alternatives = tuple(
            tuple(
                (part.stage, _placed(table, part.primitive, (part.spec_in, part.spec_out), columns)) for part in parts
            )
            for parts in primitive.alternatives
        )
        return Sum(primitive.turns, alternatives, *sums) if sums else Branches(primitive.turns, alternatives)
    lowering: Any = table.lowering(primitive)
    return Placed(primitive, lowering, tuple(columns.take(*step) for step in lowering.steps(primitive, *specs)))


def _sum_steps(primitive: p.WeightedSum, columns: _Columns) -> tuple[KernelStep, tuple[KernelStep, ...], KernelStep]:
    """What stands before, behind each of, and behind all alternatives; weights in their order, the image's first."""
    total = columns.take(KernelStep(Op.SUM), 1)
    adds = tuple(columns.take(KernelStep(Op.ADD), 1) for _ in primitive.alternatives)
    return columns.take(KernelStep(Op.FORK), 0), adds, total
