"""What greenload's native path is held against: OpenCV without a framework, and more of tf.data tuned by hand.

Without a framework two threads of Python fill a batch buffer, half a batch each. OpenCV and simplejpeg release the
interpreter's lock while they work, and OpenCV's own threads are off. A few batch buffers are used in turn, so that none
of a batch's time goes into getting memory.
"""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.by_hand import ATTEMPTS, RATIO, SCALE, SIDE, Workload

PEERS = ("simplejpeg", "cv2")
"""Packages of the extra ``bench``."""
BUFFERS = 4
PAD, SMALL, JITTER, HUE = 4, 32, 0.2, 0.05
"""Of the pipeline on small arrays: padding, side, and how far colours go."""
EVALUATION_SIDE = 256

Pixels = NDArray[np.uint8]


def missing() -> list[str]:
    """The packages that can't be imported, of those that ``make bench`` installs for these contestants."""
    return [name for name in PEERS if importlib.util.find_spec(name) is None]


def window_of(height: int, width: int, draw: random.Random) -> tuple[int, int, int, int]:
    """A window ``(top, left, height, width)`` as torchvision draws it.

    Example:
        >>> window_of(100, 100, random.Random(0))
        (14, 12, 75, 86)
    """
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for _ in range(ATTEMPTS):
        area = height * width * draw.uniform(*SCALE)
        ratio = math.exp(draw.uniform(low, high))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            return draw.randint(0, height - tall), draw.randint(0, width - wide), tall, wide
    tall, wide = min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1]))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def floor_of_libraries(work: Workload, area: bool = False) -> Iterator[Pixels]:
    """simplejpeg decodes a file whole, OpenCV resizes the window (bilinear, not antialiased) into the batch.

    Args:
        work: the photographs, and with what means they are loaded.
        area: average areas instead, which is OpenCV's nearest to antialiasing.
    """
    import cv2
    import simplejpeg

    def fill(index: int, out: Pixels, draw: random.Random) -> None:
        image = simplejpeg.decode_jpeg(Path(work.paths[index]).read_bytes())
        _window_into(cv2, image, out, draw, cv2.INTER_AREA if area else None)

    return _batches(cv2, work, fill)


def pixels_of(paths: Sequence[str]) -> list[Pixels]:
    """The files' pixels: what a framework-free loader keeps in memory."""
    import simplejpeg

    return [simplejpeg.decode_jpeg(Path(path).read_bytes()) for path in paths]


def opencv_from_ram(work: Workload, images: Sequence[Pixels]) -> Iterator[Pixels]:
    """OpenCV resizes the window of pixels in memory into the batch."""
    import cv2

    return _batches(cv2, work, lambda index, out, draw: _window_into(cv2, images[index], out, draw))


def copied_windows(work: Workload, images: Sequence[Pixels]) -> Iterator[Pixels]:
    """Only copies the window out of memory, as it is: what no loader can undercut. Its batches hold nothing of use."""
    import cv2

    rooms = [np.empty(max(image.size for image in images), np.uint8) for _ in range(work.threads)]

    def fill(index: int, out: Pixels, draw: random.Random) -> None:
        image = images[index]
        top, left, tall, wide = window_of(*image.shape[:2], draw)
        room = rooms.pop()
        np.copyto(room[: tall * wide * 3].reshape(tall, wide, 3), image[top : top + tall, left : left + wide])
        rooms.append(room)

    return _batches(cv2, work, fill)


def _window_into(cv2: Any, image: Pixels, out: Pixels, draw: random.Random, interpolation: int | None = None) -> None:
    how = cv2.INTER_LINEAR if interpolation is None else interpolation
    top, left, tall, wide = window_of(*image.shape[:2], draw)
    window = image[top : top + tall, left : left + wide]
    if draw.random() < 0.5:
        cv2.flip(cv2.resize(window, (SIDE, SIDE), interpolation=how), 1, dst=out)
    else:
        cv2.resize(window, (SIDE, SIDE), dst=out, interpolation=how)


