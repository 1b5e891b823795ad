"""A plan: how a pipeline will run, as data, to be read before anything runs.

Planning turns stages into steps, each one primitive on one backend, and fuses what can be fused without changing a
pixel: a crop right after decoding happens inside the JPEG decoder, and neighbouring affine maps become one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from greenload import claims, draws
from greenload.draws import NUMPY, Array, Ops
from greenload.errors import PipelineError
from greenload.pipeline import Pipeline
from greenload.specs import ImageSpec, LabelSpec
from greenload.stages import Apply, Batch, Cache, Shuffle, Stage
from greenload.stages import primitives as p

BACKENDS = ("tf", "dali-cpu", "dali")
"""The backends that a plan can name. ``"auto"`` resolves to one of them."""

Kind = Literal["read", "pixels", "cache", "batch", "device"]


@dataclass(frozen=True)
class Step:
    """One thing that a backend does to samples: what a profile has a row for."""

    kind: Kind
    name: str
    stages: tuple[str, ...]
    """The names of the stages whose work this is; more than one where they are fused."""
    backend: str
    spec_in: ImageSpec
    spec_out: ImageSpec
    primitive: p.Primitive | None = None
    stage: int | None = None
    """The place in the pipeline of the stage whose params the primitive reads, if it reads any."""

    def to_dict(self) -> dict[str, Any]:
        """The step as JSON data."""
        return {
            "name": self.name,
            "kind": self.kind,
            "stages": list(self.stages),
            "backend": self.backend,
            "in": str(self.spec_in),
            "out": str(self.spec_out),
        }


@dataclass(frozen=True)
class Plan:
    """How a pipeline runs: its steps in order, and the bounds on threads and buffers.

    ``str(plan)`` and ``describe()`` show it; ``greenload.load`` takes it in place of a pipeline.
    """

    pipeline: Pipeline
    backend: str
    threads: int
    """Threads that work on samples."""
    prefetch: int
    """Finished batches (or samples, without ``Batch``) held ready ahead of the consumer, at most."""
    steps: tuple[Step, ...]

    @property
    def out_spec(self) -> ImageSpec:
        """What leaves the pipeline."""
        return self.steps[-1].spec_out

    @property
    def label(self) -> LabelSpec:
        """The label of each sample that leaves the pipeline."""
        return self.pipeline.label

    def describe(self) -> str:
        """The plan as text, a line a step."""
        rows = [("step", "stages", "backend", "images out")]
        rows += [(s.name, " + ".join(s.stages), s.backend, str(s.spec_out)) for s in self.steps]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        if self.pipeline.one_hot:
            lines.append(f"labels: {self.label} ({self.pipeline.one_hot})")
        return "\n".join([*lines, f"{self.threads} threads, {self.prefetch} results held ready"])

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON data, without its pipeline."""
        return {
            "backend": self.backend,
            "threads": self.threads,
            "prefetch": self.prefetch,
            "steps": [step.to_dict() for step in self.steps],
            "label": str(self.label),
        }

    def __str__(self) -> str:
        return self.describe()


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_plan(pipeline: Pipeline, backend: str = "auto", *, threads: int | None = None, prefetch: int = 2) -> Plan:
    """Decide how a pipeline runs.

    Args:
        pipeline: what to run.
        backend: ``"tf"``, ``"dali-cpu"``, ``"dali"`` (on a GPU) or ``"auto"``, which today is ``"tf"``.
        threads: threads that work on samples; all processors that this process may use if not given.
        prefetch: batches held ready, at least 1.

    Raises:
        PipelineError: an argument is out of range, or the backend can't hold the pipeline.

    Example:
        >>> print(make_plan(train, backend="dali-cpu").describe())
    """
    if not isinstance(pipeline, Pipeline):
        raise PipelineError(f"what is planned must be a Pipeline, not {type(pipeline).__name__} {str(pipeline)[:40]!r}")
    if backend not in (*BACKENDS, "auto"):
        raise PipelineError(f"backend must be one of auto, {', '.join(BACKENDS)}, not {backend!r}")
    threads = processors() if threads is None else threads
    for name, value in (("threads", threads), ("prefetch", prefetch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise PipelineError(f"{name} must be a positive integer, not {value!r}")
    chosen = "tf" if backend == "auto" else backend
    steps = _fuse(_lower(pipeline, chosen))
    if chosen.startswith("dali"):
        steps = _for_dali(pipeline, chosen, steps)
    _check_claims(pipeline, chosen, steps)
    return Plan(pipeline, chosen, threads, prefetch, tuple(_told_apart(steps)))


def _check_claims(pipeline: Pipeline, backend: str, steps: list[Step]) -> None:
    for step in steps:
        if step.primitive is None or claims.claimed(backend, step.primitive, step.spec_in):
            continue
        able = claims.others(step.primitive, step.spec_in)
        remedy = f"use backend={able[0]!r}" if able else "change its arguments, or remove it"
        stage = pipeline.stages[step.stage] if step.stage is not None else " + ".join(step.stages)
        if isinstance(step.primitive, p.Call):
            raise PipelineError(
                f"{stage} can't run on backend {backend!r}: arbitrary code is the explicit stage Apply(fn), for the "
                f"backends that can run it: {remedy}"
            )
        raise PipelineError(
            f"{stage} can't run on backend {backend!r} to tolerance, for images that are {step.spec_in}: {remedy}"
        )


def _lower(pipeline: Pipeline, backend: str) -> list[Step]:
    spec = pipeline.source.spec
    order = ("Shuffle",) if pipeline.shuffled else ()
    source = type(pipeline.source).__name__
    steps = [Step("read", "Read", (source, *order), "tf", spec, spec)]
    for place, (stage, before, after) in enumerate(
        zip(pipeline.stages, pipeline.specs[:-1], pipeline.specs[1:], strict=True)
    ):
        name = type(stage).__name__
        if isinstance(stage, Shuffle):
            continue
        if isinstance(stage, Cache):
            steps.append(Step("cache", "Cache", (name,), "tf", before, after))
        elif isinstance(stage, Batch):
            steps.append(Step("batch", "Batch", (name,), "tf", before, after))
        else:
            parts = stage.primitives(before)
            if not parts:  # what it wants is so already
                continue
            specs = [before, *(_between(part, before, after) for part in parts[:-1]), after]
            for part, spec_in, spec_out in zip(parts, specs[:-1], specs[1:], strict=True):
                label = name if len(parts) == 1 else f"{name}: {type(part).__name__.lower()}"
                steps.append(Step("pixels", label, (name,), backend, spec_in, spec_out, part, place))
    return steps


def _between(part: p.Primitive, before: ImageSpec, after: ImageSpec) -> ImageSpec:
    """The spec after a stage's primitive that isn't its last: a crop, whose size differs from image to image."""
    return ImageSpec((None, None, before.shape[-1]), before.dtype, before.layout)


def _fuse(steps: list[Step]) -> list[Step]:
    fused: list[Step] = []
    for step in steps:
        last = fused[-1] if fused else None
        if last and isinstance(last.primitive, p.Decode) and isinstance(step.primitive, p.Crop):
            fused[-1] = replace(
                step,
                name="Decode + crop",
                stages=last.stages + step.stages,
                spec_in=last.spec_in,
                primitive=p.DecodeCrop(last.primitive.exif),
            )
        elif last and (joined := _joined(last, step)):
            stages = last.stages + step.stages
            fused[-1] = replace(
                step, name=" + ".join(stages), stages=stages, spec_in=last.spec_in, primitive=joined, stage=None
            )
        else:
            fused.append(step)
    return fused


def _joined(first: Step, second: Step) -> p.Affine | None:
    a, b = first.primitive, second.primitive
    if not (isinstance(a, p.Affine) and isinstance(b, p.Affine) and a.dtype == "float32"):
        return None
    channels = max(len(a.scale), len(b.scale))
    scales = [tuple(np.broadcast_to(x.scale, channels).tolist()) for x in (a, b)]
    offsets = [tuple(np.broadcast_to(x.offset, channels).tolist()) for x in (a, b)]
    scale = tuple(s * t for s, t in zip(*scales, strict=True))
    offset = tuple(o * t + q for o, t, q in zip(offsets[0], scales[1], offsets[1], strict=True))
    return p.Affine(scale, offset, b.dtype)


def _told_apart(steps: list[Step]) -> list[Step]:
    """Steps of one name numbered, so that a name is one row of a profile."""
    counts = Counter(step.name for step in steps)
    seen: Counter[str] = Counter()
    named = []
    for step in steps:
        seen[step.name] += 1
        named.append(replace(step, name=f"{step.name} ({seen[step.name]})") if counts[step.name] > 1 else step)
    return named


def _for_dali(pipeline: Pipeline, backend: str, steps: list[Step]) -> list[Step]:
    """DALI's batches are its own: it stacks them, and a cache can only stand before its first step."""
    if pipeline.batch is None:
        raise PipelineError(f"backend {backend!r} works on batches, but the pipeline has no Batch: add Batch(32)")
    steps = _mirrored(steps)
    first = next((i for i, step in enumerate(steps) if step.kind == "pixels"), len(steps))
    if any(step.kind == "cache" for step in steps[first:]):
        raise PipelineError(
            f"backend {backend!r} keeps pixels to itself until they are batched, so Cache must stand before Decode; "
            "move it there, or use backend='tf'"
        )
    return [
        replace(step, backend=backend, name="Batch + hand-over") if step.kind == "batch" else step for step in steps
    ]


def _mirrored(steps: list[Step]) -> list[Step]:
    """A flip and the affine map right after it as one step: DALI has one operator for both."""
    done: list[Step] = []
    for step in steps:
        last = done[-1] if done else None
        affine = step.primitive
        if last and last.primitive == p.Flip() and type(affine) is p.Affine:
            stages = last.stages + step.stages
            both = p.FlipAffine(affine.scale, affine.offset, affine.dtype)
            done[-1] = replace(last, name=" + ".join(stages), stages=stages, spec_out=step.spec_out, primitive=both)
        else:
            done.append(step)
    return done


@dataclass(frozen=True)
class Numbers:
    """Where each stage finds its prepared numbers in the one vector a sample carries."""

    stages: tuple[Stage, ...]
    keys: tuple[int, ...]
    starts: tuple[int, ...]
    count: int
    """How many numbers a sample carries."""

    @classmethod
    def of(cls, pipeline: Pipeline) -> Numbers:
        """The layout for a pipeline."""
        counts = [stage.numbers for stage in pipeline.stages]
        starts = tuple(int(n) for n in np.cumsum([0, *counts])[:-1])
        return cls(pipeline.stages, pipeline.keys, starts, sum(counts))

    def prepare(self, seed: int, epoch: Array, index: Array, ops: Ops = NUMPY) -> Array:
        """All random stages' prepared numbers for samples of an epoch.

        Args:
            seed: the pipeline's.
            epoch: integer scalar, or the shape of ``index``.
            index: int64 ``[n]``.
            ops: the array namespace.

        Returns:
            float64 ``[n, count]``.
        """
        words = draws.base(seed, epoch, index, ops=ops)
        parts = [
            stage.prepare(draws.uniforms(words, key, stage.draws, ops), ops)
            for stage, key in zip(self.stages, self.keys, strict=True)
            if stage.draws
        ]
        if not parts:
            return ops.f64(index)[..., None][..., :0]
        return parts[0] if len(parts) == 1 else ops.concat(parts, axis=-1)

    def of_stage(self, numbers: Array, place: int) -> Array:
        """One stage's share ``[…, k]`` of the numbers ``[…, count]``."""
        start = self.starts[place]
        return numbers[..., start : start + self.stages[place].numbers]

    def misfit(self, height: NDArray[np.int64], width: NDArray[np.int64]) -> tuple[int, str] | None:
        """The first image that is too small for a stage, and why; ``None`` if none is.

        Args:
            height: int64 ``[n]``, rows of the images as they are decoded.
            width: int64 ``[n]``, their columns.
        """
        picky = [place for place, stage in enumerate(self.stages) if type(stage).fits is not Stage.fits]
        # Sizes behind a random stage don't depend on its draws.
        drawn = np.zeros((len(height), self.count))
        for place, stage in enumerate(self.stages[: max(picky, default=-1) + 1]):
            fits = stage.fits(height, width)
            if fits is not None and not fits.all():
                wrong = int(np.argmin(fits))
                return wrong, f"{stage.misfit()}; it is {height[wrong]}×{width[wrong]} there"
            if isinstance(stage, Apply):
                return None  # what size a user's function gives, or what it refuses, isn't known
            params = stage.params(self.of_stage(drawn, place), height, width)
            height, width = stage.out_size(params, height, width)
        return None

    def params(
        self, numbers: Array, height: Array, width: Array, places: Sequence[int], ops: Ops = NUMPY
    ) -> dict[int, Any]:
        """The params of the stages at some places, the images' sizes followed from stage to stage.

        Args:
            numbers: float64 ``[n, count]``.
            height: int64 ``[n]``, rows of the images as they are decoded.
            width: int64 ``[n]``, their columns.
            places: which stages' params are wanted; sizes are followed through all stages before them.
            ops: the array namespace.
        """
        wanted: dict[int, Any] = {}
        for place, stage in enumerate(self.stages[: max(places, default=-1) + 1]):
            params = stage.params(self.of_stage(numbers, place), height, width, ops)
            if place in places:
                wanted[place] = params
            height, width = stage.out_size(params, height, width, ops)
        return wanted
