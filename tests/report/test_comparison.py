"""Two reports: ratios with the right intervals, steps matched by name, and what differs said first."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenload.energy.figures import Figure
from greenload.report.comparison import SEPARATE, Comparison, compare, ratio, times, verdict
from greenload.report.data import Report
from greenload.report.terminal import report_text


def figure(value: float, half: float, provenance: str = "measured") -> Figure:
    return Figure(value, value - half, value + half, provenance)


@settings(deadline=None)
@given(st.floats(0.1, 100), st.floats(0, 0.9), st.floats(-100, 100), st.floats(0, 50))
def test_symmetric_intervals_give_fiellers_limits(a: float, share: float, b: float, half_b: float) -> None:
    """Both roots of (b − r a)² = half_b² + r² half_a²."""
    half_a = share * a
    found = ratio(figure(a, half_a), figure(b, half_b))
    assert found is not None and found.low is not None and found.high is not None
    for limit in (found.low, found.high):
        inside = half_b**2 + limit**2 * half_a**2
        assert (b - limit * a) ** 2 == pytest.approx(inside, rel=1e-6, abs=1e-7 * (b * b + a * a))
    assert found.low <= b / a <= found.high


def test_the_interval_of_a_ratio_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    runs, sigma_a, sigma_b, z = 4000, 0.15, 0.1, 1.96
    hits = 0
    for a, b in zip(rng.normal(1.0, sigma_a, runs), rng.normal(0.7, sigma_b, runs), strict=True):
        found = ratio(figure(a, z * sigma_a), figure(b, z * sigma_b))
        # An unbounded set holds every ratio.
        hits += found is None or (found.low is not None and found.high is not None and found.low <= 0.7 <= found.high)
    assert hits / runs == pytest.approx(0.95, abs=0.012)


def test_a_ratio_of_separate_runs_is_wider_than_either_figure() -> None:
    a, b = figure(2.0, 0.1), figure(1.0, 0.05)
    found = ratio(a, b)
    assert found is not None and found.half_width is not None
    assert found.half_width / 0.5 == pytest.approx(math.hypot(0.05, 0.05), rel=0.01)
    exact = ratio(figure(2.0, 0.0), figure(1.0, 0.0))
    assert exact is not None and (exact.low, exact.value, exact.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (figure(1.0, 1.0), figure(1.0, 0.1)),
        (figure(-1.0, 0.1), figure(1.0, 0.1)),
        (figure(0.0, 0.0), figure(1.0, 0.1)),
        (Figure(1.0, 0.5, 2.5, "measured"), figure(1.0, 0.1)),
        (Figure.missing(), figure(1.0, 0.1)),
        (figure(1.0, 0.1), Figure.missing()),
    ],
)
def test_no_ratio_where_it_is_unbounded_or_unknown(a: Figure, b: Figure) -> None:
    assert ratio(a, b) is None


def named(found: Comparison, kind: str = "step") -> list[tuple[str, str]]:
    return [(pair.name, pair.only) for pair in found.pairs if pair.kind == kind]


def test_steps_are_matched_by_name_and_the_rest_is_said(measured: Report) -> None:
    source, decode, resize, flip, batch = measured.steps
    other = replace(measured, steps=(source, replace(decode, name="Decode"), resize, batch, replace(flip, name="Blur")))
    found = compare(measured, other)
    assert named(found) == [
        ("source", ""),
        ("Decode + crop", "A"),
        ("Decode", "B"),
        ("RandomResizedCrop: resize", ""),
        ("RandomHorizontalFlip", "A"),
        ("Batch", ""),
        ("Blur", "B"),
    ]
    assert all(pair.changes["CPU"].ratio is None for pair in found.pairs if pair.only)


def test_a_step_that_moved_is_one_step(measured: Report) -> None:
    source, decode, resize, flip, batch = measured.steps
    found = compare(measured, replace(measured, steps=(source, decode, flip, resize, batch)))
    assert all(only == "" for _, only in named(found)) and len(named(found)) == 5
    flipped = next(pair for pair in found.pairs if pair.name == "RandomHorizontalFlip").changes["CPU"]
    assert flipped.a == flipped.b


def test_steps_of_one_name_are_told_apart_by_their_place(measured: Report) -> None:
    twice = replace(measured, steps=(*measured.steps, measured.steps[-1]))
    assert named(compare(twice, measured))[-2:] == [("Batch", ""), ("Batch", "A")]


def test_half_the_cost_is_half_the_ratio(measured: Report) -> None:
    step = measured.steps[1]
    value = step.cpu_s_per_sample.value
    assert value is not None
    half = replace(step, cpu_s_per_sample=figure(value / 2, value * 0.01))
    found = compare(measured, replace(measured, steps=(measured.steps[0], half, *measured.steps[2:])))
    change = found.pairs[1].changes["CPU"]
    assert change.ratio is not None and change.ratio.value == pytest.approx(0.5)
    assert change.difference is not None and change.difference.value == pytest.approx(-value / 2 * 1e3)
    assert verdict(change) == "less" and verdict(found.pairs[2].changes["CPU"]) == "unclear"
    assert found.pairs[5].kind == "unattributed" and found.pairs[5].changes["CPU"].ratio is None


def test_one_machine_has_no_differences(measured: Report, make_report: Callable[..., Report]) -> None:
    found = compare(measured, make_report(seed=2))
    assert found.machines == () and found.setups == () and found.incomparable == ""
    change = found.totals[0]
    assert change.ratio is not None and change.ratio.low is not None and change.ratio.high is not None
    assert change.ratio.low < 1 < change.ratio.high
    assert SEPARATE in " ".join(report_text(found, 300).split("\n"))


def test_what_differs_comes_first(measured: Report) -> None:
    machine = replace(measured.machine, cpus=64, packages={"tensorflow": "3.0", "numpy": "2"}, extra={"gpu": "H100"})
    other = replace(measured, machine=machine, samples=256, plan={**measured.plan, "threads": 8})
    found = compare(measured, other)
    assert {(one.name, one.a, one.b) for one in found.machines} == {
        ("cpus", "2", "64"),
        ("tensorflow", "2.21.0", "3.0"),
        ("numpy", "not there", "2"),
        ("gpu", "not there", "H100"),
    }
    assert {(one.name, one.a, one.b) for one in found.setups} == {("samples", "512", "256"), ("threads", "2", "8")}
    assert report_text(found).startswith("Not the same machine or versions")


def test_what_one_sample_is_differs_in_sight(measured: Report) -> None:
    a, b = (replace(measured, plan={**measured.plan, "sample": unit}) for unit in ("a row of a batch", "an element"))
    assert [(one.name, one.a, one.b) for one in compare(a, b).setups] == [("sample", "a row of a batch", "an element")]


def test_steps_that_only_one_report_measures_in_place_are_said(measured: Report) -> None:
    first, *rest = measured.steps
    one = replace(measured, steps=(replace(first, method="in place"), *rest))
    every = replace(measured, steps=tuple(replace(step, method="in place") for step in measured.steps))
    (found,) = compare(measured, one).setups
    assert (found.name, found.a, found.b) == (f"how {first.name} is measured", first.method, "in place")
    (found,) = compare(measured, every).setups
    assert found.name.endswith(f" and {len(measured.steps) - 3} more are measured") and found.b == "in place"
    assert compare(every, every).setups == ()


def test_modelled_joules_have_a_ratio_on_one_machine_only(modelled: Report, measured: Report) -> None:
    """A model's band is common to one machine's figures and cancels; across machines or with a counter it doesn't."""
    assert compare(modelled, modelled).pairs[1].changes["cpu"].ratio is not None
    elsewhere = replace(modelled, machine=replace(modelled.machine, cpus=64))
    for found in (compare(modelled, elsewhere), compare(modelled, measured)):
        change = found.pairs[1].changes["cpu"]
        assert change.ratio is None and change.difference is None and verdict(change) == ""
        assert "No ratio of cpu and dram" in found.incomparable
        assert found.pairs[1].changes["CPU"].ratio is not None, "CPU seconds are measured"
    newer = replace(modelled, machine=replace(modelled.machine, packages={"tensorflow": "3"}))
    assert compare(modelled, newer).pairs[1].changes["cpu"].ratio is not None, "the same hardware, other versions"


