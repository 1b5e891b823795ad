"""Applies alternatives in Pillow to the images that they were drawn for, and runs users' own primitives."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from greenload.backends.base import UNKNOWN, TableRow
from greenload.backends.pillow.base import NUMPY_DTYPES, Apply, ImageParams, Lowering, Pixels, Values, as_array
from greenload.errors import PipelineError
from greenload.specs import ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p

LoweringOf = Callable[[p.Primitive], Lowering]
"""From a primitive to its lowering, as the backend's table has it."""


def built(lowering: Lowering, primitive: p.Primitive, before: ImageSpec, after: ImageSpec) -> Apply:
    """A primitive as a function of one image; of a user's own, one that holds it to ``after``."""
    apply = lowering.build(primitive, before)
    return _declared(type(primitive).__name__, apply, after) if primitive.lowerings else apply


def choice(lowering_of: LoweringOf, primitive: p.Choice, spec: ImageSpec) -> Apply:
    """An image through the alternatives that its params say."""
    lowered = [(lowering_of(part.primitive), part) for part in primitive.parts]
    functions = iter([built(lowering, part.primitive, part.spec_in, part.spec_out) for lowering, part in lowered])
    numbers = itertools.count()
    alternatives = [[(next(numbers), next(functions)) for _ in parts] for parts in primitive.alternatives]

    def apply(pixels: Pixels, params: ImageParams, out: Values | None) -> Pixels:
        for chosen in params["choices"]:
            for number, function in alternatives[chosen] if chosen >= 0 else ():
                pixels = function(pixels, p.params_of(params, number), None)
        return pixels

    return apply


def choice_params(lowering_of: LoweringOf, primitive: p.Choice, spec: ImageSpec, params: Params) -> Params:
    """The choices, and what each part needs, its names led by the part's number."""
    wanted: dict[str, Any] = {"choices": params["choices"]}
    for number, part in enumerate(primitive.parts):
        own = lowering_of(part.primitive).params(part.primitive, part.spec_in, p.params_of(params, part.stage))
        wanted |= {f"{number}.{name}": values for name, values in own.items()}
    return wanted


def own(primitive: p.Primitive, spec: ImageSpec) -> Apply:
    """A user's own primitive: its function, of an array."""
    function = primitive.lowerings["pillow"]
    return lambda pixels, params, out: function(primitive, as_array(pixels), params)


def own_params(primitive: p.Primitive, spec: ImageSpec, params: Params) -> Params:
    """All of its stage's."""
    return params


def _declared(name: str, apply: Apply, after: ImageSpec) -> Apply:
    """A user's function, whose result must be what was declared."""

    def checked(pixels: Pixels, params: ImageParams, out: Values | None) -> Pixels:
        result = apply(pixels, params, out)
        if not isinstance(result, np.ndarray):
            raise PipelineError(f"{name} must return an array, not {type(result).__name__}")
        fits = result.ndim == 3 and all(
            n in (None, side) for n, side in zip(after.image_shape, result.shape, strict=True)
        )
        if not fits:
            raise PipelineError(
                f"{name} returned an image of shape {result.shape}, but {after} was declared: "
                "return its shape in out_spec"
            )
        if result.dtype.name != after.dtype:
            raise PipelineError(
                f"{name} returned {result.dtype.name}, but {after.dtype} was declared: "
                "return that in out_spec, or cast inside the function"
            )
        return result

    return checked


def rows(lowering_of: LoweringOf) -> tuple[TableRow, ...]:
    """The rows of choices, whose parts are done as ``lowering_of`` says, and of users' own primitives."""
    of_parts = Lowering(functools.partial(choice, lowering_of), functools.partial(choice_params, lowering_of))
    return (
        TableRow(p.Choice, of_parts, NUMPY_DTYPES),
        TableRow(p.Primitive, Lowering(own, own_params), NUMPY_DTYPES, tolerance=UNKNOWN),
    )
