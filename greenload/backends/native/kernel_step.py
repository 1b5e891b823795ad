"""One step of the kernel, as ``gl_step`` in ``kernel/abi.h`` has it, and what a whole program of them is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag


class Op(IntEnum):
    """``gl_op``."""

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


class Flag(IntFlag):
    """``gl_flag``."""

    NONE = 0
    WINDOW = 1
    ANTIALIAS = 2
    VERTICAL = 4
    MAYBE = 8


@dataclass(frozen=True)
class KernelStep:
    """What the kernel does to an image, and which params it reads."""

    op: Op
    flags: Flag = Flag.NONE
    count: int = 0
    """How many params it reads of an image's row."""
    dtypes: tuple[str, str] = ("uint8", "uint8")
    """Of the image that enters and the one that leaves."""
    sides: tuple[int, int] = (0, 0)
    """Rows and columns of what leaves, where all images have the same; of ``BLUR`` its taps."""
    numbers: tuple[float, ...] = ()
    table: bytes = b""
    column: int = -1
    """Of its first param in the row; −1 where it reads none."""
