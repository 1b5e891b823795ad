"""What stages come down to: the few operations on pixels that a backend has to know.

A stage says *which* window, *whether* to flip; a primitive is the work itself. Each primitive reads its parameters from
the params of the stage it came from (named in its docstring), so that a backend is a table from primitive type to
lowering.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from greenload.public import public
from greenload.specs import MAX_BYTES, ImageSpec, Truncation


@public
@dataclass(frozen=True)
class Primitive:
    """Base of the operations on pixels.

    One of your own is a frozen dataclass with ``lowerings``; see ``Stage``.
    """

    lowerings: ClassVar[Mapping[str, Callable[[Any, Any, Mapping[str, Any]], Any]]] = {}
    """Of a primitive of your own: the function that does it, by the name of each backend that can. It is called with
    the primitive, the image and the stage's params, and returns the image.

    On ``"tf"`` image and params are tensors, and the function is traced into the graph; the image is
    ``[height, width, channels]``, or ``[batch, …]`` behind ``Batch``, where params have a row an image. On ``"pillow"``
    it is a NumPy array ``[height, width, channels]``, not to be written to, and params are Python values.
    """


@dataclass(frozen=True)
class Decoding(Primitive):
    """What decodes files: their bytes to uint8 HWC, RGB. JPEG: the accurate integer DCT and fancy chroma upsampling of
    libjpeg."""

    exif: bool = False
    """Whether the EXIF orientation that a file states is applied."""
    max_bytes: int = MAX_BYTES
    """The most bytes that decoding an image may take."""
    truncated: Truncation = "error"
    """What is done about files that are cut off."""


@dataclass(frozen=True)
class Decode(Decoding):
    """Of the whole image."""


@dataclass(frozen=True)
class Crop(Primitive):
    """The window ``params["window"]``: int64 ``[top, left, height, width]``, inside the image."""


@dataclass(frozen=True)
class DecodeCrop(Decoding):
    """``Decode`` then ``Crop``, decoding no more of a JPEG than the window needs. The same pixels."""


@dataclass(frozen=True)
class Pad(Primitive):
    """``fill`` around the image: ``params["pad"]``, int64 ``[top, left]``, until it is ``height × width``."""

    height: int | None
    """Rows after; where ``None``, ``params["size"]`` holds int64 ``[height, width]``."""
    width: int | None
    fill: float = 0.0
    """In the image's own range of values."""


@dataclass(frozen=True)
class Resize(Primitive):
    """Bilinear to ``params["size"]``, int64 ``[height, width]``; rounded half up where the image is uint8."""

    antialias: bool
    height: int | None = None
    """The target height where it is the same for every image; then ``params["size"]`` isn't needed."""
    width: int | None = None


@dataclass(frozen=True)
class Flip(Primitive):
    """Left and right exchanged (top and bottom if ``vertical``) where ``params["flip"]``, a boolean, is true."""

    vertical: bool = False


@dataclass(frozen=True)
class Warp(Primitive):
    """The image seen through an affine map, at its own size.

    ``params["matrix"]``, float64 ``[2, 3]``, takes the output pixel centre ``(x + ½, y + ½, 1)`` to a place in the
    input, where pixel centres lie at half-integers too. Bilinear between the four nearest pixels; one outside the
    image counts as ``fill``. uint8 is rounded half up.
    """

    fill: float = 0.0


@dataclass(frozen=True)
class Perspective(Primitive):
    """The image seen through a perspective map, at its own size, where ``params["apply"]``, a boolean, is true.

    ``params["matrix"]``, float64 ``[3, 3]``, takes the output pixel centre ``(x + ½, y + ½, 1)`` to ``(x' · w, y' · w,
    w)``, with ``(x', y')`` a place in the input, where pixel centres lie at half-integers too; where ``w = 0`` there is
    none, and the pixel is ``fill``. Bilinear and rounded as ``Warp``.
    """

    fill: float = 0.0
    distortion: float = 1.0
    """How far a corner moves inwards at most, as a share of half a side: the farther, the more a place is off that is
    computed in float32."""


@dataclass(frozen=True)
class Color(Primitive):
    """``matrix · (r, g, b, 1)`` per pixel: ``params["color"]``, float64 ``[3, 4]``, for values in 0 … 1; the last
    column counts 255-fold for uint8. Clipped to 0 … 255 and rounded half up for uint8, clipped to 0 … 1 for floats."""

    maybe: bool = False
    """Whether ``params["apply"]``, a boolean, says for each image if it happens at all."""


@dataclass(frozen=True)
class LookUp(Primitive):
    """Each value ``v`` of a uint8 image becomes ``table[v]``, where ``params["apply"]``, a boolean, is true."""

    table: bytes
    """256 levels."""


INVERTED = bytes(range(255, -1, -1))
"""The table of a ``LookUp`` that inverts."""


@dataclass(frozen=True)
class Autocontrast(Primitive):
    """A look-up in a table of each channel of a uint8 image's own, where ``params["apply"]``, a boolean, is true: with
    ``low`` and ``high`` the channel's least and largest value, ``v`` becomes ``v · s − low · s``, ``s = 255 / (high −
    low)``, each product rounded to float64, cut to an integer. Where ``low = high`` it stays."""


