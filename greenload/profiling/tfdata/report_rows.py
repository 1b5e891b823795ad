"""A dataset's rows in a report, by the epochs that they run in; nodes that one call of the user's made are one row."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from greenload.energy.attribution.attribute import trial_cost, trial_wall_ns
from greenload.energy.attribution.costs import Attribution, Indistinct, StepCost
from greenload.energy.attribution.epochs import first_epoch, later_epochs
from greenload.energy.attribution.observation import IN_PLACE, ITERATOR_START
from greenload.energy.figures import Figure, scale, sum_figures
from greenload.plans.steps import TF_DATA
from greenload.profiling.report_rows import hand_over_row
from greenload.profiling.tfdata.caches import Stores
from greenload.profiling.tfdata.campaign import DatasetCampaign
from greenload.profiling.tfdata.graph import DALI_NODE, Node
from greenload.report.cost_records import ClockRecord, FirstEpoch, IteratorStart, ReportStep, figures_of, whole_costs


def row_names(root: Node) -> dict[str, str]:
    """The row that each node with a cost is part of, by the node's name.

    Example:
        >>> row_names(walk(keras.utils.image_dataset_from_directory("photos")))["image_dataset_from_directory: batch"]
        'image_dataset_from_directory'
    """
    return {node.name: node.row for node in root.nodes() if not node.hidden}


def merged_rows(steps: Sequence[ReportStep], names: Mapping[str, str]) -> tuple[ReportStep, ...]:
    """Steps with those of one row as one: their sum, at the place of the last.

    Args:
        steps: one for each node with a row.
        names: as `row_names` gives.
    """
    parts = {name: [step for step in steps if names[step.name] == name] for name in names.values()}
    sizes = Counter(names.values())
    return tuple(
        _sum(parts[name], name) if sizes[name] > 1 else step
        for step in steps
        if step is parts[name := names[step.name]][-1]
    )


def _sum(parts: Sequence[ReportStep], name: str) -> ReportStep:
    def figure(pick: Callable[[ReportStep], Figure]) -> Figure:
        return sum_figures((pick(step) for step in parts), common=True)

    def energy(domain: str) -> Figure:
        return figure(lambda step: step.energy_j_per_sample[domain])

    last = parts[-1]
    methods = {step.method for step in parts}
    working = [step for step in parts if (step.cpu_s_per_sample.low or 0.0) > 0]
    in_place = bool(working) and all(step.method == IN_PLACE for step in working)
    branches = zip(*(step.branch.split(" / ") for step in parts), strict=False)
    shared = itertools.takewhile(lambda same: len(set(same)) == 1, branches)
    return replace(
        last,
        name=name,
        stages=(name.partition(" (")[0],),
        method=IN_PLACE if in_place else parts[0].method if len(methods) == 1 else "prefix",
        branch=" / ".join(same[0] for same in shared),
        where=next((step.where for step in parts if step.where), ""),
        runs=next((step.runs for step in parts if step.runs == "every epoch"), last.runs),
        cpu_s_per_sample=figure(lambda step: step.cpu_s_per_sample),
        energy_j_per_sample={domain: energy(domain) for domain in last.energy_j_per_sample},
        device_bytes_per_sample=figure(lambda step: step.device_bytes_per_sample),
        reads_per_sample=figure(lambda step: step.reads_per_sample),
        clock=_clock([step.clock for step in parts if step.clock is not None], in_place),
    )


def _clock(parts: Sequence[ClockRecord], in_place: bool) -> ClockRecord | None:
    """What the clocks of one row's functions saw together; of replays only where the row is ``in_place``."""
    if not parts:
        return None
    calls = sum(part.calls_per_sample for part in parts)
    crossed = sum(part.crossed_share * part.calls_per_sample for part in parts)
    replays = [part.replay_cpu_s_per_sample for part in parts if part.replay_cpu_s_per_sample is not None]
    return ClockRecord(
        sum_figures((part.waiting_s_per_sample for part in parts), common=True),
        calls,
        crossed / calls if calls else 0.0,
        sum_figures(replays, common=True) if in_place and len(replays) == len(parts) else None,
    )


