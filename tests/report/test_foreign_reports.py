"""Damaged reports: each is refused in one line, or everything that shows, compares and judges reports works with it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import mutations
import pytest
from mutations import Mutation, faults

from greenload.errors import ReportError, UsageError
from greenload.report import baselines, budgets, html, terminal
from greenload.report.charts import Axis
from greenload.report.checks import Check, interval_text
from greenload.report.comparison import compare
from greenload.report.data import Report

RULES = [
    budgets.parse_budget(rule)
    for rule in (
        *("cpu_s_per_sample<=1e-3", "energy_j_per_sample.cpu<=1", "energy_j_per_sample.gpu:0<1", "samples_per_s>=10"),
        *("reads_per_sample<5", "device_bytes_per_sample<1", 'steps."Decode + crop".cpu_s_per_sample<1'),
    )
]


@pytest.fixture(scope="module")
def whole(judged: Report, advised: Report) -> Report:
    """A report with every part, and few windows."""
    steps = [{"name": one.name, "kind": "pixels", "backend": "tf", "out": "uint8"} for one in judged.steps[:3]]
    crossings = [{"from": "tf", "to": "pillow", "bytes_per_image": 82000.0}]
    return dataclasses.replace(
        judged,
        advice=advised.advice,
        steps=advised.steps[:3],
        windows=(*judged.windows[:2], *judged.windows[-2:]),
        plan={"backend": "tf", "threads": 2, "prefetch": 2, "sample": "image", "steps": steps, "crossings": crossings},
    )


@pytest.fixture(scope="module")
def use(whole: Report, modelled: Report) -> Callable[[Report], None]:
    """Shows a report in every way, compares it both ways, and judges it."""
    other = dataclasses.replace(modelled, windows=modelled.windows[:4])

    def used(report: Report) -> None:
        assert terminal.report_text(report) and repr(report) and html.html(report)
        for a, b in ((report, other), (whole, report)):
            found = compare(a, b)
            assert terminal.report_text(found) and html.compare_html(a, b)
            json.dumps(found.to_dict(), allow_nan=False)
        checks = (*budgets.check_budgets(report, RULES, whole), *budgets.check_budgets(whole, RULES, report))
        checks += (*baselines.against(report, whole), *baselines.against(whole, report))
        assert terminal.report_text(dataclasses.replace(whole, checks=checks))
        again = json.loads(json.dumps(report.with_carbon(100.0, 1.1).to_dict(), allow_nan=False))
        assert Report.from_dict(again).to_dict() == again

    return used


def of_report(report: Report) -> Any:
    return json.loads(json.dumps(report.to_dict()))


@pytest.mark.slow
def test_a_damaged_report_is_refused_or_works_everywhere(whole: Report, use: Callable[[Report], None]) -> None:
    cases = mutations.some(of_report(whole), 120, 5)
    assert faults(cases, lambda case: Report.from_dict(case.data), use, (ReportError,)) == []


@pytest.mark.slow
def test_what_passes_the_schema_works_everywhere(whole: Report, use: Callable[[Report], None]) -> None:
    """Numbers and texts, which are not refused for their type."""
    words = ("zero", "one", "half", "smallest", "large", "2 to the 63", "no text", "a word", "control", "surrogate")
    some = mutations.some(of_report(whole), 200, 3, lambda what: any(word in what.split(": ")[-1] for word in words))
    assert faults(some, lambda case: Report.from_dict(case.data), use, (ReportError,)) == []


@pytest.mark.parametrize("smallest", [5e-324, -5e-324, 1e-310])
def test_the_smallest_numbers_are_drawn(whole: Report, use: Callable[[Report], None], smallest: float) -> None:
    def shrunk(data: Any) -> Any:
        if isinstance(data, dict) and "low" in data and data.get("value") is not None:
            return data | {"low": min(0.0, smallest), "value": smallest, "high": max(0.0, smallest)}
        if isinstance(data, dict):
            return {name: shrunk(value) for name, value in data.items()}
        return [shrunk(value) for value in data] if isinstance(data, list) else data

    case = Mutation("all figures", shrunk(of_report(whole)))
    assert faults([case], lambda case: Report.from_dict(case.data), use, ()) == []


@pytest.mark.parametrize("value", [5e-324, 1e-323, 1e-310, 1e18])
def test_any_number_has_an_axis(value: float) -> None:
    axis = Axis.around([value, -value])
    assert axis.low < axis.high and len(axis.ticks) < 20


def test_a_checks_interval_has_its_ends_in_order() -> None:
    with pytest.raises(UsageError, match="low end first"):
        Check("cpu_s_per_sample<=1", "met", 0.2, 0.3, 0.1, 1.0, "")
    assert (
        interval_text(1.0, 1.0, 1.0 + 1e-15)
        and interval_text(1e18, -5e-324, 1e18)
        and interval_text(0.0, -5e-324, 5e-324)
    )
