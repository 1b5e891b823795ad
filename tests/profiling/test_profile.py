"""Profiles of real pipelines: what a report holds, and whether it is true."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.backends import registry, replay
from greenload.backends.base import Records
from greenload.backends.chain import Chain, run_plan
from greenload.energy.figures import Figure
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.profiling import campaign, schedule, windows
from greenload.profiling import profile as profiling
from greenload.profiling.profile import profile
from greenload.report import rows as table
from greenload.report import terminal
from greenload.report.data import Report
from greenload.report.html import html
from greenload.report.validation import validate


@pytest.fixture
def middling_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long enough for what is plain to see."""
    monkeypatch.setattr(windows, "WINDOW_S", 0.06)


@pytest.fixture
def no_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the changes that are tried last."""
    monkeypatch.setattr(profiling, "TRIED", 0)


def photos(folder: Path, *stages: Any) -> gl.Pipeline:
    return gl.Pipeline(gl.ImageFolder(folder), gl.Shuffle(), gl.Decode(), *stages, seed=3)


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "no_trials")
@pytest.mark.parametrize("backend", [pytest.param("tf", marks=pytest.mark.long), "dali-cpu"])
def test_a_report_has_a_row_for_every_step_of_the_plan(sample_folder: Path, backend: str) -> None:
    pipeline = photos(sample_folder, gl.RandomResizedCrop(64), gl.RandomHorizontalFlip(), gl.Batch(16))
    said: list[tuple[float, str]] = []
    report = profile(pipeline, backend, rounds=2, samples=32, progress=lambda share, text: said.append((share, text)))
    plan = make_plan(pipeline, backend)
    assert [step.name for step in report.steps] == [*(step.name for step in plan.steps), "hand-over"]
    assert report.samples == 32
    assert [step.method for step in report.steps] == ["in place", *["replay"] * (len(plan.steps) - 1), "in place"]
    validate(report.to_dict())
    shares = [share for share, _ in said]
    assert shares == sorted(shares) and shares[-1] == 1.0
    full = report.full.cpu_s_per_sample
    assert full.value is not None and full.value > 0
    by_name = {step.name: step.cpu_s_per_sample.value or 0.0 for step in report.steps}
    assert by_name["Decode + crop"] > by_name["RandomHorizontalFlip"]
    kinds = {(window.step, window.kind) for window in report.windows}
    assert ("", "full") in kinds and ("Decode + crop", "with") in kinds and ("Decode + crop", "without") in kinds


def usable(*names: str) -> None:
    for name in names:
        if not (found := registry.get(name).availability()).usable:
            pytest.skip(f"{name}: {found.detail}")


FLOATS = (gl.ToDtype("float32", scale=True), gl.Normalize((0.5,), (0.2,)))
PLACED = {
    "Decode + crop": "dali-cpu",
    "RandomResizedCrop: resize": "pillow",
    "RandomVerticalFlip": "pillow",
}


def several(folder: Path, batch: int = 8) -> gl.Pipeline:
    """Four crossings: tf.data reads, DALI decodes, Pillow resizes, tf flips one by one, Pillow flips, tf normalises."""
    flips = (gl.RandomHorizontalFlip(), gl.RandomVerticalFlip())
    return photos(folder, gl.RandomResizedCrop(48), *flips, gl.Batch(batch), *FLOATS)


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "no_trials")
def test_a_plan_of_several_backends_is_profiled(sample_folder: Path) -> None:
    usable("dali-cpu", "pillow")
    report = profile(several(sample_folder), PLACED, rounds=2, samples=24)
    assert {step.name: step.backend for step in report.steps} == {
        "Read": "tf",
        "Decode + crop": "dali-cpu",
        "RandomResizedCrop: resize": "pillow",
        "RandomHorizontalFlip": "tf",
        "RandomVerticalFlip": "pillow",
        "Batch + transfer": "dali-cpu + pillow",
        "ToDtype + Normalize": "tf",
        "hand-over": "tf",
    }
    in_place = [step.name for step in report.steps if step.method == "in place"]
    assert in_place == [
        "Read", "Decode + crop", "RandomResizedCrop: resize", "RandomVerticalFlip", "hand-over"
    ], "DALI's threads tell one step, TensorFlow's not all of any"  # fmt: skip
    rows = {step.name: step for step in report.steps}
    assert rows["Decode + crop"].cpu_s_per_sample.value > rows["RandomVerticalFlip"].cpu_s_per_sample.value
    crop_bytes = rows["Decode + crop"].bytes_out_per_sample
    assert crop_bytes is not None and 48 * 48 * 3 < crop_bytes < 500 * 500 * 3
    crossed = table.crossings(report)
    assert [step for step, _ in crossed] == [
        "Read", "Decode + crop", "RandomResizedCrop: resize", "RandomHorizontalFlip", "Batch + transfer",
    ]  # fmt: skip
    assert [text.split(",")[0] for _, text in crossed] == [
        "tf → dali-cpu", "dali-cpu → pillow", "pillow → tf", "tf → pillow", "pillow → tf",
    ]  # fmt: skip
    assert crossed[3][1] == "tf → pillow, 6.9 kB"
    assert "dali-cpu → pillow, " in terminal.report_text(report, 200)
    assert "<strong>tf → pillow, 6.9 kB</strong>" in html(report)
    validate(report.to_dict())


@pytest.mark.slow
def test_batches_are_captured_as_they_reach_each_backend(sample_folder: Path) -> None:
    from greenload.loading.dataset import DatasetBuilder
    from greenload.plans.order import Order
    from greenload.profiling.replays import PipelineReplays

    usable("dali-cpu", "pillow")
    plan = make_plan(several(sample_folder, 6), PLACED, threads=2)
    indices = np.arange(12)
    made = DatasetBuilder(plan, Order(plan.pipeline, indices, endless=True))
    replays = PipelineReplays(made.stream, made.endless_roots, len(indices), made.endless_batches)
    decode, resize, _, flip, _ = plan.segments
    order = [plan.pipeline.source.name(int(i)) for i in Order(plan.pipeline, indices).indices(0, np.arange(12))]
    for segment in (decode, resize, flip):
        parts = replays.entering(segment)
        assert [len(part.images) for part in parts] == [6, 6]
        assert sorted(name for part in parts for name in part.names) == sorted(order)
    crops = [image.shape for part in replays.entering(resize) for image in part.images]
    assert len(set(crops)) > 1
    flipped = {
        name: image for part in replays.entering(flip) for name, image in zip(part.names, part.images, strict=True)
    }
    # What the same steps give without tf.data around them.
    first = {name: PLACED[name] for name in ("Decode + crop", "RandomResizedCrop: resize")}
    before = make_plan(photos(sample_folder, *plan.pipeline.stages[2:4], gl.Batch(6)), first, threads=2)
    numbers = DrawLayout.of(before.pipeline).prepare(3, 0, indices)
    records = Records([plan.pipeline.source.read(int(i)) for i in indices], numbers, ["?"] * 12)
    for name, image in zip(
        [plan.pipeline.source.name(int(i)) for i in indices], run_plan(before, records), strict=True
    ):
        assert (flipped[name] == image).all()


@pytest.mark.slow
@pytest.mark.parametrize("placed", ["pillow", PLACED], ids=["pillow", "dali-cpu and pillow"])
def test_replays_of_all_steps_cost_about_what_the_chain_costs(sample_folder: Path, placed: Any) -> None:
    usable("dali-cpu", "pillow")
    pipeline = photos(sample_folder, gl.RandomResizedCrop(160), gl.RandomVerticalFlip(), gl.Batch(16))
    plan = make_plan(pipeline, placed, threads=2)
    numbers = DrawLayout.of(pipeline).prepare(3, 0, np.arange(16))
    records = Records([pipeline.source.read(i) for i in range(16)], numbers, [str(i) for i in range(16)])

    def cost(work: Any) -> float:
        work()
        costs = []
        for _ in range(9):
            begin = time.process_time()
            work()
            costs.append(time.process_time() - begin)
        return min(costs)  # whatever runs beside the tests only adds

    costs = {}
    for place, step in enumerate(plan.steps):
        if step.kind != "read":
            pair = replay.replay(plan, place, records, 16, 2)
            costs[step.name] = cost(lambda: pair[0].run(16)) - cost(lambda: pair[1].run(16))  # noqa: B023
            for one in pair:
                one.close()
    with Chain(plan, 16) as chain:
        whole = cost(lambda: chain.run(records))
    assert costs["Decode + crop"] == max(costs.values())
    assert 0.75 < sum(costs.values()) / whole < 1.25


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "no_trials")
def test_a_split_pipeline_shows_both_sides(sample_folder: Path) -> None:
    whole = photos(sample_folder, gl.Resize((64, 64)), gl.ToDtype("float32", scale=True), gl.Batch(16))
    split = gl.split_for_device(whole)
    report = profile(split, rounds=2, samples=32)
    *host, device, rest = report.steps
    assert rest.name == "hand-over"
    assert [step.name for step in host] == [step.name for step in make_plan(split.pipeline).steps]
    assert (device.name, device.stages, device.backend) == ("ToDtype in the model", ("ToDtype",), "keras")
    assert report.plan["steps"][-1]["out"] == "float32 ?×64×64×3 NHWC"
    kinds = {window.kind for window in report.windows if window.step == device.name}
    assert kinds == {"with", "without"}
    with pytest.raises(gl.PipelineError, match=r"add Batch\(32\)"):
        profile(gl.split_for_device(photos(sample_folder, gl.Resize((8, 8)), gl.ToDtype("float32"))))


@pytest.mark.long  # of a first epoch it is tested below
@pytest.mark.alone
@pytest.mark.usefixtures("middling_windows", "no_trials")
def test_steps_explain_the_full_run(sample_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loose here, where anything may run beside the tests; the benchmark prints the figure."""
    monkeypatch.setattr(windows, "BUILDS", 1)
    pipeline = photos(sample_folder, gl.RandomResizedCrop(224), gl.RandomHorizontalFlip(), gl.Batch(16))
    report = profile(pipeline, "tf", rounds=3, samples=32)
    full, rest = report.full.cpu_s_per_sample, report.unattributed.cpu_s_per_sample
    assert full.value and rest.value is not None
    assert abs(rest.value) < 0.25 * full.value
    assert report.steps[1].cpu_s_per_sample.low is not None and report.steps[1].cpu_s_per_sample.low > 0


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "no_trials")
@pytest.mark.parametrize(
    "before", [pytest.param((), marks=pytest.mark.long), (gl.Resize(40),)], ids=["files", "resized"]
)
def test_a_cache_of_the_native_backend_is_filled_anew(sample_folder: Path, tmp_path: Path, before: Any) -> None:
    usable("native")
    cache = gl.Cache(str(tmp_path / "kept"))
    pipeline = photos(sample_folder, *before, cache, gl.RandomResizedCrop(24), gl.Batch(8))
    plan = make_plan(pipeline, "native", threads=2)
    assert any(step.keeps for step in plan.steps)
    report = profile(plan, samples=24, rounds=2)
    cost = {step.name: step.cpu_s_per_sample.value or 0.0 for step in report.steps}
    assert list(cost)[:2] == ["Read", "Cache"]
    runs = {step.name: step.runs for step in report.steps}
    assert runs["Read"] == "first epoch" and runs["Cache"] == runs["Batch + transfer"] == "every epoch"
    writing = next(line for line in terminal.report_text(report, 200).splitlines() if line.startswith("Cache, writing"))
    assert "native" in writing
    assert list((tmp_path / "kept").iterdir()) == []  # it was kept apart, and is gone


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "no_trials")
def test_a_cache_has_a_first_epoch_and_later_ones(sample_folder: Path) -> None:
    pipeline = photos(sample_folder, gl.Resize((48, 48)), gl.Cache(), gl.RandomHorizontalFlip(), gl.Batch(16))
    report = profile(pipeline, "tf", rounds=2)
    rows = {step.name: step.cpu_s_per_sample.value or 0.0 for step in report.steps}
    runs = {step.name: step.runs for step in report.steps}
    assert runs["Decode"] == "first epoch" and runs["Cache"] == runs["Batch"] == "every epoch"
    assert rows["Decode"] == 0 and abs(rows["Cache"]) < 2 * (report.full.cpu_s_per_sample.value or 0.0)
    assert report.first_epoch is not None
    first = {step.name: step.cpu_s_per_sample.value or 0.0 for step in report.first_epoch.steps}
    whole = report.first_epoch.full.cpu_s_per_sample.value or 0.0
    assert (report.full.cpu_s_per_sample.value or 0.0) < first["Decode"] < whole
    assert abs(sum(first.values()) - whole) < 0.5 * whole


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "no_trials")
@pytest.mark.parametrize(
    ("place", "before"),
    [("folder", ()), pytest.param("memory", (gl.Resize((48, 48)),), marks=pytest.mark.long)],
    ids=["planes", "resized"],
)
def test_what_native_keeps_has_a_first_epoch_too(
    sample_folder: Path, tmp_path: Path, place: str, before: tuple[gl.Stage, ...]
) -> None:
    cache = gl.Cache() if place == "memory" else gl.Cache(tmp_path / "kept")
    end = (gl.RandomResizedCrop(32), gl.RandomHorizontalFlip(), gl.Batch(16))
    report = profile(photos(sample_folder, *before, cache, *end), "native", rounds=2)
    rows = {step.name: step.cpu_s_per_sample.value or 0.0 for step in report.steps}
    runs = {step.name: step.runs for step in report.steps}
    assert list(rows)[:3] == ["Read", "Cache", "Decode + crop"]
    assert runs["Read"] == "first epoch" and runs["Cache"] == runs["Decode + crop"] == "every epoch"
    assert report.steps[1].backend == "native"
    full = report.full.cpu_s_per_sample.value or 0.0
    assert abs(rows["Cache"]) < 2 * full  # both are small
    assert report.first_epoch is not None
    first = {step.name: step.cpu_s_per_sample.value or 0.0 for step in report.first_epoch.steps}
    whole = report.first_epoch.full.cpu_s_per_sample.value or 0.0
    assert full < first["Cache"] < whole  # keeping an image costs more than going on from it
    assert abs(sum(first.values()) - whole) < 0.5 * whole
    if place == "folder":
        assert list((tmp_path / "kept").iterdir()) == []  # nothing of the profile is left
    validate(report.to_dict())