def test_counters_are_compared_across_machines(measured: Report) -> None:
    elsewhere = replace(measured, machine=replace(measured.machine, cpus=64))
    assert compare(measured, elsewhere).pairs[1].changes["cpu"].ratio is not None


def test_what_drives_declare_is_compared_on_one_machine_only(measured: Report) -> None:
    energy = {
        name: replace(one, provenance="vendor-declared") for name, one in measured.total.energy_j_per_sample.items()
    }
    declared = replace(measured, total=replace(measured.total, energy_j_per_sample=energy))
    elsewhere = replace(declared, machine=replace(declared.machine, cpus=64))
    assert compare(declared, declared).pairs[1].changes["cpu"].ratio is not None
    assert compare(declared, elsewhere).pairs[1].changes["cpu"].ratio is None


def test_it_is_json(measured: Report, modelled: Report) -> None:
    data = json.loads(json.dumps(compare(measured, modelled).to_dict(), allow_nan=False))
    assert data["steps"][1]["changes"][0]["ratio"]["value"] == pytest.approx(1.0, abs=0.2)
    assert data["totals"][0]["name"] == "CPU time" and SEPARATE in data["notes"]


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_fits(measured: Report, modelled: Report, hostile: Report, advised: Report, width: int) -> None:
    for a, b in ((measured, modelled), (modelled, hostile), (advised, measured)):
        shown = report_text(compare(a, b), width)
        assert max(len(line) for line in shown.splitlines()) <= width
        assert "\x1b" not in shown and "…" not in shown


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (Figure(0.8712, 0.812, 0.934, "measured"), "0.87 (0.81 to 0.93)"),
        (Figure(0.9634, 0.9634, 0.9634, "measured"), "0.96340 (0.96340 to 0.96340)"),
        (Figure(12.3, 4.1, 31.0, "measured"), "12 (4 to 31)"),
        (None, "–"),
    ],
)
def test_ratios_end_where_their_interval_does(found: Figure | None, shown: str) -> None:
    assert times(found) == shown


