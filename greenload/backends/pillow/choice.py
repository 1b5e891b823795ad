"""The Pillow backend's way to apply alternatives to the images that they were drawn for, and users' own primitives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from greenload.backends.pillow.lowerings import Apply, ImageParams, Lowering, Pixels, Values, as_array
from greenload.errors import PipelineError
from greenload.specs import ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p


def _lowering(part: p.Part) -> Lowering:
    from greenload.backends.pillow.table import TABLE  # which has a row for what is here

    found: Lowering = TABLE.lowering(part.primitive)
    return found


def choice(primitive: p.Choice, spec: ImageSpec) -> Apply:
    """An image through the alternatives that its params say."""
    numbered = iter(enumerate(primitive.parts))
    alternatives = [[_built(*next(numbered)) for _ in parts] for parts in primitive.alternatives]

    def apply(pixels: Pixels, params: ImageParams, out: Values | None) -> Pixels:
        for chosen in params["choices"]:
            for number, function in alternatives[chosen] if chosen >= 0 else ():
                pixels = function(pixels, p.params_of(params, number), None)
        return pixels

    return apply


def _built(number: int, part: p.Part) -> tuple[int, Apply]:
    return number, _lowering(part).build(part.primitive, part.spec_in)


def choice_params(primitive: p.Choice, spec: ImageSpec, params: Params) -> Params:
    """The choices, and what each part needs, its names led by the part's number."""
    wanted: dict[str, Any] = {"choices": params["choices"]}
    for number, part in enumerate(primitive.parts):
        own = _lowering(part).params(part.primitive, part.spec_in, p.params_of(params, part.place))
        wanted |= {f"{number}.{name}": values for name, values in own.items()}
    return wanted


def own(primitive: p.Primitive, spec: ImageSpec) -> Apply:
    """A user's own primitive: its function, of an array."""
    function, name = primitive.lowerings["pillow"], type(primitive).__name__

    def apply(pixels: Pixels, params: ImageParams, out: Values | None) -> Pixels:
        result = function(primitive, as_array(pixels), params)
        if not isinstance(result, np.ndarray) or result.ndim != 3:
            raise PipelineError(f"{name} must return an array [height, width, channels], not {_kind(result)}")
        return result

    return apply


def own_params(primitive: p.Primitive, spec: ImageSpec, params: Params) -> Params:
    """All of its stage's."""
    return params


def _kind(result: Any) -> str:
    shape: Sequence[int] = getattr(result, "shape", ())
    return f"one of shape {list(shape)}" if isinstance(result, np.ndarray) else type(result).__name__
