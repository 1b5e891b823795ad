"""The contestants of ``bench.reach``, by group and name: greenload's and those that they are held against."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import greenload as gl
from bench import by_hand, choice, reach_peers
from bench.by_hand import MEAN, SIDE, STD, Workload
from bench.contest import MakeBatches
from greenload.backends import registry
from greenload.backends.native import library
from greenload.backends.native.abi import Form

PLAIN, ANTIALIASED, CACHED = "streaming", "antialiased", "cached"
FLOAT, EVALUATION, SMALL = "float32", "evaluation", "arrays"
GROUPS = (PLAIN, ANTIALIASED, CACHED, FLOAT, EVALUATION, SMALL)
GREENLOAD, TUNED, FLOOR, PACKED = "greenload", "hand-tuned", "simplejpeg + OpenCV", "greenload from pack --transcode"
RAM, DISK, STREAMING, OPENCV, COPY = "all in RAM", "all on disk", "no cache", "OpenCV from RAM", "copying the window"
TEXTBOOK, CACHED_FLOAT, CACHED_UINT8 = "textbook", "greenload, cached, float32", "greenload, cached, uint8"
FORMER = "greenload on pillow"
SHARES = {f"1/{parts} of the set {place}": (parts, place) for place in ("in RAM", "on disk") for parts in (2, 4, 20)}
"""Contestants whose cache may take only a share of the set's bytes: which part, and where."""
HALF = "1/2 of the set in RAM"
SMALL_BATCH = 128
COPIES = 4
_EPOCHS = 1_000_000


@dataclass(frozen=True)
class Ground:
    """What the contestants work on."""

    work: Workload
    folder: Path
    """For caches and packs; removed afterwards."""
    set_bytes: int
    """Of all photographs as YCbCr planes, the form in which ``Cache()`` keeps a set that fits."""