@dataclass(frozen=True)
class Equalize(Primitive):
    """A look-up in a table of each channel of a uint8 image's own, where ``params["apply"]``, a boolean, is true: with
    ``step`` the count of the channel's values that are below its largest, divided by 255 and cut to an integer, ``v``
    becomes ``(⌊step / 2⌋ + how many are below v) / step``, cut to an integer and at 255. Where ``step = 0`` it
    stays."""


@dataclass(frozen=True)
class Brightness(Primitive):
    """Each value ``v`` of a uint8 image becomes ``v · params["factor"]``, a float64 from 0; clipped and rounded half
    up."""


@dataclass(frozen=True)
class Contrast(Primitive):
    """Each value ``v`` of a uint8 RGB image becomes ``v · f + m · (1 − f)``, clipped and rounded half up, with ``f =
    params["factor"]``, a float64 from 0, and ``m = (0.299 r + 0.587 g + 0.114 b) / n``, of the channels' sums over all
    ``n`` pixels, which are whole numbers."""


@dataclass(frozen=True)
class Posterize(Primitive):
    """Each value of a uint8 image keeps its ``params["bits"]`` highest bits, 1 … 8; the others become 0."""


@dataclass(frozen=True)
class Solarize(Primitive):
    """Each value ``v`` of a uint8 image that is at least ``params["threshold"]``, a float64, becomes ``255 − v``."""


@dataclass(frozen=True)
class Sharpen(Primitive):
    """Each value ``v`` of a uint8 image becomes ``v · f + s · (1 − f)``, clipped and rounded half up, with ``f =
    params["factor"]``, a float64 from 0, and ``s = (4 v + the sum of the 3 × 3 values around and at it) / 13``. The
    outermost pixels stay as they are, and so does an image of fewer than 3 rows or columns."""


@dataclass(frozen=True)
class Blur(Primitive):
    """A separable Gaussian of ``params["sigma"]``, a float64, cut to ``height × width`` taps and normalised to sum 1;
    beyond the border the image is mirrored without repeating its outermost pixel. uint8 is rounded half up."""

    height: int
    width: int


@dataclass(frozen=True)
class Erase(Primitive):
    """``value`` in the window ``params["erase"]``: int64 ``[top, left, height, width]``; nothing where height is 0."""

    value: tuple[float, ...]
    """One number a channel, or one for all, in the image's own range of values."""


@dataclass(frozen=True)
class Mix(Primitive):
    """Each image of a batch with another of it: ``params["weight"]`` of the image and the rest of image
    ``params["partner"]``, and that one alone inside ``params["box"]``.

    Weights are float64 multiples of 2⁻¹², partners int64 positions in the batch, boxes int64 ``[top, left, height,
    width]``, empty where height is 0. Integers are rounded half up; floats are computed in float32, then rounded.
    """


@dataclass(frozen=True)
class Call(Primitive):
    """A user's own function of an image (or a batch), for backends that can call it."""

    function: Callable[[Any], Any]


@dataclass(frozen=True)
class Affine(Primitive):
    """``x · scale + offset`` per channel, then to ``dtype``; for integers clipped to their range and cut to an
    integer."""

    scale: tuple[float, ...]
    """One factor a channel, or one for all."""
    offset: tuple[float, ...]
    dtype: str


@dataclass(frozen=True)
class FlipAffine(Affine):
    """A horizontal ``Flip`` then ``Affine`` in one pass over the pixels, for backends that have an operator for
    both."""


@dataclass(frozen=True)
class Part:
    """An operation of an alternative."""

    stage: int
    """The index, inside the combinator, of the stage whose params it reads: their names begin with ``"index."``."""
    primitive: Primitive
    spec_in: ImageSpec
    spec_out: ImageSpec


@dataclass(frozen=True)
class Choice(Primitive):
    """Alternatives, of which each image gets its own: ``params["choices"]``, int64 ``[turns]``, says which is applied
    at each turn, and −1 that none is. An alternative that isn't applied to an image costs nothing for it."""

    alternatives: tuple[tuple[Part, ...], ...]
    """The operations of each, in order; together they leave an image's spec as it is."""
    shares: tuple[float, ...]
    """How often each is applied to an image, in the mean."""
    turns: int = 1

    @property
    def parts(self) -> tuple[Part, ...]:
        """The operations of all alternatives."""
        return tuple(part for alternative in self.alternatives for part in alternative)


SUM_BITS = 16
"""What the weights of a ``WeightedSum`` are multiples of: 2⁻¹⁶. In float32 weighted sums of levels are exact then."""


@dataclass(frozen=True)
class WeightedSum(Choice):
    """Alternatives that each begin with the uint8 image as it enters, one at each turn, summed with weights and rounded
    half up.

    ``params["weights"]``, float64 ``[1 + turns]``, has the weight of the image as it enters, then that of each
    alternative's result: multiples of 2⁻¹⁶ from 0, whose sum is 1. ``params["choices"]`` has ``k`` at turn ``k``, or −1
    where the weight is 0: such an alternative costs nothing.
    """


def params_of(params: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Of a combinator's params those of one stage inside it, by its index."""
    prefix = f"{index}."
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
