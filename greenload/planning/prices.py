"""What a plan is expected to cost, by a table of costs: its work, named and counted, times the rates."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from greenload.energy.domains import Domain
from greenload.energy.meters.model import VCPU_ACTIVE_W
from greenload.planning.cost_table import Costs, CostTerms
from greenload.plans.plan import image_bytes
from greenload.plans.steps import Step
from greenload.specs import ImageSpec
from greenload.stages import primitives as p


@dataclass(frozen=True)
class Work:
    """So much of one kind of work on one backend, for an image."""

    backend: str
    what: str
    """What it is called in a table of costs."""
    amounts: CostTerms


@dataclass(frozen=True)
class Price:
    """What the work on an image is expected to cost."""

    cpu_s: float
    """CPU seconds; joules of a GPU count as the CPU seconds that would take as many, by the model of a busy vCPU."""
    energy_j: float | None
    """Joules, where a meter measured all that they consist of."""
    origins: tuple[str, ...]
    """What the table has no rates for, and which were taken instead."""


def work_of(steps: Sequence[Step], batch: int | None, kinds: Mapping[str, float]) -> list[Work]:
    """The work of a plan's steps on pixels, and of handing batches between backends.

    Steps before the last cache aren't counted: it keeps their results.

    Args:
        steps: all of a plan, with sizes, placed and fused.
        batch: the batch size, if images are batched.
        kinds: shares of the kinds of files.
    """
    cached = max((place for place, step in enumerate(steps) if step.kind == "cache"), default=-1)
    pixels = [step for step in steps[cached + 1 :] if step.kind == "pixels"]
    runs = [
        list(run)
        for _, run in itertools.groupby(pixels, lambda step: (step.backend, step.backend == "tf" and _batched(step)))
    ]
    found: list[Work] = []
    per_batch = 1.0 / (batch or 1)
    batching = next((step for step in steps if step.kind == "batch"), None)
    if batching and all(run[0].backend == "tf" for run in runs):
        entering = _megabytes(batching.spec_in, batching.size_in)
        found.append(Work("tf", "Batch", CostTerms(1.0, per_batch, entering)))
    at = "tf"
    for number, run in enumerate(runs):
        backend = run[0].backend
        if backend != "tf":
            if at == "tf":
                found.append(_hand_over(runs[number:], per_batch))
            found += work_of_segment(run, per_batch, kinds)
        else:
            if number > 0 and not _batched(run[0]):
                found.append(_one_by_one(run))
            found += [work for step in run for work in work_of_step(step, kinds)]
        at = backend
    return found


def work_of_segment(steps: Sequence[Step], per_batch: float, kinds: Mapping[str, float]) -> list[Work]:
    """The work of one run of steps on a backend that takes batches.

    Args:
        steps: the run, with sizes.
        per_batch: one over the batch size.
        kinds: shares of the kinds of files.
    """
    first, last = steps[0], steps[-1]
    found = [Work(last.backend, "call", CostTerms(batch=per_batch))]
    if not first.spec_in.encoded:
        found.append(Work(last.backend, "take pixels", CostTerms(1.0, 0.0, _megabytes(first.spec_in, first.size_in))))
    if not last.spec_out.static:
        found.append(Work(last.backend, "give sizes", CostTerms(1.0, 0.0, _megabytes(last.spec_out, last.size_out))))
    return found + [work for step in steps for work in work_of_step(step, kinds)]


def _hand_over(runs: Sequence[Sequence[Step]], per_batch: float) -> Work:
    """From tf.data to other backends, and back from the last of those that follow each other."""
    first = runs[0][0]
    leg = list(itertools.takewhile(lambda run: run[0].backend != "tf", runs))
    last = leg[-1][-1]
    entering = _megabytes(first.spec_in, first.size_in)
    leaving = 0.0 if last.backend == "dali" else _megabytes(last.spec_out, last.size_out)  # stays on the GPU
    form = "encoded" if first.spec_in.encoded else "pixels" if first.spec_in.static else "sizes"
    return Work("tf", f"hand over {form}", CostTerms(1.0, per_batch, entering, leaving))


def _one_by_one(run: Sequence[Step]) -> Work:
    """Taking batches apart in tf.data for steps on single images, and stacking them again."""
    moved = _megabytes(run[0].spec_in, run[0].size_in) + _megabytes(run[-1].spec_out, run[-1].size_out)
    return Work("tf", "one by one", CostTerms(1.0, 0.0, moved))


def work_of_step(step: Step, kinds: Mapping[str, float]) -> Iterator[Work]:
    """The work of a step on pixels."""
    found, entering, leaving = step.primitive, _size(step.spec_in, step.size_in), _size(step.spec_out, step.size_out)
    amounts = CostTerms(1.0, 0.0, entering, leaving)
    match found:
        case p.Decode() | p.DecodeCrop():
            for kind, share in kinds.items():
                if share:
                    yield Work(step.backend, f"{type(found).__name__} {kind}", amounts.times(share))
        case p.Blur():  # a pass of each axis over its taps
            taps = (found.height + found.width) / 2
            yield Work(step.backend, work_name(step), replace(amounts, entering=entering * taps))
        case p.Call():
            pass  # the same wherever it can run
        case _:
            yield Work(step.backend, work_name(step), amounts)


def work_name(step: Step) -> str:
    """What a step on pixels, not on encoded bytes, is called in a table of costs."""
    primitive = step.primitive
    words = [type(primitive).__name__]
    match primitive:
        case p.Resize(antialias=True):
            words.append("antialias")
        case p.Flip(vertical=True):
            words.append("vertical")
        case p.Color(maybe=True):
            words.append("maybe")
    words.append(step.spec_in.dtype)
    if isinstance(primitive, p.Affine):
        words[-1] += f"→{primitive.dtype}"
    if step.backend == "tf" and _batched(step):
        words.append("batched")
    return " ".join(words)


def price(done: Sequence[Work], costs: Costs) -> Price | None:
    """What work is expected to cost an image; ``None`` where nothing is known of some of it.

    Args:
        done: of ``work_of``.
        costs: the table to go by.
    """
    cpu_s, modelled, joules, origins = 0.0, 0.0, 0.0, []
    measured = True
    for work in done:
        found = costs.find(work.backend, work.what)
        if found is None:
            return None
        seconds = work.amounts.at(found.cpu_s)
        energy = {domain: work.amounts.at(rates) for domain, rates in found.energy_j.items()}
        measured &= any(Domain.parse(domain).kind == "cpu" for domain in energy)
        joules += sum(energy.values())
        cpu_s += seconds
        modelled += sum(value for domain, value in energy.items() if Domain.parse(domain).kind == "gpu")
        if found.origin:
            origins.append(found.origin)
    return Price(cpu_s + modelled / VCPU_ACTIVE_W, joules if measured and done else None, tuple(dict.fromkeys(origins)))


def _batched(step: Step) -> bool:
    return step.spec_in.batched


def _size(spec: ImageSpec, size: float | None) -> float:
    """Megabytes while encoded, else megapixels of three channels."""
    if spec.encoded:
        return (size or 0.0) / 1e6
    return (size or 0.0) * (spec.shape[-1] or 3) / 3e6


def _megabytes(spec: ImageSpec, size: float | None) -> float:
    return (image_bytes(spec, size) or 0.0) / 1e6
