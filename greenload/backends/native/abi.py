"""What the kernel takes and says, as ``kernel/abi.h`` has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag

ABI = 17
"""Of ``kernel/abi.h``, ``GL_ABI``."""
REASON_BYTES = 256


class Op(IntEnum):
    """What a step does: ``gl_op``, where its params are described."""

    DECODE = 1
    TURN = 2
    CROP = 3
    PAD = 4
    RESIZE = 5
    FLIP = 6
    WARP = 7
    COLOR = 8
    LOOKUP = 9
    BLUR = 10
    ERASE = 11
    AFFINE = 12
    AUTOCONTRAST = 13
    EQUALIZE = 14
    MIX = 15
    BRIGHTNESS = 16
    CONTRAST = 17
    POSTERIZE = 18
    SOLARIZE = 19
    SHARPEN = 20
    PERSPECTIVE = 30
    FORK = 40
    ADD = 41
    SUM = 42


class Flag(IntFlag):
    """How a step does it: ``gl_flag``."""

    NONE = 0
    WINDOW = 1
    ANTIALIAS = 2
    VERTICAL = 4
    MAYBE = 8


class Status(IntEnum):
    """What became of an image: ``gl_status``."""

    OK = 0
    BAD_FILE = 1
    """Its bytes can't be decoded, or libjpeg warns of damage: another decoder may accept it, or says why not."""
    BAD_CALL = 2
    """Sizes, params or memory."""


class Form(IntEnum):
    """In which a file's image is kept between epochs: ``gl_form``. All are bytes that ``Op.DECODE`` reads."""

    ENCODED = 0
    """The file as it is."""
    TRANSCODED = 1
    """A JPEG with the same coefficients, of which a window decodes only what it needs; for others a plain JPEG."""
    PLANES = 2
    """YCbCr planes at their own subsampling."""
    PIXELS = 3
    """Binary PPM."""
    COEFFICIENTS = 4
    """The coefficients of a JPEG without Huffman codes, of which a window transforms only what it needs."""


DTYPES: Mapping[str, int] = {"uint8": 0, "int8": 1, "float16": 2, "bfloat16": 3, "float32": 4}
"""``gl_dtype``."""


@dataclass(frozen=True)
class KernelStep:
    """A ``gl_step``."""

    op: Op
    flags: Flag = Flag.NONE
    column: int = -1
    """Of its first param in a row of params; −1 where it has none."""
    height: int = 0
    """Rows after it, where they are the same for every image; of a blur its taps."""
    width: int = 0
    dtype_in: str = "uint8"
    dtype_out: str = "uint8"
    numbers: tuple[float, ...] = ()
    table: bytes = b""  # 256 levels, of Op.LOOKUP
    counter: int = 0
    """Its number among a segment's counters; −1: counted apart."""


@dataclass(frozen=True)
class Counter:
    """What a step has done so far, in all threads; as ``gl_counter`` in ``kernel/abi.h``."""

    images: int
    nanoseconds: int
    bytes_in: int
    bytes_out: int
    timed: int = 0
    wall_nanoseconds: int = 0
    crossed: int = 0
