"""A plan: how a pipeline will run, as data, to be read before anything runs.

Each step on pixels has a backend. The steps of tf.data work on single samples until they are batched; every other
backend takes whole batches, so between two backends a batch crosses from one to the other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from greenload.plans import plan_file
from greenload.plans.pipeline import Pipeline
from greenload.plans.steps import TF_DATA, BackendTraits, CacheSpec, Step
from greenload.public import public
from greenload.specs import ImageSpec, LabelSpec
from greenload.stages import Echo
from greenload.stages import primitives as p
from greenload.text import bytes_text, percent, screen_width, wrapped

MIXED = "mixed"
"""What a plan calls its backend where its steps are on several."""


@dataclass(frozen=True)
class Segment:
    """Neighbouring steps on pixels that one backend does in one go."""

    backend: str
    steps: tuple[Step, ...]
    first: int
    """The place of the first stage whose params follow from the sizes of the images that enter."""
    end: int
    """The place of the first stage behind this segment."""

    @property
    def traits(self) -> BackendTraits:
        """How its backend works."""
        return self.steps[0].traits

    @property
    def once(self) -> bool:
        """Whether it stands before ``Echo``: each image goes through it once, for several elements of the epoch."""
        return self.steps[0].serves > 1

    @property
    def batched(self) -> bool:
        """Whether it takes batches. Only tf.data takes single samples, as long as they aren't batched."""
        return self.traits.takes_batches or self.spec_in.batched

    @property
    def spec_in(self) -> ImageSpec:
        """What enters."""
        return self.steps[0].spec_in

    @property
    def spec_out(self) -> ImageSpec:
        """What leaves."""
        return self.steps[-1].spec_out


@dataclass(frozen=True)
class Crossing:
    """A place where batches go from one backend to another."""

    source: str
    """The backend that they come from; ``"tf"`` where that is tf.data, which reads, caches and batches."""
    target: str
    spec: ImageSpec
    """What crosses."""
    bytes: float | None
    """Bytes an image, where known."""

    def to_dict(self) -> dict[str, Any]:
        """The crossing as JSON data."""
        return {"from": self.source, "to": self.target, "images": str(self.spec), "bytes_per_image": self.bytes}

    def __str__(self) -> str:
        size = "" if self.bytes is None else f", {bytes_text(self.bytes)} an image"
        return f"{self.source} → {self.target}: {self.spec}{size}"


@dataclass(frozen=True)
class Expected:
    """What the choice of backends was made by: costs an image in batches of 32, of the steps that can be placed."""

    unit: str
    """``"cpu_s"`` (CPU seconds) or ``"energy_j"`` (joules)."""
    cost: float
    """Of this plan."""
    others: tuple[tuple[str, float], ...]
    """Of others, the best first: which they are, and their costs. The first is the runner-up."""
    costs: str
    """Which costs these are, and where they were measured."""
    unknown: tuple[str, ...] = ()
    """Sentences: which stages are in no table, and what they were priced as."""

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON data; ``others`` are cheapest first."""
        others = [{"plan": name, "cost": cost} for name, cost in self.others]
        costs = "; ".join([self.costs, *self.unknown])
        return {"unit": self.unit, "cost_per_image": self.cost, "others": others, "costs": costs}

    def file_data(self) -> dict[str, Any]:
        """The same as JSON data of a plan's file, part by part."""
        others = [{"plan": name, "cost": cost} for name, cost in self.others]
        return {
            "unit": self.unit,
            "cost": self.cost,
            "others": others,
            "costs": self.costs,
            "unknown": list(self.unknown),
        }


