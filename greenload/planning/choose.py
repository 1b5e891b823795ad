"""From a pipeline to a plan: which backend does which step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from greenload import scalars
from greenload.backends import registry
from greenload.backends.readers import ORDER as READERS
from greenload.backends.tables import TABLES, in_tf_data, reading
from greenload.errors import PipelineError
from greenload.machine import processors
from greenload.planning import cost_table
from greenload.planning.cache_form import caches_files, decoding_left, sized_steps
from greenload.planning.cost_table import Costs
from greenload.planning.placement import place
from greenload.planning.prices import Price, Work, price, work_of, work_of_step
from greenload.planning.sizes import SizedSteps
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Expected, Plan
from greenload.plans.steps import TF_DATA, Step, mirrored, unique_names
from greenload.public import public
from greenload.sources import formats
from greenload.stages import primitives as p

SINGLE_SAVES, MIXED_SAVES = 0.03, 0.05
"""What another backend must be expected to save against tf, and several together against the best alone: below that the
simpler plan stays, since a table of costs is no more exact."""
SEGMENT_SAVES = 0.02
"""What one more segment must save, among plans of several backends."""
PRICED_BATCH = 32
"""Plans are priced for batches of this size, whatever the pipeline's own, so that the choice, and with it the last bits
of pixels, doesn't change with the batch size. By the shipped costs, on training pipelines of photographs, the choice is
the one that any batch size from 4 up would give; for batches of 1 the plan chosen costs up to 15 % more than the best
one, for batches of 2 less than 1 %."""
SEGMENTS = 3
"""Segments of a plan that ``"auto"`` chooses, at most."""


@public
def make_plan(
    pipeline: Pipeline,
    backend: str | Mapping[str, str] = "auto",
    *,
    threads: int | None = None,
    prefetch: int = 2,
    gpu: bool = False,
) -> Plan:
    """Decide how a pipeline runs.

    ``"auto"`` takes the backends that are expected to cost least, by this machine's table of costs (``greenload
    calibrate``), else by the shipped reference: in joules where a meter measured every figure, else in CPU seconds. It
    leaves ``"tf"`` only for 3 % less, and one backend for several only for another 5 % less. ``describe()`` shows what
    was expected, for batches of 32. Mean sizes of images come from the headers of a few records; where these can't be
    read, typical photographs are assumed.

    A file of a kind that the decoding step's backend doesn't read is decoded by another that does, if one can run here:
    ``describe()`` shows which, for every kind. The backends that read all kinds among those records come first.

    What ``"auto"`` takes doesn't depend on the batch size, ``threads`` or the shard, but on the machine: on the
    backends installed, and on its own table of costs, which holds for its processor, how many of them this process may
    use, and the versions installed. For the same bits on every machine, name a backend.

    Args:
        pipeline: what to run.
        backend: ``"tf"``, ``"dali-cpu"``, ``"dali"`` (on a GPU), ``"pillow"`` or ``"native"`` for all steps on pixels;
            ``"auto"`` to choose for each; or a backend by the name of a step, as ``describe()`` shows it, or of a
            stage: then those not named are on ``"tf"``.
        threads: threads that work on samples; all processors that this process may use if not given.
        prefetch: batches held ready, at least 1.
        gpu: whether ``"auto"`` may choose ``"dali"``, whose batches stay on the GPU.

    Raises:
        PipelineError: an argument is out of range, or a backend can't hold its steps.

    Example:
        >>> print(make_plan(train, {"Decode + crop": "dali-cpu", "RandomResizedCrop: resize": "pillow"}))
    """
    if not isinstance(pipeline, Pipeline):
        raise PipelineError(f"what is planned must be a Pipeline, not {type(pipeline).__name__} {str(pipeline)[:40]!r}")
    threads = scalars.positive(PipelineError, "threads", processors() if threads is None else threads)
    prefetch = scalars.positive(PipelineError, "prefetch", prefetch)
    if not isinstance(backend, Mapping) and backend not in (*registry.BACKENDS, "auto"):
        raise PipelineError(f"backend must be one of auto, {', '.join(registry.BACKENDS)}, not {backend!r}")
    if backend == "auto":
        known = cost_table.in_use(processors())
        able = usable(known, gpu)
        return choose(pipeline, sized_steps(pipeline, able), known, able, threads=threads, prefetch=prefetch)
    sizes = sized_steps(pipeline, [] if isinstance(backend, Mapping) else [backend])
    named = (
        _by_name(sizes.steps, backend)
        if isinstance(backend, Mapping)
        else [on_backend(s, backend) for s in sizes.steps]
    )
    return replace(place(pipeline, named, threads=threads, prefetch=prefetch), sizes=sizes.note)


def on_backend(step: Step, backend: str) -> Step:
    """A step on a backend; what isn't work on pixels stays in tf.data."""
    return replace(step, backend=backend, traits=TABLES[backend].traits) if step.kind == "pixels" else step


