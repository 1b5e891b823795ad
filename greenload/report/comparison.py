"""Two reports side by side: steps matched by name, differences and ratios, each with its interval.

The two are separate runs, so nothing is paired: what changed on the machine between them is in no interval, and a
ratio's interval is wider than that of plans measured in adjacent windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import SequenceMatcher
from typing import Any

from greenload.energy.attribution.observation import IN_PLACE
from greenload.energy.figures import Figure, scale, sum_figures
from greenload.machine import Machine
from greenload.report import notes, rows
from greenload.report.data import Report
from greenload.report.record import json_fields
from greenload.report.rows import ReportRow
from greenload.text import DASH, bytes_text

SEPARATE = (
    "Two separate runs, not paired: the intervals hold each run's sampling error, "
    "not what changed on the machine between them"
)
COUNTED = ("device_bytes_per_sample", "reads_per_sample")
"""Costs that are counted, not drawn: bytes from storage devices, and read system calls."""
_NAMED = 3  # steps that a difference names


@dataclass(frozen=True)
class Difference:
    """Something that the two reports don't share."""

    name: str
    a: str
    b: str


@dataclass(frozen=True)
class Change:
    """One quantity in both reports."""

    name: str
    unit: str
    a: Figure | None
    """None where only the other report has it."""
    b: Figure | None
    difference: Figure | None
    """``b − a``; None where either isn't known, or the two aren't on one scale."""
    ratio: Figure | None
    """``b / a`` (see `ratio`); None where it is unknown."""


@dataclass(frozen=True)
class RowPair:
    """One row of the two tables, and how its figures changed."""

    name: str
    label: str
    """The name with the stages that it fuses."""
    kind: str
    only: str
    """``"A"`` for a step that was removed, ``"B"`` for one that was added; empty for one that both have."""
    changes: Mapping[str, Change]
    """By kind of cost: ``"CPU"``, then groups of domains."""
    counted: Mapping[str, Change] = field(default_factory=dict)
    """By each of `COUNTED`."""
    methods: tuple[str, str] = ("", "")
    """How each report's step was measured; empty where it has none."""

    @property
    def unlike(self) -> bool:
        """Whether one report's step was measured in place, and the other's wasn't: then they hold unlike things."""
        return not self.only and self.methods[0] != self.methods[1] and IN_PLACE in self.methods


