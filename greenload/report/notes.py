"""What a report says in sentences beside its table: where bytes came from, how sure figures are, what was checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from greenload.energy.attribution.costs import Indistinct
from greenload.energy.domains import Domain
from greenload.energy.figures import Figure, scale
from greenload.energy.meters.base import COUNTS_TWICE
from greenload.report import rows
from greenload.report.carbon import Carbon
from greenload.report.checks import Check, check_line
from greenload.report.data import ColdRun, Precision, Report
from greenload.report.views import START_SHOWN, found_filled
from greenload.system.work import CROSSED_FROM
from greenload.text import DASH, amount, bytes_text, percent, printable

READ_AHEAD_FROM = 1.1
"""Bytes fetched over bytes used from which reading ahead is mentioned: of files of 85 kB whole pages alone make 3 %."""


@dataclass(frozen=True)
class Note:
    """A sentence and how it is meant."""

    text: str
    kind: str = ""
    """``"good"``, ``"doubt"`` or ``"failed"``; empty where it only tells."""


def missing_parts(report: Report) -> dict[str, dict[str, str]]:
    """Parts that the joules of a group are without, as of a second socket, and why: ``{"cpu": {"package-1": …}}``.

    A model of the whole group lacks none; a group without any figure isn't there.
    """
    energy = report.total.energy_j_per_sample
    metered = [Domain.parse(name) for name in energy]
    told_kinds = {domain.kind for domain in metered} - {domain.kind for domain in metered if domain.is_whole}
    missing: dict[str, dict[str, str]] = {}
    for meter in report.meters:
        domain = Domain.parse(meter.domain)
        lost = domain.part and not meter.usable and meter.domain not in energy and COUNTS_TWICE not in meter.reason
        if lost and domain.kind in told_kinds:
            missing.setdefault(domain.kind, {}).setdefault(printable(domain.part), printable(meter.reason))
    return missing


def without_parts(parts: Mapping[str, str]) -> str:
    """What `missing_parts` says of one group: ``"without package-1: permission denied"``."""
    return f"without {', '.join(f'{part}: {reason}' for part, reason in parts.items())}"


def reading(report: Report) -> Note | None:
    """Which share of the source's bytes came from its device, and which from the page cache; None where unknown.

    Of a greenload pipeline the first step reads, and its source's bytes are those that leave it. A dataset doesn't tell
    which step reads, so its note has only the device's bytes for all steps.
    """
    source = report.pipeline.get("source")
    kind = source.get("source") if isinstance(source, Mapping) else None
    reads = report.steps[0] if kind is not None and report.steps else report.full
    device = reads.device_bytes_per_sample.value
    if kind == "Arrays" or device is None:
        return None
    noun = rows.noun(report)
    if device < rows.CACHED_BELOW_BYTES:
        said = "Files were read from the page cache: fetching them from the device is not in these figures"
        return Note(said) if kind is not None else None
    used = reads.bytes_out_per_sample
    if reads is report.full or not used:
        return Note(f"{bytes_text(device)} per {noun} came from the device")
    share = min(1.0, device / used)
    text = f"Of {bytes_text(used)} read per {noun}, {percent(share)} came from the device"
    if share < 0.995:
        text += f" and {percent(1 - share)} from the page cache"
    if device > READ_AHEAD_FROM * used:
        text += f", which fetched {device / used:.1f} times that in whole pages and by reading ahead"
    return Note(text)


def cold(run: ColdRun | None) -> Note | None:
    """That files were dropped from memory before each window that reads, and what could not be."""
    if run is None:
        return None
    what = f"{run.files:,} {'file' if run.files == 1 else 'files'}, {bytes_text(run.bytes)}"
    if not run.problem:
        return Note(f"Read cold: {what}, left memory before each window that reads")
    return Note(f"Read cold as far as could be: {what}; {printable(run.problem)}", "doubt")


def precision(asked: Precision | None) -> Note | None:
    """How narrow the intervals were to be, and are."""
    if asked is None:
        return None
    took = f"after {asked.builds} builds of {asked.rounds} rounds, {asked.took_s:.0f} s"
    took += f" (at most {asked.planned_s:.0f} s were planned)"
    wanted = f"±{percent(asked.wanted, fine=True)}"
    if asked.reached:
        return Note(f"Intervals within {wanted} as asked, {took}", "good")
    if asked.found is None:
        return Note(
            f"{wanted} was asked, but there is no figure of {printable(asked.widest)}, {took}: its windows, or "
            "the idle machine's, are void, and in the JSON each says why",
            "doubt",
        )
    missed = f"±{percent(asked.found, fine=True)}"
    missed = f"a little over {wanted}" if missed == wanted else missed
    return Note(
        f"Intervals of {missed} where {wanted} was asked, {took}; the widest: "
        f"{printable(asked.widest)}. A quieter machine, or less precision, would do",
        "doubt",
    )


def indistinguishable(groups: Iterable[Indistinct], report: Report) -> list[Note]:
    """Steps that are indistinguishable, with their sum: one sentence for each group of steps."""
    shown: dict[tuple[str, ...], list[str]] = {}
    for group in groups:
        shown.setdefault(group.steps, []).append(_sum(group, report))
    return [
        Note(f"Not told apart: {' + '.join(map(printable, steps))}; in sum {', '.join(parts)}")
        for steps, parts in shown.items()
    ]


def _sum(group: Indistinct, report: Report) -> str:
    shown = amount(scale(group.figure, 1e3), resolve=False)
    if group.quantity != "cpu_s":
        return f"{shown} mJ of {printable(group.quantity)}"
    whole = report.full.cpu_s_per_sample.value
    share = f" ({percent(group.figure.value / whole)})" if whole and group.figure.value is not None else ""
    return f"{shown} CPU ms{share}"


def counted(report: Report) -> Note | None:
    """What steps counted themselves, in older reports, and where that and the replays differ by more than both
    intervals; None where no step did."""
    if not rows.shows_counted(report):
        return None
    text = "Counted: CPU time that a step counted itself while the whole pipeline ran"
    table = [row for row in rows.report_rows(report) if row.kind == "step"]
    apart = [row for row in table if _differs(row)]
    if not apart:
        return Note(f"{text}. No step's differs from its replay by more than both intervals")
    said = "; ".join(
        f"{row.name} {_own(row.counted_ms)}, in its replay {amount(row.cpu_ms, resolve=False)} ms" for row in apart
    )
    text = (
        f"{text}. It differs from the replay by more than both intervals: {said}. What was counted is what the real "
        "run takes; shares and sums are of the replays, which run each step by itself"
    )
    costs, whole = [row.counted_ms or row.cpu_ms for row in table], report.full.cpu_s_per_sample.value
    values = [cost.value for cost in costs if cost is not None and cost.value is not None]
    if not whole or len(values) < len(table):
        return Note(text)
    share = percent(math.fsum(values) / 1e3 / whole)
    return Note(f"{text}. With what they counted the steps sum to {share} of the whole")


def _differs(row: rows.ReportRow) -> bool:
    return _differ(row.counted_ms, row.cpu_ms)


def _differ(one: Figure | None, other: Figure | None) -> bool:
    """Whether two figures differ by more than both intervals."""
    if one is None or one.value is None or other is None or other.value is None:
        return False
    return abs(one.value - other.value) > (one.half_width or 0.0) + (other.half_width or 0.0)


def _own(figure: Figure | None) -> str:
    if figure is not None and figure.value == 0.0:
        return "nothing (another step does it in the same pass)"
    return f"{amount(figure, resolve=False)} ms"


def clocks(report: Report) -> Note | None:
    """What is measured in place, what the hand-over and waiting are, and what clocks couldn't see; None where no step
    has one."""
    clocked = [step for step in report.steps if step.clock]
    if not clocked:
        return None
    text = (
        f"In place: CPU time of {len(clocked)} {'function' if len(clocked) == 1 else 'functions'}, by clocks around "
        "them while the whole ran; waiting is their time without a processor: reads, locks, the interpreter"
    )
    if any(step.method == "in place" and not step.clock for step in report.steps):
        text += ". Hand-over is what the whole takes beside the steps: passing elements on"
    shared = [
        printable(step.name) for step in clocked if step.cpu_s_per_sample.value == 0.0 and step.runs == "every epoch"
    ]
    if shared:
        text += f". {', '.join(shared)}: nothing, another step does it in the same pass"
    crossed = [
        f"{percent(step.clock.crossed_share)} of the calls of {printable(step.name)}"
        for step in clocked
        if step.clock and step.clock.crossed_share > CROSSED_FROM
    ]
    apart = [
        f"{printable(step.name)} {_ms(step.cpu_s_per_sample)}, in its replay {_ms(step.clock.replay_cpu_s_per_sample)}"
        for step in clocked
        if step.clock and _differ(step.cpu_s_per_sample, step.clock.replay_cpu_s_per_sample)
    ]
    if apart:
        text += (
            f". By more than both intervals that differs from a replay: {'; '.join(apart)}. What counts is the figure "
            "in place: a replay runs a step beside itself, and passes its elements on"
        )
    if not crossed:
        return Note(text)
    return Note(f"{text}. {', '.join(crossed)} changed threads: they are taken to cost what the others do", "doubt")


def _ms(figure: Figure | None) -> str:
    return DASH if figure is None else f"{amount(scale(figure, 1e3), resolve=False)} ms"


def grams(estimate: Carbon) -> str:
    """The estimate alone: ``"5.70 ±0.28 g"``."""
    return f"{amount(estimate.g_per_million_samples, resolve=False)} g"


def carbon_basis(estimate: Carbon) -> str:
    """What the estimate rests on: the factor and where it is from, the PUE, and how the joules are known."""
    parts = [f"{estimate.g_per_kwh:g} g/kWh ({estimate.factor})", f"PUE {estimate.pue:g}"]
    figure = estimate.g_per_million_samples
    if figure.value is not None:
        band = f" ±{percent(figure.systematic, fine=True)}" if figure.systematic else ""
        parts += [f"joules {figure.provenance}{band}{_measured(estimate)}", "idle floor included"]
    return ", ".join(parts)


def _measured(estimate: Carbon) -> str:
    """The share of the estimate that is measured, where that isn't all or nothing; never rounded to either."""
    share = estimate.measured_share
    if share is None or share in (0, 1):
        return ""
    return f" ({math.floor(share * 100) or 'under 1'} % measured)"