@pytest.mark.long  # of a dataset, tests/profiling/tfdata/test_advice.py
@pytest.mark.alone
@pytest.mark.usefixtures("middling_windows")
def test_changes_are_tried_and_the_best_comes_first(sample_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "BUILDS", 1)  # that there are two is tested with less work
    monkeypatch.setattr(windows, "BUILDS", 1)
    monkeypatch.setattr(profiling, "TRIED", 2)
    end = (gl.ToDtype("float32", scale=True), gl.Batch(16))
    report = profile(photos(sample_folder, gl.Resize((48, 48)), *end), "tf", rounds=2, samples=32)
    titles = [one.title for one in report.advice]
    assert titles[0] == "Put Cache() behind Resize"
    # Which of the lesser changes save anything is up to the machine; none but those that were proposed may be there.
    assert set(titles) <= {*titles[:1], 'backend="auto"', "Hand ToDtype to the model", "Resize(antialias=False)"}
    full = report.full.cpu_s_per_sample.value
    saved = [one.saves_cpu_s_per_sample.value or 0.0 for one in report.advice]
    assert full and 0.3 * full < saved[0] < 1.2 * full
    assert saved == sorted(saved, reverse=True)
    assert all(one.method == "trial" for one in report.advice)
    validate(report.to_dict())


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "no_trials")
def test_arrays_and_steps_after_the_batch_are_profiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "BUILDS", 2)
    images = np.random.default_rng(0).integers(0, 256, (64, 40, 40, 3), dtype=np.uint8)
    pipeline = gl.Pipeline(
        gl.Arrays(images), gl.Batch(16), gl.ToDtype("float32", scale=True), gl.Normalize((0.5,), (0.2,))
    )
    report = profile(pipeline, "tf", rounds=2)
    assert [step.name for step in report.steps] == ["Read", "Batch", "ToDtype + Normalize", "hand-over"]
    assert report.steps[0].bytes_out_per_sample == 40 * 40 * 3
    assert report.steps[2].bytes_out_per_sample == 40 * 40 * 3 * 4
    assert {window.build for window in report.windows} == {0, 1}


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "no_trials")
def test_a_pipeline_without_a_batch_and_a_function_without_a_name_are_profiled() -> None:
    images = np.zeros((16, 8, 8, 3), np.uint8)
    pipeline = gl.Pipeline(gl.Arrays(images), gl.RandomVerticalFlip(), gl.Apply(lambda image: image + 1))
    report = profile(pipeline, "tf", rounds=2)
    assert [step.name for step in report.steps[:2]] == ["Read", "RandomVerticalFlip"] and len(report.steps) == 4
    flip, function = report.pipeline["stages"]
    assert flip == gl.RandomVerticalFlip().to_dict() and function["stage"].startswith("Apply(")
    validate(report.to_dict())


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "no_trials")
def test_skipped_records_are_listed(sample_folder: Path, tmp_path: Path) -> None:
    usable("dali-cpu")
    for i, path in enumerate(sorted(sample_folder.rglob("*.jpg"))[:8]):
        target = tmp_path / f"class-{i % 2}" / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b"" if i == 5 else path.read_bytes())
        if i == 5:
            bad = target
    pipeline = photos(tmp_path, gl.CenterCrop(32), gl.Batch(4))
    report = profile(pipeline, "dali-cpu", rounds=2, on_error="skip")
    assert [skipped.name for skipped in report.skipped] == [str(bad)]
    assert report.samples == 4  # 7 good ones, in whole batches
    with pytest.raises(gl.RecordError, match="empty"):
        profile(pipeline, "dali-cpu", rounds=2)


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"rounds": 1}, {"on_error": "ignore"}, {"backend": "cuda"}])
def test_wrong_arguments(sample_folder: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises((gl.UsageError, gl.PipelineError)):
        profile(photos(sample_folder, gl.Resize((8, 8)), gl.Batch(4)), **wrong)


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "no_trials")
def test_a_wanted_precision_is_announced_and_what_was_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "BUILDS", 2)
    images = np.zeros((64, 24, 24, 3), np.uint8)
    pipeline = gl.Pipeline(gl.Arrays(images), gl.Batch(16))
    said: list[str] = []
    report = profile(pipeline, "tf", rounds=2, precision=1.0, announce=said.append)
    assert said[0].startswith("planned: 2–8 builds of 2 rounds")
    assert all("out of reach" in line for line in said[1:]), "short windows may not do"
    found = report.precision
    assert found is not None
    assert found.builds == 1 + max(window.build for window in report.windows)
    assert found.reached or found.builds == 8
    validate(report.to_dict())
    with pytest.raises(gl.UsageError, match="precision"):
        profile(pipeline, "tf", precision=0.0001)


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "no_trials")
@pytest.mark.parametrize("form", ["pipeline", pytest.param("dataset", marks=pytest.mark.long)])
def test_a_cold_profile_reads_from_the_device_or_says_why_not(sample_folder: Path, form: str) -> None:
    import tensorflow as tf

    pipeline = photos(sample_folder, gl.Resize((32, 32)), gl.Batch(16))
    paths = sorted(map(str, sample_folder.rglob("*.jpg")))

    def decoded(path: Any) -> Any:
        return tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path), channels=3), (32, 32))

    dataset = tf.data.Dataset.from_tensor_slices(paths).map(decoded).batch(16)
    report = profile(pipeline if form == "pipeline" else dataset, rounds=2, samples=48, cold=True)
    cold = report.cold
    assert cold is not None and cold.files == 48
    mean_bytes = sum(Path(path).stat().st_size for path in paths) / len(paths)
    read = report.full.device_bytes_per_sample.value
    if cold.problem or read is None:
        assert cold.problem or cold.resident_bytes is None
    else:
        assert 0.8 * mean_bytes < read < 2 * mean_bytes + 8192
    validate(report.to_dict())


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "no_trials")
@pytest.mark.parametrize(
    "helped", [pytest.param(False, marks=pytest.mark.long), True], ids=["native", "native and pillow"]
)
def test_steps_with_clocks_are_measured_in_place(sample_folder: Path, helped: bool) -> None:
    """In TensorFlow's operation, and where batches leave the graph for a second backend."""
    usable("native", *(["pillow"] if helped else []))
    stages = (gl.RandomResizedCrop(48), gl.RandomHorizontalFlip(), gl.RandomVerticalFlip(), gl.Batch(8))
    names = ("Decode + crop", "RandomResizedCrop: resize", "RandomHorizontalFlip")
    placed: Any = {**dict.fromkeys(names, "native"), "RandomVerticalFlip": "pillow"} if helped else "native"
    report = profile(photos(sample_folder, *stages), placed, rounds=2, samples=24)
    clocked = {step.name: step.cpu_s_per_sample.value or 0.0 for step in report.steps if step.clock is not None}
    own = [step["name"] for step in report.plan["steps"] if step["kind"] != "batch"]
    assert list(clocked) == own and {step.method for step in report.steps if step.clock} == {"in place"}
    assert 0 < clocked["Decode + crop"] <= sum(clocked.values()) < (report.full.cpu_s_per_sample.value or 0.0)
    assert clocked["RandomHorizontalFlip"] == 0.0, "the resize does it"
    assert {step.name for step in report.steps if step.in_place} == set(), "of older reports"
    assert {window.kind for window in report.windows if window.work} == {"in place"}
    assert not {window.step for window in report.windows} & clocked.keys(), "none is replayed too"
    assert table.crossings(report)[-1][0] == "Batch + transfer"
    assert Report.from_dict(report.to_dict()) == report
    validate(report.to_dict())
    assert "In place" in terminal.report_text(report, 200) and "hand-over" in html(report)


