"""Finds changes that may make a pipeline cheaper, as plans: each is tried beside the original before it is advised.

No figure here is reported: what a change is expected to save decides only whether it is tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from greenload.energy.attribution.attribute import trial_cost
from greenload.energy.attribution.observation import Metering, Observation
from greenload.energy.attribution.quantity import NEGLIGIBLE
from greenload.energy.figures import Figure
from greenload.errors import PipelineError
from greenload.machine import processors
from greenload.planning import cost_table as tables
from greenload.planning.cache_form import decoding_left
from greenload.planning.choose import make_plan
from greenload.planning.device_split import movable, without
from greenload.planning.prices import price, work_of
from greenload.planning.sizes import estimate
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.plans.steps import steps_of, unique_names
from greenload.report.data import Advice
from greenload.specs import ImageSpec
from greenload.stages import Apply, Cache, Decode, Echo, RandomResizedCrop, Resize, Shuffle, Stage
from greenload.stages.primitives import Decoding
from greenload.text import bytes_text, percent

MEMORY_SHARE = 0.5
"""Share of the free memory that a cache may fill."""
SHOWN = 3
"""Changes that a report names, at most."""
_CHEAPER = 0.05
"""Share of a plan's expected cost that another placement of its steps must save to be tried."""
_ALIASED = 0.25  # a share of an antialiased resize that one without may spare, at least, where it shrinks at all


@dataclass(frozen=True)
class Alternative:
    """A plan that does the same otherwise."""

    title: str
    detail: str
    """What to write, and what it costs otherwise: memory, other pixels."""
    plan: Plan
    expected_s: float
    """CPU seconds a sample that it may save."""


def alternatives(
    plan: Plan, costs: Mapping[str, float], *, decoded_bytes: float, free_bytes: float
) -> list[Alternative]:
    """The changes to a plan's pipeline that promise most, in that order. Steps stay on their backends where they can.

    Args:
        plan: what was measured.
        costs: CPU seconds a sample by step.
        decoded_bytes: mean bytes of a decoded image.
        free_bytes: memory that is free.
    """
    changes = [
        *_cached(plan, costs, decoded_bytes, free_bytes),
        *_device_split(plan, costs),
        *_aliased(plan, costs),
    ]
    return sorted(changes, key=lambda change: change.expected_s, reverse=True)


def trial_advice(title: str, detail: str, seen: Sequence[Observation], domains: Mapping[str, Metering]) -> Advice:
    """What a change saved in its trial.

    Args:
        title: of the change, and of its windows: kind "with" as it is, "without" with the change made.
        detail: what to write.
        seen: all windows of the profile.
        domains: of energy.
    """
    cost = trial_cost(seen, step=title, domains=domains)
    return Advice(
        title=title,
        detail=detail,
        method="trial",
        saves_cpu_s_per_sample=cost.cpu_s_per_sample,
        saves_energy_j_per_sample=dict(cost.energy_j_per_sample),
    )


def most_saving(tried: Iterable[Advice], full_s: float) -> tuple[Advice, ...]:
    """Those that save more than 1 % of the whole, and resolved, the largest first.

    Args:
        tried: changes, as measured.
        full_s: CPU seconds a sample of the whole.
    """
    worth = [advice for advice in tried if _worth(advice.saves_cpu_s_per_sample, full_s)]
    return tuple(sorted(worth, key=lambda advice: advice.saves_cpu_s_per_sample.value or 0.0, reverse=True)[:SHOWN])


def _worth(saves: Figure, full_s: float) -> bool:
    return saves.value is not None and saves.value > NEGLIGIBLE * full_s and (saves.low or 0.0) > 0


def _cost(plan: Plan, costs: Mapping[str, float], stage: Stage) -> float:
    """Of all steps that do a stage's work, alone or with others."""
    name = type(stage).__name__
    return sum(costs.get(step.name, 0.0) for step in plan.steps if name in step.stages)


def _cached(plan: Plan, costs: Mapping[str, float], decoded_bytes: float, free_bytes: float) -> Iterator[Alternative]:
    """Keep what the last deterministic stage on single images gives: each epoch begins there."""
    pipeline = plan.pipeline
    # Backends that take batches keep nothing, but for one that decodes behind its cache.
    keeps_itself = any(step.traits.keeps_files for step in plan.steps if isinstance(step.primitive, Decoding))
    elsewhere = {
        stage
        for step in plan.steps
        if step.kind == "pixels" and step.traits.takes_batches and not (keeps_itself and step.traits.keeps_files)
        for stage in step.stages
    }
    if any(isinstance(stage, Cache) for stage in pipeline.stages):
        return
    index = next((i for i, stage in enumerate(pipeline.stages) if isinstance(stage, Decode)), None)
    if index is None or "Decode" in elsewhere:
        return
    spec = pipeline.specs[index + 1]
    kept_bytes = decoded_bytes
    while index + 1 < len(pipeline.stages):
        stage, after = pipeline.stages[index + 1], pipeline.specs[index + 2]
        if stage.draws or after.batched or isinstance(stage, Apply | Echo) or type(stage).__name__ in elsewhere:
            break
        if _bytes(after, decoded_bytes) > kept_bytes:
            break
        index, spec, kept_bytes = index + 1, after, _bytes(after, decoded_bytes)
    total = kept_bytes * len(pipeline.source)
    if total > MEMORY_SHARE * free_bytes and not keeps_itself:
        return
    before = pipeline.stages[: index + 1]
    stages = (*before, Cache(), *pipeline.stages[index + 1 :])
    last = next(stage for stage in reversed(before) if not isinstance(stage, Shuffle))
    changed = _kept(plan, Pipeline(pipeline.source, *stages, seed=pipeline.seed))
    if changed is None:
        return
    keeps = next((step.keeps for step in changed.steps if step.keeps), None)
    if keeps is not None:
        total = keeps.set_bytes or 0.0
    share = "" if keeps is None or keeps.share in (None, 1) else f", of which {percent(keeps.share)} fit"
    yield Alternative(
        f"Put Cache() behind {type(last).__name__}",
        f"later epochs begin from {keeps.form if keeps else spec} in memory: {bytes_text(total)} for "
        f"{len(pipeline.source)} samples{share}. The first epoch, which fills it, isn't in the figure",
        changed,
        (sum(_cost(plan, costs, stage) for stage in before) + costs.get("Read", 0.0))
        * (1 - decoding_left(changed.steps) if keeps else 1),
    )


