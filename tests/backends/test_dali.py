"""DALI's CPU backend: the float64 references, batches of any size, errors that name the record."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from dali_cases import SIZES, compare, photo, photos, pipeline_of, png, records_of, reference, runner_of

from greenload.backends.base import EXACT, Records, Tolerance
from greenload.backends.chain import run_plan
from greenload.backends.dali.backend import DaliBackend
from greenload.errors import BackendUnavailable, RecordError, UsageError
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.sources import Arrays
from greenload.specs import ENCODED_SPEC, ImageSpec
from greenload.stages import (
    Batch,
    CenterCrop,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Stage,
    ToDtype,
)
from greenload.stages import primitives as p

pytest.importorskip("nvidia.dali")

CPU, GPU = DaliBackend("dali-cpu"), DaliBackend("dali")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UINT8 = ImageSpec((None, None, 3), "uint8", "HWC")
FLOAT = ImageSpec((None, None, 3), "float32", "HWC")


def run(pipeline: Pipeline, records: Records, threads: int = 2) -> np.ndarray[Any, Any]:
    return run_plan(make_plan(pipeline, "dali-cpu", threads=threads), records)


def held(plan: Plan) -> Tolerance:
    """What the backend states for the one step of a plan that isn't exact."""
    stated = [CPU.table.tolerance(s.primitive, s.spec_in) for s in plan.steps if s.primitive is not None]
    assert None not in stated
    loose = [tolerance for tolerance in stated if tolerance != EXACT]
    assert len(loose) <= 1
    return loose[0] or EXACT if loose else EXACT


@pytest.mark.slow
@pytest.mark.parametrize(
    "stages",
    [
        [CenterCrop(31)],
        [CenterCrop((300, 20))],
        [CenterCrop(64), RandomHorizontalFlip()],
        [Resize((40, 56))],
        [Resize((40, 56), antialias=False)],
        [Resize((1, 300), antialias=False)],
        [Resize((224, 224))],
        [RandomResizedCrop(32)],
        [RandomResizedCrop((48, 20), antialias=False)],
        [CenterCrop(64), ToDtype("float32", scale=True), Normalize(MEAN, STD)],
        [CenterCrop(64), ToDtype("float32")],
        [CenterCrop(64), Batch(len(SIZES)), ToDtype("float32", scale=True), Normalize(MEAN, STD)],
    ],
    ids=lambda stages: " ".join(map(str, stages)),
)
def test_follows_the_reference(stages: list[Stage]) -> None:
    pipeline, images = pipeline_of(*stages), photos()
    records = records_of(pipeline, [png(image) for image in images])
    compare(run(pipeline, records), reference(pipeline, images, records.numbers), held(make_plan(pipeline, "dali-cpu")))


def test_resizes_to_sizes_that_differ() -> None:
    pipeline = pipeline_of(Resize(40), CenterCrop(32))
    images = photos(((64, 48), (97, 300), (33, 57), (40, 41)))
    records = records_of(pipeline, [png(image) for image in images])
    expected = reference(pipeline, images, records.numbers).astype(int)
    assert np.abs(run(pipeline, records)[:, 4:-4, 4:-4] - expected[:, 4:-4, 4:-4]).max() <= 1


def test_floats_back_to_uint8_are_cut_not_rounded() -> None:
    levels = np.linspace(-1.0, 2.0, 64 * 64 * 3, dtype=np.float32).reshape(1, 64, 64, 3)
    whole = np.arange(64 * 64 * 3, dtype=np.float32).reshape(1, 64, 64, 3) % 300 - 20
    for images, stage in ((levels, ToDtype("uint8", scale=True)), (whole, ToDtype("uint8"))):
        pipeline = Pipeline(Arrays(images), stage, Batch(1))
        records = Records(list(images), np.zeros((1, 0)), ["images[0]"])
        expected = reference(pipeline, list(images), records.numbers)
        tolerance = held(make_plan(pipeline, "dali-cpu"))
        compare(run(pipeline, records), expected, tolerance)
    assert (run(pipeline, records) == expected).all()  # whole numbers stay what they are


def test_a_float_affine_is_within_its_own_tolerance_after_a_float_resize() -> None:
    images = np.stack([photo(50, 70, seed) for seed in range(3)]).astype(np.float32) / 255
    for antialias in (False, True):
        pipeline = Pipeline(Arrays(images), Resize((31, 90), antialias=antialias), Batch(3))
        records = Records(list(images), np.zeros((3, 0)), ["a", "b", "c"])
        expected = reference(pipeline, list(images.astype(np.float64)), records.numbers)
        compare(run(pipeline, records), expected, held(make_plan(pipeline, "dali-cpu")))


