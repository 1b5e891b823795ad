"""A report's rows of a pipeline's steps, by the epochs that they run in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from greenload.energy.attribution.costs import Attribution
from greenload.energy.attribution.epochs import first_epoch, later_epochs
from greenload.profiling.campaign import Campaign
from greenload.report.costs import CacheState, FirstEpoch, ReportStep, whole_costs


def by_epoch(
    campaign: Campaign, attribution: Attribution, given: Mapping[str, Any]
) -> tuple[Attribution, dict[str, Any]]:
    """What a report shows of a pipeline: the costs of an epoch that reads its caches, and of the one that fills them.

    Args:
        campaign: its windows.
        attribution: of them, each step's cost as that to the steps before it.
        given: how they are attributed, as ``attribute`` takes it.

    Returns:
        The costs of all epochs but the first, and the report's fields ``steps``, ``first_epoch`` and ``caches``.
    """
    names = [step.name for step in campaign.steps]
    caches = [step.name for step in campaign.steps if step.kind == "cache"]
    if not caches:
        return attribution, {"steps": tuple(_rows(campaign, attribution, names))}
    runs = names[names.index(caches[-1]) :]
    later = later_epochs(campaign.seen, steps=names, runs=runs, **given)
    first = first_epoch(campaign.seen, steps=names, caches=caches, **given)
    return later, {
        "steps": tuple(_rows(campaign, later, runs)),
        "first_epoch": FirstEpoch(steps=tuple(_rows(campaign, first, names)), **whole_costs(first)),
        "caches": tuple(CacheState(name) for name in caches),
    }


def _rows(campaign: Campaign, attribution: Attribution, runs: Collection[str]) -> Iterator[ReportStep]:
    """The steps' rows; those that aren't among ``runs`` run in the first epoch only."""
    for step, found in zip(campaign.steps, attribution.steps, strict=True):
        yield ReportStep(
            name=step.name,
            stages=step.stages,
            backend=step.backend,
            method=found.method,
            cpu_s_per_sample=found.cost.cpu_s_per_sample,
            energy_j_per_sample=found.cost.energy_j_per_sample,
            device_bytes_per_sample=found.cost.device_bytes_per_sample,
            reads_per_sample=found.cost.reads_per_sample,
            bytes_out_per_sample=campaign.bytes_out.get(step.name, step.spec_out.image_bytes()),
            runs="every epoch" if step.name in runs else "first epoch",
        )
