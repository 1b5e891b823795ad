"""Rewrites a pipeline's steps so that its cache keeps files, or images as files, that decoding behind it reads.

Decoding gives the same pixels behind a cache as before it, so it may move; what else stands before a cache becomes what
fills it.
"""

from __future__ import annotations

from dataclasses import replace

from greenload.plans.pipeline import Pipeline
from greenload.plans.steps import CacheSpec, Step, fused, lowered
from greenload.sources import Arrays
from greenload.stages import Cache
from greenload.stages import primitives as p

CACHE_BACKEND = "native"
"""The backend whose cache keeps files, and images as files."""
ANY_SIZE = (1 << 62) - 1
"""The most bytes that decoding an image may take where what is kept was made by greenload."""


def cache_steps(pipeline: Pipeline) -> list[Step] | None:
    """A pipeline's steps, fused and not yet placed, with a cache that keeps files: read, cache, decode, the rest.

    Of several caches the last one keeps. A cache with nothing before it but arrays is left out: they are in memory
    already. The form is ``"auto"`` where the stage leaves it open, and there is no budget yet.

    Returns:
        The steps; ``None`` where there is no cache, nothing is decoded, or what reaches the cache is neither files nor
        uint8 RGB.
    """
    steps = lowered(pipeline)
    last = max((index for index, step in enumerate(steps) if step.kind == "cache"), default=0)
    if not last:
        return None
    read, *before = (step for step in steps[:last] if step.kind != "cache")
    behind = steps[last + 1 :]
    if isinstance(pipeline.source, Arrays) and not before:
        return fused([read, *behind])
    decode, *filling = before or behind[:1] or [read]
    if not isinstance(decode.primitive, p.Decode):
        return None
    index, stage = last_cache(pipeline)
    stages, entering = steps[last].stages, steps[last].spec_in
    if filling:
        if entering.dtype != "uint8" or entering.shape[-1] != 3:
            return None
        stages = (*dict.fromkeys(name for step in before for name in step.stages), *stages)
        # What is kept is an upright image: what is drawn behind it follows from its size, not from that of the file.
        decode = replace(decode, primitive=p.Decode(max_bytes=ANY_SIZE), spec_out=entering, stage=index)
    keeps = CacheSpec(stage.form, stage.path, filling=tuple(fused(before)) if filling else ())
    files = read.spec_out
    cache = replace(steps[last], backend=CACHE_BACKEND, stages=stages, spec_in=files, spec_out=files, keeps=keeps)
    return fused([read, cache, decode, *(behind if before else behind[1:])])


def last_cache(pipeline: Pipeline) -> tuple[int, Cache]:
    """The last ``Cache`` of a pipeline that has one, and its index among the stages."""
    caches = ((index, stage) for index, stage in enumerate(pipeline.stages) if isinstance(stage, Cache))
    *_, last = caches
    return last
