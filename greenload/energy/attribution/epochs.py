"""What an epoch costs that fills a pipeline's caches, and what one costs that reads them.

Each cache has windows of two kinds: of its filled prefix, and of writing it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from greenload.energy.attribution.attribute import attribute
from greenload.energy.attribution.costs import Attribution, Cost, StepCost
from greenload.energy.attribution.observation import FIRST_EPOCH, IN_PLACE, WHOLE, Observation, writing_step
from greenload.energy.figures import Figure, sum_figures


def later_epochs(
    observations: Sequence[Observation], *, steps: Sequence[str], runs: Collection[str], **options: Any
) -> Attribution:
    """What an epoch costs that reads the caches: a step in front of one costs nothing.

    Args:
        observations: all windows of a profile.
        steps: names in the pipeline's order.
        runs: those that run in such an epoch. A cache's cost is that of its filled prefix.
        options: what else `attribute` takes.
    """
    attribution = attribute(observations, steps=[name for name in steps if name in runs], **options)
    costs = {step.name: step for step in attribution.steps}
    nothing = _each(attribution.full, lambda figure: Figure(0.0, 0.0, 0.0, figure.provenance, figure.systematic))
    behind = [cost for name, cost in costs.items() if name not in steps]  # the hand-over
    own = [costs.get(name) or StepCost(name, "replay", nothing) for name in steps]
    return replace(attribution, steps=(*own, *behind))


def first_epoch(
    observations: Sequence[Observation], *, steps: Sequence[str], caches: Collection[str], **options: Any
) -> Attribution:
    """What an epoch costs that fills caches.

    The whole is held out, as in later epochs. Where no first epoch could be run it is the steps' sum, and nothing is
    known of what is in no step.

    Args:
        observations: all windows of a profile.
        steps: names of those that run in such an epoch, in the pipeline's order.
        caches: those of them that are filled. Their cost is that of writing; one without windows of that is left out.
        options: what else `attribute` takes.
    """
    written = {writing_step(name): name for name in caches}
    windows = [of_first for window in observations if (of_first := _in_first_epoch(window, written)) is not None]
    ran = any(window.kind == "full" for window in windows)
    if not ran:
        windows += [window for window in observations if window.kind in ("full", IN_PLACE)]
    measured = {window.step for window in windows}.union(*(window.work for window in windows))
    attribution = attribute(windows, steps=[name for name in steps if name in measured], hand_over=ran, **options)
    return attribution if ran else _summed(attribution)


def _in_first_epoch(window: Observation, written: dict[str, str]) -> Observation | None:
    """A window as a first epoch's; None where it is one of later epochs."""
    if window.step == FIRST_EPOCH:
        return replace(window, step="", kind="full" if window.kind == "with" else window.kind)
    if window.step in written:
        return replace(window, step=written[window.step])
    reads = window.step in written.values() and window.kind != "idle"
    return None if window.kind in ("full", WHOLE, IN_PLACE) or reads else window


def _summed(attribution: Attribution) -> Attribution:
    """The steps' sum in place of a whole that couldn't be run."""
    costs = [step.cost for step in attribution.steps]
    full = Cost(
        sum_figures([cost.cpu_s_per_sample for cost in costs]),
        {
            name: sum_figures([cost.energy_j_per_sample[name] for cost in costs], common=True)
            for name in attribution.full.energy_j_per_sample
        },
        sum_figures([cost.device_bytes_per_sample for cost in costs]),
        reads_per_sample=sum_figures([cost.reads_per_sample for cost in costs]),
    )
    rest = _each(full, lambda figure: Figure.missing(figure.provenance, figure.systematic))
    return replace(
        attribution,
        full=full,
        total=full,
        unattributed=rest,
        samples_per_s=Figure.missing(),
        idle_energy_j_per_sample={},
        indistinct=(),
    )


def _each(cost: Cost, change: Callable[[Figure], Figure]) -> Cost:
    """The cost with each of its figures changed."""
    return Cost(
        change(cost.cpu_s_per_sample),
        {name: change(figure) for name, figure in cost.energy_j_per_sample.items()},
        change(cost.device_bytes_per_sample),
        reads_per_sample=change(cost.reads_per_sample),
    )
