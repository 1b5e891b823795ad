"""DALI is given only the segments of transcoded JPEGs that its windows need: the same pixels, the same errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import encoders
import numpy as np
import pytest
from dali_cases import records_of, runner_of
from damage import KINDS
from hypothesis import given, settings
from hypothesis import strategies as st
from subsampled import LUMA, odd, transcoded, unindexed

from greenload.backends.base import Records
from greenload.backends.dali import plugin
from greenload.backends.dali import replay as dali_replay
from greenload.backends.dali.base import Target
from greenload.backends.dali.cut_outs import graph_inputs
from greenload.backends.dali.graph import feed, feed_name, image_list, make_graph
from greenload.backends.image_sizes import BatchSizes, sizes_of
from greenload.backends.native import abi, library
from greenload.backends.native import cut_outs as kernel
from greenload.backends.registry import readers_of
from greenload.backends.replay import replay
from greenload.errors import BackendUnavailable, RecordError
from greenload.loading.dali_node import DaliNode
from greenload.loading.dataset import build_dataset
from greenload.loading.iterate import iterate
from greenload.loading.load import resolve_order
from greenload.loading.pack import pack
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.sources import Files, TFRecords
from greenload.stages import Batch, CenterCrop, Decode, RandomHorizontalFlip, RandomResizedCrop, Resize, Shuffle, Stage

pytest.importorskip("nvidia.dali")
pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

SIZES = ((1, 1), (1, 40), (40, 1), (2, 2), (5, 5), (17, 33), (20, 36), (101, 75), (64, 256), (130, 203))
KINDS_OF_FILES = (*LUMA, "grey")
AT_ONCE = 8
Pixels = np.ndarray[Any, Any]


def plan_of(*stages: Stage, count: int, **decode: Any) -> Plan:
    files = Files([f"{index}.jpg" for index in range(count)])
    return make_plan(Pipeline(files, Decode(**decode), *stages, Batch(count), seed=7), "dali-cpu", threads=2)


def both(plan: Plan, files: list[bytes], epoch: int = 0) -> tuple[Pixels, Pixels, list[int]]:
    """A batch of transcoded files through a plan: as it is loaded, and decoded as wholes; and bytes that DALI is given
    of each file."""
    results = []
    with runner_of(plan, len(files)) as runner:
        for given_files in (files, list(map(unindexed, files))):
            records = records_of(plan.pipeline, given_files, epoch)
            results.append(np.array(runner.run(records)))
        job = runner.prepare(records_of(plan.pipeline, files, epoch))
    return results[0], results[1], [len(image) for image in job.records.images]


@pytest.fixture(scope="module")
def decode() -> Any:
    """Windows of files, decoded in DALI as they are given: of each what it sees of the files, and the pixels."""
    plan = plan_of(CenterCrop(1), count=AT_ONCE)
    (segment,), readers = plan.segments, readers_of(plan)
    step = segment.steps[0]
    graph = make_graph([step], step.spec_in, batch_size=AT_ONCE, threads=2, target=Target())

    def decoded(files: list[bytes], windows: Pixels) -> tuple[list[bytes], list[Pixels]]:
        start, shape = (np.ascontiguousarray(part, np.int32) for part in (windows[:, :2], windows[:, 2:]))
        sizes = sizes_of(files, ["?"] * len(files), "dali-cpu", readers)
        seen: Any
        seen, fed = graph_inputs([step], files, sizes, {feed_name("start", 0): start, feed_name("shape", 0): shape})
        feed(graph, image_list(seen), fed)
        (result,) = graph.run()
        return seen, [np.array(result[index]) for index in range(len(files))]

    return decoded


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_window_of_any_file_has_the_same_pixels(decode: Any, data: st.DataObject) -> None:
    files, windows = [], []
    for _ in range(AT_ONCE):
        height, width = data.draw(st.sampled_from(SIZES))
        files.append(transcoded(data.draw(st.sampled_from(KINDS_OF_FILES)), height, width))
        top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        rows, columns = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
        windows.append((top, left, rows, columns))
    _, parts = decode(files, np.array(windows))
    seen, wholes = decode(list(map(unindexed, files)), np.array(windows))
    assert seen == list(map(unindexed, files))
    for part, whole, window in zip(parts, wholes, windows, strict=True):
        assert np.array_equal(part, whole), window


def test_windows_at_all_borders_have_the_same_pixels_and_most_files_are_cut(decode: Any) -> None:
    random, cut = np.random.default_rng(0), 0
    for kind in KINDS_OF_FILES:
        for height, width in SIZES:
            file = transcoded(kind, height, width)
            top, left = random.integers(height, size=AT_ONCE), random.integers(width, size=AT_ONCE)
            rows, columns = random.integers(1, height - top + 1), random.integers(1, width - left + 1)
            top[:4], left[:4] = (0, 0, height - 1, height - 1), (0, width - 1, 0, width - 1)
            rows[:4] = columns[:4] = 1
            windows = np.stack((top, left, rows, columns), -1)
            seen, parts = decode([file] * AT_ONCE, windows)
            _, wholes = decode([unindexed(file)] * AT_ONCE, windows)
            assert all(map(np.array_equal, parts, wholes)), (kind, height, width)
            cut += sum(len(image) < len(file) for image in seen)
    assert cut > 150


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_windows_of_turned_images_have_the_same_pixels(orientation: int) -> None:
    form = abi.Form.TRANSCODED
    files = [library.transcode(encoders.with_exif(odd(kind, 130, 203), orientation), form) for kind in LUMA]
    for exif in (True, False):
        for stages in ((CenterCrop((40, 60)),), (RandomResizedCrop(32, scale=(0.05, 0.5)), RandomHorizontalFlip())):
            plan = plan_of(*stages, count=len(files), exif=exif)
            for epoch in range(3):
                parts, wholes, given_bytes = both(plan, files, epoch)
                assert np.array_equal(parts, wholes)
                assert all(size < len(file) for size, file in zip(given_bytes, files, strict=True))


def test_draws_follow_from_the_sizes_of_the_files() -> None:
    """Two plans, of which only one decodes windows, and a batch of all kinds of files."""
    files = [transcoded(kind, 130, 203) for kind in LUMA]
    files += [odd("4:2:0", 101, 75), encoders.kept("progressive.jpg"), encoders.png(encoders.pixels(40, 50))]
    plan = plan_of(RandomResizedCrop(32), RandomHorizontalFlip(), count=len(files))
    parts, wholes, given_bytes = both(plan, files)
    assert np.array_equal(parts, wholes)
    assert given_bytes[4:] == [len(file) for file in files[4:]]
    with runner_of(plan, len(files)) as runner:
        records = records_of(plan.pipeline, files)
        moved = runner.prepare(records).arguments
        still = runner.prepare(records_of(plan.pipeline, list(map(unindexed, files)))).arguments
    assert records.images == files, "the caller's own files are as they were"
    assert [name for name in still if not np.array_equal(still[name], moved[name])] == [feed_name("start", 0)]


def test_whole_images_are_given_as_they_are() -> None:
    files = [transcoded(kind, 130, 203) for kind in LUMA]
    plan = plan_of(Resize((20, 30)), count=len(files))
    parts, wholes, given_bytes = both(plan, files)
    assert np.array_equal(parts, wholes)
    assert given_bytes == [len(file) for file in files]


def test_without_the_kernel_files_are_given_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise BackendUnavailable("the kernel isn't built; make setup")

    files = [transcoded(kind, 130, 203) for kind in LUMA]
    monkeypatch.setattr(kernel, "_library", missing)
    parts, wholes, given_bytes = both(plan_of(CenterCrop(20), count=len(files)), files)
    assert np.array_equal(parts, wholes)
    assert given_bytes == [len(file) for file in files]


def test_damaged_files_give_the_same_errors_and_pixels() -> None:
    file, random, failed, cut = transcoded("4:2:0", 130, 203), np.random.default_rng(4), 0, 0
    plan = plan_of(RandomResizedCrop(24, scale=(0.05, 0.6)), count=1)
    fills = plan_of(RandomResizedCrop(24, scale=(0.05, 0.6)), count=1, truncated="fill")

    def outcome(runner: Any, records: Records) -> Any:
        try:
            return np.array(runner.run(records)).tobytes()
        except RecordError as error:
            return str(error)

    with runner_of(plan, 1) as raising, runner_of(fills, 1) as filling:
        for index in range(320):
            damaged = KINDS[list(KINDS)[index % len(KINDS)]](file, random)
            for runner in (raising, filling):
                records = [records_of(runner.plan.pipeline, [data], index) for data in (damaged, unindexed(damaged))]
                part, whole = (outcome(runner, each) for each in records)
                assert part == whole, (index, list(KINDS)[index % len(KINDS)])
                failed += isinstance(part, str)
                if not isinstance(part, str):
                    cut += len(runner.prepare(records[0]).records.images[0]) < len(damaged) - 500
    assert failed > 100 and cut > 50


def test_a_file_that_was_made_anew_is_not_cut() -> None:
    file, other = transcoded("4:2:0", 130, 203), odd("4:4:4", 20, 36)
    plan = plan_of(CenterCrop(20), count=1)
    step, one = plan.segments[0].steps[0], np.ones(1, np.int64)
    fed = {feed_name(name, 0): np.full((1, 2), 20, np.int32) for name in ("start", "shape")}
    for anew in ({}, {"filled": ((0, other),)}, {"as_png": ((0, other),)}):
        sizes = BatchSizes(130 * one, 203 * one, **anew)
        (seen,), moved = graph_inputs([step], [file], sizes, fed)
        assert (seen == other) == bool(anew)
        assert (moved is fed) == bool(anew)


def test_transcoded_records_give_the_batches_of_plain_ones(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.jpg" for index in range(len(LUMA))]
    for path, kind in zip(paths, LUMA, strict=True):
        path.write_bytes(odd(kind, 130, 203))
    files = Files(paths, labels=range(len(paths)))
    batches = []
    for transcode in (False, True):
        folder = tmp_path / f"packed-{transcode}"
        pack(files, folder, transcode=transcode)
        source = TFRecords(folder)
        stages = (Shuffle(), Decode(), RandomResizedCrop(32), RandomHorizontalFlip(), Batch(3))
        with iterate(Pipeline(source, *stages, seed=7), backend="dali-cpu", epochs=3) as batch:
            batches.append([(images.copy(), labels.copy()) for images, labels in batch])
    for (images, labels), (others, their_labels) in zip(*batches, strict=True):
        assert np.array_equal(images, others) and np.array_equal(labels, their_labels)


def test_at_the_end_of_tf_data_rows_hold_only_what_is_cut_out(tmp_path: Path) -> None:
    """The road of a GPU, rehearsed on the CPU."""
    if not (usable := plugin.availability()).usable:
        pytest.skip(f"{usable.detail}; {usable.remedy}")
    stages = (Shuffle(), Decode(exif=True), RandomResizedCrop(16, scale=(0.05, 0.3)), Batch(3))
    batches, widths = [], []
    for form in (abi.Form.ENCODED, abi.Form.TRANSCODED):
        paths = [tmp_path / f"{form.name}-{index}.jpg" for index in range(len(LUMA))]
        for turn, (path, kind) in enumerate(zip(paths, LUMA, strict=True), 1):
            path.write_bytes(library.transcode(encoders.with_exif(odd(kind, 130, 203), turn), form))
        plan = make_plan(Pipeline(Files(paths), *stages, seed=7), "dali", threads=2)
        dataset = build_dataset(plan, *resolve_order(plan, epochs=2), 2, Target())
        batches.append([images.numpy() for images, _ in dataset])
        index = np.arange(len(paths))
        numbers = DrawLayout.of(plan.pipeline).prepare(7, 0, index)
        files = [path.read_bytes() for path in paths]
        widths.append(DaliNode(plan, Target()).pack(files, np.empty(0), numbers, index).shape[1])
    assert len(batches[0]) == 4 and all(map(np.array_equal, *batches))
    assert widths[1] < widths[0] / 1.5


def test_replays_work_on_what_is_cut_out() -> None:
    files = [transcoded(kind, 130, 203) for kind in LUMA]
    plan = plan_of(CenterCrop(24), RandomHorizontalFlip(), count=len(files))
    records = records_of(plan.pipeline, files)
    for place, step in enumerate(plan.steps):
        if step.kind != "read":
            for one in replay(plan, place, records, len(files), 1):
                assert one.run(len(files)) == len(files)
                one.close()
    (segment,) = plan.segments
    (captured,) = dali_replay._capture(plan, segment, segment.steps[0], [records], readers_of(plan))
    assert all(len(part) < len(file) for part, file in zip(captured.records.images, files, strict=True))
