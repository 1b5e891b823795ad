"""A report against its baseline: growth is found, chance isn't taken for it, what is unlike isn't compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from greenload.energy.figures import Figure, scale
from greenload.errors import UsageError
from greenload.report import baselines
from greenload.report.baselines import against
from greenload.report.budgets import grew_most
from greenload.report.checks import Check
from greenload.report.comparison import compare
from greenload.report.cost_records import ReportStep
from greenload.report.data import ColdRun, Report

Make = Callable[..., Report]


def changed(report: Report, place: int, factor: float) -> Report:
    """The report with one step's cost times a factor, and the total and full run as much dearer."""
    step = report.steps[place]
    dearer = replace(
        step,
        cpu_s_per_sample=scale(step.cpu_s_per_sample, factor),
        energy_j_per_sample={name: scale(one, factor) for name, one in step.energy_j_per_sample.items()},
    )
    more = (factor - 1) * (step.cpu_s_per_sample.value or 0.0)

    def moved(figure: Figure) -> Figure:
        assert figure.value is not None and figure.low is not None and figure.high is not None
        return replace(figure, value=figure.value + more, low=figure.low + more, high=figure.high + more)

    return replace(
        report,
        steps=(*report.steps[:place], dearer, *report.steps[place + 1 :]),
        total=replace(report.total, cpu_s_per_sample=moved(report.total.cpu_s_per_sample)),
        full=replace(report.full, cpu_s_per_sample=moved(report.full.cpu_s_per_sample)),
    )


def by_outcome(checks: tuple[Check, ...], outcome: str) -> list[str]:
    return [check.rule for check in checks[1:] if check.outcome == outcome]


def test_a_report_against_itself_is_met(measured: Report) -> None:
    checks = against(measured, measured, name="main.json")
    assert len(checks) == 1
    assert (checks[0].rule, checks[0].outcome, checks[0].failed) == ("main.json", "met", False)
    assert checks[0].detail.startswith("24 figures compared, 0 grew by more than 5 % and their intervals, 0 fell; ")


def test_a_step_that_grew_is_named_with_its_ratio(make_report: Make) -> None:
    before, after = make_report(seed=1, counter=False), changed(make_report(seed=2, counter=False), 1, 1.3)
    checks = against(before, after)
    assert checks[0].outcome == "exceeded"
    grown = by_outcome(checks, "exceeded")
    assert 'steps."Decode + crop".cpu_s_per_sample<=baseline' in grown and "cpu_s_per_sample<=baseline" in grown
    assert not any("Batch" in rule or "resize" in rule or "Flip" in rule for rule in grown)
    one = checks[1]
    value, base = after.steps[1].cpu_s_per_sample.value, before.steps[1].cpu_s_per_sample.value
    assert one.value == pytest.approx(value) and base is not None and one.limit == pytest.approx(1.05 * base)
    assert "Decode + crop grew, × 1." in one.detail and "the baseline says 0.0008389 (" in one.detail


def test_a_step_that_fell_is_told_and_fails_nothing(make_report: Make) -> None:
    checks = against(make_report(seed=1), changed(make_report(seed=2), 2, 0.6))
    assert not any(check.failed for check in checks)
    fallen = {check.rule: check.detail for check in checks if " fell" in check.detail and check.value is not None}
    assert (
        "RandomResizedCrop: resize fell, × 0.6"
        in fallen['steps."RandomResizedCrop: resize".cpu_s_per_sample<=baseline']
    )


@pytest.mark.slow
@pytest.mark.parametrize("counter", [True, False])
def test_runs_of_one_pipeline_rarely_raise_an_alarm(make_report: Make, counter: bool) -> None:
    """Of 24 figures some lie beyond their own intervals in a fifth of such pairs: those are undecided, not grown."""
    pairs = [(make_report(seed=k, counter=counter), make_report(seed=k + 500, counter=counter)) for k in range(60)]
    strict = [against(a, b, tolerance=0.0) for a, b in pairs]
    alarms = sum(checks[0].outcome == "exceeded" for checks in strict)
    doubtful = sum(bool(by_outcome(checks, "undecided")) for checks in strict)
    assert alarms <= 4 and doubtful >= 1
    assert sum(against(a, b)[0].outcome == "exceeded" for a, b in pairs) <= 1


@pytest.mark.slow
def test_a_growth_of_a_fifth_is_found(make_report: Make) -> None:
    found = 0
    for k in range(20):
        checks = against(make_report(seed=k), changed(make_report(seed=k + 500), 2, 1.2))
        found += 'steps."RandomResizedCrop: resize".cpu_s_per_sample<=baseline' in by_outcome(checks, "exceeded")
    assert found >= 18


def test_a_tolerance_allows_growth_and_small_steps_may_grow_by_a_share_of_the_total(measured: Report) -> None:
    def exact(step: ReportStep, value: float) -> ReportStep:
        return replace(step, cpu_s_per_sample=Figure(value, value, value, "measured"), energy_j_per_sample={})

    def report(large: float, small: float) -> Report:
        total = replace(
            measured.total,
            cpu_s_per_sample=Figure(large + small, large + small, large + small, "measured"),
            energy_j_per_sample={},
        )
        return replace(measured, steps=(exact(measured.steps[1], large), exact(measured.steps[4], small)), total=total)

    before = report(0.099, 0.001)
    assert against(before, report(0.103, 0.001))[0].outcome == "met"
    assert against(before, report(0.104, 0.001))[0].outcome == "exceeded"
    assert against(before, report(0.104, 0.001), tolerance=0.1)[0].outcome == "met"
    # 1 % of the total is the small step's allowance: 0.001 s.
    assert against(before, report(0.099, 0.0019))[0].outcome == "met"
    assert by_outcome(against(before, report(0.099, 0.0021)), "exceeded") == [
        'steps."Batch".cpu_s_per_sample<=baseline'
    ]
    assert by_outcome(against(before, report(0.099, 0.0011), tolerance=0.0), "exceeded")


