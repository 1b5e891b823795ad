"""The pytest fixture ``energy_budget``: fails a test whose pipeline, dataset or code costs more than it may.

pytest finds it by itself wherever greenload is installed; until a test asks for the fixture nothing else is imported.

    def test_the_pipeline_keeps_to_its_budget(energy_budget):
        energy_budget(train, "cpu_s_per_sample<=1.5e-3", "energy_j_per_sample.cpu<=0.02")

    def test_the_index_is_cheap(energy_budget):
        with energy_budget("cpu_s<=2", "energy_j.cpu<=50"):
            build_index()
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

import pytest

if TYPE_CHECKING:
    import tensorflow as tf

    from greenload.energy.measure import MeasuredWindow
    from greenload.plans.pipeline import Pipeline
    from greenload.plans.plan import Plan
    from greenload.report.budgets import Budget
    from greenload.report.checks import Check
    from greenload.report.data import Report


class UndecidedBudget(pytest.PytestWarning):
    """A figure's interval holds the budget's limit: whether the budget was kept is undecided.

    To let such a test fail: ``-W error::greenload.pytest_plugin.UndecidedBudget``.
    """


class EnergyBudget:
    """What the fixture ``energy_budget`` gives. Rules are those of :mod:`greenload.report.budgets`."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []

    @overload
    def __call__(self, subject: str, *rules: str) -> AbstractContextManager[MeasuredWindow]: ...

    @overload
    def __call__(
        self,
        subject: Report | Pipeline | Plan | tf.data.Dataset,
        *rules: str,
        baseline: Report | str | os.PathLike[str] | None = None,
        tolerance: float | None = None,
        **options: Any,
    ) -> Report: ...

    def __call__(
        self,
        subject: Any,
        *rules: str,
        baseline: Report | str | os.PathLike[str] | None = None,
        tolerance: float | None = None,
        **options: Any,
    ) -> Report | AbstractContextManager[MeasuredWindow]:
        """Fail the test if a budget is exceeded, or there is no figure to judge it by; warn if it is undecided.

        Args:
            subject: a report, or what `greenload.profile` takes, which is profiled; or the first rule of several for a
                block of code, which is measured: ``with energy_budget("cpu_s<=2"): ...``.
            rules: budgets, as ``"cpu_s_per_sample<=1.5e-3"``; for code, as ``"energy_j.cpu<=50"``.
            baseline: an earlier report or its file, against which no step may have grown
                (`greenload.report.baselines`).
            tolerance: growth that is allowed, as a share, 0 to 1; `baselines.TOLERANCE` if None.
            options: for `greenload.profile`, as ``samples=`` and ``rounds=``.

        Returns:
            The report, its checks filled in; or the context manager, which gives a window as `greenload.measure` does.

        Raises:
            UsageError: a rule isn't one, or the tolerance is no share; before anything is measured.
            ReportError: the baseline can't be read; as soon.
        """
        __tracebackhide__ = True
        from greenload.report.budgets import OF_REPORTS, OF_WINDOWS, parse_budget

        if isinstance(subject, str):
            if baseline is not None or tolerance is not None or options:
                raise _usage("a block of code has no baseline and no options of profile: give budgets alone")
            self._blocks.append(_Block([parse_budget(rule, OF_WINDOWS) for rule in (subject, *rules)]))
            return self._blocks[-1]
        budgets = [parse_budget(rule, OF_REPORTS) for rule in rules]
        if not budgets and baseline is None:
            raise _usage(
                "energy_budget needs budgets or a baseline, as energy_budget(train, 'cpu_s_per_sample<=0.001')"
            )
        return _judged(subject, budgets, baseline, tolerance, options)


@pytest.fixture
def energy_budget() -> Iterator[EnergyBudget]:
    """Hold a pipeline, a dataset, a report or a block of code against budgets of CPU seconds and joules."""
    budget = EnergyBudget()
    yield budget
    if not all(block.entered for block in budget._blocks):
        pytest.fail("energy_budget(rule) alone measures nothing: write `with energy_budget(rule):` around the code")


def _judged(subject: Any, budgets: Sequence[Budget], baseline: Any, tolerance: float | None, options: Any) -> Report:
    __tracebackhide__ = True
    from greenload.report.baselines import TOLERANCE, check_tolerance, judge
    from greenload.report.data import Report

    allowed = TOLERANCE if tolerance is None else tolerance
    check_tolerance(allowed)
    before = Report.load(baseline) if isinstance(baseline, str | os.PathLike) else baseline
    if isinstance(subject, Report):
        if options:
            raise _usage(f"a report is there already: leave {', '.join(options)} out")
        report = subject
    else:
        from greenload.profiling.profile import profile

        report = profile(subject, **options)
    judged = judge(report, budgets, before, tolerance=allowed)
    _enforce(judged.checks, stacklevel=4)
    return judged


class _Block:
    """Measures a block of code, and judges it unless it raised."""

    def __init__(self, budgets: Sequence[Budget]) -> None:
        self._budgets = budgets
        self.entered = False

    def __enter__(self) -> MeasuredWindow:
        self.entered = True
        from greenload.energy.measure import measure

        self._running = measure()
        self._window = self._running.__enter__()
        return self._window

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        from greenload.report.budgets import check_window

        self._running.__exit__(kind, error, trace)
        if error is None:
            _enforce(check_window(self._window, self._budgets), stacklevel=3)


def _enforce(checks: Sequence[Check], stacklevel: int) -> None:
    """Fail the test with a line for each check that failed; warn, at the user's line, of each that is undecided."""
    __tracebackhide__ = True
    from greenload.report.checks import check_line
    from greenload.text import printable

    failed = [printable(check_line(check)) for check in checks if check.failed]
    if failed:
        pytest.fail("\n".join(["the energy budget isn't kept", *failed]))
    for check in checks:
        if check.outcome == "undecided":
            warnings.warn(UndecidedBudget(printable(check_line(check))), stacklevel=stacklevel)


def _usage(message: str) -> Exception:
    from greenload.errors import UsageError

    return UsageError(message)
