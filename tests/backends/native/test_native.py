"""The native backend on the host: what its kernel doesn't decode, threads, choices, replays, and where it's missing."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import conformance as suite
import damage
import encoders as e
import numpy as np
import pytest

import greenload as gl
from greenload.array_ops import TENSORFLOW
from greenload.backends import readers as readers_module
from greenload.backends import registry
from greenload.backends.base import Records
from greenload.backends.chain import run_plan
from greenload.backends.native import library, work
from greenload.backends.native.layout import Layout
from greenload.backends.native.library import Program
from greenload.backends.native.table import TABLE
from greenload.backends.replay import IdleSegments, replay
from greenload.cli import doctor
from greenload.errors import BackendUnavailable, PipelineError, RecordError, UsageError
from greenload.planning.choose import make_plan, readers_for
from greenload.plans.params import DrawLayout
from greenload.sources import Arrays, Files, formats
from greenload.stages import (
    Batch,
    CenterCrop,
    Decode,
    Normalize,
    Pad,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomOrder,
    RandomResizedCrop,
    RandomVerticalFlip,
    Resize,
    Stage,
    ToDtype,
)

pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=f"native: {library.why_missing()}")
Pixels = np.ndarray[Any, Any]


def run(encoded: Sequence[bytes], *stages: Stage, backend: str = "native", helped: bool = False) -> Any:
    """A batch of files through a backend; where it may be ``helped``, Pillow decodes what it doesn't read."""
    pipeline = gl.Pipeline(Files([f"{k}.jpg" for k in range(len(encoded))]), *stages, Batch(max(1, len(encoded))))
    plan = make_plan(pipeline, backend, threads=2)
    plan = replace(plan, readers=readers_for(backend, ["pillow"])) if helped else plan
    return run_plan(plan, suite.records_of(pipeline, encoded))


def said(encoded: bytes, *stages: Stage, backend: str) -> Pixels | str:
    """The pixels of one file, or why it is refused."""
    try:
        return np.asarray(run([encoded], *stages, backend=backend)[0])
    except RecordError as error:
        return error.reason


def runner_of(stages: Sequence[Stage], images: Sequence[Any], threads: int = 2) -> tuple[Any, Records]:
    """A runner of a whole pipeline, and records for it."""
    encoded = isinstance(images[0], bytes)
    source: Any = Files([f"{k}.jpg" for k in range(len(images))]) if encoded else Arrays(np.stack(images))
    pipeline = suite.pipeline_of(source, stages)
    plan = make_plan(pipeline, "native", threads=threads)
    (segment,) = plan.segments
    return registry.make_runner(plan, segment, len(images)), suite.records_of(pipeline, images)


def started() -> int:
    return sum(thread.name == "greenload-native" for thread in threading.enumerate())


# what the kernel doesn't decode


def damaged_jpegs(count: int) -> list[bytes]:
    files = (damage.damaged(3, index).data for index in range(20 * count))
    return [data for data in files if formats.sniff(data) == "JPEG"][:count]


WAYS: tuple[tuple[Stage, ...], ...] = ((Decode(), Pad(1), CenterCrop(40)), (Decode(), CenterCrop((9, 17))))
"""A full decode, and one of a window."""


@pytest.mark.slow
@pytest.mark.parametrize("stages", WAYS, ids=["whole", "window"])
def test_damaged_files_are_taken_and_refused_as_by_pillow(stages: tuple[Stage, ...]) -> None:
    taken = 0
    for data in damaged_jpegs(300):
        expected, found = (said(data, *stages, backend=name) for name in ("pillow", "native"))
        if isinstance(expected, str) or isinstance(found, str):
            assert found == expected
        else:
            np.testing.assert_array_equal(found, expected)
            taken += 1
    assert taken > 40