def carbon_missing(estimate: Carbon) -> str:
    """What the estimate leaves out; empty where nothing is."""
    return printable("; ".join(estimate.missing))


def carbon(estimate: Carbon | None, report: Report) -> Note | None:
    """Grams of CO₂e with everything they rest on, in a sentence or two."""
    if estimate is None:
        return None
    missing = carbon_missing(estimate)
    text = f"{grams(estimate)} CO₂e per million {rows.noun(report)}s: {carbon_basis(estimate)}"
    return Note(f"{text}. Without {missing}" if missing else text)


def checks(results: Iterable[Check]) -> list[Note]:
    """Budgets, and comparisons with a baseline: those that failed first."""
    kinds = {"met": "good", "undecided": "doubt"}
    notes = [Note(printable(check_line(check)), kinds.get(check.outcome, "failed")) for check in results]
    return sorted(notes, key=lambda note: ("failed", "doubt", "good").index(note.kind))


def sample(report: Report) -> Note | None:
    """What was taken for one sample of a dataset, in doubt where its graph doesn't tell; None for a Pipeline."""
    said = report.plan.get("sample")
    if "sample_unit" not in report.plan or not isinstance(said, str):
        return None
    return Note(f"A sample: {printable(said)}", "doubt" if report.plan.get("sample_known") is False else "")


