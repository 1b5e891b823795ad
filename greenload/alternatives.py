"""Changes to a pipeline that may be worth making, as pipelines: each is tried beside the original before it is advised.

No figure here is told to anyone: what a change is expected to save decides only whether to try it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from greenload.pipeline import Pipeline
from greenload.plan import Plan
from greenload.specs import ImageSpec
from greenload.splitting import movable, without
from greenload.stages import Apply, Cache, Decode, RandomResizedCrop, Resize, Shuffle, Stage

MEMORY_SHARE = 0.5
"""Share of the free memory that a cache may fill."""
_ALIASED = 0.25  # a share of an antialiased resize that one without may spare, at least, where it shrinks at all


@dataclass(frozen=True)
class Alternative:
    """A pipeline that does the same otherwise."""

    title: str
    detail: str
    """What to write, and what it costs otherwise: memory, other pixels."""
    pipeline: Pipeline
    expected_s: float
    """CPU seconds a sample that it may save."""


def alternatives(
    plan: Plan, costs: Mapping[str, float], *, decoded_bytes: float, free_bytes: float
) -> list[Alternative]:
    """The changes to a plan's pipeline that promise most, in that order.

    Args:
        plan: what was measured.
        costs: CPU seconds a sample by step.
        decoded_bytes: mean bytes of a decoded image.
        free_bytes: memory that is free.
    """
    found = [
        *_cached(plan, costs, decoded_bytes, free_bytes),
        *_split(plan, costs),
        *_aliased(plan, costs),
    ]
    return sorted(found, key=lambda one: one.expected_s, reverse=True)


def _cost(plan: Plan, costs: Mapping[str, float], stage: Stage) -> float:
    """Of all steps that do a stage's work, alone or with others."""
    name = type(stage).__name__
    return sum(costs.get(step.name, 0.0) for step in plan.steps if name in step.stages)


def _cached(plan: Plan, costs: Mapping[str, float], decoded_bytes: float, free_bytes: float) -> Iterator[Alternative]:
    """Keep what the last deterministic stage on single images gives: each epoch begins there."""
    pipeline = plan.pipeline
    if plan.backend != "tf" or any(isinstance(stage, Cache) for stage in pipeline.stages):
        return
    place = next((i for i, stage in enumerate(pipeline.stages) if isinstance(stage, Decode)), None)
    if place is None:
        return
    spec = pipeline.specs[place + 1]
    kept_bytes = decoded_bytes
    while place + 1 < len(pipeline.stages):
        stage, after = pipeline.stages[place + 1], pipeline.specs[place + 2]
        if stage.draws or after.batched or isinstance(stage, Apply) or _bytes(after, decoded_bytes) > kept_bytes:
            break
        place, spec, kept_bytes = place + 1, after, _bytes(after, decoded_bytes)
    total = kept_bytes * len(pipeline.source)
    if total > MEMORY_SHARE * free_bytes:
        return
    before = pipeline.stages[: place + 1]
    stages = (*before, Cache(), *pipeline.stages[place + 1 :])
    last = next(stage for stage in reversed(before) if not isinstance(stage, Shuffle))
    yield Alternative(
        f"Put Cache() behind {type(last).__name__}",
        f"later epochs begin from {spec} in memory: {_size(total)} for {len(pipeline.source)} samples. "
        "The first epoch, which fills it, isn't in the figure",
        Pipeline(pipeline.source, *stages, seed=pipeline.seed),
        sum(_cost(plan, costs, stage) for stage in before) + costs.get("Read", 0.0),
    )


def _split(plan: Plan, costs: Mapping[str, float]) -> Iterator[Alternative]:
    """Leave what only rescales values to the device."""
    pipeline = plan.pipeline
    places = movable(pipeline)
    if places:
        moved = [pipeline.stages[place] for place in places]
        yield Alternative(
            f"Hand {' and '.join(dict.fromkeys(type(stage).__name__ for stage in moved))} to the model",
            "host, layer = gl.split_for_device(pipeline): what the layer costs its device isn't in the figure; "
            f"{without(pipeline, places).specs[-1].dtype} is handed over",
            without(pipeline, places),
            sum(_cost(plan, costs, stage) for stage in moved),
        )


def _aliased(plan: Plan, costs: Mapping[str, float]) -> Iterator[Alternative]:
    """Resize without a low-pass filter."""
    pipeline = plan.pipeline
    for place, stage in enumerate(pipeline.stages):
        if isinstance(stage, Resize | RandomResizedCrop) and stage.antialias:
            name = type(stage).__name__
            resize = sum(cost for step, cost in costs.items() if step.startswith((f"{name}: resize", name)))
            stages = [replace(stage, antialias=False) if i == place else one for i, one in enumerate(pipeline.stages)]
            yield Alternative(
                f"{name}(antialias=False)",
                "other pixels: images that shrink alias, so train and evaluate alike, and check the accuracy",
                Pipeline(pipeline.source, *stages, seed=pipeline.seed),
                _ALIASED * resize,
            )


def _bytes(spec: ImageSpec, decoded_bytes: float) -> float:
    known = spec.image_bytes()
    return decoded_bytes if known is None else float(known)


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"
