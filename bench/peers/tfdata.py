"""tf.data as textbooks show it, and tuned by hand; from memory, both keep decoded pixels in tf.data's own cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bench import by_hand
from bench.by_hand import SIDE, Workload
from bench.peers.roster import ANTIALIASED, CACHED
from bench.peers.worker import Task


def textbook(task: Task) -> Iterator[Any]:
    """Decode whole, slice, resize, flip, all by ``tf.image``'s functions and with their defaults, to uint8."""
    import tensorflow as tf

    def finish(image: Any) -> Any:
        top, left, height, width = by_hand.distorted_window(tf.shape(image))
        image = tf.slice(image, [top, left, 0], [height, width, 3])
        image = tf.image.resize(image, [SIDE, SIDE], antialias=task.group == ANTIALIASED)
        image = tf.image.random_flip_left_right(image)
        return tf.cast(tf.round(image), tf.uint8)

    if task.group == CACHED:
        return _from_memory(task.work, finish)

    def load(path: Any, label: Any) -> Any:
        return finish(tf.io.decode_jpeg(tf.io.read_file(path), channels=3)), label

    return _images(by_hand.dataset(task.work, load))


def tuned(task: Task) -> Iterator[Any]:
    """Only the window decoded, accurately; all random values by one op, and the flip made where it is drawn."""
    import tensorflow as tf

    if task.group != CACHED:
        return _images(by_hand.tuned(task.work, "INTEGER_ACCURATE", task.group == ANTIALIASED))

    def finish(image: Any) -> Any:
        top, left, height, width = by_hand.random_window(tf.shape(image))
        image = tf.image.resize(tf.slice(image, [top, left, 0], [height, width, 3]), [SIDE, SIDE])
        image = tf.cast(tf.round(image), tf.uint8)
        return tf.cond(tf.random.uniform([]) < 0.5, lambda: tf.reverse(image, [1]), lambda: image)

    return _from_memory(task.work, finish)


def _from_memory(work: Workload, finish: Callable[[Any], Any]) -> Iterator[Any]:
    """Decoded pixels from ``cache()``, shuffled, finished sample by sample."""
    import tensorflow as tf

    def decode(path: Any, label: Any) -> Any:
        return tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE"), label

    def load(image: Any, label: Any) -> Any:
        return tf.ensure_shape(finish(image), [SIDE, SIDE, 3]), label

    files = tf.data.Dataset.from_tensor_slices((list(work.paths), list(work.labels)))
    kept = files.map(decode, num_parallel_calls=work.threads).cache()
    return _images(by_hand.batched(kept.shuffle(len(work.paths)).repeat(), work, load))


def _images(dataset: Any) -> Iterator[Any]:
    return (images for images, _ in dataset)
