"""Runs the best plans once more, on samples and builds that nothing was decided by, beside what was predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from greenload.energy.domains import Domain
from greenload.energy.figures import Figure, sum_figures
from greenload.errors import GreenloadError
from greenload.optimization.builds import Build, Drawn, rates_of, with_net_joules
from greenload.optimization.coefficients import Coefficients
from greenload.optimization.outlay import FIRST, LATER, STARTING, Amounts, amounts
from greenload.optimization.records import Candidate, HeldOut
from greenload.optimization.search import Judged, Search
from greenload.optimization.trials import Trials
from greenload.plans.plan import Plan
from greenload.text import one_line

EPOCHS = 3
"""Of each run."""
FIRST_EPOCH = 1000
"""Whose order and draws come first: none that a trial has run."""


def other_samples(indices: NDArray[np.int64], of: int, seed: int) -> NDArray[np.int64]:
    """As many samples of a set that were not drawn; where there are too few, the drawn ones again.

    Args:
        indices: the drawn ones, int64, ascending.
        of: samples of the set.
        seed: decides which.
    """
    rest = np.setdiff1d(np.arange(of, dtype=np.int64), indices)
    if len(rest) < len(indices):
        return indices
    return np.sort(np.random.default_rng(seed + 1).choice(rest, len(indices), replace=False))


def run_held_out(
    search: Search, judged: Judged, trials: Trials, plan: Plan, candidate: Candidate, epochs: int = EPOCHS
) -> HeldOut:
    """Build a plan once more and run it, as ``load`` does, for some epochs.

    Args:
        search: that measured it.
        judged: what all its builds say.
        trials: of other samples.
        plan: what runs.
        candidate: its plan's.
        epochs: how many.
    """
    seen = trials.once(candidate.name, plan, epochs, FIRST_EPOCH)
    predicted = predict(search, judged, candidate, seen.samples, epochs, len(trials.indices))
    assert seen.start is not None
    energy_j, seen_j = _energy(search, seen, predicted, judged.coefficients)
    return HeldOut(
        name=candidate.name,
        epochs=epochs,
        samples=seen.samples,
        predicted_cpu_s=sum_figures(predicted.cpu_s.values(), common=True),
        seen_cpu_s=seen.start.cpu_s,
        predicted_energy_j=energy_j,
        seen_energy_j=seen_j,
        other=not np.array_equal(trials.indices, search.trials.indices),
    )


def run_each(names: Iterable[str], run: Callable[[str], HeldOut]) -> tuple[tuple[HeldOut, ...], tuple[str, ...]]:
    """Run plans held out. One that fails, as where a sample that wasn't drawn before is bad, doesn't cost what was
    measured: a note says it.

    Args:
        names: of the plans.
        run: runs one.
    """
    runs: list[HeldOut] = []
    notes: list[str] = []
    for name in names:
        try:
            runs.append(run(name))
        except GreenloadError as error:
            notes.append(f"Held out, {name} failed: {one_line(error)}")
    return tuple(runs), tuple(notes)


def predict(search: Search, judged: Judged, candidate: Candidate, samples: int, epochs: int, records: int) -> Amounts:
    """What a further run is expected to use, with intervals for that one run.

    Args:
        search: that measured the plan.
        judged: what all its builds say.
        candidate: the plan's.
        samples: of an epoch of the run.
        epochs: of the run.
        records: different samples of the run.
    """
    drawn = search.drawn
    # Other samples differ from the drawn ones by the error of both.
    others = drawn if drawn.share >= 1 else _of_others(drawn)
    others = replace(others, surcharge_cpu_s=0.0)  # it isn't the first pipeline of this process
    builds = [build for build in judged.builds if build.name == candidate.name]
    rates = rates_of(builds, others, judged.scatter, samples)
    training = replace(search.training, samples=samples, epochs=epochs, demand=None)
    return amounts(rates, candidate, training, judged.coefficients)


def _of_others(drawn: Drawn) -> Drawn:
    return replace(drawn, variation=drawn.variation * math.sqrt(2 / max(1e-9, 1 - drawn.share)))


def _energy(search: Search, seen: Build, predicted: Amounts, coefficients: Coefficients) -> tuple[Figure, float | None]:
    """Joules of counters, as predicted and as seen; missing where none reads the processor."""
    if coefficients.busy_cpu is not None:
        return Figure.missing(), None
    (net, *_), _ = with_net_joules([seen, *search.builds], search.trials.idle_windows, search.domains)
    assert net.start is not None
    own = {domain: joules for domain, joules in net.start.energy_j.items() if Domain.parse(domain).kind != "storage"}
    if not any(Domain.parse(domain).kind == "cpu" for domain in own):
        return Figure.missing(), None
    parts = [predicted.counted_j[part] for part in (STARTING, FIRST, LATER)]
    return sum_figures(parts, common=True), sum(own.values())


def inside(runs: Sequence[HeldOut]) -> str:
    """A note on how many runs lay in their intervals; empty where all did."""
    outside = [run for run in runs if not run.inside]
    if not outside:
        return ""
    names = ", ".join(run.name for run in outside)
    return f"Held out, {names} took {_more(outside[0])} what was predicted of it: take its figures with caution."


def _more(run: HeldOut) -> str:
    high = run.predicted_cpu_s.high
    return "more CPU seconds than" if high is not None and run.seen_cpu_s > high else "fewer CPU seconds than"