def usable(known: Costs, gpu: bool = False) -> tuple[str, ...]:
    """The backends that can run here and may be chosen. Loads each but TensorFlow, which is only looked for.

    Args:
        known: the costs to go by. The shipped ones are Pillow-SIMD's: by them plain Pillow is never chosen.
        gpu: whether ``"dali"`` may be.
    """
    names = []
    for name, table in TABLES.items():
        if table.traits.on_gpu and not gpu:
            continue
        seen = registry.get(name).presence()
        slower = bool(seen.remedy) and known.table.source == cost_table.REFERENCE
        if seen.usable and not slower:
            names.append(name)
    return tuple(names)


@dataclass(frozen=True)
class Placement:
    """Steps on backends, as they might be chosen."""

    steps: tuple[Step, ...]
    backends: tuple[str, ...]
    """Of its steps on pixels, each named once."""
    segments: int
    """Runs of neighbouring steps on one backend."""
    price: Price

    @property
    def label(self) -> str:
        """The backend; of several, each with the first and last of its steps."""
        if len(self.backends) == 1:
            return self.backends[0]
        runs = itertools.groupby((s for s in self.steps if s.kind == "pixels"), lambda step: step.backend)
        parts = []
        for backend, run in runs:
            named = list(dict.fromkeys(step.name for step in run))
            shown = named[0] if len(named) == 1 else f"{named[0]} … {named[-1]}"
            parts.append(f"{backend} ({shown})")
        return " → ".join(parts)

    @property
    def only_tf_data(self) -> bool:
        """Whether all its steps are tf.data's."""
        return not any(step.traits.takes_batches for step in self.steps)

    def cost(self, unit: str) -> float:
        """Its expected cost an image, in CPU seconds or joules."""
        return self.price.cpu_s if unit == "cpu_s" or self.price.energy_j is None else self.price.energy_j


def choose(
    pipeline: Pipeline, sizes: SizedSteps, known: Costs, able: Sequence[str], *, threads: int, prefetch: int
) -> Plan:
    """The plan that is expected to cost least, or a simpler one that costs hardly more.

    Args:
        pipeline: what is planned.
        sizes: its steps with their sizes, as ``sized_steps`` gives them.
        known: the costs to go by.
        able: the backends that can run here.
        threads: as in ``make_plan``.
        prefetch: as in ``make_plan``.
    """

    def planned(steps: Sequence[Step]) -> Plan:
        return placed(pipeline, sizes, steps, threads=threads, prefetch=prefetch)

    simplest = [on_backend(step, TF_DATA) for step in sizes.steps]
    if not any(step.kind == "pixels" for step in sizes.steps):
        return planned(simplest)
    possible = possible_placements(pipeline, sizes, known, able)
    if not possible and caches_files(sizes.steps):
        whole = sized_steps(pipeline, ())
        return choose(pipeline, whole, known, able, threads=threads, prefetch=prefetch)
    if not possible:
        return planned(simplest)
    unit = unit_of(possible)
    chosen = _best(possible, unit)
    rest = [placement for placement in possible if placement is not chosen]
    others = [*rest[:1], *(placement for placement in rest[1:] if len(placement.backends) == 1)]
    expected = Expected(
        unit,
        chosen.cost(unit),
        tuple((placement.label, placement.cost(unit)) for placement in others),
        "; ".join([known.table.label, *chosen.price.origins]),
        chosen.price.unknown,
    )
    return replace(planned(chosen.steps), expected=expected)


