"""From stages to steps: what a pipeline comes down to, whichever backend is to do it.

What can be fused without changing a pixel is fused here: a crop right after decoding happens inside the JPEG decoder,
and neighbouring affine maps become one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from greenload.plans.pipeline import Pipeline
from greenload.specs import CacheForm, ImageSpec
from greenload.stages import Batch, Cache, Echo, Shuffle
from greenload.stages import primitives as p

TF_DATA = "tf"
"""What a plan calls tf.data, which reads, shuffles, caches and batches, and works on pixels where no other backend
does."""

Kind = Literal["read", "pixels", "cache", "batch", "device"]


@dataclass(frozen=True)
class BackendTraits:
    """How a backend works on pixels, as far as a plan depends on it. As it stands it is tf.data's own way."""

    takes_batches: bool = False
    """Whether it takes whole batches of records out of tf.data; else its steps are part of tf.data's graph."""
    on_gpu: bool = False
    """Whether it works on a GPU, where its results stay."""
    queues_batches: bool = False
    """Whether batches queue up in it: they are submitted and collected in order, and worked on one after another."""
    fuses_flip: bool = False
    """Whether it has one operator for a flip and the affine map right after it."""
    in_graph: bool = False
    """Whether it has operations of its own for TensorFlow's graph, in which ``load`` runs it: TensorFlow decodes there
    what it doesn't decode itself."""
    keeps_files: bool = False
    """Whether its cache keeps files, and images as files, that it decodes behind the cache."""
    echoes: bool = True
    """Whether it can work on images once that stages behind ``Echo`` then work on several times."""


IN_TF_DATA = BackendTraits()
"""tf.data's own."""


@dataclass(frozen=True)
class CacheSpec:
    """What the native backend's cache keeps, and where. It keeps files, or images as files, that decoding behind it
    reads."""

    form: CacheForm
    """``"auto"`` only until the plan is made."""
    path: str | None = None
    """The folder; ``None`` for memory."""
    budget: int | None = None
    """The most bytes; ``None`` for no limit."""
    in_common: bool = False
    """Whether the budget is that of the process: of all that it keeps in memory without a budget of its own."""
    filling: tuple[Step, ...] = ()
    """Of form ``"resized"``: the steps on pixels, ``Decode`` the first, that make of a file the image that is kept."""
    set_bytes: float | None = None
    """Of the whole set in this form, estimated."""
    share: float | None = None
    """The share of the set that is expected to fit, 0 … 1."""
    apart: str = ""
    """Where it isn't empty, nothing is shared with what is kept under another text."""

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON data."""
        kept = {"form": self.form, "path": self.path, "budget": self.budget, "share": self.share}
        return kept | {"set_bytes": self.set_bytes, "filling": [step.name for step in self.filling]}


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
    size_in: float | None = None
    """Mean pixels of an image that enters (bytes while it is encoded), where known."""
    size_out: float | None = None
    """The same of an image that leaves."""
    traits: BackendTraits = IN_TF_DATA
    """How its backend works."""
    keeps: CacheSpec | None = None
    """Of a cache, what the native backend keeps; ``None`` of one of tf.data's own."""
    serves: int = 1
    """How many elements of an epoch are made of what it does to one image: those of ``Echo``, of a step before it."""

    def to_dict(self) -> dict[str, Any]:
        """The step as JSON data."""
        described: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "stages": list(self.stages),
            "backend": self.backend,
            "in": str(self.spec_in),
            "out": str(self.spec_out),
        }
        described |= {"serves": self.serves} if self.serves > 1 else {}
        return described | ({"keeps": self.keeps.to_dict()} if self.keeps else {})


def steps_of(pipeline: Pipeline) -> list[Step]:
    """A pipeline's steps in order, fused, not yet placed: those on pixels are in tf.data."""
    return fused(lowered(pipeline))


