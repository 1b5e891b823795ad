"""What a plan is expected to cost: how much work of each kind it does, times the rates in a table of costs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from greenload.energy.domains import Domain
from greenload.energy.meters.model import VCPU_ACTIVE_W
from greenload.planning.cache_form import decoding_left
from greenload.planning.cost_table import Costs, CostTerms, Rates
from greenload.plans.plan import image_bytes
from greenload.plans.steps import TF_DATA, Step
from greenload.specs import DTYPE_BYTES, ImageSpec
from greenload.stages import primitives as p


@dataclass(frozen=True)
class Work:
    """So much of one kind of work on one backend, for an image."""

    backend: str
    what: str
    """What it is called in a table of costs."""
    amounts: CostTerms
    stages: str = ""
    """The stages whose work it is, where that is a primitive on pixels."""


@dataclass(frozen=True)
class Price:
    """What the work on an image is expected to cost."""

    cpu_s: float
    """CPU seconds; joules of a GPU count as the CPU seconds that would take as many, by the model of a busy vCPU."""
    energy_j: float | None
    """Joules, where a meter measured all that they consist of."""
    origins: tuple[str, ...]
    """What the table has no rates for, and which were taken instead."""
    unknown: tuple[str, ...] = ()
    """The same in sentences, of stages that no table has anything like."""


def work_of(steps: Sequence[Step], batch: int | None, kinds: Mapping[str, float]) -> list[Work]:
    """The work of a plan's steps on pixels, and of transferring batches between backends.

    Steps before the last cache aren't counted: it keeps their results. Where it keeps files, only what is left of
    decoding in later epochs is.

    Args:
        steps: all of a plan, with sizes, placed and fused.
        batch: the batch size, if images are batched.
        kinds: shares of the kinds of files.
    """
    cached = max((index for index, step in enumerate(steps) if step.kind == "cache"), default=-1)
    pixels = [step for step in steps[cached + 1 :] if step.kind == "pixels"]
    segments = [
        list(segment)
        for _, segment in itertools.groupby(
            pixels, lambda step: (step.backend, _on_whole_batches(step), step.serves > 1 and step.traits.takes_batches)
        )
    ]
    work: list[Work] = []
    per_batch = 1.0 / (batch or 1)
    batching = next((step for step in steps if step.kind == "batch"), None)
    if batching and not any(segment[0].traits.takes_batches for segment in segments):
        work.append(_batching(batching, per_batch))
    outside = False
    for index, segment in enumerate(segments):
        if segment[0].traits.takes_batches:
            group = list(itertools.takewhile(lambda segment: segment[0].traits.takes_batches, segments[index:]))
            in_graph = not outside and _is_in_graph(group)
            if not outside:
                work.append(_batching(segment[0], per_batch) if in_graph else _transfer(group, per_batch))
            work += _work_of_steps(segment, kinds) if in_graph else work_of_segment(segment, per_batch, kinds)
        else:
            if index > 0 and not segment[0].spec_in.batched:
                work.append(_one_by_one(segment))
            work += _work_of_steps(segment, kinds)
        outside = segment[0].traits.takes_batches
    left = decoding_left(steps)
    if left == 1.0:
        return work
    return [replace(part, amounts=part.amounts.times(left)) if _decodes(part) else part for part in work]


def _decodes(work: Work) -> bool:
    return work.what.startswith(p.Decode.__name__)


def work_of_segment(steps: Sequence[Step], per_batch: float, kinds: Mapping[str, float]) -> list[Work]:
    """The work of one segment on a backend that takes batches, and is called from Python.

    Args:
        steps: of the segment, with sizes.
        per_batch: one over the batch size.
        kinds: shares of the kinds of files.
    """
    first, last = steps[0], steps[-1]
    work = [Work(last.backend, "call", CostTerms(batch=per_batch))]
    if not first.spec_in.encoded:
        work.append(Work(last.backend, "take pixels", CostTerms(1.0, 0.0, _megabytes(first.spec_in, first.size_in))))
    if not last.spec_out.static:
        work.append(Work(last.backend, "give sizes", CostTerms(1.0, 0.0, _megabytes(last.spec_out, last.size_out))))
    return work + _work_of_steps(steps, kinds)


def _work_of_steps(steps: Sequence[Step], kinds: Mapping[str, float]) -> list[Work]:
    return [part for step in steps for part in work_of_step(step, kinds)]


def _is_in_graph(group: Sequence[Sequence[Step]]) -> bool:
    """Whether segments that follow each other outside tf.data are one operation of its graph, as in ``load``.

    Such an operation costs its steps and batching, and nothing else: measured for files of 1 to 32 kB and for images of
    3 and 150 kB. Images of many sizes aren't counted to it: what batching them costs is known with a transfer only.
    """
    first, last = group[0][0], group[-1][-1]
    can_enter = first.spec_in.encoded or first.spec_in.static
    alone = len(group) == 1 and first.serves == 1  # what is done once for several echoes is called from Python
    return alone and first.traits.in_graph and can_enter and last.spec_out.static


def _batching(step: Step, per_batch: float) -> Work:
    """Stacking what enters a step in tf.data."""
    return Work(TF_DATA, "Batch", CostTerms(1.0, per_batch, _megabytes(step.spec_in, step.size_in)))


def _transfer(group: Sequence[Sequence[Step]], per_batch: float) -> Work:
    """From tf.data to other backends, and back from the last of those that follow each other."""
    first, last = group[0][0], group[-1][-1]
    entering = _megabytes(first.spec_in, first.size_in)
    leaving = 0.0 if last.traits.on_gpu else _megabytes(last.spec_out, last.size_out)  # stays on the GPU
    form = "encoded" if first.spec_in.encoded else "pixels" if first.spec_in.static else "sizes"
    return Work(TF_DATA, f"hand over {form}", CostTerms(1.0, per_batch, entering, leaving))


def _one_by_one(segment: Sequence[Step]) -> Work:
    """Taking batches apart in tf.data for steps on single images, and stacking them again."""
    moved = _megabytes(segment[0].spec_in, segment[0].size_in) + _megabytes(segment[-1].spec_out, segment[-1].size_out)
    return Work(TF_DATA, "one by one", CostTerms(1.0, 0.0, moved))


def work_of_step(step: Step, kinds: Mapping[str, float]) -> Iterator[Work]:
    """The work of a step on pixels."""
    primitive, stages = step.primitive, " + ".join(step.stages)
    entering, leaving = _size(step.spec_in, step.size_in), _size(step.spec_out, step.size_out)
    amounts = CostTerms(1.0, 0.0, entering, leaving).times(1 / step.serves)
    match primitive:
        case p.Decoding():
            for kind, share in kinds.items():
                if share:
                    yield Work(step.backend, f"{type(primitive).__name__} {kind}", amounts.times(share))
        case p.Blur():  # a pass of each axis over its taps
            taps = (primitive.height + primitive.width) / 2
            yield Work(step.backend, work_name(step), replace(amounts, entering=amounts.entering * taps), stages)
        case p.Call():
            pass  # the same wherever it can run
        case p.Choice():
            if isinstance(primitive, p.WeightedSum):  # a pass over each result
                yield Work(step.backend, work_name(step), amounts.times(primitive.turns), stages)
            for parts, share in zip(primitive.alternatives, primitive.shares, strict=True):
                for part in parts:
                    inside = not isinstance(part.primitive, p.Choice)
                    for work in work_of_step(_as_step(step, part), kinds):
                        named = f"{type(part.primitive).__name__} of {work.stages}" if inside else work.stages
                        yield replace(work, amounts=work.amounts.times(share), stages=named if work.stages else "")
        case _:
            yield Work(step.backend, work_name(step), amounts, stages)


def _as_step(step: Step, part: p.Part) -> Step:
    """A part of an alternative as a step of its own, on every image."""
    return replace(
        step,
        primitive=part.primitive,
        spec_in=part.spec_in,
        spec_out=part.spec_out,
        size_in=_pixels(part.spec_in, step.size_in),
        size_out=_pixels(part.spec_out, step.size_out),
    )


def _pixels(spec: ImageSpec, otherwise: float | None) -> float | None:
    height, width, _ = spec.image_shape
    return otherwise if height is None or width is None else float(height * width)


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
    if _on_whole_batches(step):
        words.append("batched")
    return " ".join(words)


def price(done: Sequence[Work], costs: Costs) -> Price | None:
    """What work is expected to cost an image; ``None`` where no cost is known of some of it.

    A primitive that no table has is priced as another that works on as many bytes.

    Args:
        done: of ``work_of``.
        costs: the table to go by.
    """
    cpu_s, modelled, joules, origins, unknown = 0.0, 0.0, 0.0, [], []
    measured = True
    for work in done:
        amounts, rates = work.amounts, costs.find(work.backend, work.what)
        if rates is None and (relative := _relative(work, costs)):
            name, rates, factor = relative
            amounts = amounts.times(factor)
            unknown.append(f"{work.stages} isn't in the cost table: priced as {name}, by bytes")
        if rates is None:
            return None
        energy = {domain: amounts.at(joule_rates) for domain, joule_rates in rates.energy_j.items()}
        measured &= any(Domain.parse(domain).kind == "cpu" for domain in energy)
        joules += sum(energy.values())
        cpu_s += amounts.at(rates.cpu_s)
        modelled += sum(value for domain, value in energy.items() if Domain.parse(domain).kind == "gpu")
        if rates.origin and rates.origin not in origins:
            origins.append(rates.origin)
    energy_j = joules if measured and done else None
    return Price(cpu_s + modelled / VCPU_ACTIVE_W, energy_j, tuple(origins), tuple(dict.fromkeys(unknown)))


def _relative(work: Work, costs: Costs) -> tuple[str, Rates, float] | None:
    """What comes nearest to the work of a step on pixels that no table has: its name, its rates, and how many times as
    many bytes are read and written as by that."""
    if not work.stages:
        return None
    primitive, *words = work.what.split()
    near = _RESAMPLING if work.amounts.entering != work.amounts.leaving else _RELATIVES.get(primitive, _BY_VALUE)
    for name in near:
        entry = costs.nearest(work.backend, " ".join([name, *words]))
        if entry is not None and (rates := costs.find(work.backend, entry.what)):
            return name, replace(rates, origin=""), _value_bytes(work.what) / _value_bytes(entry.what)
    return None


_BY_VALUE = ("Color", "Affine")
"""Primitives that compute each value anew, the costlier first: what another of one size in and out is priced as."""
_RESAMPLING = ("Resize",)
_RELATIVES: Mapping[str, tuple[str, ...]] = {
    "Perspective": ("Warp",),
    **dict.fromkeys(
        ("Autocontrast", "Brightness", "Contrast", "Equalize", "LookUp", "Posterize", "Solarize"), ("Affine", "Color")
    ),
}
"""Primitives that have nearer ones: a map of places, and maps of single values."""


def _value_bytes(what: str) -> int:
    """Bytes of a value that enters and one that leaves, by what some work is called, as in ``"Affine uint8→int8"``."""
    pairs = (word.partition("→") for word in what.split())
    before, after = next((before, after or before) for before, _, after in pairs if before in DTYPE_BYTES)
    return DTYPE_BYTES[before] + DTYPE_BYTES[after]


def _on_whole_batches(step: Step) -> bool:
    """Whether a step is tf.data's, behind ``Batch``."""
    return step.spec_in.batched and not step.traits.takes_batches


def _size(spec: ImageSpec, size: float | None) -> float:
    """Megabytes while encoded, else megapixels of three channels."""
    if spec.encoded:
        return (size or 0.0) / 1e6
    return (size or 0.0) * (spec.shape[-1] or 3) / 3e6


def _megabytes(spec: ImageSpec, size: float | None) -> float:
    return (image_bytes(spec, size) or 0.0) / 1e6
