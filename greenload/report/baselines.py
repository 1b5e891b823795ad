"""Compares a report with an earlier one: which steps grew or fell beyond their intervals, and beyond chance.

Two things make a plain "the intervals don't meet" cry wolf. Forty figures of two runs of one pipeline are forty
comparisons, of which one lies beyond its interval by chance; so Holm's correction decides (*A simple sequentially
rejective multiple test procedure*, Scand. J. Stat. 6 (1979) 65), which keeps the chance of any false alarm at that of
one comparison. And two runs are not paired: what changed on the machine between them is in no interval; so a growth
has to exceed an allowance too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtr, stdtrit

from greenload.energy.attribution.intervals import CONFIDENCE
from greenload.energy.attribution.observation import IN_PLACE
from greenload.energy.figures import Figure, scale
from greenload.errors import UsageError
from greenload.report import rows
from greenload.report.budgets import Budget, check_budgets
from greenload.report.checks import Check, interval_text, quantity
from greenload.report.comparison import Change, Comparison, compare, times
from greenload.report.data import Report
from greenload.text import percent

TOLERANCE = 0.05
"""Growth that is allowed, as a share of the figure; of a step also `OF_TOTAL` of that share of the total if more.

The total has no smaller allowance: where one step is most of it, that step's own allowance would mean nothing."""
OF_TOTAL = 0.2
"""A small step may grow by so much of the tolerance as a share of the total: by 1 % of the total at 5 %."""
LEVEL = (1 - CONFIDENCE) / 2
"""Chance that a figure which didn't grow lies beyond the upper end of its interval."""
_UNKNOWN_DF = 8.0
"""Degrees of freedom where a report holds no windows: two builds of five rounds."""


@dataclass(frozen=True)
class Compared:
    """One quantity of both reports, in base units."""

    rule: str
    """The budget that it amounts to, ``'steps."Batch".cpu_s_per_sample<=baseline'``."""
    name: str
    """The step's name, or ``"the total"``."""
    change: Change
    allowed: float
    """Growth that counts as none, in the quantity's unit."""

    def p_value(self, df: tuple[float, float], sign: int) -> float:
        """Chance of a change this large where there was none but the allowed one.

        A t test of unlike variances (Welch, *The generalization of "Student's" problem*, Biometrika 34 (1947) 28), each
        standard error taken out of its figure's interval.

        Args:
            df: degrees of freedom of the baseline's figure and of the other.
            sign: 1 for growth, -1 for a fall.
        """
        a, b = self.change.a, self.change.b
        assert a is not None and b is not None and a.value is not None and b.value is not None
        beyond = sign * (b.value - a.value) - self.allowed
        variances = [
            ((figure.half_width or 0.0) / float(stdtrit(n, 1 - LEVEL))) ** 2
            for figure, n in zip((a, b), df, strict=True)
        ]
        both = sum(variances)
        if both == 0:
            return 0.0 if beyond > 0 else 1.0
        of_both = both**2 / sum(variance**2 / n for variance, n in zip(variances, df, strict=True))
        return float(stdtr(of_both, -beyond / math.sqrt(both)))


def judge(
    report: Report,
    budgets: Iterable[Budget],
    baseline: Report | None,
    *,
    tolerance: float = TOLERANCE,
    name: str = "baseline",
) -> Report:
    """A report with what became of each budget, and of the comparison with a baseline; arguments as of `against`."""
    checks = check_budgets(report, budgets, baseline)
    if baseline is not None:
        checks += against(baseline, report, tolerance=tolerance, name=name)
    return replace(report, checks=checks)


