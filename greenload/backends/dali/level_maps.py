"""The DALI backends' primitives of policies, each driven by a number of an image's own: maps of levels, and sharpening.

A table can't differ from image to image in DALI: they are arithmetic on the pixels, in float64 where it rounds. In
DALI's arithmetic Python's floats are float32, so numbers that float32 doesn't hold are fed. An image whose number
leaves it as it is takes a way around, which copies nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends import level_tables
from greenload.backends.base import TableRow
from greenload.backends.dali.base import Argument, Lowering, Node, Target, merge, split
from greenload.specs import ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p
from greenload.system.frameworks import fn, types

Change = Callable[[Node, Mapping[str, Node], Target], Node]
"""From images that change, and what is fed for them on the device where they are, to the images changed."""

_CHANGES = "changes"
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32)
_GREY = np.array([0.299, 0.587, 0.114])


def driven(change: Change, *fed: Argument, least: int = 1) -> Lowering:
    """A lowering that changes those images whose numbers say so, if they have at least so many rows and columns."""

    def arguments(primitive: p.Primitive, spec: ImageSpec) -> tuple[Argument, ...]:
        name, changes = level_tables.NUMBERS[type(primitive)]
        return Argument(_CHANGES, "bool", lambda params: changes(np.asarray(params[name])), 0), *fed

    def build(primitive: p.Primitive, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
        wanted = fed[_CHANGES]
        if least > 1:
            sides = image.shape()
            wanted = wanted & (sides[0] >= least) & (sides[1] >= least)
        chosen, others = split(image, wanted)
        own = {name: _beside(split(node, wanted)[0], target) for name, node in fed.items() if name != _CHANGES}
        return merge(change(chosen, own, target), others, wanted)

    return Lowering(arguments, build)


def _beside(node: Node, target: Target) -> Node:
    """A number that was fed, where the images are."""
    return node if target.gpu is None else node.gpu()


def _rounded(values: Node, target: Target) -> Node:
    """float64 as levels: halves up; casting clips."""
    from nvidia.dali import math

    return fn.cast(math.floor(values + 0.5), dtype=types.UINT8, device=target.device)


def _repeated(constant: NDArray[Any]) -> Callable[[Params], NDArray[Any]]:
    """A constant for each image."""
    return lambda params: np.broadcast_to(constant, (len(params["factor"]), *constant.shape))


_FACTOR = Argument("factor", "float64", lambda params: params["factor"], 0)


def brightness(image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """A product."""
    return _rounded(image * fed["factor"], target)


def contrast(image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """About the mean grey, of whole sums."""
    factor = fed["factor"]
    sums = fn.reductions.sum(image, axes=[0, 1], dtype=types.UINT64, device=target.device)
    terms = fn.cast(sums, dtype=types.FLOAT64, device=target.device) * fed["weights"]
    sides = image.shape()
    count = _beside(fn.cast(sides[0] * sides[1], dtype=types.FLOAT64), target)
    grey = (terms[0] + terms[1] + terms[2]) / count
    return _rounded(image * factor + grey * (1.0 - factor), target)


def posterize(image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """The lower bits masked away."""
    return image & fed["kept"]


def solarize(image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """All bits turned where they are to be."""
    return image ^ ((image >= fed["first"]) * types.Constant(255, dtype=types.UINT8))


def sharpen(image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """Sums by a filter, whole numbers that float32 holds; the outermost pixels are put back around the rest."""
    factor = fed["factor"]
    sums = fn.filter(image, fed["smooth"], mode="valid", dtype=types.FLOAT, device=target.device)
    thirteen = factor * 0.0 + 13.0  # float64: a division of float32 by a Python float would be one of float32
    values = image[1:-1, 1:-1] * factor + sums / thirteen * (1.0 - factor)
    done = _rounded(values, target)
    middle = fn.cat(image[1:-1, :1], done, image[1:-1, -1:], axis=1, device=target.device)
    return fn.cat(image[:1], middle, image[-1:], axis=0, device=target.device)


_KEPT = Argument("kept", "uint8", lambda params: level_tables.kept_bits(np.asarray(params["bits"])), 0)
_FIRST = Argument(
    # of an image that stays it is never used
    "first",
    "uint8",
    lambda params: level_tables.first_inverted(np.minimum(params["threshold"], 255.0)),
    0,
)
_WEIGHTS = Argument("weights", "float64", _repeated(_GREY))
_FILTER = Argument("smooth", "float32", _repeated(_SMOOTH), 2)

ROWS = (
    TableRow(p.Brightness, driven(brightness, _FACTOR), ("uint8",)),
    TableRow(p.Contrast, driven(contrast, _FACTOR, _WEIGHTS), ("uint8",)),
    TableRow(p.Posterize, driven(posterize, _KEPT), ("uint8",)),
    TableRow(p.Solarize, driven(solarize, _FIRST), ("uint8",)),
    TableRow(p.Sharpen, driven(sharpen, _FACTOR, _FILTER, least=3), ("uint8",)),
)
