"""What both the terminal and the page show of a report: rows, groups of domains, sentences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from greenload.energy.attribution.costs import HAND_OVER, Cost
from greenload.energy.domains import DOMAIN_KINDS, Domain
from greenload.energy.figures import Figure, scale, sum_figures
from greenload.report.cost_records import ReportStep
from greenload.report.data import UNATTRIBUTED_LIMIT, Advice, Report
from greenload.report.views import View, exceeded, views
from greenload.text import amount, bytes_text, percent, printable

GROUPS = DOMAIN_KINDS
"""Kinds of energy domain, in the order shown. ``cpu:package-0`` and ``cpu:package-1`` are one group."""
CACHED_BELOW_BYTES = 512
"""Device bytes per sample below which no file was fetched: a device reads no less than a sector for any of them."""
SHOWN_ABOVE = 1e-3
"""Share of a table's largest joules below which a group is left out of narrow tables: no figure has more digits."""
RECORDS_SHOWN = 5
"""Left-out records that are named: a damaged set has thousands, and the JSON holds them all."""


@dataclass(frozen=True)
class ReportRow:
    """One line of the table."""

    label: str
    kind: str
    """``"step"``, ``"unattributed"``, ``"idle"`` or ``"total"``."""
    backend: str
    cpu_ms: Figure | None
    """CPU milliseconds per image; None where the row has no such cost."""
    share: float | None
    """Of the held-out run's CPU seconds; None where it has no such cost, or an unresolved one."""
    energy_mj: Mapping[str, Figure]
    """Millijoules per image by group."""
    device_bytes: Figure | None
    reads: Figure | None = None
    """Read system calls per image."""
    branch: str = ""
    """The side input that a step belongs to; empty on the main chain."""
    where: str = ""
    """Where the user wrote the step."""
    name: str = ""
    """The step's own name, by which two reports' rows are matched."""
    method: str = ""
    """How the step was measured: ``"in place"``, ``"replay"`` or ``"prefix"``."""
    counted_ms: Figure | None = None
    """CPU milliseconds per image that a step counted itself; None where it has no clocks of its own."""
    waiting_ms: Figure | None = None
    """Milliseconds per image in which a step's function had no processor; None where that isn't known."""


def group(domain: str) -> str:
    """``"cpu"`` of ``"cpu:package-0"``."""
    return Domain.parse(domain).kind


def by_group(energy: Mapping[str, Figure]) -> dict[str, Figure]:
    """Sums of a mapping by domain, in the order of `GROUPS`; domains of one run share their errors."""
    return {
        name: sum_figures((figure for domain, figure in energy.items() if group(domain) == name), common=True)
        for name in GROUPS
        if any(group(domain) == name for domain in energy)
    }


def groups(report: Report) -> list[str]:
    """The groups that a report has figures for."""
    costs: list[Mapping[str, Figure]] = [report.total.energy_j_per_sample, report.idle.energy_j_per_sample]
    costs += [step.energy_j_per_sample for step in report.steps]
    return [name for name in GROUPS if any(name == group(domain) for cost in costs for domain in cost)]


def group_figures(report: Report, name: str) -> list[Figure]:
    """The held-out run's figures of a group's domains: they tell its provenance and band."""
    return [figure for domain, figure in report.total.energy_j_per_sample.items() if group(domain) == name]


def band(figures: Iterable[Figure]) -> str:
    """``"modelled ±40 %"``, ``"measured"``: the weakest provenance of figures, with the widest band."""
    parts = list(figures)
    weakest = sum_figures(parts).provenance
    widest = max((part.systematic for part in parts), default=0.0)
    return f"{weakest} ±{percent(widest)}" if widest else weakest


def counted_groups(report: Report) -> list[str]:
    """The groups with joules that a counter measured."""
    energy = report.total.energy_j_per_sample
    counted = {
        group(name) for name, figure in energy.items() if figure.provenance == "measured" and figure.value is not None
    }
    return [name for name in GROUPS if name in counted]


def energy_leads(report: Report) -> bool:
    """Whether joules come before CPU seconds: only where the processor's are measured, as it does most of the work."""
    return "cpu" in counted_groups(report)


def notable_groups(report: Report) -> list[str]:
    """The groups without those whose joules, with their intervals, are next to nothing in every row.

    A figure that is missing isn't nothing, so its group stays.
    """
    shown = report_rows(report)

    def most(name: str) -> float:
        figures = [row.energy_mj[name] for row in shown if name in row.energy_mj]
        return max(
            math.inf if figure.low is None or figure.high is None else max(abs(figure.low), abs(figure.high))
            for figure in figures
        )

    values = [abs(figure.value) for row in shown for figure in row.energy_mj.values() if figure.value is not None]
    return [name for name in groups(report) if most(name) > SHOWN_ABOVE * max(values, default=0.0)]


def shows_reading(report: Report) -> bool:
    """Whether any row's bytes from storage devices are worth a column."""
    read = [row.device_bytes for row in report_rows(report) if row.device_bytes is not None]
    return any(figure.value is not None and abs(figure.value) >= CACHED_BELOW_BYTES for figure in read)