def against(
    baseline: Report, report: Report, *, tolerance: float = TOLERANCE, name: str = "baseline"
) -> tuple[Check, ...]:
    """What changed since a baseline.

    Compared are CPU seconds and joules of every step that both have, and of the total. Joules only where a counter
    tells them, as modelled ones follow from CPU seconds. Not the throughput, which depends on whatever else the machine
    does.

    Args:
        baseline: an earlier report of the same pipeline, from the same machine.
        report: the new one.
        tolerance: growth that is allowed, as a share, 0 to 1; see `TOLERANCE`.
        name: the baseline's, for the checks.

    Returns:
        First one check of the whole; then one for each figure that grew ("exceeded"), fell ("met"), or lies beyond its
        interval as some do by chance ("undecided"). A step of one report only is "undecided", since the total judges
        it, and so is one that only one of them measures in place; a kind of joules that only the baseline has is
        "missing". On another processor nothing is exceeded: a change may be the processor's, so it is "undecided".

    Raises:
        UsageError: the tolerance isn't such a share.

    Example:
        >>> [check.outcome for check in against(Report.load("main.json"), profile(train))]
        ['met']
    """
    check_tolerance(tolerance)
    comparison = compare(baseline, report)
    of_what = [str(each.plan.get("sample", "sample")) for each in (baseline, report)]
    if of_what[0] != of_what[1]:
        units = f"its figures are for one {of_what[0]}, this report's for one {of_what[1]}: profile the baseline again"
        return (Check(name, "missing", None, None, None, None, units),)
    compared = list(_compared(comparison, tolerance))
    df = (_degrees(baseline), _degrees(report))
    grown, perhaps = changed_beyond(compared, df, 1)
    fallen, _ = changed_beyond(compared, df, -1)
    other_machine = _other_processor(comparison)
    checks = [_check(change, "undecided" if other_machine else "exceeded", "grew") for change in grown]
    checks += [_check(change, "undecided", BY_CHANCE) for change in perhaps]
    checks += [_check(change, "met", "fell") for change in fallen]
    checks += [*_alone(comparison), *_unlike(comparison), *_lost(comparison)]
    outcomes = {check.outcome for check in checks}
    overall = next((outcome for outcome in ("exceeded", "missing", "undecided") if outcome in outcomes), "met")
    if not compared:
        overall = "missing"
    elif other_machine:
        overall = "undecided"
    said = _said(comparison, len(compared), len(grown), len(fallen), tolerance, other_machine)
    return (Check(name, overall, None, None, None, None, said), *checks)


def check_tolerance(tolerance: float) -> None:
    """Refuse a tolerance that isn't a share, before minutes of work.

    Raises:
        UsageError: it is below 0, above 1, or not a number.
    """
    if not 0 <= tolerance <= 1:
        raise UsageError(f"a tolerance is a share, 0 to 1, found {tolerance:g}: write 0.05 for 5 %")


BY_CHANCE = "grew beyond its own interval, as some of so many do by chance (--precision tells)"
"""What is said of a change that Holm's correction doesn't take for one."""


def _compared(comparison: Comparison, tolerance: float) -> Iterator[Compared]:
    """Every figure that both reports know, steps first, in base units."""
    totals = _totals(comparison)
    for pair in comparison.pairs:
        if pair.kind == "step" and not pair.only and not pair.unlike:
            for group, change in pair.changes.items():
                total = totals.get(group)
                of_total = total.a.value if total is not None and total.a is not None else None
                yield from _one(pair.name, group, change, tolerance, of_total or 0.0)
    for group, change in totals.items():
        yield from _one("", group, change, tolerance, 0.0)


def _one(step: str, group: str, change: Change, tolerance: float, total: float) -> Iterator[Compared]:
    if change.difference is None or change.a is None or change.b is None or change.a.value is None:
        return
    if "modelled" in (change.a.provenance, change.b.provenance):
        return  # worked out from CPU seconds, memory and bytes: the same change once more
    a, b, difference = (scale(figure, 1e-3) for figure in (change.a, change.b, change.difference))
    base = Change(change.name, "s" if group == "CPU" else "J", a, b, difference, change.ratio)
    allowed = tolerance * max(abs(change.a.value), OF_TOTAL * abs(total)) * 1e-3
    yield Compared(_rule(step, group), step or "the total", base, allowed)


def _rule(step: str, group: str) -> str:
    field = "cpu_s_per_sample" if group == "CPU" else f"energy_j_per_sample.{group}"
    return f"{quantity(field, step)}<=baseline"


def changed_beyond(
    compared: Sequence[Compared], df: tuple[float, float], sign: int
) -> tuple[list[Compared], list[Compared]]:
    """What changed for certain, and what lies beyond its own interval only: Holm's step-down procedure.

    Args:
        compared: all figures that are compared.
        df: degrees of freedom of the baseline's figures and of the others.
        sign: 1 for growth, -1 for a fall.
    """
    ranked = sorted(((each.p_value(df, sign), k) for k, each in enumerate(compared)))
    certain: list[int] = []
    for rank, (p, k) in enumerate(ranked):
        if p > LEVEL / (len(ranked) - rank):
            break
        certain.append(k)
    perhaps = [k for p, k in ranked[len(certain) :] if p <= LEVEL]
    return [compared[k] for k in sorted(certain)], [compared[k] for k in sorted(perhaps)]