def indistinct_rows(groups: Sequence[Indistinct], names: Mapping[str, str]) -> tuple[Indistinct, ...]:
    """The groups of indistinguishable steps, without those that hold only a part of a row."""
    sizes = Counter(names.values())
    return tuple(group for group in groups if all(sizes[names.get(name, name)] <= 1 for name in group.steps))


def dataset_rows(campaign: DatasetCampaign, attribution: Attribution) -> tuple[Attribution, dict[str, Any]]:
    """The costs of an epoch that reads a dataset's caches, and of the one that fills them.

    Args:
        campaign: its windows.
        attribution: of them, each step's own cost whenever it runs.

    Returns:
        The costs of all epochs but the first, and the report's fields ``steps``, ``first_epoch`` and ``caches``.
    """
    names, nodes, stores = row_names(campaign.root), campaign.measured_steps, campaign.stores
    runs = {node.name: stores.runs(node) for node in nodes}
    first = None
    if stores:
        always = [name for name, when in runs.items() if when == "every epoch"]
        attribution = later_epochs(campaign.seen, steps=list(runs), runs=always, **campaign.terms)
    if stores.empty:
        run = [name for name, when in runs.items() if when != "no epoch"]
        filled = [node.name for node in stores.empty]
        costs = first_epoch(campaign.seen, steps=run, caches=filled, **campaign.terms)
        steps = (*merged_rows(list(_rows(nodes, campaign, costs)), names), *hand_over_row(costs))
        costs = replace(costs, indistinct=indistinct_rows(costs.indistinct, names))
        first = FirstEpoch(steps=steps, **whole_costs(costs))
    return replace(attribution, indistinct=indistinct_rows(attribution.indistinct, names)), {
        "steps": (*merged_rows(list(_rows(nodes, campaign, attribution, stores)), names), *hand_over_row(attribution)),
        "first_epoch": first,
        "caches": stores.states(),
    }


def _rows(
    nodes: Sequence[Node], campaign: DatasetCampaign, attribution: Attribution, stores: Stores | None = None
) -> Iterator[ReportStep]:
    """Rows of the nodes that have a cost; of those of ``stores``, when they run."""
    costs = {step.name: step for step in attribution.steps}
    for node in nodes:
        if (measured := costs.get(node.name)) is None:
            continue
        yield ReportStep(
            name=node.name,
            stages=(node.kind,),
            backend=backend_of(node),
            method=_method(campaign, node, measured, stores is None),
            branch=node.branch,
            where=node.where,
            runs="every epoch" if stores is None else stores.runs(node),
            **figures_of(measured.cost),
            bytes_out_per_sample=campaign.bytes_out.get(node.name),
            clock=None if measured.clock is None else ClockRecord.of(measured.clock),
        )


def _method(campaign: DatasetCampaign, node: Node, measured: StepCost, first: bool) -> str:
    if node.name in campaign.clocked:
        return IN_PLACE
    return measured.method if first else campaign.methods[node.name]


def backend_of(node: Node) -> str:
    """``"dali"`` for DALI's own dataset, else ``"tf"``."""
    return "dali" if node.kind == DALI_NODE else TF_DATA


def iterator_start_cost(campaign: DatasetCampaign) -> IteratorStart | None:
    """What starting an iterator costs; None where that wasn't measured, or isn't told from nothing."""
    if not any(window.step == ITERATOR_START for window in campaign.seen):
        return None
    samples = (campaign.counts.epoch_elements or 0) * campaign.counts.samples_per_element
    cost = trial_cost(campaign.seen, step=ITERATOR_START, domains=campaign.domains)
    if not samples or cost.cpu_s_per_sample.low is None or cost.cpu_s_per_sample.low <= 0:
        return None
    wall = trial_wall_ns(campaign.seen, step=ITERATOR_START)
    return IteratorStart(
        cpu_s=scale(cost.cpu_s_per_sample, samples),
        wall_s=scale(wall, samples * 1e-9),
        samples=samples,
        energy_j={name: scale(figure, samples) for name, figure in cost.energy_j_per_sample.items()},
    )
