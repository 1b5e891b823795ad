"""Which samples a proxy trains on and which it holds out, by class, and how what is held out is loaded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenload.errors import PipelineError, SourceError
from greenload.plans.pipeline import Pipeline
from greenload.randomness import base, stage_key, uniforms
from greenload.stages import Batch, Cache, CenterCrop, RandomCrop, RandomResizedCrop, Resize, Shuffle, Stage

SHARE = 0.2
"""The share of samples that is held out, where no validation set is given: a fifth, as in fivefold cross-validation
(Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", 2nd edition, section 7.10)."""
_SAMPLES, _HELD_OUT = 0, 1  # uses of a seed's draws


@dataclass(frozen=True, eq=False)
class Division:
    """Samples of a source, by their indices, ascending: int64 ``[n]`` each."""

    trained: NDArray[np.int64]
    held_out: NDArray[np.int64]


def divide(labels: NDArray[np.int64], seed: int, samples: int | None, *, hold_out: bool) -> Division:
    """Which samples are trained on, and which are held out: by class, drawn by the seed alone.

    So all pipelines of one source share the division of a seed, and each seed has its own: its chance is then part of
    the spread between seeds (Bouthillier et al., "Accounting for Variance in Machine Learning Benchmarks", MLSys 2021,
    arXiv 2103.03098).

    Args:
        labels: the source's, int64 ``[n]``.
        seed: any integer.
        samples: how many are used in all; ``None`` for all of them.
        hold_out: whether `SHARE` of these is held out.

    Raises:
        SourceError: a class would be held out whole, or only one is left.
    """
    used = np.arange(len(labels), dtype=np.int64)
    if samples is not None and samples < len(used):
        used = _by_class(labels, used, samples, seed, _SAMPLES)
    if len(np.unique(labels[used])) < 2:
        raise SourceError(f"Proxy needs images of two classes or more, but samples={samples} leaves one: raise it")
    if not hold_out:
        return Division(used, used[:0])
    held_out = _by_class(labels, used, round(SHARE * len(used)), seed, _HELD_OUT)
    trained = np.setdiff1d(used, held_out)
    lacking = np.setdiff1d(labels[held_out], labels[trained])
    if len(lacking) or not len(held_out):
        what = f"class {lacking[0]} has no sample left" if len(lacking) else f"of {len(used)} samples none is held out"
        raise SourceError(
            f"Proxy holds out a fifth of each class, but {what}: give it more samples, or a pipeline as validation"
        )
    return Division(trained, held_out)


def _by_class(
    labels: NDArray[np.int64], indices: NDArray[np.int64], count: int, seed: int, use: int
) -> NDArray[np.int64]:
    """So many of some samples, the same share of each class but for rounding, ascending.

    A class's samples stand at ``(rank + ½) / size`` of an axis that all classes share, in random order; the first ones
    on it are taken.
    """
    words = base(seed, np.int64(0), indices)
    drawn = uniforms(words, stage_key("Proxy", use), 1)[:, 0]
    by_class = np.lexsort((drawn, labels[indices]))
    _, begins, sizes = np.unique(labels[indices][by_class], return_index=True, return_counts=True)
    rank = np.arange(len(indices)) - np.repeat(begins, sizes)
    place = (rank + 0.5) / np.repeat(sizes, sizes)
    taken = by_class[np.lexsort((drawn[by_class], place))[:count]]
    return np.sort(indices[taken])


def without_chance(pipeline: Pipeline, batch: int) -> Pipeline:
    """How a pipeline's samples are loaded to be judged: with what is deterministic in it, and labels as classes.

    Stages that draw, order, keep or change labels are left out. ``RandomResizedCrop`` becomes ``Resize`` to its size, a
    ``RandomCrop`` that changes the size the ``CenterCrop`` of its size.

    Args:
        pipeline: what is trained on.
        batch: images in a batch.

    Raises:
        PipelineError: another stage that draws changes what an image is.
    """
    stages = [
        kept
        for stage, before, after in zip(pipeline.stages, pipeline.specs, pipeline.specs[1:], strict=False)
        if (kept := _judged(stage, before.image_shape != after.image_shape or before.dtype != after.dtype)) is not None
    ]
    return Pipeline(pipeline.source, *stages, Batch(batch), seed=pipeline.seed)


def _judged(stage: Stage, changes: bool) -> Stage | None:
    """What stands for a stage where samples are judged; ``changes``: whether images leave it in another shape."""
    if isinstance(stage, Shuffle | Cache | Batch) or stage.changes_labels:
        return None
    if not stage.draws:
        return stage
    if isinstance(stage, RandomResizedCrop):
        return Resize(stage.size, antialias=stage.antialias)
    if isinstance(stage, RandomCrop) and changes:
        return CenterCrop(stage.size)
    if changes:
        raise PipelineError(
            f"Proxy judges held-out images without {stage}, which draws, but then they would be of another shape: give "
            "it a pipeline as validation"
        )
    return None
