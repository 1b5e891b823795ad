"""What the tests of DALI's augmentations on the CPU and on a GPU share: cases, and each one's gap to its reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from driven import Driven

from greenload.backends.base import Records, Tolerance
from greenload.backends.dali.backend import DaliBackend
from greenload.backends.dali.graph import arguments_of, feed, feeds_of, image_list, make_graph
from greenload.backends.dali.runner import target_of
from greenload.backends.image_sizes import sizes_of
from greenload.backends.registry import readers_of
from greenload.errors import PipelineError
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.plans.steps import Step
from greenload.specs import ImageSpec
from greenload.stages import (
    Batch,
    ColorJitter,
    GaussianBlur,
    Normalize,
    Pad,
    RandomAdjustSharpness,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomRotation,
    RandomVerticalFlip,
    Stage,
    ToDtype,
)
from greenload.stages import primitives as p

Pixels = np.ndarray[Any, Any]
SIZES = ((1, 1), (1, 40), (40, 1), (2, 2), (7, 5), (33, 57), (64, 48), (101, 203), (224, 224), (240, 320))
"""Heights and widths: sides of one pixel, odd and even, wider than high and higher than wide."""
LARGE = ((500, 375), (1000, 1000), (3, 1000))
"""Those that show what grows with the size."""
KINDS = ("photo", "noise", "steps")

AUGMENTATIONS: tuple[Stage, ...] = (
    RandomCrop((40, 56), padding=(3, 1, 0, 9), pad_if_needed=True, fill=1),
    Pad((1, 2, 3, 4), fill=1),
    RandomVerticalFlip(),
    RandomRotation(180, fill=1),
    RandomRotation((90, 90)),
    RandomAffine(30, translate=(0.2, 0.2), scale=(0.5, 2.0), shear=20),
    ColorJitter(0.4, 0.4, 0.4, 0.1),
    ColorJitter(brightness=(0.5, 0.5)),
    ColorJitter(1.0, 1.0, 1.0, 0.5),
    RandomGrayscale(0.5),
    GaussianBlur(3),
    GaussianBlur((23, 5), sigma=(0.1, 2.0)),
    GaussianBlur(9, sigma=3.0),
    RandomErasing(0.7),
    RandomErasing(1.0, value=(1, 0, 1)),
)
"""Each keeps the tolerance of its primitives, on uint8 and on float32."""
LEVELS: tuple[Stage, ...] = (
    RandomAdjustSharpness(2),
    Driven(p.Brightness(), (0.0, 0.1, 0.5, 0.73, 1.0, 1.27, 1.9, 700.0)),
    Driven(p.Contrast(), (0.0, 0.1, 0.5, 0.73, 1.0, 1.27, 1.9, 700.0)),
    Driven(p.Posterize(), tuple(range(1, 9))),
    Driven(p.Solarize(), (0.0, 0.5, 77.0, 128.0, 254.3, 255.0, 255.5, 256.0)),
    Driven(p.Sharpen(), (0.0, 0.1, 0.5, 0.73, 1.0, 1.27, 1.9, 700.0)),
)
"""uint8's levels by a number of each image's own, bit for bit."""
MOVING: tuple[Stage, ...] = (
    RandomCrop(20, padding=(2, 0, 4, 3), pad_if_needed=True, fill=5),
    Pad(3, fill=2),
    RandomErasing(1.0, value=(3, 100, 7)),
)
"""What moves pixels of any dtype that DALI has."""
CASTS: tuple[tuple[str, Stage], ...] = tuple(
    (before, ToDtype(after, scale))
    for before in ("uint8", "int8", "float16", "float32")
    for after in ("uint8", "int8", "float16", "float32")
    for scale in (False, True)
    if before != after
) + tuple((before, Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))) for before in ("float16", "float32"))
"""A dtype and a stage that changes values or dtype."""
HEAVY: tuple[Stage, ...] = (
    RandomCrop(48, padding=8, fill=9),
    RandomHorizontalFlip(),
    RandomVerticalFlip(),
    RandomRotation(20, fill=9),
    RandomAffine(10, translate=(0.1, 0.1), scale=(0.9, 1.1), shear=5),
    ColorJitter(0.4, 0.4, 0.4, 0.1),
    RandomGrayscale(0.3),
    GaussianBlur(9, sigma=(0.1, 2.0)),
    RandomErasing(0.5),
    ToDtype("float32", scale=True),
    Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)
"""One pipeline with all of them, for images of at least 32 by 32 pixels."""


@dataclass(frozen=True)
class Ragged:
    """A source that describes pixels of sizes that differ, and is never read: records are made by hand."""

    count: int
    dtype: str

    def __len__(self) -> int:
        return self.count

    @property
    def spec(self) -> ImageSpec:
        return ImageSpec((None, None, 3), self.dtype, "HWC")

    @property
    def labels(self) -> Pixels:
        return np.zeros(self.count, np.int64)

    def name(self, index: int) -> str:
        return f"images[{index}]"

    def read(self, index: int) -> Any:
        raise NotImplementedError

    def fingerprint(self) -> str:
        return "ragged"

    def to_dict(self) -> dict[str, Any]:
        return {"source": "Ragged"}


def image(height: int, width: int, kind: str, dtype: str, seed: int = 0) -> Pixels:
    """An image ``[height, width, 3]``; floats lie around 0 … 1 and not on uint8's levels, int8 has both signs."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    if kind == "noise":
        levels = random.integers(0, 256, (height, width, 3)).astype(np.float64)
    elif kind == "steps":
        levels = np.repeat((((rows // 3 + columns // 5 + seed) % 2) * 255.0)[..., None], 3, -1)
    else:
        waves = np.stack([127 + 100 * np.sin(columns / 9 + k + seed) * np.cos(rows / 11 - k) for k in range(3)], -1)
        levels = np.clip(np.round(waves + random.normal(0, 8, waves.shape)), 0, 255)
    if dtype == "int8":
        levels = levels - 128
    if "float" in dtype:
        levels = levels / 255 * 0.987
    return levels.astype(dtype)


def images(dtype: str, sizes: Sequence[tuple[int, int]], repeats: int = 2) -> list[Pixels]:
    """Some images a size, the kinds in turn."""
    every = [size for size in sizes for _ in range(repeats)]
    return [image(*size, KINDS[k % 3], dtype, k) for k, size in enumerate(every)]


def ragged(dtype: str, pixels: Sequence[Pixels], *stages: Stage, seed: int = 3) -> tuple[Pipeline, Records]:
    """A pipeline over images of any sizes, and their records in one batch.

    Where sizes still differ after the stages, a crop of one pixel makes a batch of them, for the pipeline's sake only:
    ``outputs`` and ``references`` leave it out.
    """
    source = Ragged(len(pixels), dtype)
    try:
        pipeline = Pipeline(source, *stages, Batch(len(pixels)), seed=seed)
    except PipelineError:
        pipeline = Pipeline(source, *stages, _STACKED, Batch(len(pixels)), seed=seed)
    index = np.arange(len(pixels))
    numbers = DrawLayout.of(pipeline).prepare(seed, 0, index)
    return pipeline, Records(list(pixels), numbers, [source.name(i) for i in index])


_STACKED = RandomCrop((1, 1))


def work(plan: Plan) -> list[Step]:
    """A plan's steps on pixels, without what only made a batch."""
    steps = [step for step in plan.steps if step.primitive is not None]
    return steps[:-1] if _STACKED in plan.pipeline.stages else steps


def outputs(plan: Plan, records: Records) -> list[Pixels]:
    """What a plan's steps make of records, image by image: their sizes may differ."""
    sizes = sizes_of(records.images, records.names, "dali-cpu", readers_of(plan))
    steps, images = work(plan), image_list(records.images)
    graph = make_graph(
        steps, plan.pipeline.source.spec, batch_size=len(records.images), threads=2, target=target_of(plan.backend)
    )
    feed(graph, images, arguments_of(DrawLayout.of(plan.pipeline), feeds_of(steps), records.numbers, sizes))
    (result,) = graph.run()
    if plan.backend == "dali":
        result = result.as_cpu()
    return [np.array(result.at(i)) for i in range(len(records.images))]


def references(pipeline: Pipeline, records: Records) -> list[Pixels]:
    """The same through every stage's float64 reference."""
    layout = DrawLayout.of(pipeline)
    done = []
    for row, pixels in enumerate(records.images):
        current: Any = pixels.astype(np.float64) if pixels.dtype == np.float32 else pixels  # type: ignore[union-attr]
        for place, stage in enumerate(pipeline.stages):
            if stage == _STACKED:
                break
            share = layout.of_stage(records.numbers[row : row + 1], place)
            params = stage.params(share, np.array([current.shape[0]]), np.array([current.shape[1]]))
            current = stage.reference(current, {name: values[0] for name, values in params.items()})
        done.append(current)
    return done


@dataclass(frozen=True)
class Seen:
    """How far one image lay from its reference, beside what is stated."""

    what: str
    """The primitives and the dtypes."""
    size: tuple[int, int]
    max: float
    mean: float
    stated: Tolerance

    @property
    def kept(self) -> bool:
        """Whether it lay within."""
        return self.max <= self.stated.max and self.mean <= self.stated.mean


def see(backend: DaliBackend, stage: Stage, dtype: str, pixels: Sequence[Pixels]) -> list[Seen]:
    """One stage on images of any sizes, held to what its primitives state for an image of that size."""
    pipeline, records = ragged(dtype, pixels, stage)
    plan = make_plan(pipeline, backend.name, threads=2)
    steps = work(plan)
    what = "+".join(type(step.primitive).__name__ for step in steps)
    what += f" {dtype}" + (f" to {after}" if (after := plan.out_spec.dtype) != dtype else "")
    seen = []
    found, expected = outputs(plan, records), references(pipeline, records)
    for before, result, wanted in zip(pixels, found, expected, strict=True):
        assert result.shape == wanted.shape
        assert str(result.dtype) == plan.out_spec.dtype
        gap = np.abs(result.astype(np.float64) - wanted.astype(np.float64))
        spec = ImageSpec(before.shape, dtype, "HWC")
        stated = [
            backend.table.tolerance(step.primitive, spec) for step in steps if isinstance(step.primitive, p.Primitive)
        ]
        total = Tolerance(sum(t.max for t in stated if t), sum(t.mean for t in stated if t))
        seen.append(Seen(what, before.shape[:2], float(gap.max()), float(gap.mean()), total))
    return seen


def largest(seen: Sequence[Seen]) -> str:
    """A table: for each kind of work what was seen at most, and the largest share of what is stated."""
    lines = [f"{'primitive':32} {'max':>10} {'of stated':>10} {'mean':>10} {'of stated':>10}  at"]
    for what in sorted({each.what for each in seen}):
        mine = [each for each in seen if each.what == what]
        worst = max(mine, key=lambda each: each.max)
        blurred = max(each.mean for each in mine)
        shares = [
            max((getattr(each, f) / (getattr(each.stated, f) or np.inf) for each in mine), default=0.0)
            for f in ("max", "mean")
        ]
        height, width = worst.size
        lines.append(
            f"{what:32} {worst.max:>10.3g} {shares[0]:>10.2g} {blurred:>10.3g} {shares[1]:>10.2g}  {height}x{width}"
        )
    return "\n".join(lines)
