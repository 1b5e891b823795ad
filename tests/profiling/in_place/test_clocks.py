"""Clocks around the functions of a dataset: which functions have one, and what they count."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from dataset_cases import Range, elements  # noqa: E402

import greenload as gl  # noqa: E402
from greenload.backends.native import library, op  # noqa: E402
from greenload.profiling.in_place.live import LiveStep, live  # noqa: E402
from greenload.profiling.in_place.watched import WatchedStep  # noqa: E402
from greenload.system.work import Work  # noqa: E402

pytestmark = pytest.mark.skipif(not op.usable(), reason=library.why_missing() or "there are operations")


def plus_one(x: Any) -> Any:
    """Adds one."""
    return x + 1


def test_calls_that_fail_change_no_threads() -> None:
    def checked(x: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_less(x % 3, tf.constant(1, tf.int64))]):
            return x + 1

    # The first calls do change threads: TensorFlow takes each operation for a costly one until it has seen it run.
    dataset = gl.watch(Range(6000).map(checked).ignore_errors())
    assert len(list(dataset)) == 2000
    moment = dataset.watched.read()
    work = moment.steps["checked"]
    assert work.calls == 2000 and work.crossed < 100, work
    (step,) = live([(dataset.watched, moment)]).datasets[0].steps
    assert step.note == ""


def test_calls_that_end_on_another_thread_are_counted() -> None:
    def asleep(x: Any, seconds: float) -> Any:
        return tf.numpy_function(lambda y: time.sleep(seconds) or y, [x], tf.int64, stateful=False)

    dataset = gl.watch(Range(200).map(lambda x: tf.add_n([asleep(x, s) for s in (3e-3, 1e-3) * 2]), name="four"))
    assert len(list(dataset)) == 200
    work = dataset.watched.read().steps["four"]
    assert work.calls == work.timed + work.crossed == 200 and work.crossed > 0, work


def test_a_row_without_calls_has_no_share_of_them() -> None:
    step = WatchedStep("never", "map", Work)
    assert LiveStep(step, Work(crossed=3)).note == ""
    assert LiveStep(step, Work(10, 5, crossed=5)).note.startswith("50% of its calls")


VARIANTS: dict[str, Callable[[Any], Any]] = {
    "ragged": lambda x: tf.strings.split(tf.stack([tf.strings.as_string(x), "b c"])),
    "ragged, of a dataset": lambda x: Range(3).map(lambda y: y + x).ragged_batch(4).get_single_element(),
    "sparse": lambda x: tf.sparse.from_dense(tf.stack([x, 0])),
    "optional": lambda x: tf.experimental.Optional.from_value(x * 2),
    "tensor array": lambda x: tf.TensorArray(tf.int64, 2).unstack(tf.stack([x, x])),
}


@pytest.mark.parametrize("case", VARIANTS)
def test_a_function_that_gives_variants_has_a_clock(case: str) -> None:
    watched = gl.watch(Range(4).map(VARIANTS[case], name="made")).watched
    assert [step.name for step in watched.steps] == ["made"]
    dataset = gl.watch(Range(4).map(VARIANTS[case], name="made"))
    assert len(list(dataset)) == 4
    assert dataset.watched.read().steps["made"].calls == 4


def test_a_function_that_only_makes_datasets_has_no_clock_and_says_so() -> None:
    @tf.function
    def counted_up(x: Any) -> Any:
        return Range(x).map(lambda y: y)

    dataset = gl.watch(Range(3).map(counted_up, name="made").flat_map(lambda d: d.map(plus_one)))
    assert elements(dataset) == elements(tf.data.Dataset.from_tensor_slices(np.array([1, 1, 2])))
    assert "only makes datasets" in dataset.watched.unwatched["made"]
    assert [(step.name, step.read().calls) for step in dataset.watched.steps] == [("lambda d: d.map(plus_one)", 3)]
    inside = gl.watch(Range(3).interleave(lambda x: Range(x).map(lambda y: y, name="same"))).watched
    assert "gives its arguments back" in inside.unwatched["same"]


def frozen(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function that imports a graph as TensorFlow 1 makes it, with a placeholder that its argument stands for."""
    with tf.Graph().as_default() as graph:
        tf.compat.v1.disable_control_flow_v2()
        given = tf.compat.v1.placeholder(tf.int64, (), "given")
        result = build(given).name
        tf.compat.v1.enable_control_flow_v2()
    return lambda x: tf.graph_util.import_graph_def(graph.as_graph_def(), {"given": x}, [result])[0]


def test_nodes_that_a_function_does_not_need_are_not_run() -> None:
    dataset = Range(5).map(frozen(lambda x: tf.identity(x * 2)), name="frozen")
    watched = gl.watch(dataset)
    assert elements(watched) == elements(dataset)  # the placeholder stands in the function and can't be run
    assert watched.watched.read().steps["frozen"].calls == 5


def test_a_function_with_control_flow_of_tensorflow_1_has_no_clock() -> None:
    def branches(x: Any) -> Any:
        def doubled() -> Any:
            y = x * 2
            tf.identity(y, "unused")
            return y

        return tf.compat.v1.cond(x > 2, doubled, lambda: x + 100)

    dataset = Range(5).map(frozen(branches), name="frozen").map(plus_one)
    watched = gl.watch(dataset)
    assert elements(watched) == elements(dataset)
    assert "control flow of TensorFlow 1" in watched.watched.unwatched["frozen"]
    assert [step.name for step in watched.watched.steps] == ["plus_one"]


def test_a_snapshot_on_disk_is_read_by_a_watched_dataset(tmp_path: Path) -> None:
    calls = []
    counted = Range(5).map(lambda x: tf.numpy_function(lambda y: calls.append(y) or y, [x], tf.int64), name="counted")
    dataset = counted.map(plus_one).snapshot(str(tmp_path)).map(plus_one, name="behind")
    expected = elements(dataset)
    assert len(calls) == 5
    watched = gl.watch(dataset)
    assert elements(watched) == expected
    assert len(calls) == 5  # the elements that are on disk
    assert [step.name for step in watched.watched.steps] == ["behind"]
    assert watched.watched.unwatched["counted"].startswith("the snapshot behind it knows its files")
    assert watched.watched.unwatched["range"] == "no function: its work is in the hand-over"


def test_what_hangs_on_a_dataset_hangs_on_the_watched_one() -> None:
    dataset = Range(3).map(plus_one)
    dataset.class_names, dataset.file_paths = ["cat", "dog"], ["a.png"]  # as Keras does
    watched = gl.watch(dataset)
    assert (watched.class_names, watched.file_paths) == (["cat", "dog"], ["a.png"])
    assert elements(watched) == elements(dataset)
