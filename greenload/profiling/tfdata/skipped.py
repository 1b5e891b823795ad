"""What a profile of a dataset could not look into, and why; what its filters throw away."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from greenload.profiling.tfdata.caches import snapshot_there
from greenload.profiling.tfdata.clocked_campaign import ClockedCampaign
from greenload.profiling.tfdata.counting import Counts
from greenload.profiling.tfdata.functions import calls_python
from greenload.profiling.tfdata.graph import DALI_NODE, NESTING, STORES, Node
from greenload.report.data import Skipped
from greenload.text import percent

_NOTABLE = 0.005
"""Share of elements from which it is said that a filter throws them away."""


def skipped_steps(campaign: ClockedCampaign) -> Iterator[Skipped]:
    """Steps that are one row though more may be inside, filters that throw away, and steps without figures."""
    for node in campaign.root.nodes():
        if node.hidden and not node.looked:
            continue
        if why := _opaque(node):
            yield Skipped(node.name, why)
        if campaign.counts.cut and node.kind in STORES:
            held = round(campaign.counts.samples)
            yield Skipped(node.name, f"an epoch is too long to fill it whole: measured on its first {held} samples")
        if node in campaign.counts.unfilled and node not in campaign.stores:
            yield Skipped(node.name, "an epoch ends before its input does: it is filled anew each time, and never read")
        if snapshot_there(node):
            yield Skipped(node.name, "its folder holds a finished snapshot: it was measured as if that weren't there")
    yield from thrown_away(campaign.root, campaign.counts, campaign.replays.before)
    for name, why in campaign.failed.items():
        yield Skipped(name, why)
    for name, why in campaign.untold.items():
        yield Skipped(name, f"measured {why}")
    for name, counting in campaign.counted_with.items():
        yield Skipped(name, f"it is the same dataset as {counting}, whose row holds what both cost")
    if campaign.without_clocks:
        yield Skipped("clocks", f"no step is measured in place, all by replays: {campaign.without_clocks}")
    if campaign.bounds is not None:
        yield from (Skipped(name, why) for name, why in campaign.bounds.reasons.items())
        if campaign.hurried:
            yield Skipped("rounds", f"some steps have fewer than {campaign.bounds.rounds}: all was slower than counted")


def _opaque(node: Node) -> str:
    if node.kind == "from_generator":
        return "a Python generator: its work is one row, greenload doesn't see inside"
    if node.kind == DALI_NODE:
        return "DALI's pipeline is one row: profile it as a greenload.Pipeline to see its operators"
    if node.kind == "data_service":
        return "tf.data service: what its workers do runs in other processes, and isn't in the figures"
    if node.kind in NESTING and not node.looked:
        return f"the dataset inside its {node.kind} isn't one chain of known datasets: measured as one row"
    if calls_python(node):
        return "calls Python (py_function or numpy_function): one row, greenload doesn't see inside"
    if not node.known and node.kind != "selector":
        return (
            f"{node.kind} is no dataset that greenload knows: it and all before it are one row, run on their own state"
        )
    return ""


def thrown_away(root: Node, counts: Counts, before: Callable[[Node], Node | None]) -> Iterator[Skipped]:
    """What filters throw away of the elements that reach them.

    Args:
        root: the dataset.
        counts: what flows through it.
        before: gives the node whose elements a node works on.
    """
    for node in root.nodes():
        source = before(node) if node.kind == "filter" and not node.hidden else None
        given, left = (counts.flows.get(end) for end in (source, node)) if source is not None else (None, None)
        if given is None or left is None or not given.elements_per_sample:
            continue
        share = 1 - left.elements_per_sample / given.elements_per_sample
        if share >= _NOTABLE:
            where = f" at {node.where}" if node.where else ""
            yield Skipped(node.name, f"throws away {percent(share)} of the elements that reach it{where}")