@dataclass(frozen=True)
class Comparison:
    """Report B against report A."""

    a: Report
    b: Report
    machines: tuple[Difference, ...]
    """How machine and versions differ; empty where all that is known of them agrees."""
    setups: tuple[Difference, ...]
    """How what was profiled differs."""
    totals: tuple[Change, ...]
    pairs: tuple[RowPair, ...]
    incomparable: str
    """Why some ratios aren't given; empty where none is held back."""

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON data, without the reports themselves."""
        return {
            "machines": [asdict(difference) for difference in self.machines],
            "setups": [asdict(difference) for difference in self.setups],
            "totals": [json_fields(change, Change) for change in self.totals],
            "steps": [
                {
                    "name": pair.name,
                    "kind": pair.kind,
                    "only": pair.only,
                    "changes": [json_fields(change, Change) for change in pair.changes.values()],
                }
                for pair in self.pairs
            ],
            "notes": [note for note in (SEPARATE, self.incomparable) if note],
        }


def compare(a: Report, b: Report) -> Comparison:
    """Report ``b`` against report ``a``.

    Steps are matched by name (and side input). Modelled joules of unlike machines or models have no ratio: their bands
    are not common, so they don't cancel. On one machine they do, and the ratio's interval is of the sampling error.

    Example:
        >>> compare(Report.load("before.json"), Report.load("after.json")).totals[0].ratio.value
        0.82
    """
    machines = tuple(machine_differences(a.machine, b.machine))
    comparable = {name: _on_one_scale(a, b, name) for name in rows.GROUPS}
    notable = {*rows.notable_groups(a), *rows.notable_groups(b)}
    held_back = [name for name, fine in comparable.items() if not fine and name in notable]
    rows_a, rows_b = (rows.report_rows(replace(report, steps=report.own_steps)) for report in (a, b))
    pairs = tuple(_pair(row_a, row_b, comparable) for row_a, row_b in _matched(rows_a, rows_b))
    return Comparison(
        a,
        b,
        machines,
        (*_setups(a, b), *_methods(pairs)),
        tuple(_totals(a, b, comparable)),
        pairs,
        _incomparable(held_back),
    )


def ratio(a: Figure, b: Figure) -> Figure | None:
    """``b / a`` of independent figures with its 95 % interval, recovered from both figures' intervals.

    The limits are the roots ``r`` at which the interval of ``b − r a`` touches zero, its half-width the two's in
    quadrature (MOVER-R: Donner & Zou, *Closed-form confidence intervals for functions of the normal mean and standard
    deviation*, Stat. Methods Med. Res. 21 (2012) 347; Newcombe, *MOVER-R confidence intervals for ratios and products
    of two independently estimated quantities*, Stat. Methods Med. Res. 25 (2016) 1774). For intervals symmetric about
    their values this is Fieller's theorem (*Some problems in interval estimation*, J. R. Stat. Soc. B 16 (1954) 175).

    Returns:
        The ratio with the weaker provenance; its interval isn't symmetric. None where either is missing, or ``a`` isn't
        told from zero: the ratio is then unbounded.

    Example:
        >>> quotient = ratio(Figure(2.0, 1.8, 2.2, "measured"), Figure(1.0, 0.9, 1.1, "measured"))
        >>> round(quotient.low, 3), quotient.value, round(quotient.high, 3)
        (0.434, 0.5, 0.576)
    """
    if a.value is None or a.low is None or a.high is None or b.value is None or b.low is None or b.high is None:
        return None
    if a.low <= 0 or a.high >= 2 * a.value:
        return None
    of_a_high, of_a_low = a.high * (2 * a.value - a.high), a.low * (2 * a.value - a.low)
    if min(of_a_high, of_a_low) <= 0:  # below what floats can hold
        return None
    of_b_low, of_b_high = b.low * (2 * b.value - b.low), b.high * (2 * b.value - b.high)
    # Below zero the other end of a decides.
    low = _root(a.value * b.value, of_b_low, of_a_high if b.low >= 0 else of_a_low, -1)
    high = _root(a.value * b.value, of_b_high, of_a_low if b.high >= 0 else of_a_high, 1)
    value = b.value / a.value
    if not all(map(math.isfinite, (low, value, high))):
        return None
    provenance = sum_figures([a, b]).provenance
    return Figure(value, min(low, value), max(high, value), provenance)


def _root(product: float, of_b: float, of_a: float, sign: int) -> float:
    return (product + sign * math.sqrt(max(0.0, product * product - of_a * of_b))) / of_a


def verdict(change: Change) -> str:
    """``"less"``, ``"more"``, ``"unclear"``, or nothing where there is no difference to judge."""
    difference = change.difference
    if difference is None or difference.low is None or difference.high is None:
        return ""
    return "less" if difference.high < 0 else "more" if difference.low > 0 else "unclear"


def times(figure: Figure | None) -> str:
    """A ratio for people: ``"0.87 (0.81 to 0.93)"``; a dash where it is unknown."""
    if figure is None or figure.value is None or figure.low is None or figure.high is None:
        return DASH
    wide = max(figure.high - figure.low, 1e-3 * max(abs(figure.value), 1e-9))
    places = min(6, max(0, 1 - math.floor(math.log10(wide))))
    return f"{figure.value:.{places}f} ({figure.low:.{places}f} to {figure.high:.{places}f})".replace("-", "−")


def machine_differences(a: Machine, b: Machine) -> Iterator[Difference]:
    """How two machines and their versions differ."""
    for fact in fields(Machine):
        left, right = getattr(a, fact.name), getattr(b, fact.name)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            yield from differing_facts(left, right)
        elif left != right:
            show = bytes_text if fact.name == "memory_bytes" else str
            yield Difference(fact.name.replace("_", " ").replace(" bytes", ""), show(left), show(right))


def differing_facts(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    """The members that two mappings don't share."""
    for name in sorted({*a, *b}):
        if a.get(name) != b.get(name):
            left, right = ("not there" if side.get(name) is None else str(side[name]) for side in (a, b))
            yield Difference(name, left, right)


def _setups(a: Report, b: Report) -> Iterator[Difference]:
    facts = [{"samples": report.samples} | _facts(report) for report in (a, b)]
    yield from differing_facts(*facts)
    lacking = [notes.missing_parts(report) for report in (a, b)]
    for name in sorted({*lacking[0], *lacking[1]}):
        left, right = (f"without {', '.join(missing[name])}" if name in missing else "complete" for missing in lacking)
        if left != right:
            yield Difference(f"{name} joules", left, right)


def _methods(pairs: Sequence[RowPair]) -> Iterator[Difference]:
    """How steps of both reports were measured, where one was in place and the other wasn't."""
    unlike = [pair for pair in pairs if pair.unlike]
    if unlike:
        names = [pair.name for pair in unlike[:_NAMED]]
        more = f" and {len(unlike) - _NAMED} more" if len(unlike) > _NAMED else ""
        left, right = (" or ".join(dict.fromkeys(pair.methods[side] for pair in unlike)) for side in (0, 1))
        yield Difference(f"how {', '.join(names)}{more} {'is' if len(unlike) == 1 else 'are'} measured", left, right)


