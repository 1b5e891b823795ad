"""What evaluates: how it is called, what its runs cost, and what it is known by."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from report_fixtures import build

import greenload as gl
from greenload.energy.figures import Figure
from greenload.energy.meters.base import MeterStatus
from greenload.errors import UsageError
from greenload.strategies import arguments
from greenload.strategies import compare as module
from greenload.strategies.arguments import check_counters, checked_limits, counters_read
from greenload.strategies.conclusion import failures
from greenload.strategies.evaluation import completed, counted, evaluated, labels_warning
from greenload.strategies.records import Run
from greenload.strategies.results import of_evaluation

SOURCE = gl.Arrays(np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8), np.arange(64) % 4)
PLAIN = gl.Pipeline(SOURCE, gl.Shuffle(), gl.Batch(16))
FLIPPED = gl.Pipeline(SOURCE, gl.Shuffle(), gl.RandomHorizontalFlip(), gl.Batch(16))
TWO = {"plain": PLAIN, "flipped": FLIPPED}


def never(dataset: Any, seed: int) -> float:
    raise AssertionError("nothing may run before the arguments are known to be right")


def one_run(evaluate: Any) -> Run:
    return evaluated(evaluate, "plain", PLAIN, 3, "tf")


class Sums:
    """An evaluation that measures itself."""

    def __init__(self, score: Any, energy_j: Mapping[str, Any]) -> None:
        self.score, self.energy_j, self.cpu_s, self.loader_cpu_s = score, energy_j, 7.0, 2.0
        self.got: tuple[Any, ...] = ()

    def run(self, pipeline: gl.Pipeline, seed: int, backend: Any) -> Sums:
        self.got = (pipeline, seed, backend)
        return self


def test_what_measures_itself_is_taken_at_its_word() -> None:
    figure = gl.Report.from_dict(build(counter=False).to_dict()).total.cpu_s_per_sample
    sums = Sums(np.float32(0.5), {"cpu:package-0": 12.5, "gpu:0": 30.0, "storage:nvme0n1": 4.0})
    run = one_run(sums)
    assert sums.got == (gl.Pipeline(SOURCE, *PLAIN.stages, seed=3), 3, "tf")
    assert (run.score, run.cpu_s, run.loader_cpu_s, run.failed) == (0.5, 7.0, 2.0, "")
    assert run.energy_j == {"cpu:package-0": 12.5, "gpu:0": 30.0} and run.total_j == 42.5
    assert figure.provenance == "measured"


def test_joules_that_are_modelled_alone_are_none() -> None:
    modelled = {"cpu": gl.Report.from_dict(build(counter=False).to_dict()).total.energy_j_per_sample["cpu"]}
    assert modelled["cpu"].provenance == "modelled" and counted(modelled) == ({}, ())
    joules, weak = counted(modelled | {"gpu:0": 5.0})
    assert set(joules) == {"cpu", "gpu:0"} and weak == ("cpu",)


def test_processors_that_no_counter_reads_count_beside_a_gpu() -> None:
    """What differs between loaders is spent there: by the model, of the CPU seconds that the run told."""
    modelled = Figure(8.0, 6.0, 10.0, "modelled", 0.4)
    window = {"cpu": modelled, "dram": modelled, "storage:all": modelled, "gpu:0": Figure(90.0, 89.0, 91.0, "measured")}
    joules, weak = counted(completed({"gpu:0": 50.0}, window, 0.25))
    assert joules == {"gpu:0": 50.0, "cpu": 2.0, "dram": 2.0} and set(weak) == {"cpu", "dram"}
    assert completed({"cpu:package-0": 5.0, "gpu:0": 3.0}, window, 0.25) == {"cpu:package-0": 5.0, "gpu:0": 3.0}
    assert completed({}, window, 0.25) == {}


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None, "0.9", True, [0.9]])
def test_no_number_is_a_failed_run(score: Any) -> None:
    run = one_run(Sums(score, {}))
    assert run.score is None and run.failed.startswith("evaluate returns a finite number") and run.cpu_s >= 0


def test_what_raises_is_a_failed_run_and_interrupts_pass() -> None:
    class Raises:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def run(self, pipeline: gl.Pipeline, seed: int, backend: Any) -> Sums:
            raise self.error

    run = one_run(Raises(ValueError("shapes\ndiffer")))
    line = Raises.run.__code__.co_firstlineno + 1
    assert run.score is None and run.failed == f"ValueError: shapes differ (test_evaluation.py:{line})"
    assert one_run(Raises(UsageError("no such layer"))).failed == "no such layer"
    with pytest.raises(KeyboardInterrupt):
        one_run(Raises(KeyboardInterrupt()))


def test_an_edited_evaluation_is_another() -> None:
    def one(dataset: Any, seed: int) -> float:
        return 0.5

    def two(dataset: Any, seed: int) -> float:
        return 0.6

    assert of_evaluation(one) != of_evaluation(two) and of_evaluation(one) == of_evaluation(one)
    first, second = functools.partial(one, seed=1), functools.partial(one, seed=2)
    assert of_evaluation(first) != of_evaluation(second)
    typed: dict[str, Any] = {}
    for name, number in (("a", 1), ("b", 2)):
        exec(f"def fn(dataset, seed): return {number}", typed)
        typed[name] = typed["fn"]
    assert of_evaluation(typed["a"]) != of_evaluation(typed["b"])
    assert "0x" not in of_evaluation(Sums(1, {}))


class Rated:
    """An evaluation with fields, by a method or as it is."""

    def __init__(self, rate: float) -> None:
        self.rate, self.lock = rate, object()

    def __call__(self, dataset: Any, seed: int) -> float:
        return self.rate

    def score(self, dataset: Any, seed: int) -> float:
        return self.rate


def closed(rate: Any) -> Callable[[Any, int], float]:
    def evaluate(dataset: Any, seed: int) -> float:
        return float(rate if not callable(rate) else rate(dataset, seed))

    return evaluate


def defaulted(rate: float) -> Callable[[Any, int], float]:
    def evaluate(dataset: Any, seed: int, by: float = rate) -> float:
        return by

    return evaluate


def keyworded(rate: float) -> Callable[[Any, int], float]:
    def evaluate(dataset: Any, seed: int, *, by: float = rate) -> float:
        return by

    return evaluate


HOLDING: dict[str, Callable[[float], Any]] = {
    "a closure": closed,
    "a closure of a closure": lambda rate: closed(closed(rate)),
    "a closure's array": lambda rate: closed(np.full(2, rate)),
    "a closure's object": lambda rate: closed(Rated(rate)),
    "defaults": defaulted,
    "keywords' defaults": keyworded,
    "a method": lambda rate: Rated(rate).score,
    "an object": Rated,
    "a partial of a closure": lambda rate: functools.partial(closed(1.0), by={"rate": [rate]}),
}


@pytest.mark.parametrize("kind", HOLDING)
def test_an_evaluation_that_holds_other_data_is_another(kind: str) -> None:
    make = HOLDING[kind]
    assert of_evaluation(make(0.5)) == of_evaluation(make(0.5)) != of_evaluation(make(0.6))
    assert "0x" not in of_evaluation(make(0.5))


def test_an_evaluation_that_leads_back_to_itself_has_an_end() -> None:
    round_trip = Rated(0.5)
    round_trip.lock = [round_trip, round_trip]
    assert of_evaluation(round_trip) != of_evaluation(Rated(0.5))


@pytest.mark.parametrize("usable", [True, False])
def test_a_limit_in_joules_needs_a_counter(monkeypatch: pytest.MonkeyPatch, usable: bool) -> None:
    statuses = [
        MeterStatus("cpu", "modelled", True, "no counter", "", "model"),
        MeterStatus("storage:all", "measured", True, "", "", "nvme"),
        MeterStatus("gpu:0", "measured", usable, "", "", "nvml"),
    ]
    monkeypatch.setattr(arguments, "discover", lambda: ([], statuses))
    absolute, relative = (checked_limits(rule, None, ("plain",), True) for rule in ("energy<=5", "energy<=2*plain"))
    for evaluate in (never, gl.Proxy()):
        check_counters(relative, evaluate)
        if usable:
            check_counters(absolute, evaluate)
        else:
            with pytest.raises(UsageError, match="energy<=5 is in joules, but no counter reads them here"):
                check_counters(absolute, evaluate)
    check_counters(absolute, Sums(0.5, {}))  # it may have a meter of its own
    monkeypatch.undo()
    if not counters_read():
        with pytest.raises(UsageError, match="in joules"):
            gl.compare(TWO, never, limits="energy<=5")


def test_a_failure_is_placed_in_the_users_own_code() -> None:
    class Nested:
        def run(self, pipeline: gl.Pipeline, seed: int, backend: Any) -> Sums:
            json.loads("{")  # fails in a library
            return Sums(1, {})

    line = Nested.run.__code__.co_firstlineno + 1
    assert one_run(Nested()).failed.endswith(f" (test_evaluation.py:{line})")


def test_notes_say_each_failure_once() -> None:
    def failed(name: str, seed: int, why: str) -> Run:
        return Run(strategy=name, seed=seed, score=None, failed=why, seconds=1.0, cpu_s=1.0)

    runs = [failed(name, seed, "no model") for seed in range(3) for name in TWO] + [failed("plain", 3, "nan")]
    notes = failures(runs)
    assert notes == ["plain, flipped failed (seeds 0, 1, 2): no model", "plain failed (seed 3): nan"]


def test_labels_of_two_forms_are_said_before_anything_runs() -> None:
    mixed = gl.Pipeline(SOURCE, gl.Shuffle(), gl.Batch(16), gl.MixUp(0.2, num_classes=4))
    said = labels_warning({**TWO, "mixup": mixed}, never)
    assert "plain, flipped: a class's number; mixup: 4 numbers" in said and "gl.OneHot" in said
    assert labels_warning(TWO, never) == "" == labels_warning({**TWO, "mixup": mixed}, None)
    assert labels_warning({"plain": PLAIN, "mixup": mixed}, Sums(1, {})) == "", "it trains by itself"
    one_hot = gl.Pipeline(SOURCE, gl.OneHot(4), gl.Batch(16))
    assert labels_warning({"plain": one_hot, "mixup": mixed}, never) == ""


def test_compare_warns_of_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = gl.Pipeline(SOURCE, gl.Shuffle(), gl.Batch(16), gl.MixUp(0.2, num_classes=4))
    monkeypatch.setattr(module, "carry_out", lambda *_: None)
    with pytest.warns(UserWarning, match="differ in form"):
        gl.compare({"plain": PLAIN, "mixup": mixed}, never)
