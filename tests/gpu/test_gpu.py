"""DALI on a GPU: its stated tolerances, batches of any size, errors that name the record, output on the device.

Runs without TensorFlow. What it measures is printed (``-s``), so that tolerances can be tightened to what was seen.
"""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from dali_cases import SIZES, compare, photo, photos, pipeline_of, png, records_of, reference, runner_of
from subsampled import LUMA, transcoded, unindexed

from greenload.backends.base import Records, Tolerance
from greenload.backends.chain import run_plan
from greenload.backends.dali.backend import DaliBackend
from greenload.backends.native import library
from greenload.errors import RecordError
from greenload.loading.iterate import iterate, native_batches
from greenload.loading.load import resolve_order
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.randomness import permute
from greenload.sources import ImageFolder
from greenload.stages import (
    Batch,
    CenterCrop,
    Decode,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)

GPU = DaliBackend("dali")
pytestmark = pytest.mark.gpu
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(autouse=True, scope="module")
def _gpu() -> None:
    found = GPU.availability()
    if not found.usable:
        pytest.skip(f"{found.detail}; {found.remedy}")


def run(pipeline: Pipeline, records: Records) -> np.ndarray[Any, Any]:
    return run_plan(make_plan(pipeline, "dali", threads=2), records)


def tell(what: str, result: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    difference = np.abs(result.astype(np.float64) - expected.astype(np.float64))
    inside = difference[:, 1:-1, 1:-1]
    print(f"\n{what}: max {difference.max():.4g}, inside {inside.max():.4g}, mean {difference.mean():.4g}")


@pytest.mark.parametrize(
    "stages",
    [
        [CenterCrop(31)],
        [CenterCrop((300, 20))],
        [CenterCrop(64), RandomHorizontalFlip()],
        [Resize((40, 56))],
        [Resize((40, 56), antialias=False)],
        [Resize((224, 224))],
        [RandomResizedCrop(32)],
        [CenterCrop(64), ToDtype("float32", scale=True), Normalize(MEAN, STD)],
        [CenterCrop(64), Batch(len(SIZES)), ToDtype("float32", scale=True), Normalize(MEAN, STD)],
    ],
    ids=lambda stages: " ".join(map(str, stages)),
)
def test_operators_follow_the_reference(stages: list[Stage]) -> None:
    """From PNG, whose decoding is exact everywhere: what is left are the GPU's operators."""
    pipeline, images = pipeline_of(*stages), photos()
    records = records_of(pipeline, [png(image) for image in images])
    result, expected = run(pipeline, records), reference(pipeline, images, records.numbers)
    tell(" ".join(map(str, stages)), result, expected)
    stated = [
        GPU.table.tolerance(step.primitive, step.spec_in)
        for step in make_plan(pipeline, "dali").steps
        if step.primitive is not None and "Decode" not in type(step.primitive).__name__
    ]
    loosest = max((each for each in stated if each), key=lambda each: each.max, default=Tolerance(0.0, 0.0))
    compare(result, expected, loosest)


@pytest.mark.parametrize("options", [{}, {"subsampling": "4:4:4"}, {"progressive": True}, {"mode": "L"}], ids=str)
def test_jpegs_decode_within_the_stated_tolerance(bad_images: ModuleType, options: dict[str, Any]) -> None:
    from PIL import Image

    sizes = (*(size for size in SIZES if min(size) >= 16), (480, 640))
    encoded = [bad_images.jpeg(height, width, seed=i, **options) for i, (height, width) in enumerate(sizes)]
    decoded = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded]
    pipeline = pipeline_of(CenterCrop(200), count=len(sizes))
    records = records_of(pipeline, encoded)
    result, expected = run(pipeline, records), reference(pipeline, decoded, records.numbers)
    tell(f"decode {options}", result, expected)
    (tolerance,) = {GPU.table.tolerance(make_plan(pipeline, "dali").steps[1].primitive, pipeline.specs[0])}  # type: ignore[arg-type]
    assert tolerance is not None
    compare(result, expected, tolerance)


@pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")
@pytest.mark.parametrize("kind", [*LUMA, "grey"])
def test_windows_of_transcoded_files_decode_within_the_stated_tolerance(kind: str) -> None:
    """From the segments that they need, as from the whole file."""
    sizes = ((64, 256), (101, 75), (130, 203), (480, 640))
    files = [transcoded(kind, height, width) for height, width in sizes]
    pipeline = pipeline_of(CenterCrop(40), count=len(files))
    plan = make_plan(pipeline, "dali", threads=2)
    with runner_of(plan, len(files)) as runner:
        given = runner.prepare(records_of(pipeline, files)).records.images
        result: Any = runner.run(records_of(pipeline, files))
        whole: Any = runner.run(records_of(pipeline, list(map(unindexed, files))))
    assert all(len(part) < len(file) for part, file in zip(given, files, strict=True))
    tell(f"cut out {kind}", result, whole)
    tolerance = GPU.table.tolerance(plan.steps[1].primitive, pipeline.specs[0])  # type: ignore[arg-type]
    assert tolerance is not None
    compare(result, whole, tolerance)


