"""From windows to the costs of two kinds of epoch, where a pipeline has caches: one fills them, others read them.

Each cache has windows of its own twice: as its filled prefix, and of writing it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from greenload.energy.attribution.attribute import attribute
from greenload.energy.attribution.costs import Attribution, Cost, StepCost
from greenload.energy.attribution.observation import FIRST_EPOCH, Observation, writing_step
from greenload.energy.figures import Figure, sum_figures


def later_epochs(
    seen: Sequence[Observation], *, steps: Sequence[str], runs: Collection[str], **more: Any
) -> Attribution:
    """What an epoch costs that reads the caches: a step in front of one costs nothing.

    Args:
        seen: all windows of a profile.
        steps: names in the pipeline's order.
        runs: those that run in such an epoch. A cache's cost is that of its filled prefix.
        more: as for `attribute`.
    """
    found = attribute(seen, steps=[name for name in steps if name in runs], **more)
    costs = {step.name: step for step in found.steps}
    nothing = _every(found.full, lambda one: Figure(0.0, 0.0, 0.0, one.provenance, one.systematic))
    return replace(found, steps=tuple(costs.get(name) or StepCost(name, "replay", nothing) for name in steps))


def first_epoch(
    seen: Sequence[Observation], *, steps: Sequence[str], caches: Collection[str], **more: Any
) -> Attribution:
    """What an epoch costs that fills caches.

    The whole is held out, as in later epochs. Where no first epoch could be run it is the steps' sum, and nothing is
    known of what is in no step.

    Args:
        seen: all windows of a profile.
        steps: names of those that run in such an epoch, in the pipeline's order.
        caches: those of them that are filled. Their cost is that of writing; one without windows of that is left out.
        more: as for `attribute`.
    """
    written = {writing_step(name): name for name in caches}
    windows = [counted for one in seen if (counted := _counted(one, written)) is not None]
    ran = any(one.kind == "full" for one in windows)
    if not ran:
        windows += [one for one in seen if one.kind == "full"]
    measured = {one.step for one in windows}
    found = attribute(windows, steps=[name for name in steps if name in measured], **more)
    return found if ran else _summed(found)


def _counted(window: Observation, written: dict[str, str]) -> Observation | None:
    """A window as it counts for a first epoch; None where it is one of later epochs."""
    if window.step == FIRST_EPOCH:
        return replace(window, step="", kind="full")
    if window.step in written:
        return replace(window, step=written[window.step])
    reads = window.step in written.values() and window.kind != "idle"
    return None if window.kind == "full" or reads else window


def _summed(found: Attribution) -> Attribution:
    """The steps' sum in place of a whole that couldn't be run."""
    costs = [step.cost for step in found.steps]
    full = Cost(
        sum_figures([cost.cpu_s_per_sample for cost in costs]),
        {
            name: sum_figures([cost.energy_j_per_sample[name] for cost in costs], common=True)
            for name in found.full.energy_j_per_sample
        },
        sum_figures([cost.device_bytes_per_sample for cost in costs]),
        reads_per_sample=sum_figures([cost.reads_per_sample for cost in costs]),
    )
    rest = _every(full, lambda one: Figure.missing(one.provenance, one.systematic))
    return replace(
        found,
        full=full,
        total=full,
        unattributed=rest,
        samples_per_s=Figure.missing(),
        idle_energy_j_per_sample={},
        indistinct=(),
    )


def _every(cost: Cost, change: Callable[[Figure], Figure]) -> Cost:
    return Cost(
        change(cost.cpu_s_per_sample),
        {name: change(figure) for name, figure in cost.energy_j_per_sample.items()},
        change(cost.device_bytes_per_sample),
        reads_per_sample=change(cost.reads_per_sample),
    )
