"""Options that check a report, or a comparison, against budgets and a baseline, and the exit status that follows."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from greenload.cli.arguments import share_argument
from greenload.cli.output import FAILED, OK, fail, warn
from greenload.errors import UsageError

if TYPE_CHECKING:
    from greenload.report.checks import Check

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Judging:
    """How results of one kind are judged."""

    parse: Callable[[str], Any]
    """Reads a budget."""
    load: Callable[[str], Any]
    """Reads a baseline's file."""
    judge: Callable[..., Any]
    """A result with its checks, of result, budgets, baseline, tolerance and name."""


def of_profiles() -> Judging:
    """How profiles' reports are judged."""
    from greenload.report.baselines import judge
    from greenload.report.budgets import parse_budget
    from greenload.report.data import Report

    return Judging(parse_budget, Report.load, judge)


def of_comparisons() -> Judging:
    """How comparisons of strategies are judged."""
    from greenload.strategies.checks import judge_comparison, parse_strategy_budget
    from greenload.strategies.data import Comparison

    return Judging(parse_strategy_budget, Comparison.load, judge_comparison)


@dataclass(frozen=True)
class Gates:
    """What a result has to keep to."""

    budgets: tuple[Any, ...] = ()
    baseline: Any = None
    name: str = ""
    """The baseline's."""
    tolerance: float = 0.0
    judge: Callable[..., Any] | None = None

    def __bool__(self) -> bool:
        return bool(self.budgets) or self.baseline is not None

    def judged(self, result: _Result) -> _Result:
        """The result with what became of each budget, and of the comparison with the baseline."""
        if not self or self.judge is None:
            return result
        judged: _Result = self.judge(result, self.budgets, self.baseline, tolerance=self.tolerance, name=self.name)
        return judged


_BUDGET = "status 1 if exceeded: 'cpu_s_per_sample<=1.5e-3', 'energy_j_per_sample.cpu<=0.02'; repeatable"


def add_gates(parser: argparse.ArgumentParser, budget: str = _BUDGET, metavar: str = "RULE") -> None:
    """Add the options.

    Args:
        parser: of the command.
        budget: what is said of ``--budget``.
        metavar: its argument.
    """
    parser.add_argument("--budget", action="append", default=[], metavar=metavar, help=budget)
    parser.add_argument(
        "--baseline",
        metavar="FILE",
        help="an earlier report's JSON: say which steps changed since; status 1 if any grew",
    )
    parser.add_argument(
        "--tolerance",
        type=share_argument,
        default=None,
        metavar="SHARE",
        help="growth since the baseline that is allowed, of each step and of the total (default 5%%)",
    )
    parser.add_argument("--strict", action="store_true", help="status 1 too where a check can't be decided")


def gates(options: argparse.Namespace, judging: Callable[[], Judging] = of_profiles) -> Gates:
    """What was asked for, read before minutes of work.

    Args:
        options: of the command.
        judging: gives what reads and judges results of the command's kind.

    Raises:
        UsageError: a rule isn't a budget, a tolerance has no baseline or is above 100 %, or the baseline is what is
            written.
        ReportError: the baseline can't be read.
    """
    if options.tolerance is not None and options.baseline is None:
        raise UsageError("--tolerance is of growth since a baseline: give --baseline too")
    if options.strict and not options.budget and options.baseline is None:
        raise UsageError("--strict is of budgets and a baseline: give --budget or --baseline too")
    if not options.budget and options.baseline is None:
        return Gates()
    from greenload.report.baselines import TOLERANCE, check_tolerance

    kind = judging()
    tolerance = TOLERANCE if options.tolerance is None else options.tolerance
    check_tolerance(tolerance)
    budgets = tuple(kind.parse(rule) for rule in options.budget)
    baseline = None
    if options.baseline is not None:
        for file in (options.json, options.html):
            if file and os.path.realpath(file) == os.path.realpath(options.baseline):
                raise UsageError(f"{file}: is the baseline: name another file to write")
        baseline = kind.load(options.baseline)
    return Gates(budgets, baseline, f"baseline {os.path.basename(options.baseline or '')}", tolerance, kind.judge)


def status(checks: Iterable[Check], strict: bool = False) -> int:
    """The exit status that checks call for; says in one line on standard error what failed, or couldn't be decided.

    Args:
        checks: of a report.
        strict: whether those that can't be decided fail too.
    """
    from greenload.report.checks import check_line

    given = list(checks)
    failed = [check for check in given if check.failed]
    undecided = [check for check in given if check.outcome == "undecided"]
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        return fail(f"{check_line(failed[0])}{more}", FAILED)
    if undecided:
        text = f"{len(undecided)} of {len(given)} checks can't be decided: {check_line(undecided[0])}"
        if strict:
            return fail(text, FAILED)
        warn(text)
    return OK