def shows_reads(report: Report) -> bool:
    """Whether the read system calls are worth a column: where a step makes any that its windows resolve."""
    counts = [step.reads_per_sample for step in report.steps]
    return any(figure.value is not None and figure.value > 0 and not figure.unresolved for figure in counts)


def shows_counted(report: Report) -> bool:
    """Whether any step has counted itself what it takes."""
    return any(step.in_place for step in report.steps)


def shows_waiting(report: Report) -> bool:
    """Whether any step's waiting is known: those that have clocks around their functions."""
    return any(step.clock for step in report.steps)


def step_label(step: ReportStep) -> str:
    """The step's name, with its stages where it fuses several and the name doesn't say so."""
    joined = " + ".join(step.stages)
    fused = len(step.stages) > 1 and joined != step.name
    return printable(f"{step.name}: {joined}" if fused else step.name)


def report_rows(report: Report) -> list[ReportRow]:
    """The table: steps in order, what none of them explains, idle power, and the held-out run with it."""
    full = report.full.cpu_s_per_sample.value

    def row(label: str, kind: str, cost: Cost, **more: Any) -> ReportRow:
        cpu = cost.cpu_s_per_sample
        energy = {name: scale(figure, 1e3) for name, figure in by_group(cost.energy_j_per_sample).items()}
        part = None if kind == "step" and cpu.unresolved else share_of(cpu, full)
        read, reads = cost.device_bytes_per_sample, cost.reads_per_sample
        return ReportRow(label, kind, more.pop("backend", ""), scale(cpu, 1e3), part, energy, read, reads, **more)

    def step_row(step: ReportStep) -> ReportRow:
        texts = {name: printable(getattr(step, name)) for name in ("backend", "branch", "where", "name", "method")}
        counted = scale(step.in_place.cpu_s_per_sample, 1e3) if step.in_place else None
        waiting = scale(step.clock.waiting_s_per_sample, 1e3) if step.clock else None
        return row(step_label(step), "step", step, counted_ms=counted, waiting_ms=waiting, **texts)

    table = [step_row(step) for step in report.steps]
    table.append(row("unattributed", "unattributed", report.unattributed))
    idle = {name: scale(figure, 1e3) for name, figure in by_group(report.idle.energy_j_per_sample).items()}
    if idle:
        table.append(ReportRow("idle floor", "idle", "", None, None, idle, None))
    total = row("total (held-out run)", "total", report.total)
    whole = report.total.cpu_s_per_sample.value
    return [*table, replace(total, share=whole / full if full and whole is not None else None)]


def view_rows(view: View) -> list[ReportRow]:
    """The rows of one kind of epoch, whose total is named by it."""
    label = f"total, {view.name.lower()}"
    return [replace(row, label=label) if view.name and row.kind == "total" else row for row in report_rows(view.report)]


def share_of(cpu: Figure, full: float | None) -> float | None:
    """A figure's share of a whole; None where either is unknown, or a large share is unresolved."""
    if not full or cpu.value is None or cpu.low is None or cpu.high is None:
        return None
    part = cpu.value / full
    return part if abs(part) <= UNATTRIBUTED_LIMIT or not cpu.low <= 0 <= cpu.high else None


def warning(report: Report) -> str | None:
    """What a report says before anything else: that its check failed, or couldn't be made.

    The check is that no more than 5 % of the held-out run is in no step, in each kind of epoch.
    """
    failures = [(view.name, part) for view in views(report) for part in (_unchecked(view), _exceeded(view)) if part]
    return ". ".join(f"{name}: {part}" if name else part for name, part in failures) or None


def _unchecked(view: View) -> str | None:
    report = view.report
    if report.unattributed.cpu_s_per_sample.value is not None:
        return None
    names = [printable(step.name) for step in report.steps if step.cpu_s_per_sample.value is None]
    names += ["the held-out run"] if report.full.cpu_s_per_sample.value is None else []
    verb = "has" if len(names) == 1 else "have"
    reason = f": {', '.join(names)} {verb} no figure" if names else ""
    return f"The steps' sum could not be checked against the held-out run{reason}"


def _exceeded(view: View) -> str | None:
    shares = exceeded(view)
    if not shares:
        return None
    parts = [
        f"{percent(abs(share))} {'of' if share > 0 else 'more than'} "
        + ("the CPU seconds" if name == "cpu_s" else f"{printable(name)}'s joules")
        for name, share in shares.items()
    ]
    missing = any(share > 0 for share in shares.values())
    verb = "is in no step" if missing else "is claimed by the steps together"
    return (
        f"Unattributed: {', '.join(parts)} {verb} (limit {percent(UNATTRIBUTED_LIMIT)}): trust the total, not the steps"
    )


def below_zero(report: Report) -> str | None:
    """Why a step's CPU time is below zero, where one is resolved to be."""
    figures = [(row.label, row.cpu_ms) for row in report_rows(report) if row.kind == "step"]
    labels = [label for label, figure in figures if figure and figure.high is not None and figure.high < 0]
    if labels == [HAND_OVER]:
        return f"Below zero: {HAND_OVER}: the other steps come to more than the whole takes, some measured outside it"
    labels = [label for label in labels if label != HAND_OVER]
    if not labels:
        return None
    spares = "spares the steps before it more than it costs" if len(labels) == 1 else "spare more than they cost"
    return f"Below zero: {', '.join(labels)} {spares}, as a cache does, or a batch that is joined with its map"


