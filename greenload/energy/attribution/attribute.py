"""From windows under meters to costs of steps: paired replay, prefixes, the idle power, and what stays unattributed.

Everything here is arithmetic on numbers already read; nothing touches a meter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from greenload.energy.attribution.background import Background, find_backgrounds, idle_power, with_own_joules
from greenload.energy.attribution.costs import HAND_OVER, Attribution, ClockFigures, Cost, Indistinct, StepCost
from greenload.energy.attribution.in_place import (
    CLOCKED,
    CLOCKED_FIRST,
    UNCLOCKED,
    cpu_share,
    reading_share,
    undisturbed,
    waiting_s,
)
from greenload.energy.attribution.indistinct import indistinct_steps
from greenload.energy.attribution.joules import JoulesInPlace, joule_differences, with_passing
from greenload.energy.attribution.observation import IN_PLACE, Metering, Observation
from greenload.energy.attribution.quantity import (
    FULL,
    ISOLATION_BIAS,
    Quantity,
    WindowDifference,
    WindowGroup,
    WindowIndex,
    step_differences,
    value_reader,
)
from greenload.energy.domains import Domain
from greenload.energy.figures import Figure, scale
from greenload.errors import UsageError
from greenload.system.work import Work

COUNTED_KINDS = frozenset({"cpu", "dram"})
"""Kinds of domains whose joules of a CPU second differ between steps. A GPU's or a drive's aren't of CPU seconds."""
_MEASURED = Metering("measured")
_COUNTS = ("cpu_s", "device_bytes", "reads")


@dataclass(frozen=True, slots=True)
class _Quantities:
    """All quantities of the same differences: what a `Cost` is made of."""

    counts: Mapping[str, Quantity]
    """By `_COUNTS`."""
    energy: Mapping[str, Quantity]
    """By domain."""

    @classmethod
    def of(
        cls,
        windows: WindowIndex,
        costs: Sequence[WindowDifference],
        domains: Mapping[str, Metering],
        backgrounds: Mapping[str, Background],
        replays: Sequence[WindowDifference] = (),
        reader: str = "",
    ) -> _Quantities:
        """Those of windows with this process's own joules.

        Args:
            windows: all of a profile.
            costs: what CPU seconds are measured by.
            domains: of energy.
            backgrounds: what was taken out of their joules.
            replays: what tells bytes, and joules of counters, where steps are measured in place.
            reader: the step with a clock that reads all the files.
        """
        reading = reading_share(reader)
        cpu = Quantity(windows, costs, value_reader("cpu_s"), _MEASURED, by_clocks=True)
        in_place = {index: cpu.figure(index) for index, cost in enumerate(costs) if cost.of or cost.less is not None}
        replays = replays or costs

        def energy(name: str, metering: Metering) -> Quantity:
            background = backgrounds.get(name)
            if in_place and metering.provenance != "modelled" and Domain.parse(name).kind in COUNTED_KINDS:
                differences = joule_differences(windows, replays, in_place)
                return JoulesInPlace(windows, differences, name, metering, background, in_place)
            stored = Domain.parse(name).kind == "storage"
            shared, share_of = (replays, reading) if stored else (costs, cpu_share)
            return Quantity(windows, shared, value_reader(name), metering, background, name, share_of=share_of)

        def count(name: str) -> Quantity:
            return Quantity(windows, replays, value_reader(name), _MEASURED, counts=True, share_of=reading)

        return cls(
            {"cpu_s": cpu} | {name: count(name) for name in _COUNTS if name != "cpu_s"},
            {name: energy(name, metering) for name, metering in domains.items()},
        )

    def cost(self, pick: Callable[[Quantity], Figure]) -> Cost:
        """The cost whose figure in each quantity ``pick`` gives."""
        cpu, device, reads = (pick(self.counts[name]) for name in _COUNTS)
        return Cost(
            cpu, {name: pick(quantity) for name, quantity in self.energy.items()}, device, reads_per_sample=reads
        )

    def indistinct(self, steps: Sequence[str], domains: Mapping[str, Metering]) -> tuple[Indistinct, ...]:
        """Steps that can't be told apart in CPU seconds, or in a measured domain."""
        measured = {name: quantity for name, quantity in self.energy.items() if domains[name].provenance == "measured"}
        judged = {"cpu_s": self.counts["cpu_s"], **measured}
        return tuple(group for name, quantity in judged.items() for group in indistinct_steps(name, quantity, steps))


