"""One contestant of `bench.strategies`, in an interpreter that has its library: ``python strategies_worker.py NAME
IMAGES.npy``. For each line ``COUNT`` on its input it makes at least so many augmented images, in batches of 64, and
prints their number and the process's CPU seconds.

It imports nothing of greenload's but in greenload's own contestants, so that any interpreter can run it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

BATCH = 64
MakeBatches = Callable[[Any], Iterator[Any]]


def greenload(name: str) -> MakeBatches:
    """A stage by its published name in a pipeline over the arrays, backend by the table of costs."""

    def batches(images: Any) -> Iterator[Any]:
        import greenload as gl

        stage = {"randaugment": gl.RandAugment(2, 9), "trivial": gl.TrivialAugmentWide()}[name]
        pipeline = gl.Pipeline(gl.Arrays(images), stage, gl.Batch(BATCH), seed=1)
        return _endless(lambda: gl.load(pipeline))

    return batches


def keras_by_image(images: Any) -> Iterator[Any]:
    """``keras.layers.RandAugment`` on each image, inside tf.data."""
    import keras
    import tensorflow as tf

    layer = keras.layers.RandAugment(value_range=(0, 255), num_ops=2, factor=0.3)
    data = tf.data.Dataset.from_tensor_slices(images).map(layer, num_parallel_calls=tf.data.AUTOTUNE)
    return _endless(lambda: data.batch(BATCH).prefetch(tf.data.AUTOTUNE))


def keras_by_batch(images: Any) -> Iterator[Any]:
    """``keras.layers.RandAugment`` on batches, inside tf.data: the same operations for all of a batch's images."""
    import keras
    import tensorflow as tf

    layer = keras.layers.RandAugment(value_range=(0, 255), num_ops=2, factor=0.3)
    data = tf.data.Dataset.from_tensor_slices(images).batch(BATCH).map(layer, num_parallel_calls=tf.data.AUTOTUNE)
    return _endless(lambda: data.prefetch(tf.data.AUTOTUNE))


def torchvision(name: str, tensors: bool) -> MakeBatches:
    """torchvision's transform on uint8 tensors, or on Pillow's images; bilinear, as greenload's is."""

    def batches(images: Any) -> Iterator[Any]:
        import torch
        from torchvision import transforms
        from torchvision.transforms import InterpolationMode

        try:
            from torchvision.transforms import v2
        except ImportError:
            v2 = transforms
        torch.set_num_threads(1)
        made = {"randaugment": v2.RandAugment, "trivial": v2.TrivialAugmentWide}[name]
        change = made(interpolation=InterpolationMode.BILINEAR)
        if tensors:
            given = [torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))) for image in images]
            return _by_image(lambda image: change(image), given, torch.stack)
        from PIL import Image

        given = [Image.fromarray(image) for image in images]
        return _by_image(lambda image: np.asarray(change(image)), given, np.stack)

    return batches


def albumentations(images: Any) -> Iterator[Any]:
    """Two of thirteen transforms as near to RandAugment's as Albumentations has them, in OpenCV, nearest."""
    import albumentations as a
    import cv2

    cv2.setNumThreads(0)
    always: dict[str, Any] = {"p": 1.0}
    chain = a.SomeOf(
        [
            a.NoOp(**always),
            a.Affine(shear={"x": (-5, 5), "y": (0, 0)}, **always),
            a.Affine(shear={"x": (0, 0), "y": (-5, 5)}, **always),
            a.Affine(translate_percent={"x": (-0.136, 0.136), "y": (0, 0)}, **always),
            a.Affine(translate_percent={"x": (0, 0), "y": (-0.136, 0.136)}, **always),
            a.Affine(rotate=(-9, 9), **always),
            a.RandomBrightnessContrast((-0.27, 0.27), (0, 0), **always),
            a.RandomBrightnessContrast((0, 0), (-0.27, 0.27), **always),
            a.ColorJitter((1, 1), (1, 1), (0.73, 1.27), (0, 0), **always),
            a.Sharpen((0.1, 0.3), (0.73, 1.27), **always),
            a.Posterize(7, **always),
            a.Solarize((0.7, 0.7), **always),
            a.AutoContrast(**always),
            a.Equalize(**always),
        ],
        n=2,
        replace=True,
        p=1.0,
    )
    return _by_image(lambda image: chain(image=image)["image"], list(images), np.stack)


CONTESTANTS: dict[str, MakeBatches] = {
    "greenload randaugment": greenload("randaugment"),
    "greenload trivial": greenload("trivial"),
    "keras randaugment": keras_by_image,
    "keras randaugment, one draw a batch": keras_by_batch,
    "torchvision randaugment, tensors": torchvision("randaugment", True),
    "torchvision randaugment, Pillow": torchvision("randaugment", False),
    "torchvision trivial, tensors": torchvision("trivial", True),
    "torchvision trivial, Pillow": torchvision("trivial", False),
    "albumentations randaugment": albumentations,
}


def _by_image(change: Callable[[Any], Any], images: list[Any], stack: Callable[[list[Any]], Any]) -> Iterator[Any]:
    while True:
        for first in range(0, len(images) - BATCH + 1, BATCH):
            yield stack([change(image) for image in images[first : first + BATCH]])


def _endless(dataset: Callable[[], Any]) -> Iterator[Any]:
    made = dataset().repeat()
    for element in made:
        yield element[0] if isinstance(element, tuple) else element


def main(name: str, path: str) -> None:
    """Serve windows until the input ends."""
    batches = CONTESTANTS[name](np.load(path))
    for _ in range(4):
        next(batches)
    print("ready", flush=True)
    for line in sys.stdin:
        wanted, done = int(line), 0
        begin = time.process_time()
        while done < wanted:
            done += len(next(batches))
        print(done, time.process_time() - begin, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
