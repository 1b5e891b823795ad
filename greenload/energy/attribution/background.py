"""Which joules are this process's own: idle power and other processes taken out of a counter's window.

A counter sees the whole machine. Its joules of a window are taken as

    joules = idle · seconds + others · other CPU seconds + own

with the idle power in watts and what another process's CPU second costs in joules estimated *together*, by least
squares over the idle windows, where nothing is our own, and over how like windows of one build differ from each other
(analysis of covariance), each kind weighted by its own scatter (generalised least squares: A. C. Aitken, *Proceedings
of the Royal Society of Edinburgh* 55, 1935). Together, since only their sum is known where another process is steady:
the idle windows contain it too, and what it draws cancels whatever its CPU seconds cost. Where nothing varies two weak
assumptions decide, which enter as equations with an error of their own (mixed estimation: H. Theil and A. S.
Goldberger, *International Economic Review* 2, 1961). The error of both is kept by where it comes from, each with its
degrees of freedom, and so enters every figure by the seconds and the other processes' CPU seconds that were taken out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.energy.attribution.intervals import Variance, half_width
from greenload.energy.attribution.observation import Metering, Observation, counted_ns, read_quantity
from greenload.energy.domains import Domain
from greenload.energy.figures import Figure

OTHERS_BAND = 0.5
"""Relative standard deviation given to "another process's CPU second costs what ours does" before the windows are
asked: a choice, as kinds of code differ in power per busy core by less; where other processes vary, the windows
outweigh it."""
WAKING_BAND = 0.3
"""Standard deviation, as a share of what our CPU seconds cost, given to how much more another process's costs while it
is alone: it then wakes the package by itself, and shares that with us otherwise. A choice; without it, idle windows
would decide what other processes cost in working ones."""
BEND_BAND = 0.15
"""Standard deviation given to the exponent in "power grows with busy cores to the power of 1" before the windows are
asked: a choice, since cores share caches, clocks and cooling; where other processes vary between idle windows, these
outweigh it."""
TICK_ERROR_S = 0.006
"""Standard deviation of a window's CPU seconds of other processes, which come in the kernel's ticks of 10 ms: two
edges, each spread evenly over a tick, for two counters (user and system time), ``10 ms · sqrt(4 / 12)``."""
LEAST_VARIATION = 30.0
"""How often the variance of its ticks the other processes' variation must hold to count: their joules then come out 3 %
too small at worst."""
_LEAST_IDLE = 2  # one idle window has no error
_LEAST_DF = 1.0
_JIFFY_S = 0.004
"""What the kernel bills a core's time by where it doesn't read a clock (250 Hz, as most distributions build it)."""
_LEAST_BUSY = 0.1  # of the working windows' cores: fewer than that are no load whose growth could be seen
_PASSES = 3
_LEAST_OWN = 0.1  # of the joules: below it, own ones are no scale

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ErrorSource:
    """What one kind of evidence adds to the covariance of the idle power and of what other processes cost."""

    covariance: tuple[tuple[float, float], tuple[float, float]]
    """Of watts and joules per CPU second."""
    df: float
    """Degrees of freedom its scatter was estimated with."""


@dataclass(frozen=True, slots=True)
class Background:
    """What a counter shows besides this process.

    Example:
        >>> Background(10.0, 30.0).own_j(joules=25.0, wall_s=1.0, other_cpu_s=0.1)
        12.0
    """

    watts: float
    """Power of the idle machine."""
    other_j_per_cpu_s: float
    """Joules of one CPU second of other processes."""
    sources: tuple[ErrorSource, ...] = ()
    """The error of both; none where they are given."""

    def own_j(self, joules: float, wall_s: float, other_cpu_s: float) -> float:
        """This process's part of a counter's joules, in a window or in a difference of windows."""
        return joules - self.watts * wall_s - self.other_j_per_cpu_s * other_cpu_s

    def variances(self, wall_s: float, other_cpu_s: float) -> tuple[Variance, ...]:
        """The variances, in square joules, that the errors of both bring into own joules.

        Args:
            wall_s: seconds of which the idle power was taken out; of a step, the difference with and without it.
            other_cpu_s: CPU seconds of other processes that were taken out; of a step, the difference too.
        """
        at = np.array([wall_s, other_cpu_s])
        return tuple(
            Variance(max(0.0, float(at @ np.array(source.covariance) @ at)), source.df) for source in self.sources
        )


def find_background(
    observations: Sequence[Observation], domain: str, *, watts: float | None = None
) -> Background | None:
    """The idle power of a measured domain, and what other processes' CPU seconds cost there.

    Args:
        observations: windows of a profile; those of kind "idle" and those that vary tell the most.
        domain: a counter's. Other processes count in ``cpu`` and ``dram`` only.
        watts: the idle power, where it is known; it is then taken as exact.

    Returns:
        None where the idle power isn't given and fewer than two idle windows show it.
    """
    sound = [window for window in observations if read_quantity(window, domain) is not None]
    idle = [window for window in sound if window.kind == "idle"] if watts is None else []
    work = [window for window in sound if window.kind != "idle"]
    if watts is None and len(idle) < _LEAST_IDLE:
        return None
    if not Domain.parse(domain).follows_cpu:
        return Background(watts, 0.0) if watts is not None else _mean_power(idle, domain)
    busy_s = sum(window.cpu_s + window.other_cpu_s for window in work)
    joules = sum(window.energy_j[domain] for window in work)
    if not (any(window.cpu_s > 0 for window in work) and joules > 0):
        return Background(watts, 0.0) if watts is not None else _mean_power(idle, domain)
    kinds = [_work_rows(work, domain)]
    if watts is None:
        seconds = sum(counted_ns(window, domain) / 1e9 for window in work)
        kinds.append(_idle_rows(idle, domain, busy_s / seconds))
    background = Background(0.0 if watts is None else watts, joules / busy_s)
    for _ in range(_PASSES):  # what a CPU second costs only sets the scale of an error, so few passes settle it
        background = _bounded(_fit(kinds, _prior_rows(work, domain, background), watts))
    return background


def find_backgrounds(
    observations: Sequence[Observation],
    domains: Mapping[str, Metering],
    idle_power_w: Mapping[str, float] | None = None,
) -> dict[str, Background]:
    """The idle power of all domains with a counter, where known; the joules of others are of this process alone.

    The arguments are those of `attribute`.
    """
    given = dict(idle_power_w or {})
    backgrounds = {
        name: find_background(observations, name, watts=given.get(name))
        for name, domain in domains.items()
        if domain.provenance == "measured"
    }
    return {name: background for name, background in backgrounds.items() if background is not None}


def with_own_joules(
    observations: Sequence[Observation], domains: Mapping[str, Metering], backgrounds: Mapping[str, Background]
) -> list[Observation]:
    """The working windows, with this process's own joules alone; none of a counter whose idle power isn't known."""

    def own(window: Observation) -> dict[str, float]:
        energy = {}
        for name, domain in domains.items():
            joules, background = read_quantity(window, name), backgrounds.get(name)
            if joules is None or (domain.provenance == "measured" and background is None):
                continue
            if background is not None:
                joules = background.own_j(joules, counted_ns(window, name) / 1e9, window.other_cpu_s)
            energy[name] = joules
        return energy

    return [replace(window, energy_j=own(window)) for window in observations if window.kind != "idle"]


def idle_power(
    backgrounds: Mapping[str, Background],
    domains: Mapping[str, Metering],
    idle_power_w: Mapping[str, float] | None = None,
) -> dict[str, Figure]:
    """The idle power by domain, in watts: as estimated, or as given."""
    figures = {}
    for name, domain in domains.items():
        watts = backgrounds[name].watts if name in backgrounds else (idle_power_w or {}).get(name)
        if watts is not None:
            half = half_width(backgrounds[name].variances(1.0, 0.0)) if name in backgrounds else 0.0
            figures[name] = Figure(watts, watts - half, watts + half, domain.provenance, domain.systematic)
    return figures


def _mean_power(idle: Sequence[Observation], domain: str) -> Background:
    """The idle power where no other process shows: the mean of idle windows, studentised."""
    watts = np.array([window.energy_j[domain] * 1e9 / counted_ns(window, domain) for window in idle])
    variance = float(watts.var(ddof=1)) / len(watts)
    return Background(float(watts.mean()), 0.0, (ErrorSource(((variance, 0.0), (0.0, 0.0)), len(watts) - 1),))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Linear equations of one kind: ``x @ (watts, others, waking, bend) = y``, in watts.

    ``others`` is the joules of another process's CPU second.
    ``waking`` is how many joules more it costs while that process is alone.
    ``bend`` is those joules times the exponent by which they grow with busy cores, to first order; it counts nothing at
    as many cores as are busy in the working windows.
    """

    x: Floats
    y: Floats
    lost: int = 0
    """Degrees of freedom that were taken out before."""