def _batches(cv2: Any, work: Workload, fill: Callable[[int, Pixels, random.Random], None]) -> Iterator[Pixels]:
    """Endless batches, each filled by ``work.threads`` threads."""
    cv2.setNumThreads(0)
    order = random.Random(1)
    draws = [random.Random(thread) for thread in range(work.threads)]
    buffers = [np.zeros((work.batch, SIDE, SIDE, 3), np.uint8) for _ in range(BUFFERS)]

    def part(thread: int, indices: Sequence[int], batch: Pixels) -> None:
        for k in range(thread, len(indices), work.threads):
            fill(indices[k], batch[k], draws[thread])

    with ThreadPoolExecutor(work.threads) as pool:
        waiting: list[int] = []
        turn = 0
        while True:
            while len(waiting) < work.batch:
                epoch = list(range(len(work.paths)))
                order.shuffle(epoch)
                waiting += epoch
            indices, waiting = waiting[: work.batch], waiting[work.batch :]
            batch = buffers[turn := (turn + 1) % BUFFERS]
            for done in [pool.submit(part, thread, indices, batch) for thread in range(work.threads)]:
                done.result()
            yield batch


def evaluated(work: Workload) -> Any:
    """uint8 in tf.data: the short side antialiased to 256, the centre's 224; decoded as exactly as greenload does."""
    import tensorflow as tf

    def load(path: Any, label: Any) -> Any:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE")
        size = tf.shape(image)[:2]
        short = tf.reduce_min(size)
        size = tf.maximum(EVALUATION_SIDE * size // short, EVALUATION_SIDE)
        image = tf.image.resize(image, size, antialias=True)
        top, left = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
        image = tf.cast(tf.round(tf.slice(image, [top, left, 0], [SIDE, SIDE, 3])), tf.uint8)
        return tf.ensure_shape(image, [SIDE, SIDE, 3]), label

    from bench import by_hand

    return by_hand.dataset(work, load)


def small_tuned(images: Pixels, labels: Any, batch: int, threads: int) -> Any:
    """uint8 in tf.data, element by element: crop of arrays that were padded once, in memory, flip, and colours.

    One op draws all that is random, and contrast, saturation and hue are TensorFlow's own ops. One 3 × 4 matrix in
    their place costs more on images this small, and so do ``tf.image.random_…``.
    """
    import tensorflow as tf

    padded = np.pad(images, [(0, 0), (PAD, PAD), (PAD, PAD), (0, 0)])
    source, answers = tf.constant(padded), tf.constant(labels)
    least = tf.constant([1.0 - JITTER] * 3 + [-HUE, 0.0, 0.0, 0.0])
    span = tf.constant([2.0 * JITTER] * 3 + [2.0 * HUE, 2.0 * PAD + 1.0, 2.0 * PAD + 1.0, 1.0])

    def load(index: Any) -> Any:
        drawn = tf.random.uniform([7]) * span + least
        brightness, contrast, saturation, hue, top, left, turn = tf.unstack(drawn)
        begin = tf.stack([tf.cast(index, tf.int32), tf.cast(top, tf.int32), tf.cast(left, tf.int32), 0])
        image = tf.slice(source, begin, [1, SMALL, SMALL, 3])
        image = tf.cond(turn < 0.5, lambda: tf.reverse(image, [2]), lambda: image)
        image = tf.cast(image, tf.float32) * (brightness / 255.0)
        image = tf.raw_ops.AdjustContrastv2(images=image, contrast_factor=contrast)
        image = tf.raw_ops.AdjustSaturation(images=image, scale=saturation)
        image = tf.raw_ops.AdjustHue(images=image, delta=hue)
        image = tf.cast(tf.clip_by_value(image[0] * 255.0 + 0.5, 0.0, 255.0), tf.uint8)
        return tf.ensure_shape(image, [SMALL, SMALL, 3]), answers[index]

    samples = tf.data.Dataset.range(len(images)).shuffle(len(images)).repeat()
    batches = samples.map(load, num_parallel_calls=threads).batch(batch).prefetch(2)
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    options.autotune.enabled = False
    return batches.with_options(options)
