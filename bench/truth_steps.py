"""A profile of a burning pipeline held against the emulator's truth: totals, steps, their sum, and CPU shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.contest import Row, Spread
from greenload.energy.figures import Figure
from greenload.report.data import Report

TOTAL_REACH = 0.01
"""The most that a total may be off the truth, as a share of it."""
STEP_REACH, STEP_OF_ALL_REACH = 0.05, 0.01
"""A step may be off by the larger of this share of itself and this share of all, or its interval holds the truth."""
MISSED_REACH = 0.05
"""The most of the intervals that may miss the truth, and of the full runs that may lie outside that of the sum."""
TOTAL, ALL = "total", "all"
"""The pipeline with the idle machine, and without."""
IDLE, OTHER, NEIGHBOUR = "idle", "other", "neighbour"
"""Kinds of joules that no step burns: the idle machine's, those of code that notes nothing, and the neighbour's."""


@dataclass(frozen=True)
class Truth:
    """What one window truly used."""

    step: str
    kind: str
    """As of the report's window."""
    build: int
    samples: int
    worked: float
    """Share of the window in which work was done: the rest is settling, whose idle joules are nobody's."""
    counted_j: Mapping[str, float]
    """By domain: what the profile's meter counted."""
    true_j: Mapping[str, Mapping[str, float]]
    """By domain and kind of work, `IDLE`, `OTHER` and `NEIGHBOUR` included: what the emulator knows."""


@dataclass(frozen=True)
class Judged:
    """One figure of one profile against its truth, joules per sample."""

    run: str
    domain: str
    what: str
    """`TOTAL`, `ALL`, or a step."""
    value: float
    low: float
    high: float
    truth: float
    allowed: float
    """The most that it should be off without its interval holding the truth."""
    by_cpu_share: float | None = None
    """For a step: the true joules of all steps, split by their measured CPU seconds."""

    @property
    def error(self) -> float:
        """How far it is off, over what is allowed."""
        return abs(self.value - self.truth) / self.allowed

    @property
    def share_error(self) -> float | None:
        """How far CPU shares are off, over what is allowed."""
        return None if self.by_cpu_share is None else abs(self.by_cpu_share - self.truth) / self.allowed

    @property
    def held(self) -> bool:
        """Whether its interval holds the truth."""
        return self.low <= self.truth <= self.high

    @property
    def kept(self) -> bool:
        """Whether it is as right as asked, or says that it may not be."""
        return self.error <= 1 or self.held


def per_sample(truths: Iterable[Truth], domain: str, kinds: Sequence[str] | None = None) -> float:
    """True joules per sample of some kinds of work, all but the neighbour's if None, the idle machine's for as long as
    there was work: mean of the builds' means, as a profile's figures are. 0 where there is no window."""
    by_build: dict[int, list[float]] = {}
    for truth in truths:
        joules = truth.true_j[domain]
        wanted = [kind for kind in joules if kind != NEIGHBOUR] if kinds is None else kinds
        used = sum(joules[kind] * (truth.worked if kind == IDLE else 1.0) for kind in wanted)
        by_build.setdefault(truth.build, []).append(used / truth.samples)
    return fmean(fmean(values) for values in by_build.values()) if by_build else 0.0


def judge(run: str, report: Report, truths: Sequence[Truth], kinds: Mapping[str, str]) -> list[Judged]:
    """Every measured figure of a report whose truth is known.

    The truth of a step is what its work drew in the held-out full run, and, of the code that calls it and notes
    nothing, what its replays with it drew more than those without.

    Args:
        run: names the profile.
        report: the profile.
        truths: one for each sound window.
        kinds: the kind of work that is a step's own, by step.
    """
    full = [truth for truth in truths if truth.kind == "full"]
    steps = {step.name: step for step in report.steps if step.name in kinds}
    cpu_s = {name: step.cpu_s_per_sample.value or 0.0 for name, step in steps.items()}
    found = []
    for domain, total in report.total.energy_j_per_sample.items():
        if total.provenance != "measured" or total.value is None:
            continue
        whole = per_sample(full, domain)
        own = whole - per_sample(full, domain, [IDLE])
        found.append(_judged(run, domain, TOTAL, total, whole, TOTAL_REACH * whole))
        found.append(_judged(run, domain, ALL, report.full.energy_j_per_sample[domain], own, TOTAL_REACH * whole))
        true = {name: per_sample(full, domain, [kinds[name]]) + _calling(truths, name, domain) for name in steps}
        for name, step in steps.items():
            joules = step.energy_j_per_sample[domain]
            if joules.value is not None:
                allowed = max(STEP_REACH * true[name], STEP_OF_ALL_REACH * own)
                share = sum(true.values()) * cpu_s[name] / sum(cpu_s.values())
                found.append(_judged(run, domain, kinds[name], joules, true[name], allowed, share))
    return found