def placed(pipeline: Pipeline, sizes: SizedSteps, steps: Sequence[Step], *, threads: int, prefetch: int) -> Plan:
    """The plan of steps that were placed by their expected costs: what their decoding backend doesn't read, another
    decodes.

    Raises:
        PipelineError: they can't follow each other that way.
    """
    plan = replace(place(pipeline, steps, threads=threads, prefetch=prefetch, auto=True), sizes=sizes.note)
    return replace(plan, readers=readers_for(plan.decoder, helpers()) if plan.decoding else None)


def possible_placements(pipeline: Pipeline, sizes: SizedSteps, known: Costs, able: Sequence[str]) -> list[Placement]:
    """Those of `placements` whose steps can follow each other, the cheapest first. Backends that read every kind of the
    files come alone, if there are such; else others decode what they don't read."""
    for others in ((), helpers()):
        tried = placements(pipeline, sizes, known, able, others)
        possible = [placement for placement in tried if _possible(pipeline, placement)]
        if possible:
            unit = unit_of(possible)
            return sorted(possible, key=lambda placement: (placement.cost(unit), placement.segments))
    return []


def unit_of(possible: Sequence[Placement]) -> str:
    """What placements are compared in: joules where a meter measured all that they consist of, else CPU seconds."""
    return "energy_j" if all(placement.price.energy_j is not None for placement in possible) else "cpu_s"


def _best(possible: Sequence[Placement], unit: str) -> Placement:
    """Of placements in the order of their costs: all in tf.data, unless another backend saves enough; on one backend,
    unless several save enough."""

    def cheapest(segments: int) -> Placement | None:
        return next((placement for placement in possible if placement.segments == segments), None)

    best = cheapest(1)
    tf = next((placement for placement in possible if placement.only_tf_data), None)
    if best and tf and best.cost(unit) > tf.cost(unit) * (1 - SINGLE_SAVES):
        best = tf
    saves = MIXED_SAVES
    for segments in range(2, SEGMENTS + 1):
        mixed = cheapest(segments)
        if mixed and (best is None or mixed.cost(unit) <= best.cost(unit) * (1 - saves)):
            best, saves = mixed, SEGMENT_SAVES
    assert best is not None  # at least one is possible
    return best


def placements(
    pipeline: Pipeline, sizes: SizedSteps, known: Costs, able: Sequence[str], others: Sequence[str] = ()
) -> Iterator[Placement]:
    """Every placement in a few segments on backends that do their steps and read the files, with its price; ``others``
    may decode what a backend doesn't read. Whether steps can follow each other that way isn't looked at.

    Where a cache keeps files, the backend that keeps them decodes, and its images leave it with one size.
    """
    cached = max((index for index, step in enumerate(sizes.steps) if step.kind == "cache"), default=-1)
    free = [index for index, step in enumerate(sizes.steps) if step.kind == "pixels" and index > cached]
    batch = PRICED_BATCH if pipeline.batch else None
    names = [name for name in able if (batch and free) or in_tf_data(name)]
    # A kind that nobody reads can't decide between them.
    kinds = {kind: share for kind, share in sizes.kinds.items() if set(reading(kind)) & {*able, *others}}
    supported = {
        name: [supports(name, sizes.steps[index], kinds, readers_for(name, others)) for index in free] for name in names
    }
    kept = caches_files(sizes.steps)
    host = [on_backend(step, TF_DATA) for step in sizes.steps]
    placed = {name: [on_backend(step, name) for step in sizes.steps] for name in names}
    for segments in _segments(len(free), names, supported):
        _, end, first = segments[0]
        if kept and (not TABLES[first].traits.keeps_files or not sizes.steps[free[end - 1]].spec_out.static):
            continue
        steps = list(host)
        for begin, end, name in segments:
            for index in free[begin:end]:
                steps[index] = placed[name][index]
        cost = price(_work_of_placed(steps, batch, kinds, others), known)
        if cost is not None:
            yield Placement(tuple(steps), tuple(dict.fromkeys(name for _, _, name in segments)), len(segments), cost)


def _segments(
    count: int, names: Sequence[str], supported: Mapping[str, Sequence[bool]]
) -> Iterator[tuple[tuple[int, int, str], ...]]:
    """Ways to put so many steps on backends in a few segments: where each begins and ends, and its backend."""
    for cuts in range(min(SEGMENTS, max(count, 1))):
        for inner in itertools.combinations(range(1, count), cuts):
            bounds = list(itertools.pairwise((0, *inner, count)))
            for chosen in itertools.product(names, repeat=len(bounds)):
                if any(a == b for a, b in itertools.pairwise(chosen)):
                    continue
                if all(all(supported[name][a:b]) for (a, b), name in zip(bounds, chosen, strict=True)):
                    yield tuple((a, b, name) for (a, b), name in zip(bounds, chosen, strict=True))


