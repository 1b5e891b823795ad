"""The command report: shows what profile, fit, compare or optimize saved, or holds a second one against it."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from greenload.cli.arguments import AddCommand, check_outputs
from greenload.cli.carbon_options import add_carbon, check_carbon, with_carbon
from greenload.cli.gate_options import Gates, add_gates, gates, of_comparisons, of_profiles, status
from greenload.cli.output import OK, present, write_json
from greenload.errors import UsageError

if TYPE_CHECKING:
    from greenload.report.data import Report
    from greenload.strategies.data import Comparison


def add_command(add: AddCommand) -> None:
    """Add the command to the parser."""
    report = add("report", _report, "show a saved report, or hold a second one against it")
    report.add_argument(
        "report",
        metavar="A.json",
        help="what profile --json, compare --json, optimize --json or EnergyCallback's report.save wrote",
    )
    report.add_argument("other", metavar="B.json", nargs="?", help="another one of the same kind: ratios are B / A")
    add_carbon(report)
    add_gates(report)
    report.add_argument("--html", metavar="FILE", help="write it as a web page")


def _report(options: argparse.Namespace) -> int:
    from greenload.cli.saved import load_result
    from greenload.optimization.data import Optimization
    from greenload.report.data import Report
    from greenload.strategies.data import Comparison

    check_outputs(options, options.report, *([options.other] if options.other else []))
    check_carbon(options)
    report = load_result(options.report)
    asked = gates(options, of_comparisons if isinstance(report, Comparison) else of_profiles)
    if asked and options.other:
        raise UsageError(f"budgets and a baseline are for one report: leave {options.other} out")
    if isinstance(report, Report):
        return _of_profile(report, asked, options)
    if isinstance(report, Comparison):
        return _of_strategies(report, asked, options)
    given = [name for name, value in _of_profiles(options, asked).items() if value]
    if given:
        what = "an optimization" if isinstance(report, Optimization) else "a fit's report"
        raise UsageError(f"{options.report}: is {what}, which is shown by itself: leave {given[0]} out")
    present(options, report.save, report.html, report.render())
    return OK


def _of_profiles(options: argparse.Namespace, asked: Gates) -> dict[str, bool]:
    """What only profiles' reports have, and whether it was asked for."""
    return {
        str(options.other): options.other is not None,
        "--carbon": options.carbon is not None,
        "--budget": bool(asked.budgets),
        "--baseline": asked.baseline is not None,
    }


def _of_profile(report: Report, asked: Gates, options: argparse.Namespace) -> int:
    from greenload.report.comparison import compare
    from greenload.report.data import Report
    from greenload.report.html import html
    from greenload.report.terminal import render_comparison, render_report

    report = with_carbon(report, options)
    if asked:
        report = asked.judged(report)
    other = with_carbon(Report.load(options.other), options) if options.other else None
    comparison = compare(report, other) if other else None
    save = partial(write_json, data=comparison.to_dict()) if comparison else report.save
    present(
        options,
        save,
        lambda: html(report, other),
        render_comparison(comparison) if comparison else render_report(report),
    )
    return status(report.checks, options.strict) if asked else OK


def _of_strategies(comparison: Comparison, asked: Gates, options: argparse.Namespace) -> int:
    from greenload.strategies.changes import changes, changes_html
    from greenload.strategies.changes_table import render_changes
    from greenload.strategies.data import Comparison

    if options.carbon is not None:
        raise UsageError(f"{options.report}: is a comparison of strategies: leave --carbon out")
    if options.other:
        changed = changes(comparison, Comparison.load(options.other))
        save = partial(write_json, data=changed.to_dict())
        present(options, save, partial(changes_html, changed), render_changes(changed))
        return OK
    comparison = asked.judged(comparison)
    present(options, comparison.save, comparison.html, comparison.render())
    return status(comparison.checks, options.strict) if asked else OK
