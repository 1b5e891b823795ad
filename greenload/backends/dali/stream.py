"""Epochs of batches straight from files to a device, in DALI's own tensors and without TensorFlow.

``greenload.iterate`` is this for any plan, and hands the batches over to NumPy, JAX or PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from greenload import randomness
from greenload.backends.dali.runner import DaliRunner
from greenload.errors import PipelineError, UsageError
from greenload.loading.read_ahead import READERS, DaliEngine, ReadAhead, Wanted
from greenload.plans.plan import Plan


def stream(
    plan: Plan,
    *,
    epochs: int,
    start: tuple[int, int] = (0, 0),
    shard: tuple[int, int] = (0, 1),
    device_id: int | None = None,
    hw_decoder_load: float | None = None,
    readers: int = READERS,
    in_flight: int | None = None,
) -> ReadAhead:
    """Batches of a plan, in the order and with the pixels that ``greenload.load`` gives.

    Args:
        plan: of backend ``"dali"`` or ``"dali-cpu"``; its ``threads`` are DALI's.
        epochs: the number of epochs, counted from epoch 0.
        start: ``(epoch, sample)`` to begin at; ``sample`` counts within the shard.
        shard: ``(index, count)``: the positions that leave ``index`` over when divided by ``count``.
        device_id: the GPU's number; 0 if not given. Only for backend ``"dali"``.
        hw_decoder_load: the share of JPEGs for the GPU's fixed-function decoder. Only for backend ``"dali"``.
        readers: threads that read files; each holds one batch of encoded bytes.
        in_flight: batches that DALI works on or holds ready; the plan's ``prefetch`` if not given.

    Returns:
        An iterator of ``(images, labels)``: ``images`` a DALI ``TensorListGPU`` (``TensorListCPU``) on the device,
        whose ``as_tensor()`` is ``[n, height, width, channels]`` and speaks DLPack; ``labels`` ``[n, …]`` of the
        plan's ``label``, int64 ``[n]`` without ``OneHot``. Both are the consumer's to keep.

    Raises:
        UsageError, PipelineError: at once, where an argument is out of range, or the pipeline has no ``Batch``.
        RecordError: at once for a label that can't be encoded, else when the batch with a bad record is reached; names
            it.
        BackendUnavailable: DALI can't run here.

    Example:
        >>> for images, labels in stream(make_plan(train, "dali"), epochs=1):
        ...     tensor = torch.from_dlpack(images.as_tensor())
    """
    depth = plan.prefetch if in_flight is None else in_flight
    batch = plan.pipeline.batch
    if batch is None:
        raise PipelineError("a stream needs batches, but the pipeline has no Batch: add Batch(32)")
    if not 0 <= shard[0] < shard[1]:
        raise UsageError(f"shard: index must be in 0 … count − 1, not {shard[0]} of {shard[1]}")
    if min(epochs, *start) < 0 or min(readers, depth) < 1:
        raise UsageError(
            "epochs and start must be at least 0, readers and in_flight at least 1, "
            f"not {epochs}, {start}, {readers} and {depth}"
        )
    plan.pipeline.check_labels()
    runner = DaliRunner(
        plan,
        batch_size=batch.size,
        threads=plan.threads,
        device_id=device_id,
        hw_decoder_load=hw_decoder_load,
    )
    wanted = _batches(plan, epochs, start, shard)
    return ReadAhead(replace(plan, prefetch=depth), DaliEngine(runner), wanted, readers=readers)


def _batches(plan: Plan, epochs: int, start: tuple[int, int], shard: tuple[int, int]) -> Iterator[Wanted]:
    pipeline = plan.pipeline
    assert pipeline.batch is not None
    size, drop = pipeline.batch.size, pipeline.batch.drop_remainder
    total = len(pipeline.source)
    mine = (total - shard[0] + shard[1] - 1) // shard[1]
    for epoch in range(start[0], epochs):
        for first in range(start[1] if epoch == start[0] else 0, mine, size):
            count = min(size, mine - first)
            if count < size and drop:
                break
            index = np.arange(first, first + count, dtype=np.int64) * shard[1] + shard[0]
            if pipeline.shuffle:
                index = randomness.permute(index, total, pipeline.seed, epoch, block=pipeline.shuffle.block)
            yield epoch, index
