"""Profiles of datasets: rows, scaling, what can't be seen, errors, and the user's dataset afterwards."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_fits import fit, small_model, value

import greenload as gl
from greenload.cli import main
from greenload.energy.attribution.observation import ITERATOR_START
from greenload.profiling.tfdata import guard, profile
from greenload.profiling.tfdata.counting import count_elements
from greenload.profiling.tfdata.rebuild import Builder
from greenload.profiling.tfdata.walk import walk
from greenload.report.terminal import report_text
from greenload.report.validation import validate

tf = pytest.importorskip("tensorflow")

Range = tf.data.Dataset.range
QUICK: dict[str, Any] = {"rounds": 2, "samples": 64}


def work(x: Any) -> Any:
    """Takes a moment."""
    return tf.reduce_sum(tf.random.stateless_uniform([20_000], seed=(1, 2)) + tf.cast(x, tf.float32))


def counts(dataset: Any, tmp_path: Path) -> dict[str, float]:
    """Elements for each sample, by row."""
    root = walk(dataset)
    found = count_elements(root, Builder(str(tmp_path)), 64, lambda: None)
    return {node.name: found.flows[node].elements_per_sample for node in root.nodes() if not node.hidden}


def test_options_are_told_by_what_is_set_and_not_by_an_address() -> None:
    options = tf.data.Options()
    assert profile._options(options) == {}
    options.threading.private_threadpool_size = 2
    options.autotune.enabled = False
    options.deterministic = False
    found = profile._options(Range(3).with_options(options).options())
    assert found == {
        "deterministic": False,
        "threading_options": {"private_threadpool_size": 2},
        "autotune_options": {"enabled": False},
    }
    json.dumps(found)


@pytest.mark.slow
def test_elements_are_counted_at_every_node(tmp_path: Path) -> None:
    halved = Range(100).filter(lambda x: x % 2 == 0).map(work).batch(8)
    found = counts(halved, tmp_path)  # 50 samples in 7 batches, the last one of 2
    assert found == {"range": 2.0, "lambda x: x % 2 == 0": 1.0, "work": 1.0, "batch": 7 / 50}
    spread = Range(10).flat_map(lambda n: Range(20).concatenate(Range(5))).shuffle(10)
    assert counts(spread, tmp_path) == {"range": 1 / 25, "lambda n: Range(20).concatenate…": 1.0, "shuffle": 1.0}
    endless = Range(10).cache().repeat().shuffle(4).batch(5)
    assert counts(endless, tmp_path) == {"range": 1.0, "cache": 1.0, "shuffle": 1.0, "batch": 0.2}
    thrice = Range(10).cache().repeat(3).batch(5)
    assert counts(thrice, tmp_path) == {"range": 1.0, "cache": 1.0, "batch": 0.2}  # caches count as if empty
    waste = Range(40).shuffle(40).take(10)
    assert counts(waste, tmp_path)["range"] == 4.0
    ragged = Range(7).map(tf.range).ragged_batch(2)
    assert counts(ragged, tmp_path)["ragged_batch"] == 4 / 7


@pytest.mark.slow
def test_elements_inside_an_interleave_are_counted(tmp_path: Path) -> None:
    inside = Range(4).interleave(lambda n: Range(12).filter(lambda x: x % 3 == 0).map(work).batch(2), cycle_length=2)
    found = {"range": 0.25, "range (2)": 3.0, "lambda x: x % 3 == 0": 1.0, "work": 1.0, "batch": 0.5}
    assert counts(inside, tmp_path) == found


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_a_report_of_a_dataset(tmp_path: Path) -> None:
    drawn: list[tuple[float, str]] = []
    given = Range(64).map(work, num_parallel_calls=tf.data.AUTOTUNE).shuffle(8, seed=3).batch(16)
    dataset = given.prefetch(tf.data.AUTOTUNE)
    fresh = [batch.numpy().tolist() for _ in range(2) for batch in dataset]
    dataset = Range(64).map(work, num_parallel_calls=tf.data.AUTOTUNE).shuffle(8, seed=3).batch(16).prefetch(1)
    report = gl.profile(dataset, **QUICK, name="mine", progress=lambda share, text: drawn.append((share, text)))
    assert [batch.numpy().tolist() for _ in range(2) for batch in dataset] == fresh  # as if never profiled
    validate(report.to_dict())
    assert [(step.name, step.stages) for step in report.steps] == [
        ("range", ("range",)), ("work", ("map",)), ("shuffle", ("shuffle",)), ("batch", ("batch",)),
        ("hand-over", ("hand-over",)),
    ]  # fmt: skip
    place = work.__code__.co_firstlineno
    assert [step.where for step in report.steps] == ["", f"test_profile.py:{place}", "", "", ""]
    assert [step.method for step in report.steps] == ["prefix", "in place", "replay", "replay", "in place"]
    assert report.samples == 64 and report.steps[1].bytes_out_per_sample == 4
    assert report.pipeline["name"] == "mine" and [one["kind"] for one in report.pipeline["nodes"]][1] == "map"
    assert "0x" not in json.dumps(report.plan)
    assert report.plan["samples_per_element"] == 16 and "rows" in report.plan["sample"]
    shares = [share for share, _ in drawn]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert gl.Report.from_dict(report.to_dict()).steps == report.steps


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_what_cannot_be_seen_is_said(tmp_path: Path) -> None:
    def slowly() -> Any:
        yield from (np.float32(n) for n in range(20))

    made = tf.data.Dataset.from_generator(slowly, output_signature=tf.TensorSpec((), tf.float32))
    dataset = made.map(lambda x: tf.numpy_function(np.sqrt, [x], tf.float32), name="root")
    dataset = dataset.flat_map(lambda x: Range(2).concatenate(Range(3)))
    reasons = {one.name: one.reason for one in gl.profile(dataset, **QUICK).skipped}
    outer = "lambda x: Range(2).concatenate(…"
    assert set(reasons) == {"slowly", "root", outer}
    assert "Python generator" in reasons["slowly"] and "numpy_function" in reasons["root"]
    assert "isn't one chain" in reasons[outer]


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_a_dataset_of_an_unknown_kind_is_one_row() -> None:
    from tensorflow.python.data.ops import dataset_ops

    class Homemade(dataset_ops.UnaryUnchangedStructureDataset):  # type: ignore[misc]
        def __init__(self, given: Any) -> None:
            super().__init__(given, given._variant_tensor)

    report = gl.profile(Homemade(Range(40).map(work)).batch(4), **QUICK)
    assert (report.steps[0].name, report.steps[0].method) == ("Homemade", "prefix")
    assert len(report.steps) == 2 and report.samples == 40
    assert [one.name for one in report.skipped] == ["Homemade"] and "no dataset that" in report.skipped[0].reason


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_a_cache_has_a_first_epoch_and_later_ones() -> None:
    dataset = Range(128).map(work).cache().map(lambda x: x + 1).batch(16)
    report = gl.profile(dataset, **QUICK)
    first, full = report.first_epoch, report.full.cpu_s_per_sample.value or 0.0
    assert first is not None and (first.full.cpu_s_per_sample.value or 0.0) > 2 * full > 0
    assert [step.runs for step in report.steps] == ["first epoch"] * 2 + ["every epoch"] * 4
    assert [step.name for step in report.steps][-1] == "hand-over"
    assert [step.cpu_s_per_sample.value for step in report.steps][:2] == [0.0, 0.0]
    costs = {step.name: step.cpu_s_per_sample.value or 0.0 for step in first.steps}
    assert list(costs) == [step.name for step in report.steps]
    assert (
        costs["work"] > full and abs(sum(costs.values()) - (first.full.cpu_s_per_sample.value or 0.0)) < costs["work"]
    )
    later = sum(step.cpu_s_per_sample.value or 0.0 for step in report.steps)
    rest = report.unattributed.cpu_s_per_sample
    assert rest.value == pytest.approx(full - later, abs=1e-9) and abs(rest.value) < full
    assert [cache.name for cache in report.caches] == ["cache"]
    assert ITERATOR_START in {window.step for window in report.windows}, "always where there is a cache"
    assert report.iterator_start is None or (report.iterator_start.cpu_s.low or 0.0) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Range(0), "this one is empty"),
        (lambda: Range(9).filter(lambda x: x > 9).batch(3), "this one is empty"),
        (lambda: Range(9).map(lambda x: tf.io.decode_jpeg(tf.strings.as_string(x))), "dataset raised InvalidArgument"),
        (lambda: Range(9).map(lambda x: tf.py_function(broken, [x], tf.int64)), "ValueError: this record is bad"),
    ],
)
def test_errors_are_one_line(make: Callable[[], Any], says: str) -> None:
    with pytest.raises((gl.UsageError, gl.SourceError), match=says) as caught:
        gl.profile(make(), **QUICK)
    assert "\n" not in str(caught.value) and "{{" not in str(caught.value)


def broken(x: Any) -> Any:
    """Raises."""
    raise ValueError("this record is bad")


@pytest.mark.slow
def test_a_generator_that_gives_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()

    def stuck() -> Any:
        let_go.wait(60)
        yield 1

    monkeypatch.setattr(guard, "STUCK_AFTER_S", 0.5)
    start = time.monotonic()
    try:
        with pytest.raises(gl.SourceError, match=r"no element for 0\.5 s"):
            gl.profile(tf.data.Dataset.from_generator(stuck, output_signature=tf.TensorSpec((), tf.int32)), **QUICK)
        assert time.monotonic() - start < 50
    finally:
        let_go.set()


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_variables_of_functions_are_put_back() -> None:
    generator, counter = tf.random.Generator.from_seed(1), tf.Variable(0)

    def stateful(x: Any) -> Any:
        counter.assign_add(1)
        return generator.uniform([]) + tf.cast(x, tf.float32)

    state = generator.state.numpy().tolist()
    gl.profile(Range(8).map(stateful), **QUICK)
    assert generator.state.numpy().tolist() == state and counter.numpy() == 0


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
@pytest.mark.parametrize(
    ("make", "samples"),
    [
        (lambda: tf.data.Dataset.from_tensors({"a": 1, "b": tf.ragged.constant([[1], [2, 3]])}), 1),
        (lambda: Range(50).repeat().map(work).batch(4), 50),
        (lambda: Range(12).map(lambda x: tf.sparse.from_dense(tf.range(x + 1))).batch(3), 12),
        (lambda: tf.data.Dataset.sample_from_datasets([Range(30), Range(20)], seed=1).map(lambda x: (x,)), 50),
    ],
)
def test_unusual_datasets(make: Callable[[], Any], samples: int) -> None:
    report = gl.profile(make(), **QUICK)
    assert report.samples == samples
    assert report.full.cpu_s_per_sample.value and all(step.cpu_s_per_sample.value is not None for step in report.steps)


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 0},
        {"rounds": 1},
        {"on_error": "skip"},
        {"backend": "dali-cpu"},
        {"samples_per_element": 0},
        {"samples_per_element": "columns"},
        {"samples_per_element": True},
        {"samples_per_element": "rows"},  # of numbers
    ],
)
def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises(gl.UsageError):
        gl.profile(Range(3), **wrong)
    with pytest.raises(gl.UsageError, match="not list"):
        gl.profile([1, 2])  # type: ignore[arg-type]
    images = gl.Pipeline(gl.Arrays(np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int64)))
    with pytest.raises(gl.UsageError, match="samples are images: leave it out"):
        gl.profile(images, samples_per_element=2)


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_the_command_line_profiles_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import tensorflow as tf\n"
        "def double(x):\n    return x * 2\n"
        "def make(data):\n    return tf.data.Dataset.range(int(data)).map(double).batch(4)\n"
        "def bad():\n    return tf.data.Dataset.range(4).map("
        "lambda x: tf.io.read_file('/nowhere/' + tf.strings.as_string(x)))\n"
        "pair = (1, 2)\n"
    )

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["profile", *arguments, "--rounds", "2", "--samples", "16"])
        found = capsys.readouterr()
        return status, found.out, found.err

    status, out, err = run(f"{file}:make", "--data", "16", "--json", str(tmp_path / "report.json"))
    assert status == 0, err
    assert "double" in out and "mine.py:2" in out
    assert gl.Report.load(tmp_path / "report.json").steps[1].name == "double"
    status, _, err = run(f"{file}:bad")
    assert status == 1 and err.count("\n") == 1 and "NotFoundError" in err and "/nowhere/0" in err
    status, _, err = run(f"{file}:pair")
    assert status == 2 and "take one of them" in err


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_batches_of_a_function_are_loaded_at_what_an_element_costs() -> None:
    """Whether a function's elements are batches can't be known; a fit's batches are the profile's elements all the
    same."""

    def batch(n: Any) -> Any:
        drawn = tf.random.stateless_uniform([32, 8_000], seed=(1, n))
        return drawn[:, :8], tf.reduce_sum(drawn, 1)

    data = Range(64).map(batch)
    report = gl.profile(data, **QUICK)
    assert not report.plan["sample_known"] and "samples_per_element=" in report_text(report, 1000)
    energy = gl.EnergyCallback(report)
    fit(small_model(), data, energy)
    spent = energy.report.fit
    assert spent.passed.samples == 64 * 32 and not spent.does_not_fit
    assert value(spent.loader.cpu_s) == pytest.approx(64 * value(report.full.cpu_s_per_sample))