def _calling(truths: Sequence[Truth], step: str, domain: str) -> float:
    with_it, without = (
        per_sample([t for t in truths if t.step == step and t.kind == kind], domain, [OTHER])
        for kind in ("with", "without")
    )
    return with_it - without


def _judged(
    run: str, domain: str, what: str, figure: Figure, truth: float, allowed: float, share: float | None = None
) -> Judged:
    assert figure.value is not None and figure.low is not None and figure.high is not None
    return Judged(run, domain, what, figure.value, figure.low, figure.high, truth, allowed, share)


def counters_off(truths: Sequence[Truth]) -> list[float]:
    """How far what the meter counted in windows of the full run is off, as a share: neighbours and idle included."""
    return [
        abs(counted - true) / true
        for truth in truths
        if truth.kind == "full"
        for domain, counted in truth.counted_j.items()
        if (true := sum(truth.true_j[domain].values())) > 0
    ]


def predicted(report: Report) -> dict[str, bool]:
    """Whether the steps' sum holds the held-out full run within its interval: CPU seconds and measured joules."""
    figures = {"cpu_s": report.unattributed.cpu_s_per_sample}
    figures |= {
        name: figure
        for name, figure in report.unattributed.energy_j_per_sample.items()
        if figure.provenance == "measured"
    }
    return {
        name: figure.low <= 0 <= figure.high
        for name, figure in figures.items()
        if figure.low is not None and figure.high is not None
    }


def rows(judged: Sequence[Judged], counters: Sequence[float], sums: Sequence[bool], group: str) -> list[Row]:
    """What was asked and what was reached, for profiles of one group."""
    found = []
    if counters:
        what = f"{group}: joules counted in a window, off the truth, worst of {len(counters)}"
        found.append(percent(what, [max(counters)], TOTAL_REACH))
    totals = [one for one in judged if one.what == TOTAL]
    if totals:
        offs = [abs(one.value - one.truth) / one.truth for one in totals]
        found.append(percent(f"{group}: totals per sample, off the truth", offs, TOTAL_REACH))
        found.append(unkept(f"{group}: totals neither within 1 % nor the truth in their interval", totals))
    steps = [one for one in judged if one.what not in (TOTAL, ALL)]
    if steps:
        found.append(unkept(f"{group}: steps' joules neither right nor the truth in their interval", steps))
        widths = [(one.high - one.low) / 2 / one.allowed for one in steps]
        shares = [one.share_error for one in steps if one.share_error is not None]
        for what, values in (
            ("steps' joules, error over what is allowed", [one.error for one in steps]),
            ("steps' intervals, half-width over what is allowed", widths),
            ("CPU-second shares alone, error over what is allowed", shares),
        ):
            found.append(Row(f"{group}: {what}", "×", Spread.of(values)))
    if sums:
        what = f"{group}: held-out runs outside the interval of the steps' sum, of {len(sums)}"
        found.append(percent(what, [1 - sum(sums) / len(sums)], MISSED_REACH))
    return found


def unkept(what: str, judged: Sequence[Judged]) -> Row:
    """How many figures are neither as right as asked nor hold the truth in their interval."""
    return percent(f"{what}, of {len(judged)}", [fmean(not one.kept for one in judged)], MISSED_REACH)


def percent(what: str, shares: Sequence[float], reach: float | None = None) -> Row:
    """A row of shares, in per cent; ``reach`` is a share too."""
    return Row(what, "%", Spread.of([100 * share for share in shares]), None if reach is None else 100 * reach)
