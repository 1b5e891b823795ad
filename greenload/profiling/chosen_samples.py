"""Which samples a pipeline is profiled on, and how large they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from greenload.loading.tf_reading import CHUNK
from greenload.loading.verify import good_indices, verify_plan
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.profiling.options import Options
from greenload.report.data import Skipped
from greenload.sources import Arrays, RecordSource, formats

CAPTURED_BYTES = 1 << 30
"""Bytes of captured samples held in memory at once, at most: fewer samples are taken where they are large."""


def choose_samples(plan: Plan, options: Options, least: int = 1) -> tuple[NDArray[np.int64], tuple[Skipped, ...]]:
    """Which samples to work on, int64, ascending, and which were left out as bad.

    Drawn at random; fewer where they would fill the memory; a whole number of batches where there are enough.

    Args:
        plan: what runs on them.
        options: how many, and which; what becomes of bad ones.
        least: how many there are, where the set has them, however much memory they would fill.

    Raises:
        RecordError: a drawn record is bad, and bad ones are to raise.
        SourceError: all records are bad.
    """
    source = plan.pipeline.source
    skipped: tuple[Skipped, ...] = ()
    good = np.arange(len(source))
    if options.on_error == "skip":
        verification = verify_plan(
            plan, lambda done, total: options.progress(0.0, f"checking every image: {done} of {total}")
        )
        skipped = tuple(Skipped(error.path, error.reason) for error in verification.bad)
        good = good_indices(verification)
    drawn = _drawn(plan.pipeline, good, np.random.default_rng(options.seed))[: max(least, options.samples)]
    drawn = drawn[: max(least, int(CAPTURED_BYTES / (plan.pipeline.times * _image_bytes(plan, drawn))))]
    batch = plan.pipeline.batch
    if batch and len(drawn) > batch.size:
        drawn = drawn[: len(drawn) // batch.size * batch.size]
    chosen = np.sort(drawn).astype(np.int64)
    if options.on_error == "raise" and not isinstance(source, Arrays):
        # The samples run over and over without an end: a bad one would have to be found again in each turn.
        bad = verify_plan(plan, indices=chosen).bad
        if bad:
            raise bad[0]
    return chosen, skipped


def _drawn(pipeline: Pipeline, good: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """Good samples in random order; where the pipeline reads blocks of neighbouring records, in such blocks."""
    if not isinstance(pipeline.source, RecordSource) or (pipeline.shuffle and pipeline.shuffle.block is None):
        return random.permutation(good)
    if pipeline.source.sequential:
        return good  # whatever lies before the last one would be decompressed as well
    block = pipeline.shuffle.block if pipeline.shuffle and pipeline.shuffle.block else CHUNK
    parts = [good[begin : begin + block] for begin in range(0, len(good), block)]
    return np.concatenate([parts[i] for i in random.permutation(len(parts))])


def _image_bytes(plan: Plan, drawn: NDArray[np.int64]) -> float:
    """Bytes of a captured image, the most that any step may hold: decoded pixels, or the pipeline's widest spec."""
    # Four bytes a value: resized pixels on their way to float are carried as float.
    widest = max((4 * (step.spec_out.image_bytes() or 1) for step in plan.steps), default=1)
    return max(float(widest), decoded_bytes(plan, drawn))


def decoded_bytes(plan: Plan, drawn: NDArray[np.int64]) -> float:
    """Mean bytes of a decoded image, by the headers of a few; 1 where records aren't encoded."""
    decoded = []
    for index in drawn[:32]:
        record = plan.pipeline.source.read(int(index))
        if isinstance(record, bytes):
            try:
                header = formats.opened(record, truncated=plan.pipeline.truncated)[1]
            except formats.FormatError:
                continue  # the run names it
            decoded.append(header.height * header.width * 3)
    return float(np.mean(decoded or [1]))
