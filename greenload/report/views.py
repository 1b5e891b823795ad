"""Splits a report by kind of epoch, where epochs that fill caches cost otherwise than those that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from greenload.energy.attribution.costs import Indistinct
from greenload.report.cost_records import CacheState, ReportStep
from greenload.report.data import UNATTRIBUTED_LIMIT, Report
from greenload.text import printable

START_SHOWN = 0.02
"""Share of an epoch's CPU seconds from which starting its iterator has a line of its own."""


@dataclass(frozen=True)
class View:
    """One kind of epoch."""

    name: str
    """``"First epoch"`` or ``"Later epochs"``; ``"Every epoch"`` where a cache was filled before; else empty."""
    text: str
    """What happens in it, as a sentence; empty where all epochs are the same."""
    report: Report
    """The report with the steps that run in it, and their whole."""


def views(report: Report) -> tuple[View, ...]:
    """The epochs that cost differently, the first one first; the report itself where none does."""
    left = [step for step in report.steps if step.runs != "every epoch"]
    if not left:
        return (View("", "", report),)
    first, caches = report.first_epoch, report.caches
    always = [step for step in report.steps if step not in left]
    reading = {cache.name: f"{cache.name}, reading" for cache in caches}
    later = replace(
        report, steps=_named(always, reading), together=_all_named(report.together, reading), first_epoch=None
    )
    # One in front of another cache is written in the first epoch and never read.
    read = tuple(cache for cache in caches if any(cache.name == step.name for step in always))
    if first is None:
        return (View("Every epoch", f"reads {_names(read)}, which was there already", later),)
    filled = tuple(cache for cache in caches if not cache.filled)
    written = reading | {cache.name: f"{cache.name}, writing" for cache in filled}
    shown = of_first_epoch(report)
    shown = replace(shown, steps=_named(shown.steps, written), together=_all_named(shown.together, written))
    count = sum(step.runs == "first epoch" for step in left)
    before = "the step before it doesn't" if count == 1 else f"the {count} steps before it don't"
    before = before if len(read) == 1 else before.replace("it", "them")
    return (
        View("First epoch", f"fills {_names(filled)}", shown),
        View("Later epochs", f"read {_names(read)}; {before} run any more", later),
    )


def of_first_epoch(report: Report) -> Report:
    """A report with the costs of the epoch that fills its caches."""
    first = report.first_epoch
    assert first is not None
    return replace(report, **{fact.name: getattr(first, fact.name) for fact in fields(first)}, first_epoch=None)


def _named(steps: Sequence[ReportStep], caches: Mapping[str, str]) -> tuple[ReportStep, ...]:
    """The steps, those that are caches named by what is done to them."""
    return tuple(replace(step, name=caches.get(step.name, step.name)) for step in steps)


def _all_named(groups: Sequence[Indistinct], caches: Mapping[str, str]) -> tuple[Indistinct, ...]:
    return tuple(replace(group, steps=tuple(caches.get(name, name) for name in group.steps)) for group in groups)


def _names(caches: tuple[CacheState, ...]) -> str:
    named = [
        printable(f"{cache.name} ({f'on disk at {cache.path}' if cache.path else 'in memory'})") for cache in caches
    ]
    return " and ".join(named) or "a cache"


def found_filled(report: Report) -> str:
    """Which caches were on disk before the profile, as a sentence; empty where none was."""
    filled = [cache for cache in report.caches if cache.filled]
    if not filled:
        return ""
    names = " and ".join(printable(f"{cache.name} at {cache.path}") for cache in filled)
    were, them = ("was", "it") if len(filled) == 1 else ("were", "them")
    return (
        f"{names} {were} on disk already: your first epoch reads {them}, too, and the steps before {them} don't run. To"
        f" see what filling {them} costs, delete {them} and profile again"
    )


def exceeded(view: View) -> dict[str, float]:
    """What no step explains in a view, as `Report.unattributed_exceeds` says.

    Steps behind a cache may be so cheap that windows can't tell the rest from nothing: of later epochs that is none.
    """
    shares = view.report.unattributed_exceeds(UNATTRIBUTED_LIMIT)
    rest = view.report.unattributed.cpu_s_per_sample
    if view.name and rest.low is not None and rest.high is not None and rest.low <= 0 <= rest.high:
        shares.pop("cpu_s", None)
    return shares