@public
@dataclass(frozen=True)
class Plan:
    """How a pipeline runs: its steps in order, and the bounds on threads and buffers.

    ``str(plan)`` and ``describe()`` show it; ``greenload.load`` takes it in place of a pipeline.
    """

    pipeline: Pipeline
    backend: str
    """The backend of all steps on pixels, or ``"mixed"``."""
    threads: int
    """Threads that work on samples."""
    prefetch: int
    """Finished batches (or samples, without ``Batch``) held ready ahead of the consumer, at most."""
    steps: tuple[Step, ...]
    expected: Expected | None = None
    """Why these backends, where ``"auto"`` chose them."""
    sizes: str = ""
    """What the sizes of its steps rest on, where they are estimates."""
    readers: Mapping[str, str] | None = field(default=None, hash=False)
    """The backends that decode, by kind of file, what the decoding step's backend doesn't read. ``None`` where a user
    named that backend: then a file that it doesn't read is refused."""

    @property
    def out_spec(self) -> ImageSpec:
        """What leaves the pipeline."""
        return self.steps[-1].spec_out

    @property
    def label(self) -> LabelSpec:
        """The label of each sample that leaves the pipeline."""
        return self.pipeline.label

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The steps on pixels in runs, each on one backend. A step behind ``Batch`` begins another in tf.data only:
        other backends work on batches before it as well, image by image. One that mixes a batch begins another there:
        it needs all images as the step before has left them. One behind ``Echo`` begins another, too."""
        runs: list[list[Step]] = []
        for step in self.steps:
            if step.kind != "pixels":
                continue
            last = runs[-1][-1] if runs else None
            same = last is not None and last.backend == step.backend and last.serves == step.serves
            if step.traits.takes_batches:
                goes_on = same and not isinstance(step.primitive, p.Mix)
            else:
                goes_on = same and step.spec_in.batched == runs[-1][0].spec_in.batched
            if goes_on:
                runs[-1].append(step)
            else:
                runs.append([step])
        count = len(self.pipeline.stages)
        firsts = [_first(steps, before, count) for steps, before in zip(runs, [None, *runs], strict=False)]
        ends = [*firsts, count][1:]
        return tuple(
            Segment(steps[0].backend, tuple(steps), first, end)
            for steps, first, end in zip(runs, firsts, ends, strict=True)
        )

    @property
    def crossings(self) -> tuple[Crossing, ...]:
        """Every place where batches go from one backend to another."""
        crossings: list[Crossing] = []
        last: Segment | None = None
        for segment in self.segments:
            if segment.traits.takes_batches if last is None else segment.backend != last.backend:
                first = segment.steps[0]
                source = TF_DATA if last is None else last.backend
                size = image_bytes(first.spec_in, first.size_in)
                crossings.append(Crossing(source, segment.backend, first.spec_in, size))
            last = segment
        if last is not None and last.traits.takes_batches and not last.traits.on_gpu:
            size = image_bytes(last.spec_out, last.steps[-1].size_out)
            crossings.append(Crossing(last.backend, TF_DATA, self.out_spec, size))
        return tuple(crossings)

    @property
    def uses_tf_data(self) -> bool:
        """Whether tf.data works on pixels."""
        return any(not segment.traits.takes_batches for segment in self.segments)

    @property
    def on_gpu(self) -> bool:
        """Whether its batches are made on a GPU, and stay there."""
        return any(segment.traits.on_gpu for segment in self.segments)

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends that it needs, tf.data aside unless steps on pixels are there."""
        return tuple(dict.fromkeys(segment.backend for segment in self.segments))

    @property
    def decoder(self) -> str:
        """The backend that decodes; where nothing does, the first that works on pixels."""
        for step in self.steps:
            if isinstance(step.primitive, p.Decoding):
                return step.backend
        return next(iter(self.backends), TF_DATA)

    @property
    def decoding(self) -> str:
        """The name of the step that decodes; empty where none does."""
        return next((s.name for s in self.steps if isinstance(s.primitive, p.Decoding)), "")

    @property
    def _decodes_in_graph(self) -> bool:
        return any(isinstance(step.primitive, p.Decoding) and step.traits.in_graph for step in self.steps)

    def describe(self) -> str:
        """The plan as text: a line a step, what crosses between backends, and why these were chosen."""
        rows = [("step", "stages", "backend", "images out")]
        rows += [(s.name, " + ".join(s.stages), s.backend, str(s.spec_out)) for s in self.steps]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines += [_kept(step.name, step.keeps) for step in self.steps if step.keeps]
        lines += self._echoed()
        lines += [f"crosses {crossing}" for crossing in self.crossings]
        if self.readers:
            where = " (in load, tf decodes those that it reads)" if self._decodes_in_graph else ""
            lines.append(f"{self.decoding}: {self.decoder}; {_by_backend(self.readers)}{where}")
        if self.pipeline.label_stages:
            lines.append(f"labels: {self.label} ({', '.join(map(str, self.pipeline.label_stages))})")
        lines.append(f"{self.threads} threads, {self.prefetch} results held ready")
        if self.expected:
            lines += _why(self.expected)
        if self.sizes and (self.expected or self.crossings):
            lines.append(self.sizes)
        return "\n".join(lines)

    def _echoed(self) -> list[str]:
        """``["Echo(times=4): Read, Decode once for 4 images"]``."""
        names, times = [step.name for step in self.steps if step.serves > 1], self.pipeline.times
        return [f"{Echo(times)}: {', '.join(names)} once for {times} images"] if names else []

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON data, without its pipeline."""
        data = {
            "backend": self.backend,
            "threads": self.threads,
            "prefetch": self.prefetch,
            "steps": [step.to_dict() for step in self.steps],
            "crossings": [crossing.to_dict() for crossing in self.crossings],
            "label": str(self.label),
        }
        data |= {"readers": dict(self.readers)} if self.readers else {}
        return data | ({"expected": self.expected.to_dict()} if self.expected else {})

    def file_data(self) -> dict[str, Any]:
        """What `save` writes, as JSON data.

        Raises:
            PipelineError: a stage can't be described, as one of a function without a name.
        """
        return plan_file.document(
            self.pipeline.to_dict(),
            backend=self.backend,
            threads=self.threads,
            prefetch=self.prefetch,
            readers=None if self.readers is None else dict(self.readers),
            sizes=self.sizes,
            expected=None if self.expected is None else self.expected.file_data(),
            steps=[plan_file.step_data(step) for step in self.steps],
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON, with its pipeline, the machine and the versions: all of it, or the file stays as it
        was. ``gl.load_plan`` reads it.

        Of ``Arrays`` a digest is written in place of the pixels. Paths of the source
        and of a folder that images are kept in are written as they are: relative ones begin where the plan is loaded.

        Raises:
            PipelineError: a stage can't be described, as one of a function without a name.
            ReportError: the file can't be written.

        Example:
            >>> gl.make_plan(train).save("plan.json")
            >>> gl.load(gl.load_plan("plan.json"))
        """
        plan_file.write(path, self.file_data())

    def __str__(self) -> str:
        width = screen_width()
        return "\n".join(wrapped(line, width) for line in self.describe().splitlines())


