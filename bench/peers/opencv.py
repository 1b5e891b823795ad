"""What the contestants on OpenCV have in common: decoding, and a window resized and flipped."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.by_hand import SIDE
from bench.peers.roster import ANTIALIASED
from bench.reach_peers import window_of

Pixels = NDArray[np.uint8]


def decoded(data: bytes) -> Pixels:
    """A JPEG's pixels, RGB."""
    import cv2

    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def pixels_of(paths: Sequence[str]) -> list[Pixels]:
    """The files' pixels, to be kept in memory."""
    return [decoded(Path(path).read_bytes()) for path in paths]


def finisher(group: str) -> Callable[[Pixels, Any], Pixels]:
    """A function of an image and a generator: a random window resized, half of them mirrored.

    OpenCV's bilinear resizing doesn't antialias. Where that is asked, areas are averaged, its nearest to it.
    """
    import cv2

    cv2.setNumThreads(0)
    interpolation = cv2.INTER_AREA if group == ANTIALIASED else cv2.INTER_LINEAR

    def finish(image: Pixels, draw: Any) -> Pixels:
        drawn = draw if isinstance(draw, random.Random) else random.Random(int(draw.integers(2**62)))
        top, left, tall, wide = window_of(*image.shape[:2], drawn)
        image = cv2.resize(image[top : top + tall, left : left + wide], (SIDE, SIDE), interpolation=interpolation)
        return cv2.flip(image, 1) if drawn.random() < 0.5 else image

    return finish
