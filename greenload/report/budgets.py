"""Budgets: what a pipeline, or any measured code, may cost at most. Made for continuous integration.

A budget is a quantity, a comparison and a number, as ``cpu_s_per_sample<=1.5e-3``, in the units that the quantity's
name says. It is judged by the figure's 95 % interval, not by its value alone: *met* if the whole interval keeps to the
limit, *exceeded* if the whole interval lies beyond it, *undecided* where the interval holds the limit. A figure that no
meter gave is *missing*, and fails: what wasn't measured hasn't kept to anything. A model's own band is not part of the
interval: it is common to all figures of the model, so a budget set by the model is kept or exceeded by the same model.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from greenload.energy.figures import Figure, sum_figures
from greenload.energy.measure import MeasuredWindow
from greenload.energy.meters.base import COUNTS_TWICE, MeterStatus
from greenload.errors import UsageError
from greenload.report import rows
from greenload.report.checks import Check
from greenload.report.comparison import COUNTED, Change, Comparison, compare, times
from greenload.report.data import Report
from greenload.text import percent

OF_REPORTS = ("cpu_s_per_sample", "energy_j_per_sample", "device_bytes_per_sample", "reads_per_sample", "samples_per_s")
"""Quantities of a report: of its total, joules with idle power; ``samples_per_s`` of the held-out run."""
OF_STEPS = OF_REPORTS[:-1]
"""Quantities of a step, without idle power."""
OF_WINDOWS = ("cpu_s", "energy_j", "wall_s", "device_read_bytes")
"""Quantities of a measured block of code."""

_BUDGET = re.compile(
    r"""(?:steps\.(?P<step>"[^"]*"|'[^']*'|[\w-]+)\.)?   # steps."Decode + crop".
        (?P<field>[a-z_]+)
        (?:\.(?P<domain>(?:cpu|dram|gpu|storage)(?::[A-Za-z0-9_.-]+)?))?
        \s*(?P<operator><=|>=|<|>)\s*
        (?P<limit>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)""",
    re.VERBOSE,
)
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}
_NARROWER = "its interval holds the limit: --precision, or more --rounds, narrows it"
_LONGER = "its interval holds the limit: a longer block, or one repeated, narrows it"


@dataclass(frozen=True)
class Budget:
    """One budget, as parsed."""

    rule: str
    """The budget's text as it was given."""
    field: str
    """One of `OF_REPORTS` or `OF_WINDOWS`."""
    operator: str
    """``"<="``, ``"<"``, ``">="`` or ``">"``."""
    limit: float
    """In the unit that the field's name says."""
    domain: str = ""
    """Whose joules: a domain, as ``"cpu:package-0"``, or all of a kind, as ``"cpu"``; empty for what isn't joules."""
    step: str = ""
    """The step's name; empty for the total."""

    def outcome(self, figure: Figure) -> str:
        """``"met"``, ``"exceeded"``, ``"undecided"`` or ``"missing"``.

        Example:
            >>> parse_budget("cpu_s_per_sample<=1e-3").outcome(Figure(0.0012, 0.0011, 0.0013, "measured"))
            'exceeded'
        """
        if figure.low is None or figure.high is None:
            return "missing"
        kept = _COMPARE[self.operator]
        ends = (kept(figure.low, self.limit), kept(figure.high, self.limit))
        return "met" if all(ends) else "undecided" if any(ends) else "exceeded"


def parse_budget(rule: str, fields: Sequence[str] = OF_REPORTS) -> Budget:
    """Read a budget.

    Args:
        rule: ``QUANTITY OPERATOR NUMBER``; the quantity is one of ``fields``, joules followed by a domain
            (``energy_j_per_sample.cpu:package-0``) or a kind of domain (``energy_j_per_sample.cpu``: the sum of them);
            or one of a step (``steps."Decode + crop".cpu_s_per_sample``; a name of one word needs no quotes).
        fields: `OF_REPORTS` or `OF_WINDOWS`.

    Raises:
        UsageError: it isn't one.

    Example:
        >>> parse_budget("energy_j_per_sample.cpu <= 0.02").domain
        'cpu'
    """
    match = _BUDGET.fullmatch(rule.strip())
    if match is None:
        raise UsageError(
            f"a budget is a quantity, <=, <, >= or > and a number, as {fields[0]}<=1.5e-3, found {rule!r}: write it so"
        )
    step, field = (match["step"] or "").strip("\"'"), match["field"]
    known = OF_STEPS if match["step"] and fields is OF_REPORTS else fields
    if field not in known or (match["step"] and fields is not OF_REPORTS):
        raise UsageError(f"a budget{' of a step' if match['step'] else ''} is of {', '.join(known)}, found {rule!r}")
    joules = field.startswith("energy_j")
    if joules and not match["domain"]:
        raise UsageError(f"a budget of joules names whose, as {field}.cpu or {field}.gpu:0, found {rule!r}")
    if match["domain"] and not joules:
        raise UsageError(f"only joules are told by domain, found {rule!r}: leave .{match['domain']} out")
    limit = float(match["limit"])
    if not math.isfinite(limit):
        raise UsageError(f"a budget's number is one that can be kept, found {rule!r}: give a smaller one")
    return Budget(rule.strip(), field, match["operator"], limit, match["domain"] or "", step)


def check_budgets(report: Report, budgets: Iterable[Budget], baseline: Report | None = None) -> tuple[Check, ...]:
    """Hold a report against budgets.

    Args:
        report: the figures that are judged.
        budgets: from `parse`.
        baseline: an earlier report, by which the step that grew is named; without one, the step that weighs most.

    Example:
        >>> check_budgets(profile(train), [parse_budget("cpu_s_per_sample<=1.5e-3")])[0].outcome
        'met'
    """
    comparison = compare(baseline, report) if baseline is not None else None
    return tuple(_check(report, budget, comparison) for budget in budgets)


def check_window(window: MeasuredWindow, budgets: Iterable[Budget]) -> tuple[Check, ...]:
    """Hold a measured block of code against budgets parsed with `OF_WINDOWS`.

    Measured joules are the whole machine's in that time, other processes included; modelled ones this process's.
    """
    return tuple(judge_figure(budget, *_of_window(window, budget), narrower=_LONGER) for budget in budgets)


def _check(report: Report, budget: Budget, comparison: Comparison | None) -> Check:
    figure, why = _of_report(report, budget)
    judged = judge_figure(budget, figure, why)
    if judged.outcome in ("met", "missing") or budget.step:
        return judged
    blamed = (grew_most(comparison, _kind(budget)) if comparison is not None else "") or _weighs_most(report, budget)
    return judge_figure(budget, figure, blamed)


def _kind(budget: Budget) -> str:
    """What a step that is to blame has to have more of: what a sample takes in CPU time tells how fast they come."""
    if budget.domain:
        return rows.group(budget.domain)
    return budget.field if budget.field in COUNTED else "CPU"


def judge_figure(budget: Budget, figure: Figure, why: str, narrower: str = _NARROWER) -> Check:
    """What a figure says to a budget.

    Args:
        budget: with its limit, in the figure's unit.
        figure: what is judged; missing where nobody could say.
        why: what is said of it: the reason why it is missing, or what weighs most.
        narrower: what is said where its interval holds the limit.
    """
    outcome = budget.outcome(figure)
    said = [narrower] if outcome == "undecided" else []
    said += [why] if why else []
    if outcome != "missing" and figure.provenance != "measured":
        band = f" ±{percent(figure.systematic)}" if figure.systematic else ""
        said.append(f"{figure.provenance}{band}, judged without that band" if band else figure.provenance)
    detail = "; ".join(said)
    return Check(budget.rule, outcome, figure.value, figure.low, figure.high, budget.limit, detail)


def _of_report(report: Report, budget: Budget) -> tuple[Figure, str]:
    """The budget's figure, and why it is missing if it is."""
    if budget.field == "samples_per_s":
        return report.full.samples_per_s, "the held-out run gave no figure"
    costs = [step for step in report.own_steps if step.name == budget.step] if budget.step else [report.total]
    if not costs:
        return (
            Figure.missing(),
            f"there is no step {budget.step!r}, only {', '.join(step.name for step in report.steps)}",
        )
    if budget.domain:
        parts = [_joules(cost.energy_j_per_sample, budget.domain, report.meters, {}) for cost in costs]
        return sum_figures(figure for figure, _ in parts), next((why for _, why in parts if why), "")
    figure = sum_figures(getattr(cost, budget.field) for cost in costs)
    return figure, "" if figure.value is not None else "the system doesn't tell"


def _of_window(window: MeasuredWindow, budget: Budget) -> tuple[Figure, str]:
    if budget.domain:
        return _joules(window.energy_j, budget.domain, window.statuses, window.void)
    value = getattr(window, budget.field)
    if value is None:
        return Figure.missing(), "the system doesn't tell"
    return Figure(value, value, value, "measured"), ""


def _joules(
    energy: Mapping[str, Figure], domain: str, meters: Iterable[MeterStatus], void: Mapping[str, str]
) -> tuple[Figure, str]:
    """Joules of a domain, or the sum of a kind: missing, with the reason, as soon as a part of it is."""
    if domain in energy:
        return energy[domain], "" if energy[domain].value is not None else f"{domain} has no figure in these windows"
    if domain in void:
        return Figure.missing(), void[domain]
    unusable = [meter for meter in meters if not meter.usable and COUNTS_TWICE not in meter.reason]
    parts = [figure for name, figure in energy.items() if rows.group(name) == domain]
    # A drive that can't be asked is no loss where a model speaks for it.
    lacking = [
        meter
        for meter in unusable
        if rows.group(meter.domain) == domain and meter.domain != domain and meter.domain not in energy
    ]
    voided = [f"{name}: {why}" for name, why in void.items() if rows.group(name) == domain]
    if reasons := _reasons(lacking) or "; ".join(voided):
        return Figure.missing(), f"a part of {domain} is missing: {reasons}" if parts else reasons
    if not parts:
        # What is said of the domain itself, else of its whole kind, as where there is no driver.
        lost = [meter for meter in unusable if meter.domain == domain]
        lost = lost or [meter for meter in unusable if meter.domain == rows.group(domain)]
        there = ", ".join(sorted({*energy, *void})) or "nothing"
        return Figure.missing(), _reasons(lost) or f"nothing meters {domain}, only {there}"
    figure = sum_figures(parts, common=True)
    return figure, "" if figure.value is not None else f"a part of {domain} has no figure in these windows"


def _reasons(lost: Sequence[MeterStatus]) -> str:
    if not lost:
        return ""
    first = lost[0]
    more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
    return f"{first.domain}: {first.reason}{more}{f': {first.remedy}' if first.remedy else ''}"


def grew_most(comparison: Comparison, kind: str = "CPU") -> str:
    """The step that grew most in a kind of cost, and by how much; empty where none grew beyond its interval.

    Args:
        comparison: of the reports.
        kind: ``"CPU"``, a group of domains, or one of `greenload.report.comparison.COUNTED`.
    """
    grown = {
        pair.name: change
        for pair in comparison.pairs
        if pair.kind == "step"
        and not pair.unlike
        and (change := {**pair.changes, **pair.counted}.get(kind)) is not None
        and _growth(change, least=True) > 0
    }
    if not grown:
        return ""
    name, change = max(grown.items(), key=lambda item: _growth(item[1]))
    ratio = f", × {times(change.ratio)}" if change.ratio is not None else ""
    return f"grew most: {name}, by {_growth(change):.3g} {change.unit}{ratio}"


def _growth(change: Change, *, least: bool = False) -> float:
    """By how much, in the change's unit: the value, or the least that its interval allows."""
    more = change.difference if change.difference is not None else change.b if change.a is None else None
    growth = (more.low if least else more.value) if more is not None else None
    return 0.0 if growth is None else growth


def _weighs_most(report: Report, budget: Budget) -> str:
    """The step with most of a cost, and its share of the held-out run."""
    costs: dict[str, float] = {}
    for step in report.steps:
        if budget.domain:
            figure, _ = _joules(step.energy_j_per_sample, budget.domain, (), {})
        else:
            figure = step.cpu_s_per_sample if budget.field == "samples_per_s" else getattr(step, budget.field)
        if figure.value is not None:
            costs[step.name] = costs.get(step.name, 0.0) + figure.value
    if not costs:
        return ""
    name, most = max(costs.items(), key=lambda item: item[1])
    whole = sum(cost for cost in costs.values() if cost > 0)
    return f"weighs most: {name}, {percent(most / whole)} of the steps" if whole > 0 else ""
