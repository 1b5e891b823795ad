"""Datasets that are joined or regrouped, with branches that are finite, endless, empty or long; and what is kept to."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import greenload as gl
from bench.joins import double_work, work
from greenload.profiling import schedule, windows
from greenload.profiling.tfdata import bounds, counting
from greenload.profiling.tfdata.bounds import plan_bounds
from greenload.profiling.tfdata.caches import Stores
from greenload.profiling.tfdata.counting import Counts, count_elements
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.rebuild import Builder
from greenload.profiling.tfdata.replays import DatasetReplays
from greenload.profiling.tfdata.walk import walk

tf = pytest.importorskip("tensorflow")

Range, Zip = tf.data.Dataset.range, tf.data.Dataset.zip
choose, sample = tf.data.Dataset.choose_from_datasets, tf.data.Dataset.sample_from_datasets
WORKED = Range(30).map(work)
SAMPLES = 32
NOTHING = "nothing"


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no epoch is counted briefly."""
    monkeypatch.setattr(counting, "COUNT_S", 3.0)
    monkeypatch.setattr(counting, "ENDLESS_S", 0.1)
    monkeypatch.setattr(counting, "_INNER_S", 0.1)


def counted(dataset: Any, folder: Path, samples: int = SAMPLES) -> tuple[Node, Counts, DatasetReplays]:
    """A dataset as a profile sees it."""
    root, builder = walk(dataset), Builder(str(folder))
    counts = count_elements(root, builder, samples, lambda: None)
    return root, counts, DatasetReplays(root, counts, Builder(str(folder), 2), samples, lambda: None)


def flows(root: Node, counts: Counts) -> dict[str, float]:
    """Elements for each sample, by row."""
    return {node.name: counts.flows[node].elements_per_sample for node in root.nodes() if not node.hidden}


def resampled(**given: Any) -> Any:
    data = Range(300).map(lambda i: (i, tf.cast(i % 6 == 0, tf.int64)))
    return data.rejection_resample(lambda x, y: y, [0.5, 0.5], seed=5, **given).map(lambda _, xy: xy).batch(8)


def endless_numbers() -> Iterator[int]:
    n = 0
    while True:
        yield n
        n += 1


def generated(make: Callable[[], Iterator[int]] = endless_numbers) -> Any:
    return tf.data.Dataset.from_generator(make, output_signature=tf.TensorSpec((), tf.int64))


def buckets(dataset: Any) -> Any:
    return dataset.map(lambda i: tf.fill([i % 7 + 1], i)).bucket_by_sequence_length(tf.size, [3, 6], [4, 4, 2])


def before(inner: Any) -> Any:
    """Behind a dataset that gives something, so that the whole isn't empty."""
    return Range(40).map(work).concatenate(inner.map(double_work))


