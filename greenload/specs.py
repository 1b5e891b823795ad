"""What an image looks like between two stages, known before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from greenload.errors import PipelineError

DTYPES = ("uint8", "int8", "float16", "bfloat16", "float32")
"""The element types that images may have."""
RANGES: Mapping[str, tuple[int, int]] = {"uint8": (0, 255), "int8": (-128, 127)}
"""The smallest and the largest value of those that are integers. The others' own range is 0 … 1."""
DTYPE_BYTES: Mapping[str, int] = {"uint8": 1, "int8": 1, "float16": 2, "bfloat16": 2, "float32": 4}
"""Bytes of a value."""

MAX_BYTES = 1 << 30
"""The most bytes that decoding one image may take, if no limit is given: 1 GiB. It leaves JPEG 97 megapixels, and 8-bit
PNG of 3 channels all that a PNG may hold."""
Truncation = Literal["error", "fill"]
"""What is done about files that are cut off: ``Decode`` says what each means."""
TRUNCATED: tuple[Truncation, ...] = get_args(Truncation)
CacheForm = Literal["auto", "encoded", "transcoded", "coefficients", "planes", "pixels", "resized"]
"""In which form images are kept between epochs: ``Cache`` says what each means."""
CACHE_FORMS: tuple[CacheForm, ...] = get_args(CacheForm)

ENCODED = "encoded"
HWC = "HWC"
NHWC = "NHWC"


@dataclass(frozen=True)
class ImageSpec:
    """The shape, dtype and layout of the images at one place of a pipeline.

    ``ImageSpec((None, None, 3), "uint8", "HWC")`` is a decoded image whose size differs from file to file.
    """

    shape: tuple[int | None, ...]
    """``(height, width, channels)``, led by the batch for ``NHWC``; ``None`` where it differs from image to image.
    ``()`` while encoded."""
    dtype: str
    """One of ``DTYPES``; ``"bytes"`` while encoded."""
    layout: str
    """``"encoded"`` (a file's bytes), ``"HWC"`` (one image) or ``"NHWC"`` (a batch)."""

    def __post_init__(self) -> None:
        rank = {ENCODED: 0, HWC: 3, NHWC: 4}.get(self.layout)
        if rank is None:
            raise PipelineError(f"layout must be 'encoded', 'HWC' or 'NHWC', not {self.layout!r}")
        if len(self.shape) != rank:
            raise PipelineError(f"layout {self.layout!r} has {rank} dimensions, but the shape is {self.shape}")
        if self.layout != ENCODED and self.dtype not in DTYPES:
            raise PipelineError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}")

    @property
    def encoded(self) -> bool:
        """Whether images are still a file's bytes."""
        return self.layout == ENCODED

    @property
    def batched(self) -> bool:
        """Whether the first dimension counts images."""
        return self.layout == NHWC

    @property
    def image_shape(self) -> tuple[int | None, int | None, int | None]:
        """``(height, width, channels)`` of one image; all ``None`` while encoded."""
        if self.encoded:
            return (None, None, None)
        height, width, channels = self.shape[-3:]
        return (height, width, channels)

    @property
    def static(self) -> bool:
        """Whether every image has the same, known shape."""
        return not self.encoded and None not in self.shape[-3:]

    def image_bytes(self) -> int | None:
        """Bytes of one decoded image, or ``None`` where that differs from image to image."""
        height, width, channels = self.image_shape
        if height is None or width is None or channels is None:
            return None
        return height * width * channels * DTYPE_BYTES[self.dtype]

    def __str__(self) -> str:
        if self.encoded:
            return "encoded bytes"
        return f"{self.dtype} {'×'.join('?' if n is None else str(n) for n in self.shape)} {self.layout}"


ENCODED_SPEC = ImageSpec((), "bytes", ENCODED)
"""A file's bytes, not yet decoded."""


@dataclass(frozen=True)
class LabelSpec:
    """What the label of one sample looks like.

    ``LabelSpec((), "int64")`` is a class's number, ``LabelSpec((10,), "float32")`` one number for each of ten classes.
    """

    shape: tuple[int, ...] = ()
    dtype: str = "int64"

    def __str__(self) -> str:
        return f"{self.dtype} {'×'.join(map(str, self.shape)) or 'scalar'}"
