"""JPEGs of each kind of chroma subsampling, and the same as `pack` transcodes them."""

from __future__ import annotations

import functools

import odd_jpegs
from conformance import pixels

from greenload.backends.native import abi, library

LUMA = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:4:0": (1, 2), "4:2:0": (2, 2)}
"""Samples of luma for one of chroma, across and down."""


@functools.cache
def odd(kind: str, height: int, width: int, progressive: bool = False) -> bytes:
    """A JPEG of a kind of `LUMA`, or "grey"."""
    planes = pixels(height, width, "noise", seed=height * width)
    if kind == "grey":
        return odd_jpegs.jpeg(planes[..., :1], jfif=True)
    scans = odd_jpegs.progressive(3) if progressive else ()
    frame = 0xC2 if progressive else 0xC0
    return odd_jpegs.jpeg(planes, sampling=(LUMA[kind], (1, 1), (1, 1)), frame=frame, scans=scans, jfif=True)


@functools.cache
def transcoded(kind: str, height: int, width: int) -> bytes:
    """The same with an index of its segments."""
    return library.transcode(odd(kind, height, width), abi.Form.TRANSCODED)


def unindexed(file: bytes) -> bytes:
    """A transcoded file, damaged or not, that nothing takes for one: so it is decoded as a whole."""
    return file.replace(b"GLIDX1", b"GLIDX0", 1)
