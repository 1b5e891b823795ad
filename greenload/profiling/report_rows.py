"""Makes a report from a profile's costs: a row for each step, by the epochs that it runs in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from greenload.energy.attribution.costs import HAND_OVER, Attribution
from greenload.energy.attribution.epochs import first_epoch, later_epochs
from greenload.energy.attribution.observation import IN_PLACE
from greenload.machine import machine
from greenload.plans.steps import TF_DATA
from greenload.profiling.page_cache import Dropped
from greenload.profiling.pipeline_campaign import PipelineCampaign
from greenload.report.cost_records import CacheState, ClockRecord, FirstEpoch, ReportStep, figures_of, whole_costs
from greenload.report.data import ColdRun, Report


def make_report(attribution: Attribution, dropped: Sequence[Dropped], **fields: Any) -> Report:
    """A report of this machine, made now.

    Args:
        attribution: the costs of the whole.
        dropped: what became of the files' pages, each time they were dropped.
        fields: the report's others, by their names.
    """
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(),
        cold=_cold(dropped),
        **whole_costs(attribution),
        **fields,
    )


def _cold(dropped: Sequence[Dropped]) -> ColdRun | None:
    """What a report says of dropping files, at its worst; None where none were to be."""
    if not dropped:
        return None
    resident = [drop.resident_bytes for drop in dropped]
    most = None if None in resident else max(count or 0 for count in resident)
    problem = next((drop.problem for drop in dropped if drop.problem), "")
    return ColdRun(dropped[0].files, dropped[0].bytes, most, problem)


def pipeline_rows(campaign: PipelineCampaign, attribution: Attribution) -> tuple[Attribution, dict[str, Any]]:
    """The costs of an epoch that reads a pipeline's caches, and of the one that fills them.

    Args:
        campaign: its windows.
        attribution: of them, each step's cost as that to the steps before it.

    Returns:
        The costs of all epochs but the first, and the report's fields ``steps``, ``first_epoch`` and ``caches``.
    """
    names = [step.name for step in campaign.steps]
    caches = [step.name for step in campaign.steps if step.kind == "cache"]
    if not caches:
        return attribution, {"steps": (*_rows(campaign, attribution, names), *hand_over_row(attribution))}
    runs = names[names.index(caches[-1]) :]
    later = later_epochs(campaign.seen, steps=names, runs=runs, **campaign.terms)
    first = first_epoch(campaign.seen, steps=names, caches=caches, **campaign.terms)
    return later, {
        "steps": tuple(_rows(campaign, later, runs)),
        "first_epoch": FirstEpoch(steps=tuple(_rows(campaign, first, names)), **whole_costs(first)),
        "caches": tuple(CacheState(name) for name in caches),
    }


def _rows(campaign: PipelineCampaign, attribution: Attribution, runs: Collection[str]) -> Iterator[ReportStep]:
    """The steps' rows; those that aren't among ``runs`` run in the first epoch only."""
    costs = {measured.name: measured for measured in attribution.steps}
    for step in campaign.steps:
        measured = costs[step.name]
        yield ReportStep(
            name=step.name,
            stages=step.stages,
            backend=step.backend,
            method=measured.method,
            **figures_of(measured.cost),
            bytes_out_per_sample=campaign.bytes_out.get(step.name, step.spec_out.image_bytes()),
            runs="every epoch" if step.name in runs else "first epoch",
            clock=None if measured.clock is None else ClockRecord.of(measured.clock),
        )


def hand_over_row(attribution: Attribution) -> Iterator[ReportStep]:
    """The row of what is in no step's function, and in no other step, where steps are measured in place."""
    for step in attribution.steps:
        if step.name == HAND_OVER:
            yield ReportStep(
                name=HAND_OVER, stages=(HAND_OVER,), backend=TF_DATA, method=IN_PLACE, **figures_of(step.cost)
            )
