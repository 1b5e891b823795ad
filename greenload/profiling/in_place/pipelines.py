"""Greenload's own pipelines, watched: rows by the steps of their plans, by the clocks of each backend."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from greenload.backends.clocks import StepClock, segment_name
from greenload.errors import BackendUnavailable, UsageError
from greenload.loading.dataset import Loaded
from greenload.loading.iterate import Batches
from greenload.plans.plan import Plan
from greenload.profiling.in_place.clocks import is_pipeline
from greenload.profiling.in_place.flow import SampleCount
from greenload.profiling.in_place.watched import Watched, WatchedStep
from greenload.profiling.tfdata.graph import Node

_WITHOUT = {
    "batch": "stacking is no function: it is part of the rest",
    "cache": "it keeps what is read: part of the row of reading",
}
"""Why steps of a kind have no clock, where others have."""
_CLUSTER = "its dataset may be sent to other processes of a cluster"


@dataclass(frozen=True)
class PlanRows:
    """Rows of a plan's steps."""

    steps: tuple[WatchedStep, ...]
    unwatched: Mapping[str, str]
    """Of the steps without a clock, why."""
    samples: SampleCount | None
    """As a ``Watched`` has it."""


_rows_of: weakref.WeakKeyDictionary[Any, PlanRows] = weakref.WeakKeyDictionary()
"""Of what was asked for, by the builder of a dataset, or by batches: a step is one, whoever reads its clock."""


def rows_of_loaded(loaded: Loaded, why: str = _CLUSTER) -> PlanRows:
    """Rows of a dataset of ``load``.

    Args:
        loaded: how it was made.
        why: it has no clocks in its graph, if it has none.
    """
    builder = loaded.builder
    if builder not in _rows_of:
        _rows_of[builder] = _rows(builder.plan, loaded.step_clocks, "" if builder.has_clocks else why)
    return _rows_of[builder]


def rows_of_batches(batches: Batches) -> PlanRows:
    """Rows of batches of ``iterate``. Where tf.data works on pixels their clocks begin now, if there are none yet."""
    clocks, why = _clocks_of(batches.step_clocks)
    if batches.loaded is not None and not why:
        return rows_of_loaded(batches.loaded)
    if batches not in _rows_of:
        _rows_of[batches] = _rows(batches.plan, clocks, why)
    return _rows_of[batches]


def watched_pipeline(data: Any, name: str) -> Any:
    """A dataset of ``load``, or batches of ``iterate``, whose ``watched`` tells what its plan's steps have done.

    Args:
        data: anything.
        name: of the ``Watched``.

    Returns:
        Batches as they are; a dataset made anew, of the same elements, where clocks go into its graph and aren't in it
        yet; ``None`` for anything else.
    """
    if isinstance(getattr(data, "watched", None), Watched):
        return data
    if isinstance(data, Batches):
        data.watched = _watched(rows_of_batches(data), name)
        return data
    loaded: Loaded | None = getattr(data, "greenload_loaded", None)
    if loaded is None:
        return None
    why = ""
    try:
        data = data if loaded.builder.has_clocks else loaded.clocked()
    except BackendUnavailable as error:
        why = str(error)
    data.watched = _watched(rows_of_loaded(data.greenload_loaded, why), name)
    return data


def with_pipelines(root: Node, name: str) -> Node:
    """A tree whose datasets of ``load`` are watched ones, with nothing before them.

    Args:
        root: the tree.
        name: of the ``Watched``.
    """
    made: dict[int, Any] = {}

    def changed(node: Node) -> Node:
        if node.kind == "watched":
            return replace(node, inputs=(_as_watched(node.inputs[0], node.dataset.clocks.root),))
        if node.inner is None and hasattr(node.dataset, "greenload_loaded"):
            if id(node.dataset) not in made:
                made[id(node.dataset)] = watched_pipeline(node.dataset, name)
            return _pipeline(node, made[id(node.dataset)])
        return replace(node, inputs=tuple(map(changed, node.inputs)))

    return changed(root)


def _as_watched(node: Node, before: Node) -> Node:
    """A tree with the pipelines that it was watched with before."""
    if is_pipeline(before):
        return _pipeline(node, before.dataset)
    return replace(node, inputs=tuple(map(_as_watched, node.inputs, before.inputs)))


def _pipeline(node: Node, dataset: Any) -> Node:
    return replace(node, dataset=dataset, inputs=(), looked=(), hidden=True)


def _clocks_of(read: Callable[[], Sequence[StepClock]]) -> tuple[Sequence[StepClock], str]:
    """Clocks, or why there are none."""
    try:
        return read(), ""
    except (BackendUnavailable, UsageError) as error:
        return (), str(error)


def _watched(rows: PlanRows, name: str) -> Watched:
    return Watched(name, rows.steps, rows.unwatched, rows.samples, "row")


def _rows(plan: Plan, clocks: Sequence[StepClock], why: str) -> PlanRows:
    """What clocks tell of a plan's steps.

    Args:
        plan: whose steps they are.
        clocks: in the order of the data.
        why: other steps have none; empty where that follows from what they are.
    """
    steps = tuple(map(_step, clocks))
    seen = {clock.name for clock in clocks}
    seen |= {step.name for segment in plan.segments if segment_name(segment) in seen for step in segment.steps}
    unwatched = {
        step.name: _WITHOUT.get(step.kind) or why or "its backend has no clock here"
        for step in plan.steps
        if step.name not in seen
    }
    return PlanRows(steps, unwatched, _samples(clocks))


def _step(clock: StepClock) -> WatchedStep:
    """A step; one whose counter others read, too, has their clocks."""
    step = WatchedStep(clock.name, clock.kind, clock.read, note=clock.note, estimates=clock.estimates)
    shared = _shared.setdefault(clock.counter, step.clocks) if clock.counter else step.clocks
    return replace(step, clocks=shared)


_shared: dict[str, frozenset[int]] = {}
"""The clocks of counters that several plans' steps read."""


def _samples(clocks: Sequence[StepClock]) -> SampleCount | None:
    """How many samples have left: the images of the last step that counts them one by one."""
    names = [clock.name for clock in clocks if clock.exact] or [clock.name for clock in clocks]
    return SampleCount({names[-1]: 1.0}) if names else None