class Planned(Protocol):
    """What holds a plan, as an ``Optimization``: it stands for that wherever a plan is taken."""

    @property
    def plan(self) -> Plan:
        """The plan."""


def plan_in(given: Any) -> Any:
    """The plan of what holds one; anything else as it is."""
    if isinstance(given, Pipeline | Plan):
        return given
    held = getattr(given, "plan", None)
    return held if isinstance(held, Plan) else given


def _first(steps: Sequence[Step], before: Sequence[Step] | None, count: int) -> int:
    """The place of the first stage whose params follow from the sizes of images as they enter some steps."""
    first = min((step.stage for step in steps if step.stage is not None), default=count)
    inside = before is not None and any(step.stage == first for step in before)
    return first + 1 if inside else first


def image_bytes(spec: ImageSpec, size: float | None) -> float | None:
    """Mean bytes of an image of ``spec``: ``size`` while encoded, else those of so many pixels; ``None`` if unknown."""
    if size is None or spec.encoded:
        return size if spec.encoded else spec.image_bytes()
    one_pixel = ImageSpec((1, 1, spec.shape[-1]), spec.dtype, "HWC").image_bytes()
    return spec.image_bytes() or (one_pixel and size * one_pixel)


def _by_backend(readers: Mapping[str, str]) -> str:
    """``"GIF, palette BMP by pillow; TIFF by dali-cpu"``."""
    backends = dict.fromkeys(readers.values())
    return "; ".join(f"{', '.join(k for k, b in readers.items() if b == name)} by {name}" for name in backends)


def _kept(name: str, cache_spec: CacheSpec) -> str:
    """``"Cache: planes in memory, about 1.2 GB in all; 62 % expected to fit in 744 MB"``."""
    where = "in memory" if cache_spec.path is None else f"in {cache_spec.path}"
    size = "" if cache_spec.set_bytes is None else f", about {bytes_text(cache_spec.set_bytes)} in all"
    bound = "" if cache_spec.budget is None else f" in {bytes_text(cache_spec.budget)}"
    share = "as much as" if cache_spec.share is None else "all" if cache_spec.share == 1 else percent(cache_spec.share)
    return f"{name}: {cache_spec.form} {where}{size}; {share} expected to fit{bound}"


def _why(expected: Expected) -> list[str]:
    def shown(cost: float) -> str:
        return f"{cost * 1e3:.3g} ms of CPU" if expected.unit == "cpu_s" else f"{cost * 1e3:.3g} mJ"

    lines = [f"expected: {shown(expected.cost)} an image ({expected.costs})"]
    lines += expected.unknown
    titles = ["runner-up", *["instead"] * len(expected.others)]
    lines += [f"{title}: {name}, {shown(cost)}" for title, (name, cost) in zip(titles, expected.others, strict=False)]
    return lines


__all__ = ["MIXED", "Crossing", "Expected", "Plan", "Planned", "Segment", "Step", "image_bytes", "plan_in"]
