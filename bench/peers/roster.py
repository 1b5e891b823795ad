"""Who takes part in ``bench.peers``: each contestant's environment, and where its work differs from greenload's.

The work: photographs of a shuffled set, read and decoded (accurate integer DCT, chroma interpolated), a random window
as torchvision draws it resized to 224 × 224 (bilinear), half of them mirrored, in batches of uint8. Only the standard
library is imported here, so that every interpreter can read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

STREAMING, ANTIALIASED, CACHED = "streaming", "antialiased", "cached"
GROUPS = (STREAMING, ANTIALIASED, CACHED)
"""Photographs from files, not antialiased; from files, antialiased; from memory, not antialiased."""
OURS = "greenload"
OWN = ".venv"
"""The environment that greenload itself is developed in."""

Kind = Literal["same", "less", "more", "other"]


@dataclass(frozen=True)
class Work:
    """How a contestant's work in a group compares with what was asked."""

    kind: Kind = "same"
    """Whether it does the same, less, more, or makes other pixels by work that isn't plainly less or more."""
    why: str = ""
    """What differs; empty where nothing does."""

    @property
    def label(self) -> str:
        """For tables and charts; empty where the work is the same.

        Example:
            >>> Work("more", "antialiases").label
            'more: antialiases'
        """
        return f"{self.kind}: {self.why}" if self.why else ""


@dataclass(frozen=True)
class Contestant:
    """One that takes part."""

    name: str
    environment: str
    """A name of ``bench.peers.environments``, or ``OWN``."""
    batches: str
    """``module:function``, the module in ``bench.peers``: takes a ``Task``, gives an endless iterator over batches."""
    groups: Mapping[str, Work]
    """Where it takes part."""
    distributions: Sequence[str] = ()
    """Whose versions are recorded."""


SAME = Work()
FAST_DCT = Work("less", "the faster, less exact DCT")
ALWAYS = Work("more", "antialiases")
AREA = Work("other", "averages areas")
AREA_FAST_DCT = Work("less", "the faster, less exact DCT; averages areas")
PLANES = Work("other", "resizes Y, Cb and Cr, then converts")


def _all(streaming: Work, antialiased: Work, cached: Work) -> dict[str, Work]:
    return {STREAMING: streaming, ANTIALIASED: antialiased, CACHED: cached}


_OPENCV = _all(SAME, AREA, SAME)
_TORCH = ("torch", "torchvision")
CONTESTANTS: tuple[Contestant, ...] = (
    Contestant(OURS, OWN, "ours:batches", _all(SAME, SAME, SAME), ("tensorflow",)),
    Contestant("tf.data, textbook", "tfdata", "tfdata:textbook", _all(FAST_DCT, FAST_DCT, SAME), ("tensorflow",)),
    Contestant("tf.data, tuned", "tfdata", "tfdata:tuned", _all(SAME, SAME, SAME), ("tensorflow",)),
    Contestant("DALI CPU", "dali", "dali:batches", _all(SAME, SAME, SAME), ("nvidia-dali-cuda130",)),
    Contestant("FFCV", "ffcv", "ffcv_loader:batches", _all(AREA_FAST_DCT, AREA_FAST_DCT, AREA), ("ffcv", "torch")),
    Contestant("Grain, OpenCV", "grain", "grain_opencv:batches", _OPENCV, ("grain", "opencv-python-headless")),
    Contestant("DataLoader, Pillow", "torch", "pytorch:pillow", _all(ALWAYS, SAME, ALWAYS), (*_TORCH, "pillow")),
    Contestant(
        "DataLoader, Pillow-SIMD", "pillow-simd", "pytorch:pillow", _all(ALWAYS, SAME, ALWAYS), (*_TORCH, "pillow-simd")
    ),
    Contestant("DataLoader, torchvision v2 tensors", "torch", "pytorch:tensors", _all(SAME, SAME, SAME), _TORCH),
    Contestant(
        "DataLoader, Albumentations",
        "torch",
        "pytorch:albumentations",
        _OPENCV,
        ("torch", "albumentations", "opencv-python-headless"),
    ),
    Contestant("SPDL", "spdl", "spdl_pipeline:own", {STREAMING: PLANES, ANTIALIASED: PLANES}, ("spdl_io",)),
    Contestant("SPDL, OpenCV", "spdl", "spdl_pipeline:with_opencv", _OPENCV, ("spdl_core", "opencv-python-headless")),
    Contestant(
        "simplejpeg + OpenCV, no framework",
        "floor",
        "floor:batches",
        _OPENCV,
        ("simplejpeg", "opencv-python-headless"),
    ),
)


def of_group(group: str, contestants: Sequence[Contestant] = CONTESTANTS) -> list[Contestant]:
    """Those that take part in a group, greenload first."""
    return [one for one in contestants if group in one.groups]


def named(name: str) -> Contestant:
    """A contestant by its name."""
    return next(one for one in CONTESTANTS if one.name == name)
