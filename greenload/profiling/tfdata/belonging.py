"""Rows of what TensorFlow made on its own, put together as the one call that the user wrote."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from greenload.energy.attribution.costs import Indistinct
from greenload.energy.figures import Figure, sum_figures
from greenload.profiling.tfdata.counting import Counts
from greenload.profiling.tfdata.graph import Node
from greenload.report.costs import ReportStep
from greenload.report.data import Skipped
from greenload.text import percent

_NOTABLE = 0.005
"""Share of elements from which it is said that a filter throws them away."""


def row_names(root: Node) -> dict[str, str]:
    """The row that each node with a cost is part of, by the node's name.

    Example:
        >>> row_names(walk(keras.utils.image_dataset_from_directory("photos")))["image_dataset_from_directory: batch"]
        'image_dataset_from_directory'
    """
    return {node.name: node.row for node in root.nodes() if not node.hidden}


def together(steps: Sequence[ReportStep], names: Mapping[str, str]) -> tuple[ReportStep, ...]:
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
        return sum_figures((pick(one) for one in parts), common=True)

    def energy(domain: str) -> Figure:
        return figure(lambda one: one.energy_j_per_sample[domain])

    last = parts[-1]
    branches = zip(*(one.branch.split(" / ") for one in parts), strict=False)
    shared = itertools.takewhile(lambda same: len(set(same)) == 1, branches)
    return replace(
        last,
        name=name,
        stages=(name.partition(" (")[0],),
        method="replay" if all(one.method == "replay" for one in parts) else "prefix",
        branch=" / ".join(same[0] for same in shared),
        where=next((one.where for one in parts if one.where), ""),
        runs=next((one.runs for one in parts if one.runs == "every epoch"), last.runs),
        cpu_s_per_sample=figure(lambda one: one.cpu_s_per_sample),
        energy_j_per_sample={domain: energy(domain) for domain in last.energy_j_per_sample},
        device_bytes_per_sample=figure(lambda one: one.device_bytes_per_sample),
        reads_per_sample=figure(lambda one: one.reads_per_sample),
    )


def untouched(groups: Sequence[Indistinct], names: Mapping[str, str]) -> tuple[Indistinct, ...]:
    """Groups of steps that can't be told apart without those whose steps are a part of a row only."""
    sizes = Counter(names.values())
    return tuple(one for one in groups if all(sizes[names.get(name, name)] <= 1 for name in one.steps))


def thrown_away(root: Node, counts: Counts, before: Callable[[Node], Any]) -> Iterator[Skipped]:
    """What filters throw away of the elements that reach them.

    Args:
        root: the dataset.
        counts: what flows through it.
        before: gives the node whose elements a node works on.
    """
    for node in root.nodes():
        if node.kind != "filter" or node.hidden:
            continue
        given, left = (counts.flows.get(one) for one in (before(node), node))
        if given is None or left is None or not given.elements_per_sample:
            continue
        share = 1 - left.elements_per_sample / given.elements_per_sample
        if share >= _NOTABLE:
            place = f" at {node.where}" if node.where else ""
            yield Skipped(node.name, f"throws away {percent(share)} of the elements that reach it{place}")