MADE: dict[str, tuple[Callable[[], Any], set[str]]] = {  # with the rows of which nothing is seen
    "an empty branch": (lambda: before(Range(0)), {"range (2)", "double_work"}),
    "a filter that passes none": (lambda: before(Range(50).filter(lambda x: x > 99)), {"double_work"}),
    "weight 0": (lambda: sample([Range(90).map(work)] * 2, [1.0, 0.0], 1), set()),
    "an interleave of nothing": (
        lambda: before(Range(9).interleave(lambda i: Range(0).map(work))),
        {"range (3)", "work (2)", "double_work"},
    ),
    "an interleave of some": (lambda: Range(20).interleave(lambda i: Range(4 * (i % 2)).map(work)), set()),
    "an unbatch of nothing": (
        lambda: before(Range(9).map(lambda x: tf.zeros((0,), tf.int64)).unbatch()),
        {"unbatch", "double_work"},
    ),
    "behind what never ends": (
        lambda: Range(9).map(work).repeat().concatenate(Range(9).interleave(lambda i: Range(2).map(double_work))),
        {"range (2)", "range (3)", "double_work"},
    ),
    "one branch repeats": (lambda: choose([WORKED, WORKED.repeat()], Range(2).repeat(40)), set()),
    "the selector is longer": (lambda: choose([WORKED, WORKED], Range(2).repeat(200)), set()),
    "all of a choice is endless": (lambda: choose([WORKED.repeat()] * 2, Range(2).repeat(), False), set()),
    "both sides repeat": (lambda: Zip((Range(5).repeat(), Range(3).map(work).repeat())), set()),
    "resampled": (lambda: resampled(initial_dist=[5 / 6, 1 / 6]), set()),
    "past a repeat": (lambda: Range(10).repeat().skip(100).map(work).take(30), set()),
    "until something": (lambda: Range(5).repeat().take_while(lambda x: x < 3).repeat().map(work), set()),
    "buckets": (lambda: buckets(Range(50)), set()),
    "rebatched": (lambda: Range(50).map(work).batch(8).rebatch(5), set()),
    "ragged": (lambda: Range(50).map(lambda i: tf.range(i % 5)).ragged_batch(4), set()),
    "an empty cache": (
        lambda: before(Range(0).cache()).batch(4),
        {"range (2)", "cache", "double_work"},
    ),
    NOTHING + " repeated": (lambda: Range(50).map(work).repeat(0), set()),
    NOTHING + " taken": (lambda: Range(50).map(work).take(0), set()),
    NOTHING + " left": (lambda: Range(50).map(work).cache().skip(50), set()),
    NOTHING + " inside": (lambda: Range(20).flat_map(lambda i: Range(0).map(work)), set()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_every_dataset_is_counted_and_runs_on(name: str, tmp_path: Path) -> None:
    make, unseen = MADE[name]
    if name.startswith(NOTHING):
        with pytest.raises(gl.UsageError, match="this one is empty"):
            counted(make(), tmp_path)
        return
    root, counts, replays = counted(make(), tmp_path)
    rows = [node for node in root.nodes() if not node.hidden]
    assert set(replays.unreached(rows)) == unseen
    run = replays.full()
    assert run.run(3 * counts.samples) >= 3 * counts.samples  # past its end, however it ends
    run.close()


def one_more(x: Any) -> Any:
    return x + 1


def two_more(x: Any) -> Any:
    return x + 2


@pytest.mark.slow
def test_what_a_branch_costs_follows_its_share(tmp_path: Path) -> None:
    chosen = sample([Range(50).map(one_more).repeat(), Range(30).map(two_more).repeat()], [0.9, 0.1], seed=1)
    root, counts, _ = counted(chosen, tmp_path, 512)
    found = flows(root, counts)  # not 5 : 3, as they would be by the lengths of what repeats
    assert found["two_more"] == pytest.approx(0.1, abs=0.06) and found["one_more"] == pytest.approx(0.9, abs=0.06)
    assert counts.endless and counts.epoch_elements is None
    until = Range(5).repeat().enumerate().take_while(lambda n, x: n < 23).map(lambda n, x: x)
    assert counted(until, tmp_path)[1].epoch_elements == 23


@pytest.mark.slow
def test_what_buffers_hold_is_no_end_of_a_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()  # each look at the clock a second later: so many elements are counted at any load
    monkeypatch.setattr(counting, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    monkeypatch.setattr(counting, "COUNT_S", 60.0)
    held = Range(4000).filter(lambda x: x % 2 == 0).shuffle(4000).map(double_work)  # all taken in before the first
    root, counts, _ = counted(held, tmp_path, 8)
    assert counts.epoch_elements is None
    found = flows(root, counts)
    # One for each that leaves, and not 0 as none comes any more. Those that are read ahead may be counted or not.
    assert found["shuffle"] == pytest.approx(1, abs=0.1)
    assert found["lambda x: x % 2 == 0"] == pytest.approx(found["shuffle"])
    assert found["range"] == pytest.approx(2 * found["shuffle"])
    opened = Range(2).interleave(lambda i: Range(10**6).map(double_work), cycle_length=2)
    root, counts, replays = counted(opened, tmp_path, 8)
    assert 0 < flows(root, counts)["range"] <= 0.1  # both inputs are taken before the first element
    assert not replays.unreached([node for node in root.nodes() if not node.hidden])


@pytest.mark.slow
def test_a_long_branch_stands_for_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "COUNT_S", 0.0)  # ends behind the second element
    drawn = tf.Variable(0, dtype=tf.int64)

    def noted(x: Any) -> Any:
        drawn.assign_add(1)
        return double_work(x)

    root, counts, replays = counted(Range(40).map(work).concatenate(Range(10**6).map(noted)), tmp_path)
    assert set(replays.unreached([node for node in root.nodes() if not node.hidden])) == {"range (2)", "noted"}
    run = replays.full()
    assert counts.samples < 40 < run.run(500)
    run.close()
    assert int(drawn) == 0  # it starts anew behind what was counted


@pytest.mark.slow
def test_a_cache_that_no_epoch_reads_to_its_end_is_none(tmp_path: Path) -> None:
    held, selves = Range(30).map(work).cache(), Range(9).repeat().cache()
    made = [held.take(30), held.repeat().take(20).shuffle(3), selves.take(20), Zip((Range(5), held))]
    for dataset in made:  # TensorFlow keeps what was read only once it has met the end
        root, counts, replays = counted(dataset.batch(4), tmp_path)
        (cache,) = counts.unfilled
        assert not Stores.of(root, counts.unfilled) and counts.epoch_elements is not None
        pair = replays.pair(cache).runs()
        assert set(pair) == {"with", "without"} and all(run.run(100) >= 100 for run in pair.values())
    for dataset in (held, held.take(31), held.shuffle(99).take(5), held.batch(7, drop_remainder=True).repeat()):
        assert not counted(dataset, tmp_path)[1].unfilled


def test_copies_of_a_build_read_one_filled_cache(tmp_path: Path) -> None:
    calls = tf.Variable(0, dtype=tf.int64)

    def noted(x: Any) -> Any:
        calls.assign_add(1)
        return x

    root, _, replays = counted(Range(30).map(noted).cache().batch(4).prefetch(2), tmp_path)
    before = int(calls)
    for node in [*root.nodes()][2:]:
        assert sum(1 for _ in replays.copy(node)) in (30, 8)
    assert int(calls) - before == 30
    replays.forget()
    assert sum(1 for _ in replays.copy(root)) == 8 and int(calls) - before == 60


@pytest.mark.slow
def test_a_generator_without_a_known_end_is_drawn_from_for_so_many_samples(tmp_path: Path) -> None:
    drawn = []

    def slowly() -> Iterator[int]:
        for n in range(10**6):
            drawn.append(n)
            yield n

    counts = counted(generated(slowly).map(work).batch(4), tmp_path)[1]
    # tf.data reads ahead, the further the more it lags; without a bound it would be 3 s of drawing
    assert counts.bounded and counts.epoch_elements is None and len(drawn) <= 4 * SAMPLES
    known = generated(slowly).apply(tf.data.experimental.assert_cardinality(100)).map(work)
    assert not counting.unbounded_generator(walk(known.batch(4).repeat()))
    assert not counted(generated(slowly).take(50), tmp_path)[1].bounded
    drawn.clear()
    counts = counted(generated(slowly).cache().map(work).batch(4), tmp_path)[1]  # the cache is given a part
    assert counts.cut and not counts.bounded and len(drawn) <= 8 * SAMPLES


def test_time_is_planned_and_kept_by_fewer_samples_and_rounds(tmp_path: Path) -> None:
    root, counts, _ = counted(Range(100).map(work).batch(4), tmp_path)
    rows = [node for node in root.nodes() if not node.hidden]
    usual: dict[str, Any] = {"rounds": 5, "window_s": 0.25, "counting_s": 3.0}

    def planned(s: float, planned: bool = False, samples: int = 512) -> bounds.Bounds:
        slow = replace(counts, s_per_sample=s, samples=2000, epoch_elements=None, first_s=s)
        return plan_bounds(slow, rows, Stores.of(root), samples=samples, **usual, planned=planned)

    quick, slow, slower = planned(1e-4), planned(0.05), planned(1.0)
    assert (quick.samples, quick.rounds, quick.reasons) == (512, 5, {})
    assert slow.samples < 512 and "not 512" in slow.reasons["samples"]
    assert slower.rounds == 2 and set(slower.reasons) == {"samples", "rounds"}
    assert 30 < quick.seconds() < slow.seconds() < 120 < slower.seconds()
    assert planned(1.0, planned=True).rounds == 5 and quick.seconds(4) > 1.5 * quick.seconds(2)
    cached = walk(Range(100).map(work).cache().batch(4))
    more = plan_bounds(counts, rows, Stores.of(cached), samples=512, **usual, planned=False)
    assert len(more.parts_s) == 3 and more.build_s > sum(more.parts_s) > sum(quick.parts_s)
    assert more.due_s(0, 1.0) + sum(more.parts_s) == pytest.approx(more.due_s(0, 1.0, 3)) == pytest.approx(more.build_s)
    assert 0 < more.due_s(1, 0.5) - more.build_s < more.due_s(1, 1.0) - more.build_s
    text = bounds.passes_text(
        replace(counts, flows=dict.fromkeys(counts.flows, counting.Flow(6.0, 8.0))), rows, quick, "2"
    )
    assert f"2 times {quick.passes} passes" in text and "each of which takes 6.0 elements of range" in text


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_a_profile_draws_and_lasts_as_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (windows, schedule):
        monkeypatch.setattr(room, "BUILDS", 2)
    monkeypatch.setattr(bounds, "MEASURING_S", 2.0)
    monkeypatch.setattr(bounds, "TRYING_S", 0.1)
    drawn, said = [0], []

    def slowly() -> Iterator[int]:
        while True:
            drawn[0] += 1
            time.sleep(0.001)
            yield drawn[0]

    dataset = generated(slowly).map(work).concatenate(Range(9).map(double_work)).batch(4)
    start = time.monotonic()
    report = gl.profile(dataset, rounds=2, samples=SAMPLES, announce=said.append)
    took = time.monotonic() - start
    kept = report.plan["bounds"]
    assert len(said) == 1 and said[0].startswith("planned: 2 builds of 2 rounds, ")
    assert f"at most {kept['pass_samples']} samples" in said[0] and kept["pass_samples"] <= SAMPLES
    assert drawn[0] <= 1.3 * kept["passes"] * (kept["pass_samples"] + 8)
    assert took <= 1.3 * kept["announced_s"]
    reasons = {one.name: one.reason for one in report.skipped}
    assert "nothing reached it" in reasons["double_work"] and "double_work" not in {step.name for step in report.steps}