def _facts(report: Report) -> dict[str, Any]:
    plan = {name: report.plan[name] for name in ("backend", "threads", "prefetch", "sample") if name in report.plan}
    source = report.pipeline.get("source")
    described = source if isinstance(source, Mapping) else {}
    facts = {
        "pipeline": report.pipeline.get("name"),
        "seed": report.pipeline.get("seed"),
        "data": described.get("root"),
    }
    facts["cold"] = "no" if report.cold is None else "yes"
    return {name: value for name, value in facts.items() if value is not None} | plan


def _on_one_scale(a: Report, b: Report, group: str) -> bool:
    """Whether joules of a group may be divided: measured in both, or from one model or declaration on one machine."""
    known = [
        [figure for figure in rows.group_figures(report, group) if figure.value is not None and figure.value != 0]
        for report in (a, b)
    ]
    if not all(known):
        return False
    bands = [sum_figures(figures) for figures in known]
    if all(band.provenance == "measured" for band in bands):
        return True
    hardware = [replace(report.machine, os="", python="", packages={}) for report in (a, b)]
    return hardware[0] == hardware[1] and rows.band(known[0]) == rows.band(known[1])


def _incomparable(groups: list[str]) -> str:
    if not groups:
        return ""
    return (
        f"No ratio of {' and '.join(groups)} joules: they are not measured in both, nor from one model on one machine, "
        "so their bands don't cancel"
    )


def _matched(a: list[ReportRow], b: list[ReportRow]) -> Iterator[tuple[ReportRow | None, ReportRow | None]]:
    """Pairs of rows of one name, in the order of both tables, as far as they have one order."""
    names = [[_key(side, k) for k in range(len(side))] for side in (a, b)]
    of_b = dict(zip(names[1], b, strict=True))
    moved = {*names[0]} & {*names[1]}
    for tag, i, j, k, n in SequenceMatcher(None, names[0], names[1], autojunk=False).get_opcodes():
        for index in range(i, j):
            yield a[index], of_b.get(names[0][index])
        if tag != "equal":
            yield from ((None, b[index]) for index in range(k, n) if names[1][index] not in moved)


def _key(side: list[ReportRow], index: int) -> tuple[str, str, str, int]:
    names = [(row.kind, row.branch, row.name) for row in side]
    return *names[index], names[:index].count(names[index])


def _pair(a: ReportRow | None, b: ReportRow | None, comparable: Mapping[str, bool]) -> RowPair:
    row = a or b
    assert row is not None  # matching gives at least one
    divide = row.kind != "unattributed"  # a ratio of what is left over means nothing
    cpu = change_between("CPU", "ms", a.cpu_ms if a else None, b.cpu_ms if b else None, divide=divide)
    changes = {"CPU": cpu}
    for group in rows.GROUPS:
        left, right = (row.energy_mj.get(group) if row else None for row in (a, b))
        if left is not None or right is not None:
            changes[group] = change_between(group, "mJ", left, right, divide=divide, comparable=comparable[group])
    read = change_between("read", "bytes", a.device_bytes if a else None, b.device_bytes if b else None, divide=divide)
    reads = change_between("reads", "reads", a.reads if a else None, b.reads if b else None, divide=divide)
    counted = dict(zip(COUNTED, (read, reads), strict=True))
    only = "" if a and b else "A" if a else "B"
    methods = (a.method if a else "", b.method if b else "")
    return RowPair(row.name or row.label, row.label, row.kind, only, changes, counted, methods)


def _totals(a: Report, b: Report, comparable: Mapping[str, bool]) -> Iterator[Change]:
    noun = rows.noun(a)
    yield change_between(
        "CPU time", f"ms per {noun}", *(scale(report.total.cpu_s_per_sample, 1e3) for report in (a, b))
    )
    notable = {*rows.notable_groups(a), *rows.notable_groups(b)}
    for group in [name for name in rows.GROUPS if name in notable]:
        left, right = (rows.by_group(report.total.energy_j_per_sample).get(group) for report in (a, b))
        if left is not None or right is not None:
            figures = (scale(figure, 1e3) if figure is not None else None for figure in (left, right))
            yield change_between(f"{group} joules", f"mJ per {noun}", *figures, comparable=comparable[group])
    yield change_between("full speed", f"{noun}s per second", a.full.samples_per_s, b.full.samples_per_s)


def change_between(
    name: str, unit: str, a: Figure | None, b: Figure | None, *, divide: bool = True, comparable: bool = True
) -> Change:
    """One quantity in two reports.

    Args:
        name: of the quantity.
        unit: of both figures.
        a: in the first.
        b: in the second.
        divide: whether a ratio means anything.
        comparable: whether the two are on one scale; else neither difference nor ratio is given.
    """
    if a is None or b is None or a.value is None or b.value is None or not comparable:
        return Change(name, unit, a, b, None, None)
    return Change(name, unit, a, b, sum_figures([b, scale(a, -1)]), ratio(a, b) if divide else None)
