"""Readings of a whole profile for a truth that is known: what intervals and plans are held against, fast.

It makes the windows that a campaign would, in the same order and number, without running anything. It doesn't share
what the estimators assume: joules per CPU second differ by step and from other processes', builds differ by other
shares in each step and in the full run, noise may have heavy tails, long windows scatter less than short ones, a
window's joules follow its CPU seconds in part only, counters are refreshed late, other processes' CPU seconds come in
ticks, and power may grow more slowly than busy cores do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from greenload.energy.attribution.observation import Observation
from greenload.errors import UsageError

PACKAGE = "cpu:package-0"
_TICK_S = 0.01  # of /proc/stat
_SETTLED_S = 0.015  # idle seconds in a window
_FOLLOWING = 0.7  # correlation of the noise in joules with that in CPU seconds
_SHARED = 0.5  # correlation of a build's effect in a replay with that in the full run
_PART_S = 0.25  # noise is that of a window of this length
_IDLE_WINDOWS, _IDLE_S = 4, 0.5
_TAILS_DF = 4
_CPU_S = np.array([84e-6, 723e-6, 946e-6, 43e-6, 34e-6])  # a profile of photos of 500×375
_J_PER_CPU_S = (7.0, 24.0)
_WIGGLES = {"": 0.0, "varying": 1.0, "steady": 0.03}
_ISOLATION_SD = 0.005  # spread of what replays cost more or less than the same work in the pipeline
_UNLIKE = 0.25  # spread, in log, of how much builds differ from step to step
_BACKGROUND_CORES = 0.02  # what an idle system's own services keep busy


@dataclass(frozen=True, slots=True)
class TrueStep:
    """What one step really costs."""

    name: str
    """As in the windows."""
    cpu_s: float
    """CPU seconds per sample."""
    j_per_cpu_s: Mapping[str, float]
    """Joules of one of its CPU seconds, by domain."""
    method: str = "replay"
    """``"replay"`` or ``"prefix"``."""
    context_s: float = 0.0
    """CPU seconds per sample of what a replay runs with and without it."""


@dataclass(frozen=True, slots=True)
class OtherProcess:
    """Another process on the machine."""

    cores: float
    """How many it keeps busy where it gets them."""
    j_per_cpu_s: Mapping[str, float]
    """Joules of one of its CPU seconds, by domain."""
    wiggle: float = 1.0
    """By which share of ``cores``, up or down, it differs from window to window: 0 is steady, 1 from none to twice."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A machine, a pipeline, and how noisily they are seen."""

    steps: tuple[TrueStep, ...]
    """In the pipeline's order."""
    idle_w: Mapping[str, float] = field(default_factory=lambda: {PACKAGE: 10.0})
    """Idle power in watts, by domain. What isn't here isn't metered."""
    other: OtherProcess | None = None
    """None where the process is alone."""
    cores: int = 4
    """Of the machine; the process runs as many threads."""
    noise: float = 0.03
    """Relative standard deviation of what a window of 0.25 s costs."""
    build_ratio: float = 0.0
    """Standard deviation of what builds differ by, over ``noise``."""
    tails: bool = False
    """Whether the noise has Student's t distribution with 4 degrees of freedom, scaled to the same variance."""
    concavity: float = 1.0
    """Power above idle grows with busy cores to this power; 1 is proportional. A step's true joules are those it
    draws with nothing else running."""
    isolation_factor: float = 1.0
    """What a replayed step costs, over what it costs in the pipeline."""
    missing: float = 0.0
    """Share of the full run that no step explains."""
    update_s: Mapping[str, float] = field(default_factory=lambda: {PACKAGE: 0.001})
    """How often a domain's counter is refreshed."""
    window_s: float = 0.25
    """Wall seconds of a step's window; the full run's are three times as long."""
    rounds: int = 5
    """Of windows in each build."""
    idle_each_build: bool = True
    """Whether the idle machine is measured before every build, or before the first only."""

    def __post_init__(self) -> None:
        if not self.steps or not 0 < self.concavity <= 1 or self.noise < 0:
            raise UsageError(
                f"a scenario has steps, noise of at least 0 and a concavity in (0, 1], found {len(self.steps)} steps, "
                f"{self.noise} and {self.concavity}: change them"
            )
        bare = [step.name for step in self.steps if step.method == "replay" and not step.context_s > 0]
        if bare:
            raise UsageError(
                f"a replay runs something without its step too, found nothing for {bare}: give a context_s"
            )

    @property
    def names(self) -> list[str]:
        """The steps' names."""
        return [step.name for step in self.steps]

    def truth(self, quantity: str) -> list[float]:
        """What each step costs per sample, and last the full run: ``"cpu_s"`` or a domain."""
        costs = [step.cpu_s * (1 if quantity == "cpu_s" else step.j_per_cpu_s[quantity]) for step in self.steps]
        return [*costs, math.fsum(costs) * (1 + self.missing)]