def test_the_page_shows_both_bars_of_a_step_and_one_of_a_step_that_only_one_has(measured: Report) -> None:
    pytest.importorskip("jinja2")
    from greenload.report.html import compare_html, html

    renamed = replace(measured.steps[1], name="Decode")
    other = replace(measured, steps=(measured.steps[0], renamed, *measured.steps[2:]))
    page = compare_html(measured, other)
    assert page == html(measured, other)
    chart = page[page.index('<div id="cpu-chart">') :].split("</ol>")[0]
    assert chart.count("<li ") == 2 * 4 + 2
    assert "A: Decode + crop: Decode + RandomResizedCrop (not in B)" in chart
    assert "B: Decode: Decode + RandomResizedCrop (not in A)" in chart
    assert page.index("Two separate runs, not paired") and "removed" in page and "added" in page


def test_the_page_says_first_that_machines_differ(measured: Report) -> None:
    pytest.importorskip("jinja2")
    from greenload.report.html import compare_html

    other = replace(measured, machine=replace(measured.machine, cpus=64))
    page = compare_html(measured, other)
    body = page[page.index("<main>") :]
    assert body.index("Not the same machine") < body.index("<h1>") < body.index("What differs") < body.index("In all")
    assert "Not the same machine" not in compare_html(measured, measured)