def conditions(report: Report) -> list[Note]:
    """What holds for all figures: what a sample is, how narrow they are, how files were read, and from where."""
    there = found_filled(report)
    filled = Note(there, "doubt") if there else None
    notes = (sample(report), precision(report.precision), cold(report.cold), reading(report), filled)
    return [note for note in notes if note is not None]


def epochs(report: Report) -> Note | None:
    """What later epochs cost beside the first one; None where all cost the same."""
    first = report.first_epoch
    later, whole = report.full.cpu_s_per_sample.value, first.full.cpu_s_per_sample.value if first else None
    if not later or not whole:
        return None
    return Note(f"A later epoch takes {percent(later / whole, fine=True)} of the first epoch's CPU seconds")


def iterator_start(report: Report) -> Note | None:
    """What starting an iterator costs, where an epoch is so short that this is felt."""
    start, full = report.iterator_start, report.full.cpu_s_per_sample.value
    if start is None or start.cpu_s.value is None or not full:
        return None
    share = start.cpu_s.value / (full * start.samples)
    if share < START_SHOWN:
        return None
    wall = f", {amount(scale(start.wall_s, 1e3), resolve=False)} ms of waiting" if start.wall_s.value else ""
    much = f"{percent(share, fine=True)} of" if share < 1 else f"{share:.1f} times"
    an_epoch = "a later epoch" if report.first_epoch else "an epoch"
    return Note(
        f"Starting an iterator: {amount(scale(start.cpu_s, 1e3), resolve=False)} CPU ms{wall}, once an epoch:"
        f" {much} what {an_epoch} of {start.samples:,.0f} {rows.noun(report)}s takes beside it"
    )