def _columns(windows: Sequence[Observation], domain: str) -> Floats:
    """Seconds, other CPU seconds, joules, own CPU seconds, samples: shape (5, windows), float64."""
    rows = [
        (counted_ns(window, domain) / 1e9, window.other_cpu_s, window.energy_j[domain], window.cpu_s, window.samples)
        for window in windows
    ]
    return np.array(rows, dtype=np.float64).reshape(len(rows), 5).T


def _without_ticks(x: Floats, tick: float) -> Floats:
    """The equations without what the other processes' column varies by on its own, where ticks could be all of that.

    Ticks tell nothing of joules, and would make those of other processes look too small (regression dilution: W. A.
    Fuller, *Measurement Error Models*, 1987, section 1.1).
    """
    seconds, other = x.T
    square = float(seconds @ seconds)
    explained = seconds * (float(seconds @ other) / square if square else 0.0)
    if float(((other - explained) ** 2).sum()) >= LEAST_VARIATION * tick:
        return x
    return np.stack([seconds, explained], axis=1)


def _with_alone(x: Floats, busy_cores: float) -> Floats:
    """The equations with the columns of what differs where other processes are alone; 0 in working windows."""
    if not busy_cores > 0:
        return np.column_stack([x, np.zeros((len(x), 2))])
    other = x[:, 1]
    return np.column_stack([x, other, other * np.log(np.maximum(other / busy_cores, _LEAST_BUSY))])