def _work_of_placed(
    steps: Sequence[Step], batch: int | None, kinds: Mapping[str, float], others: Sequence[str]
) -> list[Work]:
    """The work of steps that are placed, and of the backends that decode for the decoding step's."""
    decoding = next((s for s in steps if isinstance(s.primitive, p.Decoding)), None)
    readers = readers_for(decoding.backend, others) if decoding else {}
    foreign = {kind: share for kind, share in kinds.items() if kind in readers}
    if decoding is None or not foreign:
        return work_of(mirrored(steps), batch, kinds)
    own = {kind: share for kind, share in kinds.items() if kind not in foreign}
    own["PNG"] = own.get("PNG", 0.0) + sum(foreign.values())
    left = decoding_left(steps)
    helped = [
        replace(work, amounts=work.amounts.times(left))
        for kind, share in foreign.items()
        for work in work_of_step(replace(on_backend(decoding, readers[kind]), primitive=p.Decode()), {kind: share})
    ]
    return work_of(mirrored(steps), batch, own) + helped


def helpers() -> tuple[str, ...]:
    """The backends that can run here and may decode what another doesn't read, the first choice first. Plain Pillow
    too: what it is slow at is resizing."""
    return tuple(name for name in READERS if registry.get(name).presence().usable)


def reading_backends() -> tuple[str, dict[str, str]]:
    """What decides which files ``backend="auto"`` reads here, whatever it then chooses: TensorFlow, and the backends
    that decode what it doesn't read."""
    return TF_DATA, readers_for(TF_DATA, helpers())


def readers_for(backend: str, others: Sequence[str]) -> dict[str, str]:
    """Which of some backends decodes each kind of file that a backend doesn't read."""
    readers: dict[str, str] = {}
    for kind in formats.KINDS:
        able = [name for name in others if kind in TABLES[name].kinds and kind not in TABLES[name].not_for_others]
        if kind not in TABLES[backend].kinds and able:
            readers[kind] = able[0]
    return readers


def supports(backend: str, step: Step, kinds: Mapping[str, float], readers: Mapping[str, str] | None = None) -> bool:
    """Whether a backend does a step on pixels and, where that decodes, reads the kinds of files that ``readers`` don't
    decode."""
    if step.primitive is None or not TABLES[backend].supports(step.primitive, step.spec_in):
        return False
    decodes = isinstance(step.primitive, p.Decoding)
    return not decodes or set(kinds) <= {*TABLES[backend].kinds, *(readers or ())}


def _possible(pipeline: Pipeline, placement: Placement) -> bool:
    """Whether a placement's steps can follow each other."""
    try:
        place(pipeline, placement.steps, threads=1, prefetch=1)
    except PipelineError:
        return False
    return True


def _by_name(steps: Sequence[Step], wanted: Mapping[str, str]) -> list[Step]:
    shown = [step.name for step in unique_names(steps)]
    known = {name for name, step in zip(shown, steps, strict=True) if step.kind == "pixels"}
    known |= {stage for step in steps if step.kind == "pixels" for stage in step.stages}
    for name, backend in wanted.items():
        if name not in known:
            raise PipelineError(
                f"backend: names a step or a stage on pixels, one of {', '.join(sorted(known))}, not {name!r}"
            )
        if backend not in registry.BACKENDS:
            raise PipelineError(f"backend of {name!r} must be one of {', '.join(registry.BACKENDS)}, not {backend!r}")
    placed = []
    for name, step in zip(shown, steps, strict=True):
        named = {key: wanted[key] for key in step.stages if key in wanted}
        if name not in wanted and len(set(named.values())) > 1:
            raise PipelineError(
                f"backend: {' and '.join(named)} are one step here, which can't be on {' and '.join(named.values())}: "
                f"place {name!r}"
            )
        chosen = wanted.get(name) or next(iter(named.values()), None)
        placed.append(on_backend(step, chosen) if chosen else step)
    return placed
