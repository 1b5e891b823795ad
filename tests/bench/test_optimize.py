"""``bench.optimize``: which plans run how often, what a run costs, and what is said of a choice that isn't the best."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greenload as gl
from bench import optimize, optimize_truth
from bench.by_hand import Workload
from bench.choice import CIFAR, PHOTOS
from bench.contest import table
from bench.optimize import Searched, Truths, fault, inside_row, judged, predictions
from bench.optimize_subjects import SUBJECTS, Case, budgets, cases, pipeline, rising
from bench.optimize_truth import Coefficients, Run, Subject, exhaustively, joules, median_cost
from bench.processes import ProcessFailed
from greenload.energy.figures import Figure
from greenload.machine import machine
from greenload.optimization.records import Candidate, Outlay, Rates
from greenload.optimization.training import Settings, Training

COUNTED = {"cpu:package-0": 50.0, "dram:package-0": 5.0, "storage:sda": 9.0}
WORK = Workload(tuple(f"{k}.jpg" for k in range(100)), (0,) * 100)


def run(
    name: str, number: int = 0, cpu_s: float = 1.0, wall_s: float = 1.0, energy_j: Mapping[str, float] | None = None
) -> Run:
    return Run(PHOTOS, name, number, 500, cpu_s, wall_s, 0.1, (cpu_s,), energy_j or {}, 0.0)


def plan(threads: int) -> gl.Plan:
    images = gl.Arrays(np.zeros((8, 4, 4, 3), np.uint8))
    return gl.make_plan(gl.Pipeline(images, gl.RandomHorizontalFlip(), gl.Batch(4), seed=1), "tf", threads=threads)


def search(winner: str, costs: dict[str, tuple[float, float, float]], **rates: Rates) -> Searched:
    """A search among plans "1", "2", …, on so many threads, which predicted their CPU seconds (low, value, high)."""
    candidates = tuple(
        Candidate(
            name=name,
            backends="tf",
            threads=int(name),
            prefetch=2,
            today=name == "1",
            ram_bytes=1e9 * int(name),
            rates=rates.get(f"plan_{name}", Rates(builds=2)),
            outlay=Outlay(
                energy_j=Figure.missing(), cpu_s=Figure(value, low, high, "measured"), seconds=Figure.missing()
            ),
            lost="" if name == winner else "it costs more.",
        )
        for name, (low, value, high) in costs.items()
    )
    first = sorted(candidates, key=lambda candidate: candidate.name != winner)
    found = gl.Optimization(
        created="2026-01-01T00:00:00+00:00",
        greenload="0",
        machine=machine(),
        training=Training(samples=8, epochs=5, ram=1, threads=4),
        settings=Settings(),
        planned=plan(int(winner)),
        candidates=tuple(first),
        winner=winner,
    )
    return Searched(Case(PHOTOS, 5, 1 << 20), found, 100.0, 7, tuple((one, plan(one.threads)) for one in candidates))


def test_budgets_rise_from_nothing_and_each_pipeline_has_two() -> None:
    assert budgets(WORK)[0] == 0 and budgets(WORK)[-1] == 200 << 20
    assert list(budgets(WORK)) == sorted(set(budgets(WORK)))
    found = cases(WORK, SUBJECTS)
    assert len(found) == 8 and len({case.name for case in found}) == 8
    assert {case.epochs for case in found if case.subject == CIFAR} == {20}
    assert [case.ram for case in rising(WORK, PHOTOS)] == list(budgets(WORK))


def test_plans_far_from_the_best_run_twice_and_the_others_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"best": 1.0, "near": 1.2, "far": 1.3, "chosen": 2.0}
    orders: dict[int, list[str]] = {}

    def once(work: Any, subject: Subject, number: int, meters: bool) -> Run:
        orders.setdefault(number, []).append(subject.name)
        return run(subject.name, number, costs[subject.name] * (1 + 0.01 * number))

    monkeypatch.setattr(optimize_truth, "once", once)
    subjects = [Subject(PHOTOS, 5, name, plan(1)) for name in costs]
    runs = exhaustively(WORK, subjects, rounds=5, stays=["chosen"])
    counts = {name: sum(one.name == name for one in runs) for name in costs}
    assert counts == {"best": 5, "near": 5, "far": 2, "chosen": 5}
    assert len({tuple(order) for order in orders.values()}) > 1, "the order is shuffled"
    assert median_cost(runs, "best", lambda one: one.cpu_s) == pytest.approx(1.02)


def test_a_plan_that_fails_is_left_out_unless_it_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def once(work: Any, subject: Subject, number: int, meters: bool) -> Run:
        if subject.name == "bad" and number == 1:
            raise ProcessFailed("out of memory")
        return run(subject.name, number)

    monkeypatch.setattr(optimize_truth, "once", once)
    subjects = [Subject(PHOTOS, 5, name, plan(1)) for name in ("good", "bad")]
    told: list[str] = []
    runs = exhaustively(WORK, subjects, rounds=4, note=told.append)
    assert [one.name for one in runs] == ["good"] * 4 and "left out: bad: out of memory" in told
    with pytest.raises(ProcessFailed):
        exhaustively(WORK, subjects, rounds=4, stays=["bad"])


def test_joules_are_the_counters_or_the_models_and_memory_held() -> None:
    by = Coefficients(busy_cpu_w=3.0, idle_w=2.0, held_w_per_gb=0.5)
    assert joules(run("a", cpu_s=10.0, wall_s=4.0), 2e9, by) == pytest.approx(3 * 10 + 2 * 4 + 0.5 * 2 * 4)
    counted = run("a", cpu_s=10.0, wall_s=4.0, energy_j=COUNTED)
    assert joules(counted, 2e9, Coefficients()) == 55.0


def test_a_choice_is_held_against_the_best_of_all() -> None:
    one = search("2", {"1": (0.9, 1.0, 1.1), "2": (0.9, 1.0, 1.1), "3": (0.9, 1.0, 1.1)})
    truths = Truths([one, one], most=60)
    assert [subject.plan.threads for subject in truths.subjects] == [2, 1, 3], "each plan once, whatever the budget"
    cpu_s = {"1": 2.0, "2": 1.2, "3": 1.0}
    runs = [run(name, number, value + 0.1 * number) for name, value in cpu_s.items() for number in range(3)]
    chosen, today, *_ = judged([one], truths, runs, False)
    assert "chosen (2) over the best of 3 (3)" in chosen.what
    assert chosen.measured.median == pytest.approx(1.3 / 1.1) and chosen.met is False
    assert "today's (1)" in today.what and today.measured.median == pytest.approx(1.3 / 2.1) and today.met is None


def test_a_miss_names_the_stage_that_let_the_best_go() -> None:
    costs = dict.fromkeys("123", (0.9, 1.0, 1.1))
    assert "left after 2 builds (number 3 by price): it costs more." in fault(search("2", costs), "3")
    assert "was never run: number 3 of 3 by price" in fault(search("2", costs, plan_3=Rates()), "3")
    assert "wasn't among the search's candidates" in fault(search("2", costs), "9")


def test_predictions_are_held_against_the_first_whole_run() -> None:
    good, bad = (search("2", {"1": (1, 1, 1), "2": predicted}) for predicted in ((0.9, 1.0, 1.1), (0.9, 0.95, 0.99)))
    truths = Truths([good, bad], 60)
    runs = [run("2", 0, 1.05), run("2", 1, 5.0), run("2", 2, 1.0), run("1")]
    rows, raw = predictions([good, bad], truths, runs)
    assert rows[0].measured.median == pytest.approx((1.0 / 1.05 + 0.95 / 1.05) / 2)
    assert raw[0]["seen_cpu_s"] == [1.05, 5.0, 1.0]
    row = inside_row(raw)
    assert row.measured.median == 0.5 and row.met is False and inside_row(raw[:1]).met


@pytest.mark.slow
@pytest.mark.parametrize("subject", [PHOTOS, CIFAR])
def test_a_plan_runs_whole_in_a_process_of_its_own(sample_folder: Path, subject: str) -> None:
    from bench.photographs import workload

    work = workload(str(sample_folder), batch=16, threads=2)
    plan = gl.make_plan(pipeline(work, subject), "tf", threads=2)
    found = optimize_truth.once(work, Subject(subject, 2, "tf", plan), 3, meters=False)
    assert found.images == 2 * len(plan.pipeline.source) and found.round == 3 and found.energy_j == {}
    assert 0 < found.first_batch_cpu_s < found.epoch_ends_cpu_s[0] < found.epoch_ends_cpu_s[1] <= found.cpu_s


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        optimize.arguments(["--only", "photos,nothing"])
    assert "not nothing" in capsys.readouterr().err
    assert optimize.arguments(["--only", "budgets"]).only == ("budgets",)
    assert table([])
