"""Every backend against the float64 references and against each other: the suite of tests/support/conformance.py."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import conformance as suite
import numpy as np
import pytest
from conformance import Case
from hypothesis import given, settings
from hypothesis import strategies as st

from greenload.backends import registry
from greenload.backends.base import EXACT, Tolerance
from greenload.backends.chain import run_plan
from greenload.backends.tables import TABLES
from greenload.errors import PipelineError, RecordError
from greenload.planning.choose import make_plan
from greenload.sources import Arrays
from greenload.specs import DTYPES, ENCODED_SPEC, ImageSpec
from greenload.stages import (
    Batch,
    CenterCrop,
    ColorJitter,
    Normalize,
    RandomCrop,
    RandomErasing,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Stage,
    ToDtype,
)
from greenload.stages import primitives as p
from greenload.stages.reference import resize_weights, warp

BACKENDS = ("tf", "dali-cpu", "pillow", "native")
OF_PNG = tuple(name for name in BACKENDS if "PNG" in TABLES[name].kinds)
STAGES = (
    *suite.VALUES,
    *suite.CALLS[:1],
    *suite.CHOICES,
    *suite.WHOLE[:2],
    *(
        pytest.param(stages, marks=pytest.mark.slow)
        for stages in (
            *suite.RESIZED,
            *suite.WHOLE[2:],
            *suite.GEOMETRY,
            *suite.MOVES,
            *suite.FILTERS,
            *suite.LEVEL_MAPS,
            *suite.DRIVEN,
            *suite.POLICIES,
            *suite.DTYPES,
            *suite.CONVERSIONS,
            *suite.MIXES,
            *suite.CALLS[1:],
        )
    ),
)


LEVELS = ImageSpec((4, 4, 3), "uint8", "HWC")
PRIMITIVES = (
    p.Decode(),
    p.DecodeCrop(),
    p.Crop(),
    p.Pad(3, 3),
    p.Resize(True),
    p.Flip(),
    p.Flip(vertical=True),
    p.Warp(),
    p.Perspective(),
    p.Color(),
    p.Blur(3, 3),
    p.Erase((0.0,)),
    p.Mix(),
    p.Call(abs),
    p.LookUp(bytes(256)),
    p.Autocontrast(),
    p.Equalize(),
    p.Brightness(),
    p.Contrast(),
    p.Posterize(),
    p.Solarize(),
    p.Sharpen(),
    *(p.Affine((1.0,), (0.0,), dtype) for dtype in DTYPES),
    p.FlipAffine((1.0,), (0.0,), "float32"),
    p.Choice(((p.Part(0, p.Crop(), LEVELS, LEVELS), p.Part(0, p.Pad(4, 4), LEVELS, LEVELS)),), (0.5,)),
    p.WeightedSum(((p.Part(0, p.Crop(), LEVELS, LEVELS),), (p.Part(1, p.Warp(), LEVELS, LEVELS),)), (1.0, 1.0), 2),
    p.Primitive(),
)


def usable(name: str) -> None:
    found = registry.get(name).availability()
    if not found.usable:
        pytest.skip(f"{name}: {found.detail}; {found.remedy}")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    usable(request.param)
    return str(request.param)


@pytest.mark.parametrize("stages", STAGES, ids=lambda stages: " ".join(map(str, stages))[:70])
def test_the_reference_is_kept(backend: str, stages: tuple[Stage, ...]) -> None:
    for case in suite.cases():
        if case.stages == stages and suite.taken(backend, case):
            suite.check(backend, case)


@pytest.mark.slow
def test_every_claim_is_put_to_the_test() -> None:
    # Plans are made without a framework, so that a GPU's table is looked at as well.
    for name in TABLES:
        assert suite.supported(name) - suite.exercised(name) == set(), name


TIES = Case(44, 1, "uint8", (Resize((17, 11), antialias=False),), "steps")
"""Few different values, many of them near a rounding boundary."""


def used(backend: str, kind: type[p.Primitive]) -> dict[str, float]:
    """The largest share of each figure of the tolerance for a primitive that any case uses."""
    largest: dict[str, float] = {}
    for case in (*suite.cases(), TIES):
        if case.stages not in (*suite.GEOMETRY, *suite.VALUES, TIES.stages) or not suite.taken(backend, case):
            continue
        plan = make_plan(suite.outline(case), backend)
        if not any(isinstance(step.primitive, kind) for step in plan.steps):
            continue
        for name, share in suite.check(backend, case).items():
            largest[name] = max(largest.get(name, 0.0), share)
    return largest


@pytest.mark.slow
def test_half_of_what_is_stated_for_resizing_would_not_be_kept(backend: str) -> None:
    shares = used(backend, p.Resize)
    assert min(shares.values()) > 0.5, shares


@pytest.mark.slow
def test_a_rounded_value_is_one_of_the_two_nearest(backend: str) -> None:
    # Stricter than the tolerance's 1 level: only values that lie on a rounding boundary may go either way.
    for case in suite.cases():
        if case.dtype != "uint8" or len(case.stages) != 1 or not isinstance(case.stages[0], Resize):
            continue
        if not suite.taken(backend, case):
            continue
        images = suite.images_of(case)
        pipeline = suite.pipeline_of(Arrays(images), case.stages)
        result = suite.run(backend, pipeline, suite.records_of(pipeline, images))
        rows = resize_weights(case.height, result.shape[1], case.stages[0].antialias)
        columns = resize_weights(case.width, result.shape[2], case.stages[0].antialias)
        exact = np.einsum("yh,nhwc,xw->nyxc", rows, images.astype(np.float64), columns, optimize=True)
        gap = np.abs(result - exact)[:, 1:-1, 1:-1]
        passes = 2 if backend == "pillow" else 1  # Pillow rounds after each axis
        slack = 0.02 if backend == "native" else 0.01  # whose weights have 14 bits
        assert gap.max(initial=0.0) <= 0.5 * passes + slack, case


SIDE = st.integers(1, 70)


@pytest.mark.slow
@given(
    height=SIDE,
    width=SIDE,
    rows=SIDE,
    columns=SIDE,
    antialias=st.booleans(),
    dtype=st.sampled_from(["uint8", "float32"]),
    kind=st.sampled_from(["noise", "photo", "steps"]),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_size_to_any_size(
    height: int, width: int, rows: int, columns: int, antialias: bool, dtype: str, kind: str
) -> None:
    check_all(Case(height, width, dtype, (Resize((rows, columns), antialias),), kind))


@pytest.mark.slow
@given(
    mean=st.tuples(*[st.floats(-3, 3)] * 3),
    std=st.tuples(*[st.floats(0.01, 100)] * 3),
    scale=st.booleans(),
    dtype=st.sampled_from(["uint8", "float32"]),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_any_numbers_to_normalize_with(
    mean: tuple[float, ...], std: tuple[float, ...], scale: bool, dtype: str
) -> None:
    check_all(Case(9, 13, dtype, (ToDtype("float32", scale), Normalize(mean, std)), "noise"))


def check_all(case: Case) -> None:
    """A case on every backend that takes it."""
    for name in BACKENDS:
        if registry.get(name).availability().usable and suite.taken(name, case):
            suite.check(name, case)


def test_floats_are_cut_to_levels_not_rounded(backend: str) -> None:
    levels = np.linspace(-0.5, 1.5, 100 * 100 * 3, dtype=np.float32).reshape(1, 100, 100, 3)
    for images, stage in ((levels, ToDtype("uint8", scale=True)), (levels * 200, ToDtype("uint8"))):
        pipeline = suite.pipeline_of(Arrays(images), (stage,))
        records = suite.records_of(pipeline, images)
        result = suite.run(backend, pipeline, records)
        found = suite.Difference.of(result, suite.reference(pipeline, images, records.numbers))
        assert found.within(suite.held(make_plan(pipeline, backend)))
        assert result.min() == 0
        assert result.max() == 255


def test_every_level_survives_the_way_to_float_and_back(backend: str) -> None:
    images = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    for scale in (True, False):
        pipeline = suite.pipeline_of(Arrays(images), (ToDtype("float32", scale), Batch(1), ToDtype("uint8", scale)))
        assert (suite.run(backend, pipeline, suite.records_of(pipeline, images)) == images).all()


def test_one_and_four_channels(backend: str) -> None:
    for channels in (1, 4):
        images = np.random.default_rng(0).integers(0, 256, (2, 30, 40, channels), np.uint8)
        stages = (RandomHorizontalFlip(), CenterCrop(20), ToDtype("float32", scale=True), Normalize((0.5,), (0.2,)))
        pipeline = suite.pipeline_of(Arrays(images), stages)
        records = suite.records_of(pipeline, images)
        found = suite.Difference.of(
            suite.run(backend, pipeline, records), suite.reference(pipeline, images, records.numbers)
        )
        assert found.within(suite.held(make_plan(pipeline, backend)))


@pytest.mark.slow
def test_a_large_enlarged_image_is_warped_to_tolerance() -> None:
    # Positions have the fewest bits left there.
    spec = ImageSpec((900, 900, 1), "float32", "HWC")
    image = np.random.default_rng(0).random((900, 900, 1), np.float32)
    turn = np.array([[0.1, 0.02, 700.0], [-0.02, 0.1, 800.0]])
    lower = TABLES["tf"].rows[p.Warp].lowering(p.Warp(), spec, spec)
    found = np.asarray(lower(image, {"matrix": turn})[0])
    stated = TABLES["tf"].tolerance(p.Warp(), spec)
    assert stated is not None
    gap = np.abs(found - warp(image.astype(np.float64), turn, 0.0))
    assert 0.05 * stated.max < gap.max() < stated.max


def test_a_stages_place_before_or_after_batch_changes_no_pixel(backend: str) -> None:
    images = np.stack([suite.pixels(20, 30, "photo", seed) for seed in range(6)])
    random = (ColorJitter(0.2, 0.2, 0.2, 0.1), RandomGrayscale(0.5), RandomErasing(0.7, value=(1, 2, 3)))
    source = Arrays(images)
    before, after = suite.pipeline_of(source, (*random, Batch(6))), suite.pipeline_of(source, (Batch(6), *random))
    records = suite.records_of(before, images)
    one, other = suite.run(backend, before, records), suite.run(backend, after, suite.records_of(after, images))
    gap = np.abs(one.astype(int) - other)
    assert gap.max() <= 1  # two matrix products, each within float32's rounding
    assert (gap > 0).mean() < 1e-3


def test_an_image_too_small_for_a_random_crop_is_named(backend: str, bad_images: ModuleType) -> None:
    encoded = [bad_images.jpeg(40, 40), bad_images.jpeg(40, 30)]
    pipeline, records = suite.decoding(encoded, (RandomCrop(36, padding=1),))
    with pytest.raises(RecordError, match="at least 36×36 pixels with its padding, but this is smaller") as caught:
        suite.run(backend, pipeline, records)
    assert caught.value.path == "images[1]"
    assert "it is 40×30 there" in caught.value.reason
    pipeline, records = suite.decoding(encoded, (RandomCrop(36, padding=1, pad_if_needed=True),))
    assert suite.run(backend, pipeline, records).shape == (2, 36, 36, 3)


def test_pixels_do_not_depend_on_their_batch_or_the_threads(backend: str) -> None:
    images = np.stack([suite.pixels(50, 60, "photo", seed) for seed in range(6)])
    pipeline = suite.pipeline_of(Arrays(images), (RandomResizedCrop(20), RandomHorizontalFlip(), Batch(6)))
    records = suite.records_of(pipeline, images)
    whole = suite.run(backend, pipeline, records, threads=1)
    assert (suite.run(backend, pipeline, records, threads=4) == whole).all()
    for row in range(6):
        alone = type(records)([images[row]], records.numbers[row : row + 1], ["x"])
        assert (suite.run(backend, pipeline, alone) == whole[row : row + 1]).all()


def test_all_primitives_are_supported_or_refused(backend: str) -> None:
    class Sharpen(p.Primitive):
        pass

    spec = make_plan(suite.pipeline_of(Arrays(np.zeros((1, 2, 2, 3), np.uint8)), ()), "tf").out_spec
    assert TABLES[backend].tolerance(Sharpen(), spec) is None
    assert all(row.primitive is kind for kind, row in TABLES[backend].rows.items())
    for primitive in PRIMITIVES:
        for dtype in ("bytes", *DTYPES):
            given = ENCODED_SPEC if dtype == "bytes" else ImageSpec((4, 4, 3), dtype, "HWC")
            stated = TABLES[backend].tolerance(primitive, given)
            assert (stated is not None) == TABLES[backend].supports(primitive, given), (primitive, dtype)
    for primitive in (p.Crop(), p.Pad(3, 3), p.Flip()):
        assert TABLES[backend].tolerance(primitive, spec) == EXACT
    assert registry.get(backend).name == backend


def test_there_is_no_other_backend() -> None:
    with pytest.raises(PipelineError, match="backend must be one of tf, dali-cpu, dali, pillow, native, not 'torch'"):
        registry.get("torch")


# decoding: bit for bit

JPEGS: dict[str, dict[str, Any]] = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive 4:2:0": {"subsampling": 2, "progressive": True},
    "grey": {"mode": "L"},
    "cmyk": {"mode": "CMYK"},
    "quality 30": {"quality": 30},
    "restart markers": {"restart_marker_rows": 1},
}


def with_pillow(data: bytes) -> np.ndarray[Any, Any]:
    image_module = pytest.importorskip("PIL.Image")
    return np.asarray(image_module.open(io.BytesIO(data)).convert("RGB"))


def decoded(backend: str, encoded: Sequence[bytes], *stages: Stage) -> np.ndarray[Any, Any]:
    pipeline, records = suite.decoding(encoded, stages)
    return suite.run(backend, pipeline, records)


@pytest.mark.slow
@pytest.mark.parametrize("name", JPEGS)
def test_jpegs_decode_to_pillows_bits(backend: str, bad_images: ModuleType, name: str) -> None:
    for height, width in ((1, 1), (7, 9), (16, 16), (33, 57), (64, 49)):
        data = bad_images.jpeg(height, width, **JPEGS[name])
        assert (decoded(backend, [data], CenterCrop((height, width)))[0] == with_pillow(data)).all()


@pytest.mark.parametrize(
    "name", ["grey.jpg", "cmyk.jpg", "progressive.jpg", "exif-rotated.jpg", "one-pixel.jpg", "trailing-garbage.jpg"]
)
def test_unusual_jpegs_decode_to_pillows_bits(backend: str, bad_images: ModuleType, name: str) -> None:
    data = bad_images.build()[name].data
    expected = with_pillow(data)
    assert (decoded(backend, [data], CenterCrop(expected.shape[:2]))[0] == expected).all()


def pngs(bad_images: ModuleType) -> dict[str, bytes]:
    image_module = pytest.importorskip("PIL.Image")
    made = {}
    pixels = bad_images.pixels(31, 45)
    for mode in ("RGB", "L", "RGBA", "LA", "P", "1"):
        file = io.BytesIO()
        image = image_module.fromarray(pixels).convert(mode)
        if mode in ("RGBA", "LA"):
            alpha = image_module.fromarray(np.tile(np.arange(45, dtype=np.uint8) * 5, (31, 1)))
            image.putalpha(alpha)
        image.save(file, "PNG")
        made[mode] = file.getvalue()
    return made


@pytest.mark.parametrize("backend", OF_PNG, indirect=True)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1"])
def test_pngs_decode_to_pillows_bits(backend: str, bad_images: ModuleType, mode: str) -> None:
    data = pngs(bad_images)[mode]
    assert (decoded(backend, [data], CenterCrop((31, 45)))[0] == with_pillow(data)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["4:4:4", "4:2:2", "4:2:0", "progressive 4:2:0", "grey", "cmyk"])
def test_a_crop_inside_decoding_has_a_full_decodes_bits_at_every_edge(
    backend: str, bad_images: ModuleType, name: str
) -> None:
    data = bad_images.jpeg(50, 70, seed=3, **JPEGS[name])
    whole = with_pillow(data)
    # CenterCrop's windows: every parity of start and end, across the blocks of 8 and 16
    for rows, columns in [(n, m) for n in (1, 2, 15, 16, 17, 33, 49, 50) for m in (1, 31, 32, 33, 48, 69, 70)]:
        plan = make_plan(suite.decoding([data], (CenterCrop((rows, columns)),))[0], backend)
        assert isinstance(plan.steps[1].primitive, p.DecodeCrop)
        top, left = round((50 - rows) / 2), round((70 - columns) / 2)
        found = decoded(backend, [data], CenterCrop((rows, columns)))[0]
        assert (found == whole[top : top + rows, left : left + columns]).all(), (rows, columns)


@pytest.mark.slow
def test_random_crops_inside_decoding_are_crops_of_the_full_decode(backend: str, bad_images: ModuleType) -> None:
    options = list(JPEGS.values())
    encoded = [bad_images.jpeg(61, 83, seed=k, **options[k % len(options)]) for k in range(48)]
    stage = RandomResizedCrop(16, scale=(0.01, 1.0), ratio=(0.2, 5.0))
    pipeline, records = suite.decoding(encoded, (stage,))
    assert any(isinstance(step.primitive, p.DecodeCrop) for step in make_plan(pipeline, backend).steps)
    inside = suite.run(backend, pipeline, records)
    # the same windows on decoded pixels, by the same backend: resizing is then the same
    images = np.stack([with_pillow(data) for data in encoded])
    after = suite.pipeline_of(Arrays(images), (stage,))
    other = suite.records_of(after, images)
    assert (other.numbers == records.numbers).all()
    assert (inside == suite.run(backend, after, other)).all()


def test_whole_pipelines_from_files(backend: str, bad_images: ModuleType) -> None:
    encoded = [bad_images.jpeg(40 + 9 * k, 90 - 7 * k, seed=k) for k in range(6)]
    pipeline, records = suite.decoding(
        encoded, (RandomResizedCrop(24), RandomHorizontalFlip(), ToDtype("float32", True), Normalize(*MEANS))
    )
    expected = suite.reference(
        suite.pipeline_of(pipeline.source, pipeline.stages), [with_pillow(data) for data in encoded], records.numbers
    )
    found = suite.Difference.of(suite.run(backend, pipeline, records), expected)
    assert found.within(suite.held(make_plan(pipeline, backend)))


MEANS = (suite.MEAN, suite.STD)
COMBINATIONS = [
    placed
    for placed in itertools.product(BACKENDS, repeat=3)
    if len(set(placed)) > 1 and not (placed[0] != "tf" and placed[1] == "tf")  # sizes differ there: refused
]


@pytest.mark.slow
@pytest.mark.parametrize("placed", COMBINATIONS, ids=" ".join)
def test_decoding_resizing_and_values_on_backends_of_their_own(placed: tuple[str, ...], bad_images: ModuleType) -> None:
    for name in placed:
        usable(name)
    encoded = [bad_images.jpeg(40 + 9 * k, 90 - 7 * k, seed=k) for k in range(4)]
    _, resizer, last = placed
    values = {"ColorJitter": last, "ToDtype + Normalize": last}
    crop, resize = ("Decode + crop", "RandomResizedCrop: resize"), ("Decode", "Resize")
    for stages, names in (
        ((RandomResizedCrop(24), RandomHorizontalFlip(1.0), ColorJitter(0.2)), crop),
        ((Resize((30, 20)), RandomHorizontalFlip(1.0), Batch(4), ColorJitter(0.2)), resize),
    ):
        pipeline, records = suite.decoding(encoded, (*stages, ToDtype("float32", True), Normalize(*MEANS)))
        placement = dict(zip(names, placed, strict=False)) | {"RandomHorizontalFlip": resizer} | values
        plan = make_plan(pipeline, placement, threads=2)
        expected = suite.reference(pipeline, [with_pillow(data) for data in encoded], records.numbers)
        found = suite.Difference.of(run_plan(plan, records), expected)
        assert found.within(suite.held(plan)), f"{plan}\n{found} is beyond {suite.held(plan)}"


@pytest.mark.parametrize(
    "name",
    ["text.jpg", "empty.jpg", "truncated.png"],
)
def test_what_is_not_read_is_refused_by_name(backend: str, bad_images: ModuleType, name: str) -> None:
    data = bad_images.build()[name].data
    pipeline, records = suite.decoding([bad_images.jpeg(), data], (Resize((8, 8)),))
    with pytest.raises(RecordError) as caught:
        suite.run(backend, pipeline, records)
    assert caught.value.path == "images[1]"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", OF_PNG, indirect=True)
def test_a_misnamed_png_is_read_by_its_bytes(backend: str, bad_images: ModuleType) -> None:
    data = bad_images.build()["misnamed-png.jpg"].data
    assert (decoded(backend, [data], CenterCrop(bad_images.SIDE))[0] == with_pillow(data)).all()


def test_a_difference_beyond_any_figure_is_noticed() -> None:
    stated = Tolerance(2.0, 0.5, rim=8.0)
    assert suite.Difference(2.0, 0.5, 8.0).within(stated)
    assert not suite.Difference(2.1, 0.0, 0.0).within(stated)
    assert not suite.Difference(0.0, 0.6, 0.0).within(stated)
    assert not suite.Difference(0.0, 0.0, 8.1).within(stated)
    assert not suite.Difference(0.0, 0.0, 2.1).within(Tolerance(2.0, 0.5))