@pytest.mark.parametrize("size", [(9, 1), (2, 3)])
def test_jpegs_of_a_few_pixels_decode_coarsely(bad_images: ModuleType, size: tuple[int, int]) -> None:
    """The exception to the stated tolerance: chroma of one or two samples is upsampled differently."""
    from PIL import Image

    data = bad_images.jpeg(*size)
    pipeline = pipeline_of(CenterCrop(size), count=1)
    result = run(pipeline, records_of(pipeline, [data]))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[None]
    compare(result, expected, Tolerance(32.0, 16.0))


def test_batches_of_any_size_give_the_same_pixels() -> None:
    pipeline = pipeline_of(RandomResizedCrop(32), RandomHorizontalFlip(), ToDtype("float32", True))
    records = records_of(pipeline, [png(image) for image in photos()])
    whole = run(pipeline, records)
    with runner_of(make_plan(pipeline, "dali"), 4) as runner:
        parts = [
            runner.run(Records(records.images[at : at + 4], records.numbers[at : at + 4], records.names[at : at + 4]))
            for at in (0, 4, 8)
        ]
    assert (np.concatenate(parts) == whole).all()


@pytest.mark.parametrize("name", ["truncated-half.jpg", "truncated-last-2-bytes.jpg", "truncated.png", "text.jpg"])
def test_a_bad_record_is_named_and_the_next_batch_is_fine(bad_images: ModuleType, name: str) -> None:
    pipeline = pipeline_of(CenterCrop(24))
    good = [bad_images.jpeg(30, 40, seed=i) for i in range(5)]
    with runner_of(make_plan(pipeline, "dali"), 8) as runner:
        expected = runner.run(records_of(pipeline, good))
        with pytest.raises(RecordError, match=r"3\.png"):
            runner.run(records_of(pipeline, [*good[:3], bad_images.build()[name].data, *good[3:]]))
        assert (runner.run(records_of(pipeline, good)) == expected).all()


@pytest.mark.parametrize("hw_decoder_load", [None, 0.0, 1.0])
def test_batches_stay_on_the_device_and_are_what_the_runner_gives(
    tmp_path: Path, bad_images: ModuleType, hw_decoder_load: float | None
) -> None:
    for label in range(2):
        (tmp_path / str(label)).mkdir()
        for i in range(20):
            (tmp_path / str(label) / f"{i:02d}.jpg").write_bytes(bad_images.jpeg(200 + i, 300 - label, seed=i))
    stages = (Shuffle(), Decode(), RandomResizedCrop(64), RandomHorizontalFlip(), Batch(16))
    pipeline = Pipeline(ImageFolder(tmp_path), *stages, seed=5)
    plan = make_plan(pipeline, "dali", threads=2)
    labels, kept = [], []
    order, begin = resolve_order(plan)
    for images, marks in native_batches(plan, order, begin, 2, None, hw_decoder_load):
        assert type(images).__name__ == "TensorListGPU"
        assert images.as_tensor().shape() == [len(marks), 64, 64, 3]
        assert hasattr(images.as_tensor(), "__dlpack__") or hasattr(images.as_tensor(), "__cuda_array_interface__")
        kept.append(images)  # held while later batches run: they must not be written to again
        labels.append(marks)
    assert [len(marks) for marks in labels] == [16, 16, 8] * 2
    got = np.concatenate([images.as_cpu().as_array() for images in kept])
    indices = np.concatenate([permute(np.arange(40), 40, 5, epoch) for epoch in range(2)])
    epochs = np.repeat(np.arange(2), 40)
    source, layout = pipeline.source, DrawLayout.of(pipeline)
    records = Records(
        [source.read(i) for i in indices], layout.prepare(5, epochs, indices), [source.name(i) for i in indices]
    )
    with runner_of(plan, 80, hw_decoder_load=hw_decoder_load) as runner:
        expected = runner.run(records)
    # Which decoder takes an image depends on its batch, and they differ by rounding.
    compare(got, expected, Tolerance(12.0, 1.0))
    assert (np.concatenate(labels) == source.labels[indices]).all()
    copied = iterate(plan, epochs=2, hw_decoder_load=hw_decoder_load)
    compare(np.concatenate([images for images, _ in copied]), got, Tolerance(12.0, 1.0))


def test_pixels_in_memory_are_brought_to_the_device() -> None:
    from greenload.sources import Arrays

    images = np.stack([photo(40, 50, seed) for seed in range(6)])
    pipeline = Pipeline(Arrays(images), CenterCrop(31), RandomHorizontalFlip(1.0), Batch(6))
    numbers = DrawLayout.of(pipeline).prepare(0, 0, np.arange(6))
    expected = reference(pipeline, list(images), numbers)
    assert (run(pipeline, Records(list(images), numbers, list("abcdef"))) == expected).all()


def test_whole_numbers_survive_the_way_back_to_uint8() -> None:
    from greenload.sources import Arrays

    levels = np.arange(32 * 32 * 3, dtype=np.float32).reshape(1, 32, 32, 3) % 300 - 20
    pipeline = Pipeline(Arrays(levels), ToDtype("uint8"), Batch(1))
    result = run(pipeline, Records(list(levels), np.zeros((1, 0)), ["images[0]"]))
    assert (result == np.clip(levels, 0, 255)).all()
