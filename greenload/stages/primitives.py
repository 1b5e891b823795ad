"""What stages come down to: the few operations on pixels that a backend has to know.

A stage says *which* window, *whether* to flip; a primitive is the work itself. Each primitive reads its parameters from
the params of the stage it came from (named in its docstring), so that a backend is a table from primitive type to
lowering.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Primitive:
    """Base of the operations on pixels."""


@dataclass(frozen=True)
class Decode(Primitive):
    """A file's bytes to uint8 HWC, RGB. JPEG: the accurate integer DCT and fancy chroma upsampling of libjpeg."""


@dataclass(frozen=True)
class Crop(Primitive):
    """The window ``params["window"]``: int64 ``[top, left, height, width]``, inside the image."""


@dataclass(frozen=True)
class DecodeCrop(Primitive):
    """``Decode`` then ``Crop``, decoding no more of a JPEG than the window needs. The same pixels."""


@dataclass(frozen=True)
class Pad(Primitive):
    """Zeros around the image: ``params["pad"]``, int64 ``[top, left]``, until it is ``height × width``."""

    height: int
    width: int


@dataclass(frozen=True)
class Resize(Primitive):
    """Bilinear to ``params["size"]``, int64 ``[height, width]``; rounded half up where the image is uint8."""

    antialias: bool
    height: int | None = None
    """The target height where it is the same for every image; then ``params["size"]`` isn't needed."""
    width: int | None = None


@dataclass(frozen=True)
class Flip(Primitive):
    """Left and right exchanged where ``params["flip"]``, a boolean, is true."""


@dataclass(frozen=True)
class Affine(Primitive):
    """``x · scale + offset`` per channel, then to ``dtype``; for uint8 clipped to 0 … 255 and cut to an integer."""

    scale: tuple[float, ...]
    """One factor a channel, or one for all."""
    offset: tuple[float, ...]
    dtype: str


@dataclass(frozen=True)
class FlipAffine(Affine):
    """``Flip`` then ``Affine`` in one pass over the pixels, for backends that have an operator for both."""