def _tick(seconds: Floats, cores: float) -> float:
    """The sum of squares that ticks alone would make of other processes' busy cores in windows of these lengths."""
    error = TICK_ERROR_S**2 + cores * _JIFFY_S**2 / 6  # two edges in each core, each spread evenly over a jiffy
    return float((error / seconds**2).sum())


def _idle_rows(idle: Sequence[Observation], domain: str, busy_cores: float) -> _Rows:
    seconds, other, joules, _, _ = _columns(idle, domain)
    x = np.stack([np.ones_like(seconds), other / seconds], axis=1)
    x = _without_ticks(x, _tick(seconds, float(other.sum() / seconds.sum())))
    return _Rows(_with_alone(x, busy_cores), joules / seconds)


def _work_rows(work: Sequence[Observation], domain: str) -> _Rows:
    """How each window differs from its like in the same build, in watts: so long and short windows count alike.

    What goes with own CPU seconds is left out, step by step: it is our own, and how much of it shows in joules differs
    from step to step.
    """
    like: dict[tuple[str, str], list[int]] = {}
    for index, window in enumerate(work):
        like.setdefault((window.step, window.kind), []).append(index)
    columns = _columns(work, domain)
    varying: list[int] = []
    lost, tick = 0, 0.0
    for indices in like.values():
        builds: dict[int, list[int]] = {}
        for index in indices:
            builds.setdefault(work[index].build, []).append(index)
        ticks = 0.0
        for alike in builds.values():
            part = columns[:4, alike]
            seconds, samples = part[0].mean(), columns[4, alike]
            cores = float((part[1] + part[3]).sum() / part[0].sum())
            columns[:4, alike] = (part - np.outer(part.sum(axis=1), samples / samples.sum())) / seconds
            ticks += _tick(np.full(len(alike), seconds), cores)
        cpu = columns[3, indices]
        square = float(cpu @ cpu)
        if square > 0:
            columns[:3, indices] -= np.outer(columns[:3, indices] @ cpu / square, cpu)
        # Judged step by step, since the ticks of short windows would drown what long ones show.
        if float(columns[1, indices] @ columns[1, indices]) >= LEAST_VARIATION * ticks:
            varying += indices
            tick += ticks
            lost += len(builds) + (square > 0)
    if not varying:  # ticks could have made up what other processes did
        return _Rows(np.zeros((1, 4)), np.zeros(1))
    x = _without_ticks(columns[:2, varying].T, tick)
    return _Rows(_with_alone(x, 0.0), columns[2, varying], lost)


