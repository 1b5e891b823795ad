"""What several watched datasets have in common is counted once, and told as nobody's samples but theirs."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")

import greenload as gl  # noqa: E402
from greenload.backends.native import library, op  # noqa: E402
from greenload.profiling.in_place.all_functions import ClockedFunction  # noqa: E402
from greenload.profiling.in_place.flow import SampleCount  # noqa: E402
from greenload.profiling.in_place.kinds import steps_together  # noqa: E402
from greenload.profiling.in_place.live import live  # noqa: E402
from greenload.profiling.in_place.status import DatasetStatus, Status, from_value, span  # noqa: E402
from greenload.profiling.in_place.watched import Moment, Watched, WatchedStep, all_watched  # noqa: E402
from greenload.system import json_data  # noqa: E402
from greenload.system.work import Work  # noqa: E402

pytestmark = pytest.mark.skipif(not op.usable(), reason=library.why_missing() or "there are operations")
Range = tf.data.Dataset.range


def plus_one(x: Any) -> Any:
    """Adds one."""
    return x + 1


def function(calls: int) -> ClockedFunction:
    """One that was called so often."""
    return ClockedFunction(WatchedStep("f", "map", lambda: Work(calls)), "f", "", "")


def summed(parts: Sequence[tuple[str, Sequence[ClockedFunction]]]) -> list[tuple[str, int]]:
    """Rows of datasets with a step each, in the given branch and with the given functions."""
    steps = steps_together([{("f", "map", "a.py:1", branch): list(functions)} for branch, functions in parts])
    return [(step.branch, step.read().calls) for step in steps]


def test_steps_with_a_function_in_common_are_one_row_in_any_order() -> None:
    a, b, c, d = map(function, (1, 10, 100, 1000))
    for middle in (0, 1, 2):
        parts = [("zip 1", [a]), ("", [b]), ("zip 2", [d])]
        parts.insert(middle, ("choose 1", [a, b]))
        assert summed([*parts, ("", [c])])[0][1] == 111, "the row of a branch has what came to it before it was joined"
        assert sum(calls for _, calls in summed([*parts, ("", [c])])) == 1111
    assert [calls for _, calls in summed([("zip 1", [a]), ("zip 2", [b])])] == [1, 10]


def test_a_row_that_adds_up_others_has_their_work() -> None:
    one, other = (WatchedStep("decode", "map", lambda: Work(5, 5, 1.0)) for _ in range(2))
    both = WatchedStep("decode", "map", lambda: Work(10, 10, 2.0), clocks=one.clocks | other.clocks)
    parts = [Watched(name, (step,)) for name, step in (("a", one), ("b", both), ("c", other))]
    moments = [(each, Moment(1.0, 4.0, {"decode": each.steps[0].read()})) for each in parts]
    after = Status(
        7, "", [], 1.0, 2.0, 1.0, 4.0, 0.0, [DatasetStatus(0, w.name, "row", w.steps, m) for w, m in moments]
    )
    before = replace(after, time_s=0.0, cpu_s=0.0, datasets=[])
    elsewhere = span(before, from_value(json_data.parse(json.dumps(after.to_dict()))))
    for made in (live(moments), elsewhere):
        assert [len(each.steps) for each in made.datasets] == [0, 1, 0]
        assert made.datasets[0].counted_in == made.datasets[2].counted_in == {"decode": "b"}
        assert made.rest_cpu_s == 2.0


@pytest.mark.parametrize(("crops", "samples"), [(0, 50.0), (10, None)])
def test_samples_told_by_calls_of_another_that_worked_are_unknown(crops: int, samples: float | None) -> None:
    read, crop = WatchedStep("read", "read", lambda: Work(50)), WatchedStep("crop", "map", lambda: Work(crops))
    train = Watched("a", (read,), samples=SampleCount({"read": 1.0}))
    test = Watched("b", (read, crop), samples=SampleCount({"crop": 1.0}))
    datasets = live([(each, replace(each.read(), time_s=1.0)) for each in (train, test)]).datasets
    assert [each.samples for each in datasets] == [samples, float(crops)]


def test_a_dataset_watched_again_is_the_same() -> None:
    given = Range(9).map(plus_one)
    watched = gl.watch(given)
    assert gl.watch(given) is watched
    assert gl.watch(given.prefetch(1)) is not watched and gl.watch(Range(9).map(plus_one)) is not watched
    number = watched.watched.number
    del watched
    gc.collect()
    assert number not in [each.number for each in all_watched()], "nothing else holds it"
    assert len(list(gl.watch(given))) == 9


@pytest.mark.parametrize("backend", ["tf", "pillow"])
def test_a_pipeline_watched_again_is_the_same(sample_folder: Path, backend: str) -> None:
    plan = gl.make_plan(
        gl.Pipeline(gl.ImageFolder(sample_folder), gl.Decode(), gl.Resize((8, 8)), gl.Batch(8)), backend
    )
    loaded = gl.load(plan, epochs=1)
    one, again = gl.watch(loaded), gl.watch(loaded)
    assert len(list(one)) == len(list(again)) == 6
    done = one.watched.read()
    assert one is again and (done.samples, done.steps["Read"].calls) == (96, 96)


def test_a_chain_inside_a_function_that_stands_twice_is_said_to_be_the_same() -> None:
    nested = Range(4).interleave(lambda _: Range(3).map(plus_one))
    watched = gl.watch(tf.data.Dataset.zip(nested, nested))
    assert len(list(watched)) == 12
    done = watched.watched.read()
    assert (done.steps["plus_one"].calls, done.samples) == (24, None)
    assert watched.watched.unwatched["plus_one (2)"] == "it is the same dataset as plus_one, which counts for both"