def half_width(figure: Figure) -> float:
    assert figure.low is not None and figure.high is not None
    return (figure.high - figure.low) / 2


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.usefixtures("few_builds")
@pytest.mark.parametrize("backend", ["native", "pillow", "tf"])
def test_steps_and_the_hand_over_sum_to_the_whole(sample_folder: Path, backend: str) -> None:
    usable(backend)
    pipeline = photos(sample_folder, gl.RandomResizedCrop(96), gl.RandomHorizontalFlip(), gl.Batch(8))
    report = profile(pipeline, backend, rounds=3, samples=64)
    whole = report.full.cpu_s_per_sample.value
    costs = {step.name: step.cpu_s_per_sample.value or 0.0 for step in report.steps}
    by_name = {step.name: step for step in report.steps}
    left_open = half_width(report.full.cpu_s_per_sample) + half_width(by_name["hand-over"].cpu_s_per_sample)
    assert whole is not None
    # Three builds on a busy machine know less than 6 %, and their intervals say so; what is counted twice lies farther.
    assert sum(costs.values()) == pytest.approx(whole, abs=min(max(0.06 * whole, left_open), 0.25 * whole))
    assert -0.2 * whole < costs["hand-over"] < 0.6 * whole


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "no_trials")
@pytest.mark.parametrize(
    "backend", ["native", *(pytest.param(name, marks=pytest.mark.long) for name in ("tf", "dali-cpu", "pillow"))]
)
def test_alternatives_are_one_row(backend: str) -> None:
    if not registry.get(backend).availability().usable:
        pytest.skip(backend)
    jitter, flips = gl.ColorJitter(0.4), (gl.RandomVerticalFlip(1.0), gl.RandomHorizontalFlip(1.0))
    choices = (gl.RandomApply(jitter, 0.3), gl.RandomChoice(flips))
    behind = gl.RandomOrder([gl.RandomGrayscale(0.5), jitter])
    images = np.random.default_rng(0).integers(0, 256, (32, 48, 48, 3), np.uint8)
    pipeline = gl.Pipeline(gl.Arrays(images), *choices, gl.Batch(8), behind)
    report = profile(pipeline, backend, rounds=2)
    named = [step.name for step in report.steps if step.stages[0].startswith("Random")]
    assert named == [
        "RandomApply(ColorJitter, p=0.3)",
        "RandomChoice(RandomVerticalFlip, RandomHorizontalFlip)",
        "RandomOrder(RandomGrayscale, ColorJitter)",
    ]
    validate(report.to_dict())


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.usefixtures("few_builds")
@pytest.mark.parametrize("backend", ["tf", "native"])
def test_what_stands_before_echo_is_shared_among_its_echoes(sample_folder: Path, backend: str) -> None:
    usable(backend)
    times, behind = 4, (gl.Resize((64, 64), antialias=False), gl.RandomHorizontalFlip(), gl.Batch(16))
    costs = []
    for stages in ((), (gl.Echo(times),)):
        report = profile(photos(sample_folder, *stages, *behind), backend, rounds=4, samples=32)
        validate(report.to_dict())
        costs.append({step.name: step.cpu_s_per_sample.value or 0.0 for step in report.steps})
        costs[-1]["whole"] = report.full.cpu_s_per_sample.value or 0.0
        assert abs(sum(costs[-1].values()) - 2 * costs[-1]["whole"]) < 0.25 * costs[-1]["whole"]
    plain, echoed = costs
    assert list(plain) == list(echoed)
    # A quarter, as few builds of a few samples know it; and nothing else is shared.
    assert 0.15 * plain["Decode"] < echoed["Decode"] < 0.5 * plain["Decode"]
    assert echoed["Resize"] > 0.5 * plain["Resize"]
    if backend == "tf":  # with Echo native batches leave TensorFlow's graph, which takes most of what is saved here
        assert echoed["whole"] < plain["whole"] - 0.25 * plain["Decode"]


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "no_trials")
@pytest.mark.parametrize("backend", ["tf", "native", "pillow", "mixed"])
@pytest.mark.parametrize("cached", [False, True])
def test_a_plan_that_echoes_is_profiled(sample_folder: Path, backend: str, cached: bool) -> None:
    cache = (gl.Cache(),) if cached else ()
    crop = gl.RandomResizedCrop(32)
    pipeline = gl.Pipeline(gl.ImageFolder(sample_folder), *cache, gl.Decode(), gl.Echo(3), crop, gl.Batch(16), seed=3)
    placed = {"Decode": "tf", "RandomResizedCrop": "native"} if backend == "mixed" else backend
    if cached and backend == "native":
        with pytest.raises(
            gl.PipelineError, match=r"Cache on backend 'native' with Echo\(times=3\) behind it: profile"
        ):
            profile(pipeline, placed)
        return
    report = profile(pipeline, placed, rounds=2, samples=32)
    plan = make_plan(pipeline, placed)
    names = [step.name for step in plan.steps]
    assert [step.name for step in report.steps] == (names if cached else [*names, "hand-over"])
    assert report.full.cpu_s_per_sample.value
    validate(report.to_dict())
