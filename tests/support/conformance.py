"""One suite for every backend: each stage and whole pipelines against the float64 references, decoding bit for bit.

A test asks `cases()` for what to run and `check` to run it. A case is a source's images and stages; the reference goes
through the same stages, each fed what the reference before it gave.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from driven import Driven

from greenload.backends.base import Records, Tolerance
from greenload.backends.chain import run_plan
from greenload.backends.tables import TABLES
from greenload.errors import PipelineError
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.sources import Arrays, Files, Source
from greenload.specs import DTYPES as KINDS_OF_NUMBERS
from greenload.specs import ImageSpec
from greenload.stages import (
    Apply,
    AugMix,
    Batch,
    CenterCrop,
    ColorJitter,
    CutMix,
    Decode,
    GaussianBlur,
    MixUp,
    Normalize,
    Pad,
    RandAugment,
    RandomAdjustSharpness,
    RandomAffine,
    RandomApply,
    RandomAutocontrast,
    RandomChoice,
    RandomCrop,
    RandomEqualize,
    RandomErasing,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomInvert,
    RandomOrder,
    RandomPerspective,
    RandomPosterize,
    RandomResizedCrop,
    RandomRotation,
    RandomSolarize,
    RandomVerticalFlip,
    Resize,
    Stage,
    ToDtype,
    TrivialAugmentWide,
)
from greenload.stages import primitives as p

Pixels = np.ndarray[Any, Any]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = ((1, 1), (1, 40), (40, 1), (2, 2), (7, 5), (33, 57), (64, 48), (101, 203), (240, 320))
"""Heights and widths: sides of one pixel, odd and even, below and above what stages ask for."""
IMAGES = 5
"""Images in a case."""


@dataclass(frozen=True)
class Case:
    """Stages on pixels of one size and dtype."""

    height: int
    width: int
    dtype: str
    stages: tuple[Stage, ...]
    kind: str
    """``"noise"``, ``"photo"`` or ``"steps"`` (hard edges)."""

    def __str__(self) -> str:
        return f"{self.kind} {self.dtype} {self.height}x{self.width} {' '.join(map(str, self.stages))}"


@functools.cache
def pixels(height: int, width: int, kind: str, seed: int = 0) -> Pixels:
    """An image, uint8 ``[height, width, 3]``; made once, so it can't be written to."""
    image = _pixels(height, width, kind, seed)
    image.flags.writeable = False
    return image