def planes_bytes(paths: Sequence[str]) -> int:
    """Bytes that the photographs take as YCbCr planes, rounded up as a store does; pixels where a file has none."""
    total = 0
    for path in paths:
        try:
            length = len(library.transcode(Path(path).read_bytes(), Form.PLANES))
        except ValueError:
            import tensorflow as tf

            length = int(np.prod(tf.io.decode_image(tf.io.read_file(path), channels=3).shape))
        total += -(-length // 64) * 64
    return total


def caches() -> bool:
    """Whether ``Cache`` takes a folder and budgets."""
    return "path" in inspect.signature(gl.Cache).parameters


def transcodes() -> bool:
    """Whether ``pack`` transcodes."""
    return "transcode" in inspect.signature(gl.pack).parameters


def pipeline(
    work: Workload, source: Any = None, cache: Any = None, antialias: bool = False, dtype: str = "uint8"
) -> Any:
    """Shuffled photographs, decoded, a random window resized to 224 × 224, half of them mirrored."""
    normalised = (gl.ToDtype("float32", scale=True), gl.Normalize(MEAN, STD)) if dtype == "float32" else ()
    return gl.Pipeline(
        source or gl.Files(work.paths, labels=work.labels),
        gl.Shuffle(),
        gl.Decode(),
        *(() if cache is None else (cache,)),
        gl.RandomResizedCrop(SIDE, antialias=antialias),
        gl.RandomHorizontalFlip(),
        *normalised,
        gl.Batch(work.batch),
        seed=1,
    )


def images_of(pipe: Any, work: Workload, backend: Any = "auto", epochs: int = _EPOCHS) -> Iterator[Any]:
    """greenload's batches, through its public ``load``."""
    dataset = gl.load(pipe, backend, epochs=epochs, threads=work.threads, prefetch=work.prefetch)
    return (images for images, _ in dataset)


def rotated(work: Workload, by: int) -> Workload:
    """The same photographs in another order: another set to a cache, so that contestants don't share one."""
    by %= len(work.paths)
    return dataclasses.replace(
        work, paths=work.paths[by:] + work.paths[:by], labels=work.labels[by:] + work.labels[:by]
    )


def groups(ground: Ground, wanted: Sequence[str] = GROUPS) -> dict[str, dict[str, MakeBatches]]:
    """The contestants of each group: those that can run here.

    Args:
        ground: what they work on.
        wanted: some of ``GROUPS``.
    """
    makers = {
        PLAIN: lambda: _streaming(ground, antialias=False),
        ANTIALIASED: lambda: _streaming(ground, antialias=True),
        CACHED: lambda: _cached(ground),
        FLOAT: lambda: _floats(ground.work),
        EVALUATION: lambda: _evaluation(ground.work),
        SMALL: lambda: _small(ground.work),
    }
    return {group: makers[group]() for group in GROUPS if group in wanted}


def _images(make: Any) -> MakeBatches:
    return lambda: (images for images, _ in make())


def _ours(work: Workload, **how: Any) -> MakeBatches:
    return lambda: images_of(pipeline(work, **how), work)


def _streaming(ground: Ground, antialias: bool) -> dict[str, MakeBatches]:
    work = ground.work
    found: dict[str, MakeBatches] = {
        GREENLOAD: _ours(work, antialias=antialias),
        TUNED: _images(functools.partial(by_hand.tuned, work, "INTEGER_ACCURATE", antialias)),
    }
    if not reach_peers.missing():
        found[FLOOR] = lambda: reach_peers.floor_of_libraries(work)
    if transcodes():
        found[PACKED] = lambda: images_of(pipeline(work, gl.TFRecords(str(packed(ground))), antialias=antialias), work)
    return found


def packed(ground: Ground) -> Path:
    """The photographs packed in the form of which a window decodes only its segments."""
    folder = ground.folder / "packed"
    if not folder.exists():
        gl.pack(gl.Files(ground.work.paths, labels=ground.work.labels), folder, transcode=True)
    return folder


def _cached(ground: Ground) -> dict[str, MakeBatches]:
    work = ground.work
    found: dict[str, MakeBatches] = {STREAMING: _ours(work), RAM: _ours(rotated(work, 1), cache=gl.Cache())}
    if caches():
        found[DISK] = _ours(rotated(work, 2), cache=gl.Cache(str(ground.folder / "all")))
        for k, (name, (parts, place)) in enumerate(SHARES.items()):
            budget, folder = ground.set_bytes // parts, str(ground.folder / str(parts))
            cache = gl.Cache(ram=budget) if place == "in RAM" else gl.Cache(folder, disk=budget)
            found[name] = _ours(rotated(work, 3 + k), cache=cache)
    if not reach_peers.missing():
        pixels = functools.cache(lambda: reach_peers.pixels_of(work.paths))
        found[OPENCV] = lambda: reach_peers.opencv_from_ram(work, pixels())
        found[COPY] = lambda: reach_peers.copied_windows(work, pixels())
    return found


def _floats(work: Workload) -> dict[str, MakeBatches]:
    return {
        GREENLOAD: _ours(work, dtype="float32"),
        TEXTBOOK: _images(functools.partial(by_hand.textbook, work)),
        CACHED_FLOAT: _ours(rotated(work, 1), cache=gl.Cache(), dtype="float32"),
        CACHED_UINT8: _ours(rotated(work, 2), cache=gl.Cache()),
    }


def _evaluation(work: Workload) -> dict[str, MakeBatches]:
    stages = gl.Resize(reach_peers.EVALUATION_SIDE), gl.CenterCrop(SIDE), gl.Batch(work.batch)
    pipe = gl.Pipeline(gl.Files(work.paths, labels=work.labels), gl.Decode(), *stages)
    return {
        GREENLOAD: lambda: images_of(pipe, work),
        TUNED: _images(functools.partial(reach_peers.evaluated, work)),
    }


def _small(work: Workload) -> dict[str, MakeBatches]:
    pipe = choice.pipeline(work, choice.CIFAR)
    images, labels = np.asarray(pipe.source.images), np.asarray(pipe.source.labels)
    tuned = functools.partial(reach_peers.small_tuned, images, labels, SMALL_BATCH, work.threads)
    found: dict[str, MakeBatches] = {
        GREENLOAD: lambda: images_of(pipe, work),
        TUNED: _images(tuned),
    }
    if registry.get("pillow").availability().usable:
        found[FORMER] = lambda: images_of(pipe, work, "pillow")
    return found


def first_epoch(work: Workload, dtype: str, turn: int) -> tuple[int, Mapping[str, float]]:
    """An epoch with an empty cache, which fills it: its images, and CPU and wall seconds once its iterator is made.

    The photographs are listed ``COPIES`` times, and each is kept as often: what an iterator takes when it begins, about
    half a second, would else be a third of the epoch. Of a whole data set it is next to nothing.

    Args:
        work: the photographs.
        dtype: ``"uint8"`` or ``"float32"``.
        turn: another number each time, so that no cache is there already.
    """
    work = rotated(work, 100 + turn)
    work = dataclasses.replace(work, paths=work.paths * COPIES, labels=work.labels * COPIES)
    batches = images_of(pipeline(work, cache=gl.Cache(), dtype=dtype), work, epochs=1)
    cpu, wall = time.process_time(), time.perf_counter()
    images = sum(len(batch) for batch in batches)
    return images, {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