def test_pixels_that_only_need_stacking() -> None:
    images = np.stack([photo(5, 7, seed) for seed in range(4)])
    pipeline = Pipeline(Arrays(images), Batch(4))
    result = run(pipeline, Records(list(images), np.zeros((4, 0)), list("abcd")))
    assert (result == images).all()


def test_one_channel_arrays() -> None:
    images = np.stack([photo(20, 30, seed)[..., :1] for seed in range(3)])
    pipeline = Pipeline(Arrays(images), Resize((9, 11)), RandomHorizontalFlip(1.0), ToDtype("float32", True), Batch(3))
    records = Records(list(images), DrawLayout.of(pipeline).prepare(0, 0, np.arange(3)), list("abc"))
    result = run(pipeline, records)
    expected = reference(pipeline, list(images), records.numbers)
    assert result.shape == (3, 9, 11, 1)
    assert np.abs(result - expected)[:, 1:-1, 1:-1].max() <= 1.01 / 255


@pytest.mark.parametrize("options", [{}, {"subsampling": "4:4:4"}, {"progressive": True}, {"mode": "L"}], ids=str)
def test_jpegs_decode_to_libjpegs_pixels_cropped_or_not(bad_images: ModuleType, options: dict[str, Any]) -> None:
    from PIL import Image

    encoded = [bad_images.jpeg(height, width, seed=i, **options) for i, (height, width) in enumerate(SIZES)]
    decoded = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded]
    for stages in ([CenterCrop(37)], [CenterCrop(300)]):
        pipeline = pipeline_of(*stages)
        records = records_of(pipeline, encoded)
        assert (run(pipeline, records) == reference(pipeline, decoded, records.numbers)).all()
    assert "DecodeCrop" in str(make_plan(pipeline, "dali-cpu").steps)


def test_random_crops_inside_the_decoder_have_the_pixels_of_crops_after_it(bad_images: ModuleType) -> None:
    from PIL import Image

    encoded = [bad_images.jpeg(90 + i, 120 - i, seed=i) for i in range(12)]
    decoded = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded]
    pipeline = pipeline_of(RandomResizedCrop(24), count=12)
    records = records_of(pipeline, encoded)
    expected = reference(pipeline, decoded, records.numbers).astype(int)
    assert np.abs(run(pipeline, records) - expected)[:, 1:-1, 1:-1].max() <= 1


def test_the_usual_pipeline_is_the_same_at_any_thread_count_and_batch_size() -> None:
    stages = [RandomResizedCrop(32), RandomHorizontalFlip(), ToDtype("float32", True), Normalize(MEAN, STD)]
    pipeline = pipeline_of(*stages)
    records = records_of(pipeline, [png(image) for image in photos()])
    whole = run(pipeline, records)
    assert (run(pipeline, records, threads=1) == whole).all()
    parts = []
    with runner_of(make_plan(pipeline, "dali-cpu", threads=2), 4) as runner:
        for at in (0, 4, 8):
            part = slice(at, at + 4)
            parts.append(runner.run(Records(records.images[part], records.numbers[part], records.names[part])))
    assert [len(part) for part in parts] == [4, 4, 1]
    assert (np.concatenate(parts) == whole).all()


@pytest.fixture
def runner() -> Any:
    pipeline = pipeline_of(CenterCrop(24))
    with runner_of(make_plan(pipeline, "dali-cpu", threads=2), 8) as runner:
        yield runner


def records_for(runner: Any, encoded: list[bytes]) -> Records:
    return records_of(runner.plan.pipeline, encoded)


def test_a_result_is_never_written_to_again(runner: Any) -> None:
    batches = [[png(np.full((24, 24, 3), 10 * batch + i, np.uint8)) for i in range(8)] for batch in range(12)]
    results = [runner.run(records_for(runner, batch)) for batch in batches]
    assert [result[i, 0, 0, 0] for result in results for i in (0, 7)] == [
        10 * batch + i for batch in range(12) for i in (0, 7)
    ]


def test_no_records_make_an_empty_batch_and_too_many_an_error(runner: Any) -> None:
    assert runner.run(records_for(runner, [])).shape == (0, 24, 24, 3)
    with pytest.raises(UsageError, match="up to 8 records, not 9"):
        runner.run(records_for(runner, [png(photo(3, 3))] * 9))


