"""Applies alternatives in DALI to the images that they were drawn for.

It uses DALI's own conditionals, as ``pipeline_def(enable_conditionals=True)`` writes them. The images that an
alternative isn't for take a way around it, which copies nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import TableRow
from greenload.backends.dali.base import MOVED, Argument, Lowering, Node, Target, merge, split
from greenload.specs import ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p

LoweringOf = Callable[[p.Primitive], Lowering]
"""From a primitive to its lowering, as the backend's table has it."""


def choice(
    lowering_of: LoweringOf,
    primitive: p.Choice,
    spec: ImageSpec,
    image: Node,
    fed: Mapping[str, Node],
    target: Target,
) -> Node:
    """At each turn, each alternative on the images that got it."""
    numbers = iter(range(len(primitive.parts)))
    alternatives = [[(next(numbers), part) for part in parts] for parts in primitive.alternatives]
    for turn in range(primitive.turns):
        for index, parts in enumerate(alternatives):
            if parts:
                predicate = fed[_name(turn, index)]
                chosen, others = split(image, predicate)
                for number, part in parts:
                    given = p.params_of(fed, number)
                    own = {name: split(node, predicate)[0] for name, node in given.items()}
                    build = lowering_of(part.primitive).build
                    chosen = build(part.primitive, part.spec_in, chosen, own, target)
                image = merge(chosen, others, predicate)
    return image


def choice_arguments(lowering_of: LoweringOf, primitive: p.Choice, spec: ImageSpec) -> tuple[Argument, ...]:
    """Which images get each alternative at each turn, and what each part is fed, its names led by the part's number."""
    arguments = [
        Argument(_name(turn, index), "bool", functools.partial(_gets, turn, index), 0)
        for turn in range(primitive.turns)
        for index, parts in enumerate(primitive.alternatives)
        if parts
    ]
    for number, part in enumerate(primitive.parts):
        for own in lowering_of(part.primitive).arguments(part.primitive, part.spec_in):
            take = functools.partial(_taken, own.take, part.stage)
            arguments.append(Argument(f"{number}.{own.name}", own.dtype, take, own.ndim))
    return tuple(arguments)


def _name(turn: int, index: int) -> str:
    return f"turn_{turn}_gets_{index}"


def _gets(turn: int, index: int, params: Params) -> NDArray[np.bool_]:
    gets: NDArray[np.bool_] = params["choices"][:, turn] == index
    return gets


def _taken(take: Callable[[Params], NDArray[np.generic]], index: int, params: Mapping[str, Any]) -> NDArray[np.generic]:
    return take(p.params_of(params, index))


def rows(lowering_of: LoweringOf) -> tuple[TableRow, ...]:
    """The row of choices, whose parts are done as ``lowering_of`` says."""
    own = Lowering(functools.partial(choice_arguments, lowering_of), functools.partial(choice, lowering_of))
    return (TableRow(p.Choice, own, MOVED),)
