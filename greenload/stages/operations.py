"""The named operations that augmentation policies are made of, and what each does to an image at a magnitude.

Of the papers' sixteen operations those that do the same to pixels are one alternative: five are affine maps, and an
image goes through one of ten primitives at most at each turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.array_ops import Array, Ops, sin_cos
from greenload.specs import ImageSpec
from greenload.stages import primitives as pixels
from greenload.stages import reference
from greenload.stages.base import Params
from greenload.stages.color import GREY
from greenload.stages.primitives import Choice, Part, Primitive

Image = NDArray[np.generic]


@dataclass(frozen=True)
class Kind:
    """What some operations come down to."""

    primitive: Callable[[float], Primitive]
    """From what lies outside the image."""
    params: Callable[[_Drawn], Params]
    """Of the operations that were drawn, for every image: those that other operations were drawn for get what does
    nothing."""
    formula: Callable[[Image, Params, float], Image]
    """In float64, on one image, with what lies outside."""


@dataclass(frozen=True)
class _Drawn:
    """Operations drawn for images of a size."""

    name_is: Callable[[str], Array]
    """Which images got an operation, a boolean each."""
    value: Array
    """How strong, float64 ``[…]``: see ``OPERATIONS``."""
    height: Array
    width: Array
    ops: Ops

    def value_of(self, name: str, otherwise: float = 0.0) -> Array:
        """The values of the images that got an operation; for the others a number that does nothing."""
        return self.ops.where(self.name_is(name), self.value, self.nothing + otherwise)

    @property
    def nothing(self) -> Array:
        """Zeros, of whole numbers: −1.0 · 0 is the negative one, and TensorFlow leaves out the + 0 that mends it."""
        return self.ops.f64(self.height * 0)


def _matrix(drawn: _Drawn) -> Params:
    """Shears about the upper left corner, shifts by whole pixels, and turns about the centre, counter-clockwise."""
    ops, none = drawn.ops, drawn.nothing
    sine, cosine = sin_cos(drawn.value_of("Rotate"), ops)
    across, down = drawn.value_of("ShearX") - sine, drawn.value_of("ShearY") + sine
    wide, tall = ops.f64(drawn.width), ops.f64(drawn.height)
    turned = drawn.name_is("Rotate")
    x, y = (ops.where(turned, side * 0.5, none) for side in (wide, tall))
    to_x, to_y = x + _pixels(drawn, "TranslateX", wide), y + _pixels(drawn, "TranslateY", tall)
    rows = [
        ops.stack([cosine, across, x - cosine * to_x - across * to_y], axis=-1),
        ops.stack([down, cosine, y - down * to_x - cosine * to_y], axis=-1),
    ]
    return {"matrix": _of_rows(rows, ops)}


def _of_rows(rows: list[Array], ops: Ops) -> Array:
    """A matrix, with zeros above 0: TensorFlow's graph optimiser changes their signs."""
    matrix = ops.stack(rows, axis=-2)
    return ops.where(matrix == 0.0, ops.f64(np.zeros(())), matrix)


def _pixels(drawn: _Drawn, name: str, size: Array) -> Array:
    """A share of the size in whole pixels, cut towards 0."""
    shift, ops = drawn.value_of(name) * size, drawn.ops
    whole = ops.floor(ops.maximum(shift, -shift) + 1e-9)  # a share that is whole pixels may be rounded down
    return ops.where(shift < 0.0, -whole, whole)


def _saturation(drawn: _Drawn) -> Params:
    ops = drawn.ops
    vivid = drawn.value_of("Color") + 1.0
    rows = []
    for row in range(3):
        grey = [(1.0 - vivid) * weight for weight in GREY]
        rows.append(ops.stack([g + vivid if c == row else g for c, g in enumerate(grey)] + [vivid * 0.0], axis=-1))
    return {"color": ops.stack(rows, axis=-2)}


def _factor(name: str) -> Callable[[_Drawn], Params]:
    return lambda drawn: {"factor": drawn.value_of(name) + 1.0}


def _always(drawn: _Drawn) -> Params:
    """Whoever gets the alternative gets it: its primitive asks all the same."""
    return {"apply": drawn.value == drawn.value}


