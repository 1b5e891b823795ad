"""What watched steps did in a span of time, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from greenload.profiling.in_place.live import Live, LiveDataset
from greenload.report.columns import FigureTable, Line, Sentence
from greenload.text import DASH, percent, printable

REST = "hand-over and the rest"
"""The process's CPU time outside all functions with clocks: a dataset's row where there is one dataset."""


def render_live(live: Live) -> RenderableType:
    """The span for a rich console: the process, a table for each watched dataset, and what is outside them all.

    Args:
        live: what was done.

    Example:
        >>> rich.print(render_live(live([(watched, later - earlier)])))
    """
    lines: list[RenderableType] = [Sentence(_process(live))]
    for dataset in live.datasets:
        lines += _dataset(live, dataset, alone=len(live.datasets) == 1)
    if len(live.datasets) > 1:
        share = percent(live.share(live.rest_cpu_s))
        lines.append(Sentence(f"outside functions ({REST}): {live.rest_cpu_s:,.2f} CPU s, {share}"))
    return Group(*lines)


def _process(live: Live) -> str:
    busy = live.cpu_s / live.wall_s if live.wall_s > 0 else 0.0
    parts = [f"{live.wall_s:,.1f} s", f"{live.cpu_s:,.2f} CPU s ({busy:.2f} processors busy)"]
    for domain, joules in live.energy_j.items():
        watts = f", {joules / live.wall_s:,.1f} W" if live.wall_s > 0 else ""
        parts.append(f"{domain} {joules:,.1f} J{watts} {live.provenance.get(domain, '')}".rstrip())
    return printable(" · ".join(parts))


def _dataset(live: Live, dataset: LiveDataset, *, alone: bool) -> Sequence[RenderableType]:
    unit, count = dataset.sample_unit, dataset.samples
    per = count if count else None
    rate = f"{count:,.0f} {unit}s, {count / live.wall_s:,.1f}/s" if count and live.wall_s > 0 else f"{unit}s unknown"
    heads = [f"CPU ms\n/{unit}" if per else "CPU s", "share", f"waiting\nms/{unit}" if per else "waiting\ns", "calls"]
    joules = list(live.joules(live.cpu_s))
    heads += [f"{domain}\nmJ/{unit}" if per else f"{domain}\nJ" for domain in joules]

    def cells(cpu_s: float | None, waiting_s: float | None, calls: str) -> tuple[str, ...]:
        energy = live.joules(cpu_s)
        return (
            _amount(cpu_s, per),
            percent(live.share(cpu_s)) if cpu_s is not None else DASH,
            _amount(waiting_s, per) if calls else "",
            calls,
            *(_amount(energy.get(domain), per) for domain in joules),
        )

    lines = []
    for step in dataset.steps:
        where = [(f"\n{printable(step.step.where)}", "dim")] if step.step.where else []
        name = Text.assemble(printable(step.step.name), *where)
        lines.append(Line((name, *cells(step.cpu_s, step.waiting_s, f"{step.work.calls:,}"))))
    if alone:
        lines.append(Line((REST, *cells(live.rest_cpu_s, None, "")), "italic"))
    shown: list[RenderableType] = [
        Sentence(Text.assemble((printable(dataset.name or "dataset"), "bold"), f": {rate}")),
        FigureTable("step", heads, lines),
    ]
    shown += [Sentence(printable(f"{step.step.name}: {step.note}"), "dim") for step in dataset.steps if step.note]
    counted = [printable(f"{name}: counted in {other}") for name, other in dataset.counted_in.items()]
    shown += [Sentence(text, "dim") for text in counted]
    return shown


def _amount(value: float | None, per: float | None) -> str:
    """Seconds or joules, or thousandths of them a sample."""
    if value is None:
        return DASH
    return f"{value / per * 1e3:,.3g}" if per else f"{value:,.3g}"
