"""Pipelines as people write them, to compare greenload with: tf.data from the textbook, tf.data tuned, DALI.

All draw windows from torchvision's distribution (area share uniform in 0.08 … 1, ratio log-uniform in 3/4 … 4/3, ten
attempts), so that as many pixels are decoded and resized.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

SIDE = 224
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
ATTEMPTS = 10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Workload:
    """What every contestant runs, and with what means."""

    paths: tuple[str, ...]
    """JPEGs."""
    labels: tuple[int, ...]
    batch: int = 64
    threads: int = 2
    prefetch: int = 2


def random_window(shape: Any) -> tuple[Any, Any, Any, Any]:
    """A window ``(top, left, height, width)`` of an image of ``shape`` ``[height, width, …]``, all int32 scalars."""
    import tensorflow as tf

    height, width = shape[0], shape[1]
    tall, wide = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    # All draws in one op, and the fallback by `where`: the fewer ops the cheaper.
    drawn = tf.random.uniform([2 * ATTEMPTS + 2])
    share = (drawn[:ATTEMPTS] * (SCALE[1] - SCALE[0]) + SCALE[0]) * (tall * wide)
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    ratio = tf.exp(drawn[ATTEMPTS : 2 * ATTEMPTS] * (high - low) + low)
    columns, rows = tf.round(tf.sqrt(share * ratio)), tf.round(tf.sqrt(share / ratio))
    fits = (columns >= 1.0) & (columns <= wide) & (rows >= 1.0) & (rows <= tall)
    first, found = tf.argmax(fits), tf.reduce_any(fits)
    w = tf.where(found, tf.gather(columns, first), tf.minimum(wide, tf.round(tall * RATIO[1])))
    h = tf.where(found, tf.gather(rows, first), tf.minimum(tall, tf.round(wide / RATIO[0])))
    place = tf.where(found, drawn[2 * ATTEMPTS :], tf.constant([0.5, 0.5]))
    top, left = tf.floor(place[0] * (tall - h + 1.0)), tf.floor(place[1] * (wide - w + 1.0))
    return tf.cast(top, tf.int32), tf.cast(left, tf.int32), tf.cast(h, tf.int32), tf.cast(w, tf.int32)


def distorted_window(shape: Any) -> tuple[Any, Any, Any, Any]:
    """A window of TensorFlow's own op, which most pipelines on tf.data use: a somewhat different distribution."""
    import tensorflow as tf

    begin, size, _ = tf.image.sample_distorted_bounding_box(
        shape,
        tf.zeros([1, 0, 4]),
        area_range=SCALE,
        aspect_ratio_range=RATIO,
        max_attempts=ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    return begin[0], begin[1], size[0], size[1]


def textbook(work: Workload, *, window: Any = random_window, autotune: bool = False) -> tf.data.Dataset:
    """float32, normalised, resized without antialiasing: decode, slice, resize, flip, divide, as tutorials show it.

    Args:
        work: files, batch size, threads and prefetch.
        window: ``random_window`` or ``distorted_window``.
        autotune: leave threads and prefetch to tf.data, as most do.
    """
    import tensorflow as tf

    def load(path: Any, label: Any) -> Any:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        top, left, height, width = window(tf.shape(image))
        image = tf.slice(image, [top, left, 0], [height, width, 3])
        image = tf.image.resize(image, [SIDE, SIDE])
        image = tf.image.random_flip_left_right(image)
        image = image / 255.0
        image = (image - tf.constant(MEAN)) / tf.constant(STD)
        return image, label

    return dataset(work, load, autotune)


def tuned(work: Workload, dct_method: str = "", antialias: bool = True) -> tf.data.Dataset:
    """uint8: only the window is decoded, and the flip is made where it is drawn.

    Args:
        work: files, batch size, threads and prefetch.
        dct_method: ``"INTEGER_ACCURATE"``, or libjpeg's default of speed over exactness.
        antialias: whether resizing is antialiased.
    """
    import tensorflow as tf

    def load(path: Any, label: Any) -> Any:
        data = tf.io.read_file(path)
        window = tf.stack(random_window(tf.io.extract_jpeg_shape(data)))
        image = tf.io.decode_and_crop_jpeg(data, window, channels=3, dct_method=dct_method)
        image = tf.image.resize(image, [SIDE, SIDE], antialias=antialias)
        image = tf.cast(tf.round(image), tf.uint8)
        image = tf.cond(tf.random.uniform([]) < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
        return tf.ensure_shape(image, [SIDE, SIDE, 3]), label

    return dataset(work, load)


def dataset(work: Workload, load: Any, autotune: bool = False) -> tf.data.Dataset:
    """Shuffled files, loaded sample by sample, in endless batches."""
    import tensorflow as tf

    files = tf.data.Dataset.from_tensor_slices((list(work.paths), list(work.labels)))
    return batched(files.shuffle(len(work.paths)).repeat(), work, load, autotune)


def batched(samples: Any, work: Workload, load: Any, autotune: bool = False) -> tf.data.Dataset:
    """Samples, loaded one by one, in batches."""
    import tensorflow as tf

    options = tf.data.Options()
    if autotune:
        batches = samples.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(work.batch).prefetch(tf.data.AUTOTUNE)
    else:
        batches = samples.map(load, num_parallel_calls=work.threads).batch(work.batch).prefetch(work.prefetch)
        options.threading.private_threadpool_size = work.threads
        options.threading.max_intra_op_parallelism = 1
        options.autotune.enabled = False
    return batches.with_options(options)


def dali_batches(work: Workload, antialias: bool = True) -> Iterator[Any]:
    """uint8 in DALI with its own reader and draws; batches as arrays over DALI's memory.

    Args:
        work: files, batch size, threads and prefetch.
        antialias: whether resizing is antialiased.
    """
    from nvidia.dali import Pipeline, fn

    graph = Pipeline(
        batch_size=work.batch, num_threads=work.threads, device_id=None, prefetch_queue_depth=work.prefetch, seed=1
    )
    with graph:
        data, label = fn.readers.file(
            files=list(work.paths),
            labels=list(work.labels),
            random_shuffle=True,
            initial_fill=len(work.paths),
            name="files",
        )
        image = fn.decoders.image_random_crop(
            data, random_area=list(SCALE), random_aspect_ratio=list(RATIO), num_attempts=ATTEMPTS
        )
        image = fn.resize(image, size=[SIDE, SIDE], antialias=antialias)
        graph.set_outputs(fn.flip(image, horizontal=fn.random.coin_flip()), label)
    graph.build()
    while True:
        images, labels = graph.run()
        np.asarray(labels.as_tensor())
        yield np.asarray(images.as_tensor())
