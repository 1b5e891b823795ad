"""The contestants by name, greenload's and those written by hand: endless iterators over batches of images."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import greenload as gl
from bench import by_hand
from bench.by_hand import MEAN, SIDE, STD, Workload
from bench.contest import MakeBatches

GREENLOAD = "greenload"
FLOAT, UINT8, DALI = "float32", "uint8", "dali-cpu"
"""The groups of contestants: what leaves, or what runs."""
_EPOCHS = 1_000_000


def pipeline(work: Workload, group: str) -> gl.Pipeline:
    """greenload's pipeline of a group."""
    normalised = (gl.ToDtype("float32", scale=True), gl.Normalize(MEAN, STD)) if group == FLOAT else ()
    return gl.Pipeline(
        gl.Files(work.paths, labels=work.labels),
        gl.Shuffle(),
        gl.Decode(),
        gl.RandomResizedCrop(SIDE, antialias=group != FLOAT),
        gl.RandomHorizontalFlip(),
        *normalised,
        gl.Batch(work.batch),
        seed=1,
    )


def greenload_batches(work: Workload, group: str) -> Iterator[Any]:
    """greenload's batches of a group, through its public ``load``."""
    backend = "dali-cpu" if group == DALI else "tf"
    dataset = gl.load(pipeline(work, group), backend, epochs=_EPOCHS, threads=work.threads, prefetch=work.prefetch)
    return (images for images, _ in dataset)


def groups(work: Workload, dali: bool) -> Mapping[str, Mapping[str, MakeBatches]]:
    """All contestants, by group and name.

    Args:
        work: what they run.
        dali: whether DALI can be had.
    """
    here = functools.partial

    def dataset(make: Any, **how: Any) -> MakeBatches:
        return lambda: (images for images, _ in make(work, **how))

    found: dict[str, dict[str, MakeBatches]] = {
        FLOAT: {
            GREENLOAD: here(greenload_batches, work, FLOAT),
            "textbook": dataset(by_hand.textbook),
            "textbook, autotuned": dataset(by_hand.textbook, autotune=True),
            "textbook, sample_distorted_bounding_box": dataset(by_hand.textbook, window=by_hand.distorted_window),
        },
        UINT8: {
            GREENLOAD: here(greenload_batches, work, UINT8),
            "hand-tuned, exact decoding": dataset(by_hand.tuned, dct_method="INTEGER_ACCURATE"),
            "hand-tuned, inexact decoding": dataset(by_hand.tuned),
        },
    }
    if dali:
        found[DALI] = {
            GREENLOAD: here(greenload_batches, work, DALI),
            "hand-written": here(by_hand.dali_batches, work),
        }
    return found