KINDS: Mapping[str, Kind] = {
    "affine": Kind(
        pixels.Warp,
        _matrix,
        lambda image, params, fill: reference.warp(image, np.asarray(params["matrix"]), fill),
    ),
    "saturation": Kind(
        lambda fill: pixels.Color(),
        _saturation,
        lambda image, params, fill: reference.recolor(image, np.asarray(params["color"])),
    ),
    "brightness": Kind(
        lambda fill: pixels.Brightness(),
        _factor("Brightness"),
        lambda image, params, fill: reference.brightness(image, float(params["factor"])),
    ),
    "contrast": Kind(
        lambda fill: pixels.Contrast(),
        _factor("Contrast"),
        lambda image, params, fill: reference.contrast(image, float(params["factor"])),
    ),
    "sharpness": Kind(
        lambda fill: pixels.Sharpen(),
        _factor("Sharpness"),
        lambda image, params, fill: reference.sharpen(image, float(params["factor"])),
    ),
    "bits": Kind(
        lambda fill: pixels.Posterize(),
        lambda drawn: {"bits": drawn.ops.i64(drawn.value_of("Posterize", 8.0))},
        lambda image, params, fill: reference.posterize(image, int(params["bits"])),
    ),
    "threshold": Kind(
        lambda fill: pixels.Solarize(),
        lambda drawn: {"threshold": drawn.value_of("Solarize", 256.0)},
        lambda image, params, fill: reference.solarize(image, float(params["threshold"])),
    ),
    "range": Kind(
        lambda fill: pixels.Autocontrast(), _always, lambda image, params, fill: reference.autocontrast(image)
    ),
    "histogram": Kind(lambda fill: pixels.Equalize(), _always, lambda image, params, fill: reference.equalize(image)),
    "inverse": Kind(
        lambda fill: pixels.LookUp(pixels.INVERTED),
        _always,
        lambda image, params, fill: reference.look_up(image, pixels.INVERTED),
    ),
}

OPERATIONS: Mapping[str, str] = {
    "Identity": "",
    "ShearX": "affine",  # value: the slope, columns a row
    "ShearY": "affine",
    "TranslateX": "affine",  # value: the share of the width
    "TranslateY": "affine",
    "Rotate": "affine",  # value: degrees
    "Brightness": "brightness",  # value: what is added to the factor 1
    "Color": "saturation",
    "Contrast": "contrast",
    "Sharpness": "sharpness",
    "Posterize": "bits",  # value: bits that are kept
    "Solarize": "threshold",  # value: the least level that is inverted
    "AutoContrast": "range",  # no value
    "Equalize": "histogram",
    "Invert": "inverse",
}
"""The kind of each operation, by the papers' names; none of the one that does nothing."""

_SIGNED_KINDS = ("affine", "saturation", "brightness", "contrast", "sharpness")
SIGNED = tuple(name for name, kind in OPERATIONS.items() if kind in _SIGNED_KINDS)
"""Operations whose value is as often below 0 as above."""