def _pixels(height: int, width: int, kind: str, seed: int) -> Pixels:
    random = np.random.default_rng(seed)
    if kind == "noise":
        return random.integers(0, 256, (height, width, 3), np.uint8)
    rows, columns = np.mgrid[:height, :width]
    if kind == "steps":
        return np.repeat((((rows // 3 + columns // 5 + seed) % 2) * 255)[..., None], 3, -1).astype(np.uint8)
    waves = np.stack([127 + 100 * np.sin(columns / 9 + k + seed) * np.cos(rows / 11 - k) for k in range(3)], -1)
    return np.clip(waves + random.normal(0, 8, waves.shape), 0, 255).astype(np.uint8)


GEOMETRY: tuple[tuple[Stage, ...], ...] = (
    (Resize((24, 24)),),
    (Resize((24, 24), antialias=False),),
    (Resize((77, 13)),),
    (Resize((77, 13), antialias=False),),
    (Resize((1, 1)),),
    (Resize((130, 260)),),
    (Resize((130, 260), antialias=False),),
    (Resize(31),),
    (CenterCrop(24),),
    (CenterCrop((300, 9)),),
    (RandomHorizontalFlip(),),
    (RandomResizedCrop(24),),
    (RandomResizedCrop((9, 50), scale=(0.02, 0.5), antialias=False),),
)
MOVES: tuple[tuple[Stage, ...], ...] = (
    (RandomVerticalFlip(),),
    (RandomCrop((64, 50), pad_if_needed=True, fill=9),),
    (RandomCrop((20, 30), padding=(3, 19, 7, 2), pad_if_needed=True),),
    (Pad((1, 2, 3, 0), fill=200),),
    (RandomErasing(0.9, value=(1, 0, 1)),),
    (RandomErasing(1.0, scale=(0.0, 1.0), ratio=(0.05, 9.0), value=0.0),),
)
"""Pixels to other places, bit for bit."""
FILTERS: tuple[tuple[Stage, ...], ...] = (
    (RandomRotation(180, fill=1),),
    (RandomRotation((45, 45)),),
    (RandomAffine(30, (0.2, 0.3), (0.5, 2.0), (-20, 20, -10, 10)),),
    (RandomAffine(0, scale=(2.0, 2.0)),),
    (RandomPerspective(p=0.8, fill=1),),
    (RandomPerspective(1.0, p=1.0),),
    (ColorJitter(0.4, 0.4, 0.4, 0.2),),
    (ColorJitter(contrast=(0.5, 0.5)),),
    (RandomGrayscale(0.5),),
    (GaussianBlur(5),),
    (GaussianBlur((23, 9), sigma=(0.1, 5.0)),),
)
"""New values from colours or neighbourhoods."""
LEVEL_MAPS: tuple[tuple[Stage, ...], ...] = (
    (RandomPosterize(3, 0.6), RandomSolarize(40, 0.5)),
    (RandomAutocontrast(0.7),),
    (RandomPosterize(2, 1.0), RandomAutocontrast(1.0)),
    (Batch(IMAGES), RandomAutocontrast(0.5), RandomPosterize(5)),
    (RandomEqualize(0.7), RandomHorizontalFlip()),
    (Batch(IMAGES), RandomEqualize(0.5), RandomInvert()),
    (RandomChoice([RandomPosterize(4, 1.0), RandomAutocontrast(1.0), RandomInvert(1.0)]),),
    (RandomApply(RandomEqualize(1.0)), RandomOrder([RandomAutocontrast(), RandomSolarize(99), RandomEqualize()])),
    (Batch(IMAGES), RandomChoice([RandomAutocontrast(1.0), RandomEqualize(1.0)])),
)
"""uint8's levels to others, bit for bit."""
BRIGHTNESS = Driven(p.Brightness(), (0.0, 0.1, 0.5, 0.73, 1.0, 1.27, 1.9, 700.0))
CONTRAST = Driven(p.Contrast(), (0.0, 0.1, 0.5, 0.73, 1.0, 1.27, 1.9, 700.0))
POSTERIZE = Driven(p.Posterize(), tuple(range(1, 9)))
SOLARIZE = Driven(p.Solarize(), (0.0, 0.5, 77.0, 128.0, 254.3, 255.0, 255.5, 256.0))
SHARPEN = Driven(p.Sharpen(), (0.0, 0.1, 0.5, 0.73, 1.0, 1.27, 1.9, 700.0))
DRIVEN: tuple[tuple[Stage, ...], ...] = (
    (BRIGHTNESS,),
    (CONTRAST,),
    (POSTERIZE,),
    (SOLARIZE,),
    (SHARPEN,),
    (RandomAdjustSharpness(2, 0.7), RandomHorizontalFlip()),
    (RandomCrop((30, 20), pad_if_needed=True), RandomAdjustSharpness(2, 0.5), RandomPerspective(p=0.9, fill=7)),
    (Batch(IMAGES), BRIGHTNESS, CONTRAST, POSTERIZE, SOLARIZE, SHARPEN),
    (RandomChoice([BRIGHTNESS, CONTRAST, POSTERIZE, SOLARIZE, SHARPEN, RandomAdjustSharpness(0.5)]), CONTRAST),
    (Batch(IMAGES), RandomChoice([BRIGHTNESS, CONTRAST, POSTERIZE, SOLARIZE, SHARPEN]), RandomAdjustSharpness(3)),
)
"""Each image by a number of its own, as in policies."""
_MAPS = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_LEVELS = ("Brightness", "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Invert")
POLICIES: tuple[tuple[Stage, ...], ...] = (
    (RandAugment(1, 22),),
    (RandAugment(2, 17, fill=9, only=_MAPS),),
    (RandAugment(3, 30, only=_MAPS, fuse_affine=True),),
    (RandAugment(3, 26, only=_LEVELS),),
    (RandAugment(3, 26, only=(*_LEVELS, "Equalize", "Identity")),),
    (TrivialAugmentWide(), RandomHorizontalFlip()),
    (TrivialAugmentWide(only=(*_MAPS, *_LEVELS, "Color")),),
    (AugMix(10, chain_depth=1),),
    (AugMix(6, 5, 1, 0.3, all_ops=False, fill=9),),
    (RandomHorizontalFlip(), RandomApply(AugMix(chain_depth=1)), RandomInvert()),
    (AugMix(10, 1, 1), AugMix(10, 2, 1)),
)
"""Operations drawn for each image; one after another only where none enlarges what another left."""
SMALL = ("int8", "float16", "bfloat16")
DTYPES: tuple[tuple[Stage, ...], ...] = (
    (ToDtype("int8", scale=True),),
    (ToDtype("int8"),),
    (ToDtype("float16", scale=True),),
    (ToDtype("bfloat16", scale=True),),
    (ToDtype("float16", scale=True), Normalize(MEAN, STD)),
    (ToDtype("float32", scale=True), Normalize(MEAN, STD), ToDtype("bfloat16")),
    (ToDtype("float16", scale=True), ToDtype("uint8", scale=True)),
    *(
        (
            ToDtype(dtype, scale=True),
            RandomCrop(20, padding=3, pad_if_needed=True, fill=1),
            RandomHorizontalFlip(),
            RandomVerticalFlip(),
            RandomErasing(0.7),
            Pad(2),
        )
        for dtype in SMALL
    ),
    *(
        (ToDtype(dtype, scale=True), RandomCrop(20, padding=3, pad_if_needed=True), RandomErasing(0.7), Pad(2, fill=1))
        for dtype in SMALL[1:]
    ),
)
CONVERSIONS: tuple[tuple[Stage, ...], ...] = (
    *(
        (ToDtype(before, scale=True), ToDtype(after, scale=True))
        for before in SMALL
        for after in KINDS_OF_NUMBERS
        if after != before
    ),
    *((ToDtype(dtype, scale=True), Normalize(MEAN, STD)) for dtype in SMALL[1:]),
    *((RandomHorizontalFlip(), ToDtype(dtype, scale=True)) for dtype in KINDS_OF_NUMBERS),
    *(
        (ToDtype("int8", scale=True), RandomHorizontalFlip(), ToDtype(dtype, scale=True))
        for dtype in KINDS_OF_NUMBERS
        if dtype != "int8"
    ),
    (ToDtype("float32", scale=True), RandomHorizontalFlip(), Normalize(MEAN, STD)),
)
"""Every dtype to every other; right behind a flip DALI has one operator for both."""


CHOICES: tuple[tuple[Stage, ...], ...] = (
    (RandomApply([ColorJitter(0.4, 0.4, 0.4, 0.2), RandomHorizontalFlip(1.0)], 0.5),),
    (RandomChoice([RandomVerticalFlip(1.0), RandomErasing(1.0, value=(1, 0, 1)), RandomGrayscale(1.0)], [1, 2, 1]),),
    (RandomOrder([ColorJitter(0.2, 0.2), RandomErasing(0.9, value=1), RandomHorizontalFlip()]),),
    (RandomApply(GaussianBlur(5), 0.6), RandomChoice([RandomRotation(30), GaussianBlur((9, 3))])),
    (RandomChoice([RandomOrder([RandomVerticalFlip(), RandomApply(RandomErasing(1.0))]), RandomGrayscale(1.0)]),),
    (ToDtype("uint8", True), RandomApply([ToDtype("float32"), Normalize((2,), (3,)), ToDtype("uint8")], 0.5)),
    (
        Batch(IMAGES),
        RandomApply(ColorJitter(0.2, 0.2), 0.5),
        RandomOrder([RandomGrayscale(0.5), RandomErasing(0.9, value=1), ColorJitter(hue=0.1)]),
        RandomChoice([RandomErasing(1.0), RandomGrayscale(1.0)]),
    ),
    *(
        (ToDtype(dtype, scale=True), *batch, RandomChoice([RandomErasing(1.0, value=1), RandomErasing(1.0)]))
        for dtype in SMALL
        for batch in ((), (Batch(IMAGES),))
    ),
)
"""Some images through one stage, others through another."""
MIXES: tuple[tuple[Stage, ...], ...] = (
    *(
        (*dtype, *batch, stage)
        for dtype in ((), *((ToDtype(dtype, scale=True),) for dtype in SMALL))
        for batch, stage in (
            ((Batch(IMAGES),), MixUp(num_classes=IMAGES)),
            ((RandomHorizontalFlip(), Batch(IMAGES)), CutMix(0.5, num_classes=IMAGES)),
        )
    ),
    (
        RandomVerticalFlip(),
        Batch(IMAGES),
        RandomChoice([CutMix(num_classes=IMAGES), MixUp(0.2, num_classes=IMAGES)], [2, 1]),
        CutMix(),
        MixUp(),
        RandomErasing(0.7),
        ToDtype("float32", scale=True),
        MixUp(),
        Normalize(MEAN, STD),
    ),
)
"""Images of a batch mixed with each other."""
RESIZED: tuple[tuple[Stage, ...], ...] = (
    (Resize((30, 20)), RandomChoice([RandomResizedCrop((30, 20)), RandomCrop((30, 20), 3, fill=1), Resize((30, 20))])),
    (Resize((30, 20)), RandomApply([Pad((1, 2), fill=3), CenterCrop((30, 20))], 0.5)),
)
"""The same, of images that all have one size."""


def upside_down(image: Any) -> Any:
    """A user's function, in NumPy and in TensorFlow."""
    return image[::-1]


CALLS: tuple[tuple[Stage, ...], ...] = (
    (Apply(upside_down),),
    *((ToDtype(dtype, scale=True), Apply(upside_down)) for dtype in SMALL),
)
"""Users' functions."""
VALUES: tuple[tuple[Stage, ...], ...] = (
    (ToDtype("float32"),),
    (ToDtype("float32", scale=True),),
    (ToDtype("uint8", scale=True),),
    (ToDtype("uint8"),),
    (ToDtype("float32", scale=True), Normalize(MEAN, STD)),
    (ToDtype("float32"), Normalize((120.0,), (60.0,))),
    (ToDtype("float32", scale=True), Normalize(MEAN, STD), Normalize((0.1,), (3.0,))),
)
WHOLE: tuple[tuple[Stage, ...], ...] = (
    (RandomResizedCrop(24), RandomHorizontalFlip(), ToDtype("float32", scale=True), Normalize(MEAN, STD)),
    (
        RandomResizedCrop(24),
        RandomHorizontalFlip(),
        Batch(IMAGES),
        ToDtype("float32", scale=True),
        Normalize(MEAN, STD),
    ),
    (Resize(40), CenterCrop(32), RandomHorizontalFlip(), ToDtype("float32", scale=True)),
    (CenterCrop((50, 70)), Resize((20, 20)), RandomHorizontalFlip(1.0), RandomHorizontalFlip(0.5)),
    (RandomHorizontalFlip(), RandomResizedCrop(16), CenterCrop(20), RandomResizedCrop(8, antialias=False)),
    (Resize((20, 20)), RandomHorizontalFlip(), Batch(IMAGES), ToDtype("float32"), ToDtype("uint8", scale=False)),
    (
        RandomCrop(24, padding=4),
        RandomVerticalFlip(),
        RandomErasing(0.7, value=128),
        ToDtype("float32", scale=True),
        Normalize(MEAN, STD),
    ),
    (Resize((30, 30)), ColorJitter(0.2, 0.2, 0.2, 0.1), RandomGrayscale(0.5), Batch(IMAGES), ToDtype("float32", True)),
    (Resize((30, 30)), RandomRotation(30), Pad(3, fill=7), GaussianBlur(5), RandomHorizontalFlip(), RandomCrop(20)),
    (CenterCrop(28), Batch(IMAGES), ColorJitter(0.2, 0.2, 0.2), RandomGrayscale(0.5), RandomErasing(0.7)),
    (
        CenterCrop(28),
        ToDtype("float32", scale=True),
        Batch(IMAGES),
        RandomGrayscale(0.5),
        Normalize(MEAN, STD),
        RandomErasing(0.7),
        ToDtype("float16"),
    ),
    (RandomSolarize(100.5, 0.6), RandomInvert(0.4), RandomHorizontalFlip()),
    (CenterCrop(28), Batch(IMAGES), RandomSolarize(0, 0.5), RandomInvert(0.6), RandomSolarize(255, 1.0)),
    (Resize((30, 30)), RandomInvert(0.6), ToDtype("float32", scale=True)),
)
"""Several stages one after another, as pipelines have them."""
GAIN = 2.0
"""The largest factor by which a colour matrix of the cases of several stages enlarges a difference."""
FEW = ((1, 1), (1, 40), (40, 1), (2, 2), (33, 57), (101, 203))
"""The sizes for stages that don't change one."""
FEWEST = ((1, 1), (33, 57))
"""The sizes for what looks at no neighbour and no place."""
FILES: tuple[tuple[Stage, ...], ...] = ((Resize((20, 24)),), (CenterCrop((11, 8)),))
"""What follows ``Decode``: a full decode, and one of a window."""


@functools.cache
def cases() -> tuple[Case, ...]:
    """What every backend has to get right."""
    found = []
    for place, stages in enumerate((*GEOMETRY, *VALUES, *MOVES, *FILTERS, *DTYPES)):
        for turn, (height, width) in enumerate(SIZES if stages in (*GEOMETRY, *VALUES) else FEW):
            kind = ("noise", "photo", "steps")[(place + turn) % 3]
            found += [Case(height, width, dtype, stages, kind) for dtype in ("uint8", "float32")]
    for place, stages in enumerate((*LEVEL_MAPS, *DRIVEN, *POLICIES)):
        kinds = (("noise", "photo", "steps")[(place + turn) % 3] for turn in range(len(FEW)))
        found += [Case(*size, "uint8", stages, kind) for size, kind in zip(FEW, kinds, strict=True)]
    for stages in (*CHOICES, *MIXES, *CONVERSIONS, *CALLS):
        found += [Case(*size, dtype, stages, "noise") for size in FEWEST for dtype in ("uint8", "float32")]
    for stages in (*WHOLE, *RESIZED):
        found += [Case(height, width, "uint8", stages, "photo") for height, width in ((33, 57), (101, 203), (240, 320))]
    return tuple(case for case in found if _fits(case))


def _fits(case: Case) -> bool:
    """Whether the images that a case makes are of a size that a test can afford."""
    resize = case.stages[0]
    longest = max(case.height, case.width) / min(case.height, case.width)
    return not (isinstance(resize, Resize) and isinstance(resize.size, int) and longest > 8)


def images_of(case: Case) -> Pixels:
    """A case's images; floats lie in 0 … 1, not on uint8's levels."""
    whole = np.stack([pixels(case.height, case.width, case.kind, seed) for seed in range(IMAGES)])
    if case.dtype == "uint8":
        return whole
    return (whole / 255.0 * 0.987).astype(np.float32)


def pipeline_of(source: Source, stages: Sequence[Stage], seed: int = 7) -> Pipeline:
    """A pipeline of stages, batched at its end if it isn't."""
    batched = () if any(isinstance(stage, Batch) for stage in stages) else (Batch(len(source)),)
    return Pipeline(source, *stages, *batched, seed=seed)


def records_of(pipeline: Pipeline, images: Sequence[Any], epoch: int = 0) -> Records:
    """Records with the numbers that an epoch draws for them."""
    index = np.arange(len(images))
    return Records(
        list(images), DrawLayout.of(pipeline).prepare(pipeline.seed, epoch, index), [f"images[{i}]" for i in index]
    )


def outline(case: Case) -> Pipeline:
    """A case's pipeline over images that are all black: to be planned."""
    return pipeline_of(Arrays(np.zeros((IMAGES, case.height, case.width, 3), case.dtype)), case.stages)


def reference(pipeline: Pipeline, images: Sequence[Pixels], numbers: Pixels) -> Pixels:
    """Decoded images through every stage's float64 reference, stacked. Floats stand for float32 images."""
    layout = DrawLayout.of(pipeline)
    current: list[Any] = [image if image.dtype == np.uint8 else image.astype(np.float64) for image in images]
    for place, stage in enumerate(pipeline.stages):
        share = layout.of_stage(numbers, place)
        sides = np.array([image.shape[:2] for image in current]).T
        if stage.mixes:
            current = list(stage.reference(np.stack(current), stage.params(share, *sides)))
            continue
        for row, image in enumerate(current):
            params = stage.params(share[row : row + 1], *sides[:, row : row + 1])
            current[row] = stage.reference(image, {name: values[0] for name, values in params.items()})
    return np.stack(current)


@dataclass(frozen=True)
class Difference:
    """How far a result lies from the reference, in the tolerance's terms."""

    max: float
    mean: float
    rim: float

    @classmethod
    def of(cls, result: Pixels, expected: Pixels) -> Difference:
        """Inside the outermost pixel, and on it."""
        assert result.shape == expected.shape, (result.shape, expected.shape)
        gap = np.abs(result.astype(np.float64) - expected.astype(np.float64))
        inner = gap[:, 1:-1, 1:-1]
        return cls(float(inner.max(initial=0.0)), float(inner.mean()) if inner.size else 0.0, float(gap.max()))

    def within(self, tolerance: Tolerance) -> bool:
        """Whether a tolerance holds."""
        rim = tolerance.max if tolerance.rim is None else tolerance.rim
        return self.max <= tolerance.max and self.mean <= tolerance.mean and self.rim <= rim

    def share_of(self, tolerance: Tolerance) -> dict[str, float]:
        """How much of each figure of a tolerance is used, from 0 to 1."""
        rim = tolerance.max if tolerance.rim is None else tolerance.rim
        pairs = {"max": (self.max, tolerance.max), "mean": (self.mean, tolerance.mean), "rim": (self.rim, rim)}
        return {name: used / stated if stated else float(used > 0) for name, (used, stated) in pairs.items()}


def held(plan: Plan) -> Tolerance:
    """What a plan's backend states for its steps one after another: errors add up, later steps enlarge them.

    Where a step moves pixels inwards, what is stated for the rim counts everywhere.
    """
    so_far = (0.0, 0.0, 0.0)
    for step in plan.steps:
        if step.primitive is not None:
            so_far = _behind(so_far, step.backend, step.primitive, step.spec_in)
    return Tolerance(*so_far)


Errors = tuple[float, float, float]
"""The largest, the mean, and the largest on the rim."""


def _behind(so_far: Errors, backend: str, primitive: p.Primitive, spec: ImageSpec) -> Errors:
    """Errors after a primitive, of images that had some before."""
    if isinstance(primitive, p.Choice):
        ends = [so_far]
        weighed = isinstance(primitive, p.WeightedSum)
        for parts in primitive.alternatives:
            own = ends[-1] if primitive.turns > 1 and not weighed else so_far
            for part in parts:
                own = _behind(own, backend, part.primitive, part.spec_in)
            ends.append(own)
        worst, mean, rim = map(max, *ends)
        # Rounding may carry any term's difference into the sum.
        return worst, sum(mean for _, mean, _ in ends) if weighed else mean, rim
    worst, mean, rim = so_far
    own = TABLES[backend].tolerance(primitive, spec)
    assert own is not None, f"{backend} doesn't support {primitive} on {spec}"
    if isinstance(primitive, p.Affine):
        gain = max(map(abs, primitive.scale))
        cut = float(primitive.dtype == "uint8" and worst > 0)
        worst, mean, rim = worst * gain + cut, mean * gain + cut, rim * gain + cut
    elif rim > worst and not isinstance(primitive, p.Flip):
        worst = mean = rim
    if isinstance(primitive, p.Color):  # what the strongest of the matrices in these cases enlarges
        worst, mean, rim = worst * GAIN, mean * GAIN, rim * GAIN
    elif isinstance(primitive, p.Erase) and worst:  # leaves the mean of what remains, which may be little
        mean = max(mean, worst)
    return worst + own.max, mean + own.mean, rim + (own.max if own.rim is None else own.rim)


def run(backend: str, pipeline: Pipeline, records: Records, threads: int = 2) -> Pixels:
    """A batch through a backend."""
    found: Pixels = run_plan(make_plan(pipeline, backend, threads=threads), records)
    return found


def taken(backend: str, case: Case) -> bool:
    """Whether a backend takes a case on; one that doesn't says so by name, and which other does."""
    try:
        make_plan(outline(case), backend)
    except PipelineError as error:
        assert f"can't run on backend {backend!r}" in str(error)
        able = re.search(r"use backend='([\w-]+)'(, or leave out .+ by only=\[…\])?$", str(error))
        assert able, error
        assert able[1] in set(TABLES) - {backend}
        return False
    return True


Work = tuple[type[p.Primitive], str, str]
"""A primitive, the dtype that enters and, where it changes it, the one that leaves."""


def supported(backend: str) -> set[Work]:
    """All that a backend's table has. A conversion of integers to themselves is no work of any stage."""
    found: set[Work] = set()
    for kind, row in TABLES[backend].rows.items():
        if kind is p.Primitive:  # a user's own, of which nothing is held
            continue
        for dtype in row.dtypes:
            to = row.to if issubclass(kind, p.Affine) else ("",)
            found |= {(kind, dtype, after) for after in to if not (dtype == after and dtype in ("uint8", "int8"))}
    return found


def exercised(backend: str) -> set[Work]:
    """All that the cases, and files behind which ``FILES`` stand, make a backend do."""
    kinds = {(case.stages, case.dtype): case for case in cases()}
    plans = [decoding([b""], stages)[0] for stages in FILES]
    plans += [outline(case) for case in kinds.values() if taken(backend, case)]
    return {
        (type(step.primitive), step.spec_in.dtype, getattr(step.primitive, "dtype", ""))
        for pipeline in plans
        for step in make_plan(pipeline, backend).steps
        if step.primitive is not None
    }


@functools.cache
def difference(backend: str, case: Case) -> tuple[Difference, Tolerance]:
    """How far a backend lies from the reference on a case, and how far it may."""
    images = images_of(case)
    pipeline = pipeline_of(Arrays(images), case.stages)
    records = records_of(pipeline, images)
    plan = make_plan(pipeline, backend, threads=2)
    result = run(backend, pipeline, records)
    spec: ImageSpec = plan.out_spec
    assert str(result.dtype) == spec.dtype
    assert all(stated is None or stated == n for stated, n in zip(spec.shape, result.shape, strict=True))
    return Difference.of(result, reference(pipeline, images, records.numbers)), held(plan)


def check(backend: str, case: Case) -> dict[str, float]:
    """Assert that a backend keeps its stated tolerance on a case; returns the share of it that was used."""
    found, stated = difference(backend, case)
    assert found.within(stated), f"{case}: {found} is beyond {stated}"
    return found.share_of(stated)


def decoding(encoded: Sequence[bytes], stages: Sequence[Stage] = ()) -> tuple[Pipeline, Records]:
    """A pipeline that decodes files of one size, and their records."""
    pipeline = pipeline_of(Files([f"{i}.jpg" for i in range(len(encoded))]), (Decode(), *stages))
    return pipeline, records_of(pipeline, encoded)
