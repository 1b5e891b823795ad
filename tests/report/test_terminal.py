"""The table: what comes first, what is called unresolved or modelled, digits, and width."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenload.energy.figures import Figure
from greenload.report.data import Report
from greenload.report.table import DASH, amount, bytes_text, percent, printable, rounded, rows
from greenload.report.terminal import text


def test_what_is_unattributed_comes_first(unexplained: Report, measured: Report) -> None:
    first = text(unexplained).splitlines()[0]
    assert first.startswith("Unattributed: 17 % of the CPU seconds")
    assert not text(measured).startswith("Unattributed")


def test_steps_that_claim_too_much_are_called_that(make_report: object) -> None:
    assert callable(make_report)
    first = " ".join(text(make_report(missing=-0.3)).splitlines()[:3])
    assert re.search(r"\d+ % more than the CPU seconds", first) and "claimed by the steps" in first


def test_the_head_says_what_ran_where_and_what_is_measured(measured: Report, modelled: Report) -> None:
    head = text(measured, 200)
    assert "imagenet:train: 512 samples of data/train, on tf, 2 threads" in head
    assert "AMD EPYC 7B13, 2 CPUs, 8.2 GB RAM" in head
    assert "Measured: CPU seconds, joules of cpu, dram, gpu. Other joules: storage modelled ±72 %" in head
    bare = text(modelled, 200)
    assert "no energy counter is readable here, so they come first" in bare
    assert "cpu modelled ±40 %" in bare
    assert "no figures for cpu:package-0: no RAPL zone" in bare


def test_rows_are_steps_then_the_rest_then_idle_then_the_total(measured: Report) -> None:
    kinds = [row.kind for row in rows(measured)]
    assert kinds == ["step"] * 5 + ["unattributed", "idle", "total"]
    lines = [line.split("  ")[0] for line in text(measured).splitlines()]
    positions = [lines.index(name) for name in ("Batch", "unattributed", "idle floor", "total (full run, held out)")]
    assert positions == sorted(positions)


def test_steps_unattributed_and_idle_add_up_to_the_total(measured: Report) -> None:
    *parts, total = rows(measured)
    for group in ("cpu", "dram", "gpu"):
        values = [row.energy_mj[group].value or 0.0 for row in parts if group in row.energy_mj]
        assert sum(values) == pytest.approx(total.energy_mj[group].value)


def test_a_row_holds_cost_interval_share_and_joules(measured: Report) -> None:
    line = next(line for line in text(measured).splitlines() if line.startswith("Decode + crop"))
    assert re.search(r"0\.8\d+ ±0\.0\d+ +38 % +1[23]\.\d+", line), line


def test_fused_steps_name_their_stages(measured: Report) -> None:
    assert "Decode + crop: Decode + RandomResizedCrop" in text(measured, 160)


def test_unresolved_is_written(measured: Report) -> None:
    shown = text(measured)
    line = next(line for line in shown.splitlines() if line.startswith("RandomHorizontalFlip"))
    assert "unres." in line and "unres.: unresolved, the meter can't tell it from zero" in shown
    step = measured.steps[3]
    cpu = dataclasses.replace(step.cpu_s_per_sample, unresolved=True)
    changed = dataclasses.replace(measured, steps=(dataclasses.replace(step, cpu_s_per_sample=cpu),))
    assert re.search(r"RandomHorizontalFlip +tf +unresolved", text(changed))


def test_what_is_missing_is_a_dash_not_zero(measured: Report) -> None:
    step = measured.steps[4]
    missing = dataclasses.replace(
        step, cpu_s_per_sample=Figure.missing(), energy_j_per_sample={"cpu:package-0": Figure.missing()}
    )
    line = next(
        line for line in text(dataclasses.replace(measured, steps=(missing,))).splitlines() if line.startswith("Batch")
    )
    assert re.fullmatch(rf"Batch +tf +{DASH} +{DASH} +{DASH} +{DASH} +{DASH} +{DASH} +0", line), line


def test_it_fits(measured: Report, modelled: Report, hostile: Report) -> None:
    for report in (measured, modelled, hostile):
        for width in (80, 100):
            assert max(len(line) for line in text(report, width).splitlines()) <= width
        assert "read" in text(report, 100) and "…" not in text(report, 100), "nothing is cut at 100 columns"


def test_names_cannot_steer_the_terminal(hostile: Report) -> None:
    shown = text(hostile, 300)
    assert "\x1b" not in shown and "\\x1b[2J[red]\\udc80" in shown
    assert "[bold]" in shown, "markup of the console is text here"
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("value", "half", "expected"),
    [
        (0.93241, 0.0233, ("0.932", "0.023")),
        (0.93241, 0.0433, ("0.93", "0.04")),
        (0.93241, 0.0, ("0.932", "")),
        (1234.5, 35.4, ("1,234", "35")),
        (1234.5, 86.0, ("1,230", "90")),
        (123456.0, 1200.0, ("123,500", "1,200")),
        (-0.001, 0.029, ("−0.001", "0.029")),
        (-0.0001, 0.05, ("0.00", "0.05")),
        (0.0, 0.0, ("0", "")),
        (5.0, 0.996, ("5.0", "1.0")),
    ],
)
def test_digits_end_where_the_interval_does(value: float, half: float, expected: tuple[str, str]) -> None:
    assert rounded(Figure(value, value - half, value + half, "measured")) == expected


@given(st.floats(-1e12, 1e12), st.floats(0, 1e12))
def test_any_figure_can_be_shown(value: float, half: float) -> None:
    figure = Figure(value, value - half, value + half, "measured")
    parts = rounded(figure)
    assert parts is not None
    shown = float(parts[0].replace(",", "").replace("−", "-"))
    assert abs(shown - value) <= max(half, abs(value) * 0.006, 1e-12)
    assert amount(figure)


def test_small_texts() -> None:
    assert percent(None) == DASH and percent(-0.001) == "0 %" and percent(-0.104) == "−10 %"
    assert bytes_text(82_100) == "82.1 kB" and bytes_text(150_528) == "151 kB" and bytes_text(12) == "12 B"
    assert printable("plain ü") == "plain ü" and printable("a\nb") == "a\\nb"