def _device_split(plan: Plan, costs: Mapping[str, float]) -> Iterator[Alternative]:
    """Leave what only rescales values to the device."""
    pipeline = plan.pipeline
    indices = movable(pipeline)
    changed = _kept(plan, without(pipeline, indices)) if indices else None
    if changed is not None:
        moved = [pipeline.stages[index] for index in indices]
        yield Alternative(
            f"Hand {' and '.join(dict.fromkeys(type(stage).__name__ for stage in moved))} to the model",
            "host, layer = gl.split_for_device(pipeline): what the layer costs its device isn't in the figure; "
            f"{changed.out_spec.dtype} is handed over",
            changed,
            sum(_cost(plan, costs, stage) for stage in moved),
        )


def _aliased(plan: Plan, costs: Mapping[str, float]) -> Iterator[Alternative]:
    """Resize without a low-pass filter."""
    pipeline = plan.pipeline
    for index, stage in enumerate(pipeline.stages):
        if isinstance(stage, Resize | RandomResizedCrop) and stage.antialias:
            name = type(stage).__name__
            resize = sum(cost for step, cost in costs.items() if step.startswith((f"{name}: resize", name)))
            stages = [
                replace(stage, antialias=False) if i == index else other for i, other in enumerate(pipeline.stages)
            ]
            changed = _kept(plan, Pipeline(pipeline.source, *stages, seed=pipeline.seed))
            moved = changed is not None and changed.expected is not None and plan.expected is None
            if changed is None or (moved and _saved(plan, changed) <= 0):
                continue
            yield Alternative(
                f"{name}(antialias=False)",
                "other pixels: images that shrink alias, so train and evaluate alike, and check the accuracy"
                + (f". {_placement(changed)}" if moved else ""),
                changed,
                _ALIASED * resize,
            )


def placed_by_auto(plan: Plan, costs: Mapping[str, float]) -> Alternative | None:
    """The placement of its steps that ``"auto"`` would choose; ``None`` for a plan that it chose, or where it is
    expected to save less than 5 %.

    Args:
        plan: what was measured.
        costs: CPU seconds a sample by step.
    """
    if plan.expected is not None:
        return None
    chosen = make_plan(plan.pipeline, "auto", threads=plan.threads, prefetch=plan.prefetch)
    if chosen.steps == plan.steps or chosen.expected is None:
        return None
    share = _saved(plan, chosen)
    if share < _CHEAPER:
        return None
    work = sum(costs.get(step.name, 0.0) for step in plan.steps if step.kind in ("pixels", "batch"))
    detail = f"{_placement(chosen)}. Chosen by {chosen.expected.costs}"
    return Alternative('backend="auto"', detail, chosen, share * work)


def _placement(plan: Plan) -> str:
    """Which steps are on which backend."""
    return "; ".join(
        f"{', '.join(step.name for step in segment.steps)} on {segment.backend}" for segment in plan.segments
    )


def _saved(plan: Plan, other: Plan) -> float:
    """The share of a plan's cost that another is expected to save by the table of costs; 0 where that can't tell."""
    now, then = _expected_s(plan), _expected_s(other)
    return 0.0 if not now or then is None else 1.0 - then / now


def _expected_s(plan: Plan) -> float | None:
    """CPU seconds an image by the table of costs; ``None`` where it can't tell."""
    batch = plan.pipeline.batch
    kinds = estimate(plan.pipeline, steps_of(plan.pipeline)).kinds
    cost = price(work_of(plan.steps, batch.size if batch else None, kinds), tables.in_use(processors()))
    return None if cost is None else cost.cpu_s


def _kept(plan: Plan, changed: Pipeline) -> Plan | None:
    """A changed pipeline with its steps on the backends that a plan has them on; where they can't be, or are new,
    ``"auto"`` chooses. ``None`` if nothing holds it."""
    backends: dict[str, str] = {}
    for step in plan.steps:
        if step.kind == "pixels":
            for name in (step.name, *step.stages):
                backends.setdefault(name, step.backend)
    placed: dict[str, str] = {}
    new = False
    for step in unique_names(steps_of(changed)):
        if step.kind == "pixels":
            known = [backends[name] for name in (step.name, *step.stages) if name in backends]
            placed |= {step.name: known[0]} if known else {}
            new |= not known
    alone = {step.backend for step in plan.steps if step.kind == "pixels" and step.traits.keeps_files}
    first = plan.backend if plan.backend in alone else placed  # by its name alone it keeps what a cache holds
    choices: list[str | Mapping[str, str]] = ["auto"] if new else [first, "auto"]
    for choice in choices:
        try:
            made = make_plan(changed, choice, threads=plan.threads, prefetch=plan.prefetch)
            return made if made.decoder != plan.decoder else replace(made, readers=plan.readers)
        except PipelineError:
            continue
    return None


def _bytes(spec: ImageSpec, decoded_bytes: float) -> float:
    known = spec.image_bytes()
    return decoded_bytes if known is None else float(known)