def simulate(scenario: Scenario, rng: np.random.Generator, builds: int = 2) -> list[Observation]:
    """All windows of a profile.

    Args:
        scenario: the truth.
        rng: of everything random.
        builds: passes over all steps, each on a fresh build.

    Example:
        >>> step = TrueStep("decode", 7e-4, {PACKAGE: 20.0}, context_s=2e-5)
        >>> len(simulate(Scenario((step,)), np.random.default_rng(0)))
        48
    """
    return [window for build in range(builds) for window in simulate_build(scenario, rng, build)]


def simulate_build(scenario: Scenario, rng: np.random.Generator, build: int) -> list[Observation]:
    """The windows of one pass: idle ones, each step's rounds, and the full run's spread over them."""
    return list(_Pass(scenario, rng, build).windows())


def typical_scenario(
    rng: np.random.Generator,
    *,
    noise: float = 0.03,
    build_ratio: float = 0.0,
    other: str = "",
    tails: bool = False,
    concavity: float = 1.0,
) -> Scenario:
    """An image pipeline on four cores, its costs and joules per CPU second drawn anew.

    Five steps, 30 µs to 1 ms a sample, as they were seen for photos of 500×375; each draws 7 to 24 J per CPU second, so
    that shares of CPU seconds are not shares of joules.

    Args:
        rng: of the scenario.
        noise: of `Scenario`.
        build_ratio: of `Scenario`.
        other: empty for none; ``"varying"`` or ``"steady"`` for another process, which takes a third of the machine
            beside this one, and half of it otherwise, at 7 to 24 J per CPU second.
        tails: of `Scenario`.
        concavity: of `Scenario`.
    """
    if other not in _WIGGLES:
        raise UsageError(f"another process is one of {tuple(_WIGGLES)}, found {other!r}: use one of them")
    cpu_s = (_CPU_S * np.exp(0.3 * rng.standard_normal(len(_CPU_S)))).tolist()
    joules = rng.uniform(*_J_PER_CPU_S, len(_CPU_S) + 1).tolist()
    context = [0.0, 25e-6, cpu_s[1], 25e-6, 30e-6]
    steps = tuple(
        TrueStep(name, cpu_s[index], {PACKAGE: joules[index]}, "replay" if index else "prefix", context[index])
        for index, name in enumerate(("read", "decode", "resize", "flip", "batch"))
    )
    process = OtherProcess(2.0, {PACKAGE: joules[-1]}, _WIGGLES[other]) if other else None
    return Scenario(
        steps,
        other=process,
        noise=noise,
        build_ratio=build_ratio,
        tails=tails,
        concavity=concavity,
        isolation_factor=1 + _ISOLATION_SD * float(rng.standard_normal()),
    )