def test_a_closed_runner_says_so(runner: Any) -> None:
    runner.close()
    with pytest.raises(UsageError, match="closed"):
        runner.run(records_for(runner, [png(photo(3, 3))]))


def test_threads_share_a_runner(runner: Any) -> None:
    wrong = []

    def work(level: int) -> None:
        for _ in range(10):
            result = runner.run(records_for(runner, [png(np.full((24, 24, 3), level, np.uint8))] * (level % 8 + 1)))
            if not (result == level).all() or len(result) != level % 8 + 1:
                wrong.append(level)

    workers = [threading.Thread(target=work, args=(level,)) for level in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated-early.jpg", "truncated JPEG"),
        ("truncated-half.jpg", "truncated JPEG"),
        ("truncated-last-2-bytes.jpg", "truncated JPEG"),
        ("truncated-header.jpg", "JPEG"),
        ("truncated-progressive.jpg", "truncated JPEG"),
        ("empty.jpg", "empty"),
        ("text.jpg", "not an image"),
        ("broken-huffman-table.jpg", "can't be decoded"),
        ("truncated.png", "truncated PNG"),
        ("image.gif", "GIF is not read by backend 'dali-cpu'"),
    ],
)
def test_a_bad_record_is_named_and_the_next_batch_is_fine(
    runner: Any, bad_images: ModuleType, name: str, reason: str
) -> None:
    good = [bad_images.jpeg(30, 40, seed=i) for i in range(5)]
    mixed = records_for(runner, [*good[:3], bad_images.build()[name].data, *good[3:]])
    expected = runner.run(records_for(runner, good))
    with pytest.raises(RecordError) as caught:
        runner.run(mixed)
    assert caught.value.path == "3.png"
    assert reason in caught.value.reason
    assert "\n" not in str(caught.value)
    assert (runner.run(records_for(runner, good)) == expected).all()


def test_truncation_is_found_whatever_the_window(bad_images: ModuleType) -> None:
    """The window lies in the good part: a cropped decode alone would take it."""
    pipeline = pipeline_of(RandomResizedCrop(8, scale=(0.01, 0.02)))
    whole = bad_images.jpeg(200, 200)
    numbers = records_of(pipeline, [whole]).numbers.copy()
    numbers[:, -2:] = 0.0  # top left
    cut = Records([whole[: len(whole) * 3 // 4]], numbers, ["cut.jpg"])
    with pytest.raises(RecordError, match=r"cut\.jpg: truncated JPEG"):
        run(pipeline, cut)


def test_unusual_files_are_read_as_what_they_are(runner: Any, bad_images: ModuleType) -> None:
    cases = bad_images.build()
    odd = [cases[name].data for name in bad_images.UNUSUAL]
    assert len(runner.run(records_for(runner, odd))) == len(odd)
    plain = runner.run(records_for(runner, [bad_images.jpeg()]))
    for name in ("trailing-garbage.jpg", "exif-rotated.jpg", "misnamed-png.jpg"):
        other = runner.run(records_for(runner, [cases[name].data]))
        if name == "misnamed-png.jpg":
            assert (other == bad_images.pixels()[18:42, 28:52]).all()
        else:
            assert (other == plain).all()


def test_what_is_claimed_and_what_is_not() -> None:
    class Unknown(p.Primitive):
        pass

    for backend in (CPU, GPU):
        assert backend.table.tolerance(Unknown(), UINT8) is None
    assert CPU.table.tolerance(p.Decode(), ENCODED_SPEC) == EXACT
    assert CPU.table.tolerance(p.Flip(), FLOAT) == EXACT
    with pytest.raises(BackendUnavailable, match="'tf'"):
        DaliBackend("tf")


def test_availability_names_the_version_or_the_remedy() -> None:
    found = CPU.availability()
    assert found.usable
    assert "DALI 2" in found.detail
    gpu = GPU.availability()
    assert gpu.usable or (gpu.detail and gpu.remedy)


def test_an_installation_that_was_loaded_once_is_not_loaded_to_plan(tmp_path: Path) -> None:
    code = (
        "import sys; from greenload.backends import registry; seen = registry.get('dali-cpu').presence();"
        "print(seen.usable, 'nvidia.dali' in sys.modules)"
    )
    record = tmp_path / "greenload" / "dali.json"

    def told() -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip(), done.stderr

    assert told()[0] == "True True"
    assert told() == ("True False", "")
    record.write_text(record.read_text().replace('"installed": "', '"installed": "another '))
    assert told() == ("True True", "")
    record.write_text("no record")
    assert "what is known of DALI is damaged" in told()[1]
    assert told() == ("True False", "")