def _prior_rows(work: Sequence[Observation], domain: str, at: Background) -> _Rows:
    """The weak assumptions: another process's CPU second costs what ours do on average, however busy the machine is."""
    seconds, other, joules, cpu, _ = _columns(work, domain).sum(axis=1)
    own = max(at.own_j(joules, seconds, other), _LEAST_OWN * joules)
    # others = (joules - idle · seconds - others · other CPU seconds) / cpu, over the error given to it.
    error = OTHERS_BAND * own
    each = own / cpu if cpu > 0 else 1.0
    x = np.diag([0.0, 0.0, 1 / (WAKING_BAND * each), 1 / (BEND_BAND * each)])[1:]
    x[0, :2] = seconds / error, (cpu + other) / error
    return _Rows(x, np.array([joules / error, 0.0, 0.0]))


def _bounded(background: Background) -> Background:
    """The estimate under what is sure: neither an idle machine nor another process gives energy back.

    Where one comes out below zero it is held there, and the other goes along as far as their errors do: the mean of the
    bivariate normal distribution given its other part.
    """
    estimate = [background.watts, background.other_j_per_cpu_s]
    covariance = np.array([source.covariance for source in background.sources]).sum(axis=0)
    for low, other in ((0, 1), (1, 0)):
        if estimate[low] < 0 < covariance[low, low]:
            estimate[other] -= covariance[low, other] / covariance[low, low] * estimate[low]
            estimate[low] = 0.0
    return replace(background, watts=max(0.0, estimate[0]), other_j_per_cpu_s=max(0.0, estimate[1]))


def _given(rows: _Rows, watts: float) -> _Rows:
    """The equations with the idle power known."""
    return _Rows(rows.x * [0.0, 1.0, 1.0, 1.0], rows.y - watts * rows.x[:, 0], rows.lost)


def _fit(kinds: Sequence[_Rows], prior: _Rows, watts: float | None) -> Background:
    """The joint estimate; given ``watts`` are exact."""
    if watts is not None:  # they leave the equations, except the one that holds them
        kinds = [_given(rows, watts) for rows in kinds]
        prior = _given(prior, watts)
        prior = _Rows(np.vstack([prior.x, [1.0, 0.0, 0.0, 0.0]]), np.append(prior.y, watts))
    # Each kind's scatter from its own best fit: judged by the joint one, idle windows that the others contradict would
    # pass for noisy ones and lose their say.
    scatter = [_scatter(rows) for rows in kinds]
    least = 1e-12 * max(float((rows.y**2).mean()) for rows in kinds) + 1e-30  # weights must not vanish in rounding
    variances = [max(variance, least) for variance, _ in scatter]
    precision = prior.x.T @ prior.x
    right = prior.x.T @ prior.y
    for rows, variance in zip(kinds, variances, strict=True):
        precision = precision + rows.x.T @ rows.x / variance
        right = right + rows.x.T @ rows.y / variance
    inverse = np.linalg.inv(precision)
    estimate = inverse @ right
    dfs = [df for _, df in scatter]
    sources = _sources(inverse, prior, kinds, variances, dfs, watts)
    return Background(float(estimate[0]), float(estimate[1]), tuple(sources))


def _scatter(rows: _Rows) -> tuple[float, float]:
    """The residual variance of the equations fitted alone, and its degrees of freedom."""
    for columns in (rows.x.shape[1], 1, 0):  # as few as leave a degree of freedom: an exact fit is no exact knowledge
        solution, _, rank, _ = np.linalg.lstsq(rows.x[:, :columns], rows.y, rcond=1e-9)
        df = len(rows.y) - rows.lost - float(rank)
        if df >= _LEAST_DF:
            break
    return float(((rows.y - rows.x[:, :columns] @ solution) ** 2).sum()) / max(df, _LEAST_DF), max(df, _LEAST_DF)


def _sources(
    inverse: NDArray[np.floating[Any]],
    prior: _Rows,
    kinds: Sequence[_Rows],
    variances: Sequence[float],
    dfs: Sequence[float],
    watts: float | None,
) -> Iterable[ErrorSource]:
    """How much of the covariance each kind of rows brings: they add up to the whole."""
    assumed = prior.x.T @ prior.x
    if watts is not None:  # given, not assumed: its row only keeps the idle power as it is
        assumed[0, 0] = 0.0
    parts = [(rows.x.T @ rows.x / v, df) for rows, v, df in zip(kinds, variances, dfs, strict=True)]
    for part, df in [*parts, (assumed, float("inf"))]:
        (a, b), (c, d) = (inverse @ part @ inverse)[:2, :2].tolist()
        yield ErrorSource(((a, b), (c, d)), df)