class _Pass:
    def __init__(self, scenario: Scenario, rng: np.random.Generator, build: int) -> None:
        self.scenario = scenario
        self.rng = rng
        self.build = build
        size = len(scenario.steps)
        # Steps differ in how much building anew changes them.
        shares = scenario.noise * scenario.build_ratio * np.exp(_UNLIKE * rng.standard_normal(size) - _UNLIKE**2)
        effects = rng.standard_normal((2, size))
        own = _SHARED * effects[0] + math.sqrt(1 - _SHARED**2) * effects[1]
        self.replayed = (1 + shares * effects[0]).tolist()
        self.full = (1 + shares * own).tolist()

    def windows(self) -> Iterator[Observation]:
        scenario = self.scenario
        if self.build == 0 or scenario.idle_each_build:
            for k in range(_IDLE_WINDOWS):
                yield self._window("", "idle", k, [], _IDLE_S)
        steps = scenario.steps
        whole = [(step, factor * (1 + scenario.missing)) for step, factor in zip(steps, self.full, strict=True)]
        for index, step in enumerate(steps):
            part = (step, self.replayed[index] * scenario.isolation_factor)
            context = (TrueStep("", step.context_s, steps[index - 1].j_per_cpu_s), 1.0)
            for k in range(scenario.rounds):
                if step.method == "prefix":
                    upto = list(zip(steps[: index + 1], self.replayed, strict=False))
                    yield self._window(step.name, "prefix", k, upto, scenario.window_s)
                    continue
                # As many samples in both, so the shorter window is shorter indeed.
                samples = self._samples([part, context], scenario.window_s)
                kinds = {"with": [part, context], "without": [context]}
                for kind in ("with", "without") if self.rng.random() < 0.5 else ("without", "with"):
                    yield self._window(step.name, kind, k, kinds[kind], samples=samples)
            before, due = (at * 2 * scenario.rounds // len(steps) for at in (index, index + 1))
            for k in range(before, due):
                yield self._window("", "full", k, whole, 3 * scenario.window_s)

    def _samples(self, parts: list[tuple[TrueStep, float]], seconds: float) -> int:
        return max(1, round(seconds * self.scenario.cores / math.fsum(step.cpu_s * factor for step, factor in parts)))

    def _slope(self, busy: float) -> float:
        """Watts of a busy core, over those it draws where all are: more where few are."""
        return float((busy / self.scenario.cores) ** (self.scenario.concavity - 1)) if busy > 0 else 1.0

    def _noise(self) -> float:
        if self.scenario.tails:
            return float(self.rng.standard_t(_TAILS_DF)) * math.sqrt((_TAILS_DF - 2) / _TAILS_DF)
        return float(self.rng.standard_normal())

    def _window(
        self,
        step: str,
        kind: str,
        k: int,
        parts: list[tuple[TrueStep, float]],
        seconds: float = 0.0,
        samples: int = 0,
    ) -> Observation:
        """A window of parts, each with the factor on its cost in this build."""
        scenario, cores = self.scenario, self.scenario.cores
        other = scenario.other
        wanted = other.cores * (1 + other.wiggle * self.rng.uniform(-1, 1)) if other else 0.0
        idle_s, cpu_s, wall_s = _SETTLED_S, 0.0, seconds
        share = 1.0  # of what is wanted that the scheduler gives
        if parts:
            samples = samples or self._samples(parts, seconds)
            mean_s = samples * math.fsum(part.cpu_s * factor for part, factor in parts)
            noise = scenario.noise * math.sqrt(min(1.0, _PART_S * cores / mean_s))
            cpu_s = mean_s * max(0.05, 1 + noise * self._noise())
            share = min(1.0, cores / (cores + wanted))
            wall_s = cpu_s / (cores * share)
        else:
            idle_s, noise = seconds, scenario.noise / 3
            wall_s = 0.0
        services_s = _BACKGROUND_CORES * self.rng.uniform(0, 2) * (wall_s + idle_s)
        other_s = wanted * share * wall_s + min(wanted, cores) * idle_s + services_s
        beside, quiet = self._slope((cores + wanted) * share), self._slope(min(wanted, cores))
        energy = {}
        for domain, watts in scenario.idle_w.items():
            theirs = other.j_per_cpu_s[domain] if other else 0.0
            alone_w = quiet * theirs * min(wanted, cores)
            joules = watts * (wall_s + idle_s) + scenario.steps[0].j_per_cpu_s[domain] * services_s
            if parts:
                power = noise * math.sqrt(1 - _FOLLOWING**2) * self._noise()
                follows = 1 + _FOLLOWING * (cpu_s / mean_s - 1) + power
                own = samples * math.fsum(part.cpu_s * f * part.j_per_cpu_s[domain] for part, f in parts) * follows
                joules += beside * (own + theirs * wanted * share * wall_s) + alone_w * idle_s
            else:
                joules += watts * idle_s * noise * self._noise() + alone_w * idle_s
            # Both edges lie in idle time, up to a refresh late.
            edge = (watts + alone_w) * scenario.update_s.get(domain, 0.0)
            energy[domain] = joules + edge * (self.rng.uniform() - self.rng.uniform())
        ticks = math.floor(other_s / _TICK_S + self.rng.uniform())
        return Observation(
            step=step,
            kind=kind,
            round=k,
            build=self.build,
            samples=samples if parts else 0,
            wall_ns=round((wall_s + idle_s) * 1e9),
            idle_ns=round(idle_s * 1e9) if parts else 0,
            cpu_s=cpu_s,
            other_cpu_s=ticks * _TICK_S,
            energy_j=energy,
        )