@dataclass(frozen=True)
class Turn:
    """One operation of several, for each image its own.

    Its numbers are the operation's position among ``names`` and its value; its params are those of a ``Choice`` among
    the kinds that the operations come down to.
    """

    names: tuple[str, ...]
    shares: tuple[float, ...]
    """How often each is drawn, in the mean."""
    fill: float

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of its operations, each once."""
        return tuple(dict.fromkeys(kind for kind in map(OPERATIONS.__getitem__, self.names) if kind))

    def params(self, operation: Array, value: Array, height: Array, width: Array, ops: Ops) -> Params:
        """What is done to each image.

        Args:
            operation: int64 ``[…]``, the position among ``names``.
            value: float64 ``[…]``.
            height: int64 ``[…]``, rows of each image.
            width: int64 ``[…]``, its columns.
            ops: the array namespace.
        """
        kinds = self.kinds
        numbers = [kinds.index(OPERATIONS[name]) if OPERATIONS[name] else -1 for name in self.names]
        choice = ops.take(np.asarray(numbers, np.int64), operation)
        drawn = _Drawn(lambda name: self._is(name, operation), value, height, width, ops)
        params: dict[str, Array] = {"choices": choice[..., None]}
        for number, kind in enumerate(kinds):
            params |= {f"{number}.{name}": values for name, values in KINDS[kind].params(drawn).items()}
        return params

    def _is(self, name: str, operation: Array) -> Array:
        return operation == (self.names.index(name) if name in self.names else -1)

    def choice(self, spec: ImageSpec) -> Choice:
        """The primitive: an alternative for each kind."""
        shares = dict.fromkeys(self.kinds, 0.0)
        for name, share in zip(self.names, self.shares, strict=True):
            if OPERATIONS[name]:
                shares[OPERATIONS[name]] += share
        alternatives = tuple(
            (Part(number, KINDS[kind].primitive(self.fill), spec, spec),) for number, kind in enumerate(shares)
        )
        return Choice(alternatives, tuple(shares.values()))

    def names_of(self, primitive: Primitive) -> tuple[str, ...]:
        """The operations that come down to a primitive."""
        kinds = [kind for kind in self.kinds if KINDS[kind].primitive(self.fill) == primitive]
        return tuple(name for name in self.names if OPERATIONS[name] in kinds)

    def reference(self, image: Image, params: Params) -> Image:
        """What its formula makes of an image, by the params of one sample."""
        chosen = int(np.asarray(params["choices"])[0])
        if chosen < 0:
            return image
        return KINDS[self.kinds[chosen]].formula(image, pixels.params_of(params, chosen), self.fill)


def joined(first: Params, second: Params, number: int, ops: Ops) -> tuple[Params, Params]:
    """The params of two turns where neighbouring affine maps are one: the second turn's, and the first has none.

    Args:
        first: of the turn before.
        second: of the turn behind it.
        number: the kind's among the alternatives of both.
        ops: the array namespace.
    """
    name = f"{number}.matrix"
    both = (first["choices"][..., 0] == number) & (second["choices"][..., 0] == number)
    choices = ops.where(both[..., None], first["choices"] * 0 - 1, first["choices"])
    matrix = ops.where(both[..., None, None], composed(first[name], second[name], ops), second[name])
    return {**first, "choices": choices}, {**second, name: matrix}


def composed(first: Array, second: Array, ops: Ops) -> Array:
    """The map from output to input, float64 ``[…, 2, 3]``, of ``first`` and then ``second`` on an image."""
    rows = []
    for row in range(2):
        a, b, c = (first[..., row, k] for k in range(3))
        entries: list[Any] = [a * second[..., 0, k] + b * second[..., 1, k] for k in range(2)]
        # A difference in place of a sum of three, which TensorFlow's graph optimiser would regroup.
        shift = a * second[..., 0, 2] + b * second[..., 1, 2]
        rows.append(ops.stack([*entries, shift - -c], axis=-1))
    matrix = ops.stack(rows, axis=-2)
    return ops.where(matrix == 0.0, ops.f64(np.zeros(())), matrix)


def values_of(
    names: Sequence[str], table: NDArray[np.float64], operation: Array, magnitude: Array, side: Array, ops: Ops
) -> Array:
    """What drawn operations are worth, float64 ``[…]``: of either sign where they have two sides.

    Args:
        names: of the operations that are drawn from.
        table: the value of each at each magnitude, ``[names, magnitudes]``.
        operation: int64 ``[…]``, the position among ``names``.
        magnitude: int64 ``[…]``.
        side: uniforms ``[…]``; below ½ a signed value is negative.
        ops: the array namespace.
    """
    signs = np.array([-1.0 if name in SIGNED else 1.0 for name in names])
    value = ops.take(table.reshape(-1), operation * table.shape[1] + magnitude)
    return value * ops.where(side < 0.5, ops.take(signs, operation), side * 0.0 + 1.0)


def one_of(count: int, uniform: Array, ops: Ops) -> Array:
    """A whole number from 0 to below ``count``, int64, each as likely."""
    return ops.i64(ops.minimum(ops.floor(uniform * float(count)), count - 1.0))


def evenly(names: Sequence[str]) -> tuple[float, ...]:
    """Shares of operations that are drawn alike."""
    return (1.0 / len(names),) * len(names)
