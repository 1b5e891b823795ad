"""What a cache spares: what is before it, as measured, less what its full prefix costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from greenload.datasets.graph import STORES, Node
from greenload.energy.attribution import NEGLIGIBLE, Attribution, Cost, StepCost
from greenload.energy.figures import Figure, scale, sum_figures


def spare(attribution: Attribution, shown: Sequence[Node]) -> Attribution:
    """The attribution with the cost of each cache as what it adds to the steps before it, which is below zero.

    A cache's windows tell what its filled prefix costs. Together with the steps that it spares it must come to that, so
    its own cost is the difference; what stays unattributed is told by the prefix itself, whose error is far smaller
    than that of what it spares. A cache inside another one's prefix stands for all before it there, too: its difference
    and the steps in it share windows.

    Args:
        attribution: with a cache's whole prefix as its step's cost.
        shown: the nodes of its steps, in the same order.
    """
    if not any(node.kind in STORES for node in shown):
        return attribution
    places = {node: place for place, node in enumerate(shown)}
    costs: list[Cost] = [step.cost for step in attribution.steps]
    measured = dict(zip(shown, costs, strict=True))
    live: set[Node] = set(shown)
    for node in shown:  # inputs first, so an outer cache comes after those inside it
        if node.kind in STORES:
            before = [one for one in node.nodes() if one in live and one is not node]
            live -= set(before)
            costs[places[node]] = _less(measured[node], [measured[one] for one in before])
    rest = _less(attribution.full, [measured[node] for node in shown if node in live])
    return replace(
        attribution,
        steps=tuple(StepCost(old.name, old.method, new) for old, new in zip(attribution.steps, costs, strict=True)),
        unattributed=rest,
    )


def _less(whole: Cost, parts: Sequence[Cost]) -> Cost:
    """A cost less others, kind by kind.

    Half-widths add up: the floor's error is common to all joules, and that of measuring out of place to all replays.
    """

    def figure(pick: Callable[[Cost], Figure]) -> Figure:
        first = pick(whole)
        resolution = NEGLIGIBLE * abs(first.value or 0.0)
        return sum_figures([first, *(scale(pick(part), -1) for part in parts)], resolution=resolution, common=True)

    def energy(name: str) -> Figure:
        return figure(lambda cost: cost.energy_j_per_sample[name])

    changed: Mapping[str, Any] = {
        "cpu_s_per_sample": figure(lambda cost: cost.cpu_s_per_sample),
        "energy_j_per_sample": {name: energy(name) for name in whole.energy_j_per_sample},
        "device_bytes_per_sample": figure(lambda cost: cost.device_bytes_per_sample),
        "reads_per_sample": figure(lambda cost: cost.reads_per_sample),
    }
    return replace(whole, bytes_out_per_sample=None, **changed)