def _degrees(report: Report) -> float:
    """Degrees of freedom within builds: rounds of the step that has fewest, less one a build."""
    names = {"", *(step.name for step in report.steps)}  # trials of changes ran on one build
    steps: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for window in report.windows:
        if window.kind != "idle" and window.step in names:
            steps.setdefault((window.step, window.kind), set()).add((window.build, window.round))
    known = [len(seen) - len({build for build, _ in seen}) for seen in steps.values()]
    return float(max(1, min(known))) if known else _UNKNOWN_DF


def _check(compared: Compared, outcome: str, what: str) -> Check:
    a, b = compared.change.a, compared.change.b
    assert a is not None and b is not None and a.value is not None
    ratio = f", × {times(compared.change.ratio)}" if compared.change.ratio is not None else ""
    detail = f"{compared.name} {what}{ratio}; the baseline says {interval_text(a.value, a.low, a.high)}"
    return Check(compared.rule, outcome, b.value, b.low, b.high, a.value + compared.allowed, detail)


def _alone(comparison: Comparison) -> Iterator[Check]:
    """Steps of one report only: what they cost is in the total."""
    for pair in comparison.pairs:
        if pair.kind != "step" or not pair.only:
            continue
        side, what = ("a", "is gone") if pair.only == "A" else ("b", "is new")
        figure: Figure | None = getattr(pair.changes["CPU"], side)
        cost = "" if figure is None or figure.value is None else f" ({figure.value:.3g} ms of CPU time)"
        here = scale(figure, 1e-3) if figure is not None and pair.only == "B" else Figure.missing()
        detail = f"{pair.name} {what}{cost}: only the total can be compared"
        yield Check(_rule(pair.name, "CPU"), "undecided", here.value, here.low, here.high, None, detail)


def _unlike(comparison: Comparison) -> Iterator[Check]:
    """Steps that one report measures in place: without passing elements on, which the other's figure holds."""
    for pair in comparison.pairs:
        figure = pair.changes["CPU"].b
        if pair.kind == "step" and pair.unlike and figure is not None:
            before, now = (method if method == IN_PLACE else f"by {method}" for method in pair.methods)
            here = scale(figure, 1e-3)
            detail = f"{pair.name} is measured {now}, in the baseline {before}: only the total can be compared"
            yield Check(_rule(pair.name, "CPU"), "undecided", here.value, here.low, here.high, None, detail)


def _lost(comparison: Comparison) -> Iterator[Check]:
    """Totals that only one of the reports knows: what a meter no longer says isn't met."""
    for group, change in _totals(comparison).items():
        a, b = (figure is not None and figure.value is not None for figure in (change.a, change.b))
        if a != b:
            outcome, side = ("missing", "this report") if a else ("undecided", "the baseline")
            detail = f"{side} has no figure for it: greenload doctor says why and what helps"
            yield Check(_rule("", group), outcome, None, None, None, None, detail)


def _totals(comparison: Comparison) -> dict[str, Change]:
    """Changes of the total by kind of cost."""
    named = {"CPU" if change.name == "CPU time" else change.name.split(" ")[0]: change for change in comparison.totals}
    return {group: change for group, change in named.items() if group in ("CPU", *rows.GROUPS)}


def _other_processor(comparison: Comparison) -> bool:
    """Whether CPU seconds and joules are of another processor: memory and versions are noted only."""
    a, b = comparison.a.machine, comparison.b.machine
    return (a.cpu_model, a.cpus) != (b.cpu_model, b.cpus)


def _said(comparison: Comparison, count: int, grown: int, fallen: int, tolerance: float, other_machine: bool) -> str:
    parts = []
    if other_machine:
        parts.append("ANOTHER PROCESSOR, whose a change may be, so none counts: profile the baseline on this one")
    parts.append(
        f"{count} figures compared, {grown} grew by more than {percent(tolerance)} and their intervals, {fallen} fell; "
        f"{count * LEVEL:.1f} would lie beyond by chance, which Holm's correction allows for"
        if count
        else "nothing that both reports hold can be compared"
    )
    differ = [f"{fact.name} ({fact.a} → {fact.b})" for fact in (*comparison.machines, *comparison.setups)]
    parts += [f"differs: {', '.join(differ)}"] if differ else []
    parts += [comparison.incomparable] if comparison.incomparable else []
    return "; ".join(parts)