def noun(report: Report) -> str:
    """What one sample is called: a pipeline of greenload's is of images, any other dataset of samples."""
    return "image" if isinstance(report.pipeline.get("source"), Mapping) else "sample"


def saving(report: Report, advice: Advice) -> str:
    """What a change saves: ``"0.40 ±0.05 CPU ms per image (19 %), measured in a trial"``."""
    cpu, full = advice.saves_cpu_s_per_sample, report.full.cpu_s_per_sample.value
    text = f"{amount(scale(cpu, 1e3), resolve=False)} CPU ms per {noun(report)}"
    if cpu.value is None:
        text = f"CPU time per {noun(report)} unknown"
    elif full:
        text += f" ({percent(cpu.value / full)})"
    text += ", not told from zero" if cpu.value is not None and cpu.unresolved else ""
    energy = by_group(advice.saves_energy_j_per_sample)
    parts = [
        f"{name} {amount(scale(figure, 1e3), resolve=False)} mJ {band([figure])}"
        for name, figure in energy.items()
        if figure.value is not None
    ]
    return "; ".join([text, *([", ".join(parts)] if parts else [])])


def found_by(advice: Advice) -> str:
    """How a saving is known: ``"measured in a trial"`` or ``"estimate"``."""
    return "measured in a trial" if advice.method == "trial" else "estimate"


def title(report: Report) -> str:
    """What was profiled."""
    return printable(report.pipeline.get("name") or "pipeline")


def subject(report: Report) -> str:
    """What was profiled, how many samples, and how it ran."""
    source = report.pipeline.get("source")
    folder = source.get("root") if isinstance(source, Mapping) else None
    parts = [f"{report.samples:,} samples" + (f" of {printable(folder)}" if folder else "")]
    backend, threads = report.plan.get("backend"), report.plan.get("threads")
    parts += [f"on {printable(backend)}"] if backend else []
    parts += [f"{threads} threads"] if isinstance(threads, int) else []
    return ", ".join(parts)


def crossings(report: Report) -> list[tuple[str, str]]:
    """Where images go from one backend to another: the step behind which they do, and ``"tf → pillow, 82 kB"``."""
    planned, left = planned_parts(report, "steps"), planned_parts(report, "crossings")
    transfers, backend = [], left[0].get("from") if left else None
    for before, step in itertools.pairwise(planned):
        if left and step.get("kind") == "pixels" and step.get("backend") != backend:
            backend = step.get("backend")
            transfers.append((str(before.get("name")), _crossing(left.pop(0))))
    return [*transfers, *((str(planned[-1].get("name")), _crossing(last)) for last in left[:1] if planned)]


def planned_parts(report: Report, part: str) -> list[Mapping[str, Any]]:
    """The plan's ``"steps"`` or ``"crossings"``, as far as it lists any."""
    listed = report.plan.get(part)
    return [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list | tuple) else []


def _crossing(crossing: Mapping[str, Any]) -> str:
    size = crossing.get("bytes_per_image")
    ways = f"{printable(crossing.get('from'))} → {printable(crossing.get('to'))}"
    return f"{ways}, {bytes_text(size)}" if isinstance(size, int | float) and math.isfinite(size) else ways


def machine_line(report: Report) -> str:
    """The machine in one line."""
    facts = report.machine
    text = (
        f"{facts.cpu_model}, {facts.cpus} CPUs, {bytes_text(facts.memory_bytes)} RAM, {facts.os}, Python {facts.python}"
    )
    return printable(text)


def more_left_out(report: Report) -> str | None:
    """How many left-out records aren't named, where there are any."""
    more = len(report.skipped) - RECORDS_SHOWN
    return f"… and {more:,} more (in the JSON)" if more > 0 else None


def provenance(report: Report, names: Iterable[str] | None = None) -> str:
    """Which energy is measured and which modelled, in one sentence or two, for some groups or all."""
    names = groups(report) if names is None else list(names)
    measured = [name for name in names if band(group_figures(report, name)) == "measured"]
    others = [f"{name} {band(group_figures(report, name))}" for name in names if name not in measured]
    modelled = f"joules: {', '.join(others)}" if others else ""
    if not counted_groups(report):
        text = "CPU seconds are measured; no energy counter is readable here"
        return f"{text}, so they come first. {modelled.capitalize()}" if others else f"{text}"
    text = f"Measured: CPU seconds, joules of {', '.join(measured) or 'some domains'}"
    text += "" if energy_leads(report) else "; the processor has no readable counter, so CPU seconds come first"
    return f"{text}. Other {modelled}" if others else text


def throughput(report: Report) -> str:
    """Samples per second of the held-out run."""
    return f"{amount(report.full.samples_per_s, resolve=False)} {noun(report)}s/s at full speed"