def reads_params(step: Step) -> bool:
    """Whether a step on pixels needs its stage's params for each image."""
    primitive = step.primitive
    static = isinstance(primitive, p.Resize) and primitive.height is not None and primitive.width is not None
    plain = isinstance(primitive, p.Affine) and not isinstance(primitive, p.FlipAffine)
    return step.stage is not None and not static and not plain and not isinstance(primitive, p.Call)


def lowered(pipeline: Pipeline) -> list[Step]:
    """A pipeline's steps, each on pixels of one stage alone."""
    spec = pipeline.source.spec
    order = ("Shuffle",) if pipeline.shuffled else ()
    source = type(pipeline.source).__name__
    echo = pipeline.echo or 0
    steps = [Step("read", "Read", (source, *order), TF_DATA, spec, spec, serves=pipeline.times)]
    for index, (stage, before, after) in enumerate(
        zip(pipeline.stages, pipeline.specs[:-1], pipeline.specs[1:], strict=True)
    ):
        name, kind = stage.title, (type(stage).__name__,)
        serves = pipeline.times if index < echo else 1
        if isinstance(stage, Shuffle | Echo):
            continue
        if isinstance(stage, Cache):
            steps.append(Step("cache", "Cache", kind, TF_DATA, before, after, serves=serves))
        elif isinstance(stage, Batch):
            steps.append(Step("batch", "Batch", kind, TF_DATA, before, after))
        else:
            operations = stage.operations(before)  # none where what it wants is so already
            for primitive, spec_in, spec_out in operations:
                label = name if len(operations) == 1 else f"{name}: {type(primitive).__name__.lower()}"
                step = Step("pixels", label, kind, TF_DATA, spec_in, spec_out, primitive, index, serves=serves)
                steps.append(step)
    return steps


def fused(steps: Sequence[Step]) -> list[Step]:
    """Steps of ``lowered``, neighbours as one where that changes no pixel. What is done once for several echoes stays
    apart from what is done to each."""
    done: list[Step] = []
    for step in steps:
        last = done[-1] if done and done[-1].serves == step.serves else None
        if last and isinstance(last.primitive, p.Decode) and isinstance(step.primitive, p.Crop):
            cropped = p.DecodeCrop(last.primitive.exif, last.primitive.max_bytes, last.primitive.truncated)
            done[-1] = _as_one(last, step, cropped, step.stage, "Decode + crop")
        elif last and (affine := _joined(last, step)):
            done[-1] = _as_one(last, step, affine, None)
        else:
            done.append(step)
    return done


def _as_one(first: Step, second: Step, primitive: p.Primitive, stage: int | None, name: str = "") -> Step:
    """Two adjacent steps as one with a primitive that does the work of both, and its params from a stage."""
    stages = first.stages + second.stages
    return replace(
        second,
        name=name or " + ".join(stages),
        stages=stages,
        spec_in=first.spec_in,
        size_in=first.size_in,
        primitive=primitive,
        stage=stage,
    )


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


def unique_names(steps: Sequence[Step]) -> list[Step]:
    """Steps of one name numbered, so that a name is one row of a profile."""
    counts = Counter(step.name for step in steps)
    seen: Counter[str] = Counter()
    named = []
    for step in steps:
        seen[step.name] += 1
        named.append(replace(step, name=f"{step.name} ({seen[step.name]})") if counts[step.name] > 1 else step)
    return named


def mirrored(steps: Sequence[Step]) -> list[Step]:
    """A flip and the affine map right after it as one step, on backends that have one operator for both."""
    done: list[Step] = []
    for step in steps:
        last = done[-1] if done else None
        affine = step.primitive
        fuses = last is not None and last.backend == step.backend and step.traits.fuses_flip
        fuses = fuses and last is not None and last.serves == step.serves
        if last and fuses and last.primitive == p.Flip() and type(affine) is p.Affine:
            both = p.FlipAffine(affine.scale, affine.offset, affine.dtype)
            done[-1] = _as_one(last, step, both, last.stage)
        else:
            done.append(step)
    return done
