"""The benchmark of joules against an emulated machine: how figures are judged, and one small run."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench import truth, truth_steps
from bench.truth_steps import ALL, TOTAL, Judged, Truth
from greenload.energy.figures import Figure
from greenload.machine import Machine
from greenload.report.cost_records import FullRun, IdleCost, ReportStep
from greenload.report.data import Cost, Report

CPU = "cpu:package-0"


def figure(value: float, half: float = 0.01) -> Figure:
    return Figure(value, value - half, value + half, "measured")


def step(name: str, cpu_s: float, joules: float, half: float = 0.001) -> ReportStep:
    return ReportStep(
        name=name,
        stages=(name,),
        backend="tf",
        method="replay",
        cpu_s_per_sample=figure(cpu_s, 1e-6),
        energy_j_per_sample={CPU: figure(joules, half)},
        device_bytes_per_sample=Figure.missing(),
    )


def report(*steps: ReportStep, total: float = 1.0, rest: float = 0.0) -> Report:
    def cost(cpu_s: float, joules: float) -> dict[str, object]:
        return {
            "cpu_s_per_sample": figure(cpu_s),
            "energy_j_per_sample": {CPU: figure(joules), "dram": Figure(1.0, 1.0, 1.0, "modelled", 0.4)},
            "device_bytes_per_sample": Figure.missing(),
        }

    return Report(
        created="2026-01-01T00:00:00+00:00",
        machine=Machine("cpu", 2, 1, "Linux", "3.11", {}),
        meters=(),
        pipeline={},
        plan={},
        samples=8,
        steps=steps,
        full=FullRun(**cost(1.0, total - 0.2), samples_per_s=figure(10.0)),
        idle=IdleCost(),
        unattributed=Cost(**cost(0.0, rest)),
        total=Cost(**cost(1.0, total)),
    )


KINDS = {"Apply (1)": "light", "Apply (2)": "heavy"}
LIGHT, HEAVY = KINDS


def seen(build: int, light: float, heavy: float, *, step: str = "", kind: str = "full", other: float = 0.0) -> Truth:
    joules = {"idle": 0.2, "other": other, "neighbour": 5.0, "light": light, "heavy": heavy}
    counted, true = {CPU: 10 * sum(joules.values())}, {CPU: {k: 10 * v for k, v in joules.items()}}
    return Truth(step, kind, build, 10, 1.0, counted, true)


def test_totals_and_steps_are_held_against_the_mean_of_the_builds():
    truths = [seen(0, 0.2, 0.4), seen(0, 0.2, 0.4), seen(1, 0.3, 0.6)]
    judged = truth_steps.judge("r", report(step(LIGHT, 1.0, 0.25), step(HEAVY, 4.0, 0.5), total=0.95), truths, KINDS)
    by_what = {one.what: one for one in judged}
    assert by_what[TOTAL].truth == pytest.approx(0.95) and by_what[TOTAL].error == pytest.approx(0.0, abs=1e-9)
    assert by_what[ALL].truth == pytest.approx(0.75), "without the idle machine, and the neighbour never"
    assert by_what["light"].truth == pytest.approx(0.25)
    assert by_what["heavy"].by_cpu_share == pytest.approx(0.75 * 4 / 5)
    assert {one.domain for one in judged} == {CPU}, "a modelled domain has no truth"


def test_a_total_has_the_idle_machine_for_as_long_as_there_was_work():
    half = [replace(seen(0, 0.2, 0.4), worked=0.5)]
    judged = truth_steps.judge("r", report(step(LIGHT, 1.0, 0.2), step(HEAVY, 4.0, 0.4), total=0.7), half, KINDS)
    found = {one.what: one.truth for one in judged}
    assert (found[TOTAL], found[ALL]) == pytest.approx((0.7, 0.6))


def test_what_calling_a_step_draws_is_its_own():
    replays = [
        seen(0, 0, 0, step=LIGHT, kind="with", other=0.07),
        seen(0, 0, 0, step=LIGHT, kind="without", other=0.02),
    ]
    judged = truth_steps.judge("r", report(step(LIGHT, 1.0, 0.25)), [seen(0, 0.2, 0.0), *replays], {LIGHT: "light"})
    assert judged[-1].truth == pytest.approx(0.25)


def test_a_step_may_be_off_by_a_twentieth_of_itself_or_a_hundredth_of_all():
    one = Judged("r", CPU, "light", 0.106, 0.1, 0.112, 0.1, 0.005)
    assert one.error == pytest.approx(1.2) and one.held and one.kept
    assert not replace(one, low=0.101).kept
    _, _, small, large = truth_steps.judge(
        "r", report(step(LIGHT, 1.0, 0.01), step(HEAVY, 4.0, 0.99)), [seen(0, 0.01, 0.99)], KINDS
    )
    assert small.allowed == pytest.approx(0.01) and large.allowed == pytest.approx(0.0495)


def test_counted_joules_are_held_against_all_that_the_machine_drew():
    assert truth_steps.counters_off([seen(0, 0.2, 0.4)]) == [pytest.approx(0.0)]
    wrong = replace(seen(0, 0.2, 0.4), counted_j={CPU: 58.0 * 1.02})
    assert truth_steps.counters_off([wrong]) == [pytest.approx(0.02)]


def test_rows_miss_where_a_step_is_wrong_and_a_total_off():
    light = Judged("r", CPU, "light", 1.0, 1.0, 1.0, 1.0, 0.05, 2.0)
    right = [Judged("r", CPU, TOTAL, 1.0, 1.0, 1.0, 1.0, 0.01), light]
    wrong = [replace(right[0], value=1.02, low=1.015, high=1.025), replace(right[1], value=1.2, low=1.1, high=1.3)]
    assert all(row.met is not False for row in truth_steps.rows(right, [0.009], [True] * 20, "alone"))
    missed = [row.what for row in truth_steps.rows(wrong, [0.011], [True, False], "alone") if row.met is False]
    assert len(missed) == 5


def test_the_sum_predicts_where_unattributed_may_be_nothing():
    assert truth_steps.predicted(report(step(LIGHT, 1.0, 0.1))) == {"cpu_s": True, CPU: True}
    assert truth_steps.predicted(report(step(LIGHT, 1.0, 0.1), rest=0.5))[CPU] is False


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        truth.main(["--only", "profiles,faith"])
    assert "faith" in capsys.readouterr().err


def test_what_cannot_run_here_is_left_out_by_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def cannot(size: truth.Size) -> truth.Found:
        raise truth.NotHere("no namespace: run as root")

    monkeypatch.setitem(truth.MEASURES, "precision", cannot)
    rows, raw, left_out = truth.run(["precision"], truth.QUICK)
    assert (rows, raw, left_out) == ([], {}, {"precision": "no namespace: run as root"})
    assert "precision: no namespace" in capsys.readouterr().err


def test_a_part_that_fails_is_a_row_that_is_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def fails(size: truth.Size) -> truth.Found:
        assert size.runs == 3
        raise truth.ProfileFailed("it ended with status 1")

    monkeypatch.setitem(truth.MEASURES, "profiles", fails)
    out = tmp_path / "results" / "truth.json"
    assert truth.main(["--quick", "--runs", "3", "--only", "profiles, alignment", "--out", str(out)]) == 1
    found = json.loads(out.read_text())
    assert found["left_out"] == {"profiles": "it ended with status 1"}
    assert [row["what"] for row in found["rows"] if row["met"] is False] == ["profiles: failed"]
    assert found["parts"]["alignment"]["windows"]


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="a mount namespace needs root")
def test_a_profile_on_an_emulated_machine_is_judged():
    pytest.importorskip("tensorflow")
    found = truth.profiles(replace(truth.QUICK, unit_s=1e-3), [truth.ALONE])  # calling is small beside it
    judged = [one for one in found.raw["judged"] if one["domain"].startswith("cpu:")]
    assert {one["what"] for one in judged} == {TOTAL, ALL, *(step.name for step in truth.burning.STEPS)}
    assert all(one["truth"] > 0 for one in judged)
    light, heavy = (next(one for one in judged if one["what"] == what) for what in ("light", "heavy"))
    assert light["truth"] > 1.2 * light["by_cpu_share"] and heavy["truth"] < 0.9 * heavy["by_cpu_share"]
    assert any("held-out runs outside the interval of the steps' sum" in row.what for row in found.rows)