def test_what_the_kernel_does_not_decode_another_backend_does(bad_images: ModuleType) -> None:
    kinds = bad_images.build()
    plain, inks = e.kept("420.jpg"), kinds["cmyk.jpg"].data
    cut = e.kept("large.jpg")[:-3000] if (e.IMAGES / "large.jpg").exists() else plain[:-900]
    flipped = bytearray(plain)
    flipped[len(plain) * 2 // 3] ^= 0xFF
    files = [plain, inks, bytes(flipped), e.with_exif(inks, 6), e.with_exif(plain, 8), e.with_exif(plain, 3), plain]
    for stages in (
        (Decode(exif=True), RandomResizedCrop((9, 12)), RandomHorizontalFlip()),
        (Decode(exif=True), Resize((20, 24)), RandomVerticalFlip()),
        (Decode(), CenterCrop(8)),
    ):
        batch = run(files, *stages)
        expected = run(files, *stages, backend="pillow")
        assert np.abs(batch.astype(int) - expected).max() <= 1
    for data in (cut, plain[:-900]):
        filled = said(data, Decode(truncated="fill"), CenterCrop(8), backend="native")
        np.testing.assert_array_equal(filled, said(data, Decode(truncated="fill"), CenterCrop(8), backend="pillow"))


def test_files_of_other_kinds_are_decoded_by_the_plans_readers() -> None:
    image = e.pixels(31, 45)
    files = [e.png(image), e.kept("420.jpg"), e.bmp(image), e.png(image)]
    stages = (Decode(), RandomResizedCrop(16, scale=(0.1, 0.5)), RandomHorizontalFlip())
    found, expected = run(files, *stages, helped=True), run(files, *stages, backend="pillow")
    assert np.abs(found.astype(int) - expected).max() <= 1
    with pytest.raises(RecordError, match=r"PNG is not read by backend 'native': use 'tf' .* it to JPEG$"):
        run([e.png(image)], *stages)


def test_without_another_backend_only_what_the_kernel_decodes_is_read(
    bad_images: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(names: Sequence[str]) -> None:
        raise BackendUnavailable(f"no {names}")

    plan_of = run([e.kept("420.jpg")], Decode(), CenterCrop(8))
    monkeypatch.setattr(registry, "require", fails)
    assert (run([e.kept("420.jpg")], Decode(), CenterCrop(8)) == plan_of).all()
    with pytest.raises(RecordError, match=r"needs backend 'pillow' or 'dali-cpu' or 'tf' beside, and none of them"):
        run([bad_images.build()["cmyk.jpg"].data], Decode(), CenterCrop(8))
    assert readers_module.ORDER == ("pillow", "dali-cpu", "tf")


def test_the_limit_of_memory_is_everyones() -> None:
    data = e.kept("progressive.jpg")
    for stages in ((Decode(max_bytes=20_000), CenterCrop(8)), (Decode(max_bytes=20_000), Resize((8, 8)))):
        why = said(data, *stages, backend="native")
        assert why == said(data, *stages, backend="pillow")
        assert "bytes to decode, above the limit of 20,000" in str(why)


@pytest.mark.slow
def test_verifying_goes_by_what_is_read(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    from greenload.loading.verify import verify

    files = [e.kept("420.jpg"), e.png(e.pixels(9, 9)), e.kept("420.jpg")[:-400], b"no image"]
    for k, data in enumerate(files):
        (tmp_path / f"{k}.jpg").write_bytes(data)
    found = verify(Files([tmp_path / f"{k}.jpg" for k in range(4)]), backend="native", remember=False)
    assert found.bad_indices == (1, 2, 3)
    assert found.bad[0].reason.startswith("PNG is not read by backend 'native': use 'tf'")


# batches


def test_batches_of_several_threads_do_not_mix(bad_images: ModuleType) -> None:
    encoded = [bad_images.jpeg(40 + k, 60 - k, seed=k) for k in range(12)]
    before = started()
    runner, records = runner_of((Decode(), RandomResizedCrop(24), RandomHorizontalFlip()), encoded, threads=3)
    turned = [Records(encoded[k:] + encoded[:k], np.roll(records.numbers, -k, 0), records.names) for k in range(12)]
    alone = runner.run(records).copy()
    with ThreadPoolExecutor(6) as pool:
        for k, found in enumerate(pool.map(runner.run, turned * 3)):
            assert (found == np.roll(alone, -(k % 12), 0)).all()
    assert started() == before + 3
    runner.close()
    runner.close()
    assert started() == before
    with pytest.raises(UsageError, match="closed: make another"):
        runner.run(records)


def test_the_first_bad_record_is_named_and_the_runner_goes_on(bad_images: ModuleType) -> None:
    good = [bad_images.jpeg(30, 40, seed=k) for k in range(8)]
    runner, records = runner_of((Decode(), Resize((8, 8))), good)
    broken = bad_images.build()["broken-huffman-table.jpg"].data
    for bad, place, reason in (
        ([*good[:3], broken, good[4], broken, *good[6:]], 3, "can't be decoded: "),
        ([*good[:5], b"", *good[6:]], 5, "the file is empty"),
        ([*good[:7], good[7][:-200]], 7, "truncated JPEG"),
    ):
        with pytest.raises(RecordError) as caught:
            runner.run(Records(bad, records.numbers, records.names))
        assert caught.value.path == f"images[{place}]"
        assert caught.value.reason.startswith(reason)
        assert runner.run(records).shape == (8, 8, 8, 3)
    runner.close()


def test_an_image_too_small_is_named_where_a_segment_begins() -> None:
    images = [suite.pixels(height, width, "noise") for height, width in ((40, 40), (40, 30))]
    pipeline = suite.pipeline_of(Files(["a", "b"]), (Decode(), RandomHorizontalFlip(), RandomCrop(36, padding=1)))
    plan = make_plan(pipeline, {"RandomCrop": "native"})
    segment = next(s for s in plan.segments if s.backend == "native")
    runner = registry.make_runner(plan, segment, 2)
    with pytest.raises(RecordError, match="at least 36×36 pixels with its padding") as caught:
        runner.run(suite.records_of(pipeline, images))
    assert caught.value.path == "images[1]"
    runner.close()


def test_results_are_the_callers_and_inputs_stay_as_they_are() -> None:
    images = [suite.pixels(20, 30, "noise", k) for k in range(4)]
    for stages in ((RandomErasing(1.0),), (Pad(2),), (RandomHorizontalFlip(0.0),), (CenterCrop(9), ToDtype("float32"))):
        for given in (images, np.stack(images), [image[::-1] for image in images]):
            frozen = [np.array(image) for image in given]
            runner, records = runner_of(stages, frozen)
            records = replace(records, images=given)
            first = runner.run(records)
            assert first.flags.writeable
            assert first.ctypes.data % 64 == 0  # as JAX and TensorFlow take it
            kept = first.copy()
            second = runner.run(records)
            first[...] = 0
            assert (second == kept).all()
            assert all((a == b).all() for a, b in zip(frozen, given, strict=True))
            runner.close()


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_any_number_of_channels(channels: int, dtype: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 41, 30, channels)).astype(dtype)
    if dtype == "float32":
        images /= 255
    stages = (RandomHorizontalFlip(1.0), CenterCrop(29), Resize((50, 20)), RandomVerticalFlip(1.0))
    pipeline = suite.pipeline_of(Arrays(images), stages)
    records = suite.records_of(pipeline, images)
    found = suite.Difference.of(
        suite.run("native", pipeline, records), suite.reference(pipeline, images, records.numbers)
    )
    assert found.within(suite.held(make_plan(pipeline, "native")))


def test_images_of_different_sizes_cross_to_another_backend_and_from_it(bad_images: ModuleType) -> None:
    encoded = [bad_images.jpeg(40 + 9 * k, 90 - 7 * k, seed=k) for k in range(6)]
    pipeline, records = suite.decoding(encoded, (RandomResizedCrop(24), RandomHorizontalFlip()))
    alone, pillow = (suite.run(name, pipeline, records) for name in ("native", "pillow"))
    first, resize, flip = (step.name for step in make_plan(pipeline, "native").steps if step.kind == "pixels")
    for wanted, expected in (
        ({first: "pillow", resize: "native", flip: "pillow"}, alone),
        ({first: "native", resize: "pillow", flip: "native"}, pillow),
    ):
        assert (run_plan(make_plan(pipeline, wanted), records) == expected).all()


def test_small_images_start_no_threads() -> None:
    before = started()
    for side, threads in ((16, 0), (300, 2)):
        runner, records = runner_of((RandomHorizontalFlip(),), [np.zeros((side, side, 3), np.uint8)] * 8)
        assert (np.asarray(runner.run(records)) == 0).all()
        assert started() == before + threads
        runner.close()


FORKED = """
import os, sys
sys.path[:0] = [{support!r}]
import numpy as np
import conformance as suite
from greenload.backends import registry
from greenload.backends.chain import run_plan
from greenload.planning.choose import make_plan
from greenload.sources import Arrays
from greenload.stages import Resize
images = [suite.pixels(250, 260, "noise", k) for k in range(8)]
pipeline = suite.pipeline_of(Arrays(np.stack(images)), (Resize((20, 20)),))
plan, records = make_plan(pipeline, "native", threads=2), suite.records_of(pipeline, images)
here = registry.make_runner(plan, plan.segments[0], 8)
expected = here.run(records)
child = os.fork()
if not child:
    os._exit(0 if (run_plan(plan, records) == expected).all() else 1)
assert os.waitpid(child, 0)[1] == 0
assert (here.run(records) == expected).all()
assert not {{"tensorflow", "PIL", "nvidia.dali"}} & set(sys.modules)
"""


@pytest.mark.slow
def test_a_forked_child_makes_its_own_and_no_framework_is_imported() -> None:
    code = FORKED.format(support=str(e.IMAGES.parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]


# params and programs


def cases() -> list[suite.Case]:
    """One of each group of stages."""
    kinds = {(case.stages, case.dtype): case for case in suite.cases() if suite.taken("native", case)}
    return list(kinds.values())


def test_every_row_of_params_has_its_columns() -> None:
    for case in cases():
        plan = make_plan(suite.outline(case), "native")
        numbers = suite.records_of(plan.pipeline, suite.images_of(case)).numbers
        sides = (np.full(suite.IMAGES, side) for side in (case.height, case.width))
        params = DrawLayout.of(plan.pipeline).params(numbers, *sides, range(len(plan.pipeline.stages)))
        for segment in plan.segments:
            layout = Layout.of(TABLE, segment.steps)
            rows = layout.rows(params, {})
            assert (0 if rows is None else rows.shape[-1]) == layout.columns, case
            for steps, _ in layout.groups(params, suite.IMAGES):
                assert all(step.column < layout.columns for step in steps)


@pytest.mark.slow
def test_rows_of_params_have_the_same_bits_in_tensorflow() -> None:
    pytest.importorskip("tensorflow")
    for case in cases():
        plan = make_plan(suite.outline(case), "native")
        draws, indices = DrawLayout.of(plan.pipeline), range(len(plan.pipeline.stages))
        numbers = suite.records_of(plan.pipeline, suite.images_of(case)).numbers
        sides = [np.full(suite.IMAGES, side) for side in (case.height, case.width)]
        here = draws.params(numbers, *sides, indices)
        there = draws.params(TENSORFLOW.f64(numbers), *map(TENSORFLOW.i64, sides), indices, TENSORFLOW)
        for segment in plan.segments:
            layout = Layout.of(TABLE, segment.steps)
            expected, found = layout.rows(here, {}), layout.rows(there, {}, TENSORFLOW)
            assert (expected is None) == (found is None)
            if expected is not None:
                assert expected.tobytes() == found.numpy().tobytes(), case


def test_images_that_get_the_same_alternatives_share_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def spied(steps: Any, columns: int) -> Program:
        made.append(len(steps))
        return Program(steps, columns)

    monkeypatch.setattr(work, "Program", spied)
    stages = (RandomOrder([RandomVerticalFlip(), RandomErasing(0.9, value=(1, 2, 3))]), RandomHorizontalFlip())
    images = [suite.pixels(20, 30, "noise", k) for k in range(40)]
    runner, records = runner_of(stages, images)
    found = runner.run(records)
    assert made == [3, 3]
    assert (runner.run(records) == found).all()
    assert made == [3, 3]  # kept
    pipeline = suite.pipeline_of(Arrays(np.stack(images)), stages)
    assert (found == suite.reference(pipeline, images, records.numbers)).all()
    runner.close()


# replays


def test_each_step_is_replayed_with_and_without_its_work(bad_images: ModuleType) -> None:
    encoded = [bad_images.jpeg(60 + k, 90 - k, seed=k) for k in range(16)]
    encoded[5] = bad_images.build()["cmyk.jpg"].data
    stages = (Decode(), RandomResizedCrop(24), RandomHorizontalFlip(), ToDtype("float32"), Normalize((1,), (2,)))
    pipeline = gl.Pipeline(Files([f"{k}" for k in range(16)]), *stages, Batch(8))
    plan, records = make_plan(pipeline, "native", threads=2), suite.records_of(pipeline, encoded)
    for index, step in enumerate(plan.steps):
        if step.kind not in ("pixels", "batch"):
            continue
        for runs in replay(plan, index, records, 8, 2):
            assert runs.run(20) == 24
            runs.close()
    parts = list(records.batches(8))
    idle = IdleSegments(plan, plan.segments, parts, 8)
    assert idle.run(parts[0]).shape == (8, 24, 24, 3)
    idle.close()


# where it can't be loaded


def test_where_it_is_not_built_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(suite.pipeline_of(Arrays(np.zeros((2, 9, 9, 3), np.uint8)), (Resize((4, 4)),)), "native")

    def missing() -> Any:
        raise BackendUnavailable("the kernel isn't built; make setup, where there is a compiler")

    monkeypatch.setattr(library, "loaded", missing)
    seen = registry.get("native").availability()
    assert (seen.usable, seen.detail) == (False, "the kernel isn't built")
    assert seen.remedy == "make setup, where there is a compiler"
    with pytest.raises(BackendUnavailable, match=r"'native' can't run here: the kernel isn't built; make setup"):
        registry.make_runner(plan, plan.segments[0], 2)
    found = {finding.name: finding for finding in doctor.examine() if finding.kind == "backend"}["native"]
    assert not found.usable
    assert "native" not in make_plan(plan.pipeline).backends


def test_a_users_own_code_is_refused_with_a_backend_that_runs_it() -> None:
    source = Arrays(np.zeros((2, 9, 9, 3), np.uint8))
    with pytest.raises(PipelineError, match=r"can't run on backend 'native': arbitrary code .* use backend='tf'"):
        make_plan(suite.pipeline_of(source, (gl.Apply(abs),)), "native")


def test_bfloat16_needs_the_package_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(BackendUnavailable, match="pip install ml_dtypes"):
        runner_of((ToDtype("bfloat16"),), [np.zeros((9, 9, 3), np.uint8)] * 2)