def trial_cost(observations: Sequence[Observation], *, step: str, domains: Mapping[str, Metering]) -> Cost:
    """Cost of a trial per sample by paired replay, judged alone, in own joules, the error of the idle power included.

    Args:
        observations: all windows of a profile, those of the trial among them.
        step: the trial's name; its windows are of kinds "with" and "without".
        domains: the energy domains to report.
    """
    backgrounds = find_backgrounds(observations, domains)
    windows = WindowIndex(with_own_joules(observations, domains, backgrounds))
    return _Quantities.of(windows, [_paired(step)], domains, backgrounds).cost(lambda quantity: quantity.figure(0))


def trial_wall_ns(observations: Sequence[Observation], *, step: str) -> Figure:
    """Nanoseconds of wall time that a trial adds per sample, by paired replay, judged alone.

    Args:
        observations: windows; those of the trial are of kinds "with" and "without".
        step: the trial's name.

    Returns:
        Missing with fewer than two rounds that have both.
    """
    return _alone(observations, "work_ns", _paired(step))


def _paired(step: str) -> WindowDifference:
    return WindowDifference((step, "with"), (step, "without"))


def _alone(observations: Sequence[Observation], quantity: str, cost: WindowDifference) -> Figure:
    return Quantity(WindowIndex(observations), [cost], value_reader(quantity), _MEASURED).figure(0, 0.0)


def attribute(
    observations: Sequence[Observation],
    *,
    steps: Sequence[str],
    domains: Mapping[str, Metering],
    idle_power_w: Mapping[str, float] | None = None,
    isolation_bias: Mapping[str, float] | None = None,
    hand_over: bool = True,
    reader: str = "",
    passing: Collection[str] | None = None,
) -> Attribution:
    """Costs of every step, the held-out run, the idle power, and what no step explains.

    A step with a clock in windows "in place" is measured by these, one with windows "with" and "without" by replay, one
    with windows "prefix" by prefixes. What the whole takes beside the windows "in place", without clocks, and no step
    has, is `HAND_OVER`, the last step.

    Args:
        observations: all windows of a profile.
        steps: names in the pipeline's order; a prefix is compared with the prefix of the name before it.
        domains: the energy domains to report.
        idle_power_w: idle power in watts by domain, where known otherwise than by idle windows.
        isolation_bias: by step, standard deviation, as a share of its cost, of what the step costs more or less in a
            replay than in the pipeline; `ISOLATION_BIAS` for steps that aren't named.
        hand_over: whether there is such a step, where there are such windows.
        reader: the step with a clock that reads all the files; empty for none.
        passing: steps whose windows "without" only pass elements on; if None, those in which clocks saw no function.

    Raises:
        UsageError: a step, or the held-out run, has no windows.
    """
    observations = undisturbed(observations)
    backgrounds = find_backgrounds(observations, domains, idle_power_w)
    power = idle_power(backgrounds, domains, idle_power_w)
    own = with_own_joules(observations, domains, backgrounds)
    windows = WindowIndex(own)
    if not windows[FULL]:
        raise UsageError('an attribution is checked against the held-out run, found no window of kind "full": run it')
    clocked = {name: group for name in steps if (group := _clocked(windows, name)) is not None}
    methods = [IN_PLACE if name in clocked else _method(windows, steps, index) for index, name in enumerate(steps)]
    last = (UNCLOCKED if windows[UNCLOCKED] else CLOCKED) if hand_over and windows[CLOCKED] else None
    windows = with_passing(own, clocked, passing)
    differences = step_differences(steps, methods, isolation_bias or {}, clocked, last)
    replayed = ["replay" if _is_replayed(windows, name) else how for name, how in zip(steps, methods, strict=True)]
    replays = step_differences(steps, replayed, isolation_bias or {}, clocked, last)
    if last:
        steps, methods = [*steps, HAND_OVER], [*methods, IN_PLACE]
    quantities = _Quantities.of(windows, differences, domains, backgrounds, replays, reader)
    full = quantities.cost(lambda quantity: quantity.figure(-1))
    wall_s = scale(_alone(windows[FULL], "work_ns", WindowDifference(FULL)), 1e-9)
    return Attribution(
        steps=tuple(
            StepCost(
                name,
                method,
                quantities.cost(partial(Quantity.figure, index=index)),
                _clock_figures(windows, clocked[name], name) if name in clocked else None,
            )
            for index, (name, method) in enumerate(zip(steps, methods, strict=True))
        ),
        full=full,
        samples_per_s=_inverse(wall_s),
        idle_power_w=power,
        idle_energy_j_per_sample={name: _product(watts, wall_s) for name, watts in power.items()},
        unattributed=quantities.cost(Quantity.rest),
        total=replace(
            full,
            energy_j_per_sample={
                name: quantity.total(power[name].value or 0.0 if name in power else 0.0)
                for name, quantity in quantities.energy.items()
            },
        ),
        indistinct=quantities.indistinct(steps, domains),
    )