@pytest.mark.parametrize("tolerance", [-0.01, 1.01, 5, float("nan"), float("inf")])
def test_a_tolerance_is_a_share(tolerance: float, measured: Report) -> None:
    with pytest.raises(UsageError, match=r"a tolerance is a share, 0 to 1, found .*: write 0\.05 for 5 %"):
        against(measured, measured, tolerance=tolerance)


def test_steps_of_one_report_only_are_told_and_judged_by_the_total(measured: Report) -> None:
    source, decode, resize, flip, batch = measured.steps
    checks = against(measured, replace(measured, steps=(source, decode, resize, batch, replace(flip, name='A "b"'))))
    details = {check.rule: check.detail for check in checks[1:]}
    assert "RandomHorizontalFlip is gone" in details['steps."RandomHorizontalFlip".cpu_s_per_sample<=baseline']
    assert 'A "b" is new' in details["steps.'A \"b\"'.cpu_s_per_sample<=baseline"]
    assert checks[0].outcome == "undecided" and not any(check.failed for check in checks)


def test_a_step_that_is_measured_otherwise_is_judged_by_the_total(measured: Report) -> None:
    other = changed(measured, 1, 2.0)
    step = replace(other.steps[1], method="in place")
    other = replace(other, steps=(other.steps[0], step, *other.steps[2:]), total=measured.total, full=measured.full)
    checks = against(measured, other)
    rule = f'steps."{step.name}".cpu_s_per_sample<=baseline'
    (check,) = [check for check in checks if check.rule.startswith(f'steps."{step.name}".')]
    assert (check.rule, check.outcome, checks[0].outcome) == (rule, "undecided", "undecided")
    before = measured.steps[1].method
    said = f"{step.name} is measured in place, in the baseline by {before}: only the total can be compared"
    assert check.detail == said
    assert f"how {step.name} is measured ({before} → in place)" in checks[0].detail
    grown = changed(measured, 1, 2.0)
    dearer = replace(other, total=grown.total, full=grown.full)
    assert step.name not in grew_most(compare(measured, dearer)) and step.name in grew_most(compare(measured, grown))
    assert against(measured, dearer)[0].outcome == "exceeded"


def test_another_processor_is_said_first_and_decides_nothing(measured: Report) -> None:
    other = replace(changed(measured, 1, 2.0), machine=replace(measured.machine, cpu_model="Xeon"))
    checks = against(measured, other)
    assert checks[0].outcome == "undecided" and checks[0].detail.startswith("ANOTHER PROCESSOR")
    assert "cpu model (AMD EPYC 7B13 → Xeon)" in checks[0].detail
    assert by_outcome(checks, "undecided") and not any(check.failed for check in checks)


def test_other_versions_and_backends_are_told_and_still_judged(measured: Report) -> None:
    machine = replace(measured.machine, packages={"tensorflow": "2.22.0"}, memory_bytes=8_200_000_000)
    other = replace(changed(measured, 1, 2.0), machine=machine, plan={**measured.plan, "backend": "pillow"})
    other = replace(other, cold=ColdRun(files=1, bytes=1, resident_bytes=0))
    checks = against(measured, other)
    assert checks[0].outcome == "exceeded"
    assert "tensorflow (2.21.0 → 2.22.0)" in checks[0].detail and "backend (tf → pillow)" in checks[0].detail
    assert "cold (no → yes)" in checks[0].detail


def test_a_meter_that_is_gone_fails(measured: Report, make_report: Make) -> None:
    without = {name: one for name, one in measured.total.energy_j_per_sample.items() if name != "gpu:0"}
    lost = replace(measured, total=replace(measured.total, energy_j_per_sample=without))
    checks = against(measured, lost)
    assert checks[0].outcome == "missing" and by_outcome(checks, "missing") == ["energy_j_per_sample.gpu<=baseline"]
    gained = against(lost, measured)
    assert gained[0].outcome == "undecided" and "the baseline has no figure" in gained[1].detail


def test_modelled_joules_are_not_compared_once_more(modelled: Report, measured: Report) -> None:
    grown = against(modelled, changed(modelled, 1, 2.0))
    assert grown[0].detail.startswith("6 figures compared, ")
    assert not any("energy" in check.rule for check in grown)
    unlike = against(measured, modelled)
    assert "No ratio of cpu" in unlike[0].detail
    assert by_outcome(unlike, "missing") == ["energy_j_per_sample.gpu<=baseline"]


def test_trials_of_changes_take_no_degrees_of_freedom(measured: Report) -> None:
    """They ran on one build, fewer rounds than the steps did: judged by theirs, little would ever be found."""
    kept = [window for window in measured.windows if window.kind in ("with", "without")]
    trial = tuple(replace(window, step="Cache()") for window in kept if window.build == 0 and window.round < 2)
    tried = replace(measured, windows=(*measured.windows, *trial))
    assert baselines._degrees(measured) == baselines._degrees(tried) == 8
    assert baselines._degrees(replace(measured, windows=())) == 8
    few = tuple(window for window in measured.windows if window.round < 2)
    assert baselines._degrees(replace(measured, windows=few)) == 2


def test_reports_that_count_unlike_things_are_not_compared(measured: Report) -> None:
    elements = replace(measured, plan={**measured.plan, "sample": "element"})
    checks = against(measured, elements)
    assert [check.outcome for check in checks] == ["missing"] and "this report's for one element" in checks[0].detail