def _clocked(windows: WindowIndex, name: str) -> WindowGroup | None:
    """The windows that tell a step by its clock: later epochs', or first ones' where it runs only in these."""
    for group in (CLOCKED, CLOCKED_FIRST):
        if any(window.work.get(name, Work()).timed for window in windows[group]):
            return group
    return None


def _clock_figures(windows: WindowIndex, group: WindowGroup, name: str) -> ClockFigures:
    """What a step's clock saw in windows of a group beside CPU seconds, and what its replay took."""
    read = partial(waiting_s, name=name)
    waiting = Quantity(WindowIndex(windows[group]), [WindowDifference(group)], read, _MEASURED)
    work = sum((window.work.get(name, Work()) for window in windows[group]), Work())
    samples = sum(window.samples for window in windows[group])
    told = any(window.work.get(name, Work()).timed for window in windows[name, "with"])  # the function's part alone
    replay = WindowDifference((name, "with"), of=(name,)) if told else _paired(name)
    replay = replace(replay, isolation_bias=ISOLATION_BIAS)
    return ClockFigures(
        waiting.figure(0, 0.0),
        work.calls / samples,
        work.crossed / work.calls if work.calls else 0.0,
        Quantity(windows, [replay], value_reader("cpu_s"), _MEASURED).figure(0, 0.0)
        if _is_replayed(windows, name)
        else None,
    )


def _is_replayed(windows: WindowIndex, name: str) -> bool:
    return bool(windows[name, "with"] and windows[name, "without"])


def _method(windows: WindowIndex, steps: Sequence[str], index: int) -> str:
    step, previous = steps[index], steps[index - 1] if index else None
    if _is_replayed(windows, step):
        return "replay"
    if not windows[step, "prefix"]:
        raise UsageError(f"every step needs windows, found none for {step!r}: replay it, or run its prefix")
    if previous is not None and not windows[previous, "prefix"]:
        raise UsageError(f"step {step!r} is measured by prefixes, found none ending in {previous!r}: run that one too")
    return "prefix"


def _product(left: Figure, right: Figure) -> Figure:
    """Product of independent figures; half-widths in quadrature to first order, the left one's provenance."""
    if left.value is None or right.value is None:
        return Figure.missing(left.provenance, left.systematic)
    value = left.value * right.value
    half = math.hypot((left.half_width or 0.0) * right.value, (right.half_width or 0.0) * left.value)
    return Figure(value, value - half, value + half, left.provenance, left.systematic)


def _inverse(wall_s: Figure) -> Figure:
    if wall_s.value is None or wall_s.low is None or wall_s.high is None:
        return Figure.missing()
    # First-order: 1/low would be unbounded where few windows give an interval that reaches zero.
    half = (wall_s.half_width or 0.0) / wall_s.value**2
    return Figure(1 / wall_s.value, 1 / wall_s.value - half, 1 / wall_s.value + half, wall_s.provenance)
