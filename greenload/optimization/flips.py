"""At which value of a modelled coefficient another plan would be chosen.

A plan's joules are linear in each coefficient, so two plans' joules as functions of one are straight lines, which cross
at most once. The chosen plan stays the cheapest until the first crossing on either side of the value used: the nearer
of the two is exact, and no value in between needs to be tried.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

from greenload.optimization.coefficients import Coefficients
from greenload.optimization.outlay import amounts, outlay
from greenload.optimization.records import Candidate, Flip
from greenload.optimization.training import Training

_ROUNDING = 1e-9  # totals that differ by less, relatively, are one and the same


def flips(
    candidates: Sequence[Candidate],
    winner: str,
    training: Training,
    coefficients: Coefficients,
    tied: Collection[str] = (),
) -> tuple[Flip, ...]:
    """For each modelled coefficient the nearest value, of 0 or more, at which another plan would cost less.

    Args:
        candidates: measured plans that may be chosen: those that keep to the bounds.
        winner: the name of the chosen one.
        training: what joules are of. Where CPU seconds decide, no coefficient does.
        coefficients: as used.
        tied: names of plans that nothing tells from the winner in joules; none of them counts as another plan.

    Returns:
        In the order of `greenload.optimization.coefficients.NAMES`.

    Example:
        >>> flips(candidates, "native", training, in_use([], cpus=2, location=location))[0].at
        1.31
    """
    if training.objective == "cpu":
        return ()
    chosen = next(candidate for candidate in candidates if candidate.name == winner)
    others = [candidate for candidate in candidates if candidate.name not in {winner, *tied}]
    found = []
    for name, coefficient in coefficients.each().items():
        if not coefficient.modelled:
            continue
        line = _line(chosen, training, coefficients, name)
        crossings = [
            (at, other.name)
            for other in others
            for at in _crossing(line, _line(other, training, coefficients, name), coefficient.value)
        ]
        at, plan = min(crossings, key=lambda crossing: abs(crossing[0] - coefficient.value), default=(None, ""))
        found.append(Flip(coefficient=name, value=coefficient.value, band=coefficient.band, at=at, plan=plan))
    return tuple(found)


def _line(
    candidate: Candidate, training: Training, coefficients: Coefficients, name: str
) -> tuple[float, float] | None:
    """A plan's joules at a coefficient of 0, and what each unit of the coefficient adds; None where unknown."""
    slope = amounts(candidate.rates, candidate, training, coefficients).multiplied_by(name).value
    without = coefficients.with_value(name, 0.0)
    base = outlay(candidate.rates, candidate, training, without).energy_j.value
    return None if slope is None or base is None else (base, slope)


def _crossing(chosen: tuple[float, float] | None, other: tuple[float, float] | None, value: float) -> Iterator[float]:
    """Where the other line comes below the chosen one's, going away from the value used."""
    if chosen is None or other is None:
        return
    ahead = (other[0] - chosen[0]) + (other[1] - chosen[1]) * value  # by how much the chosen plan is cheaper now
    if ahead < -_ROUNDING * abs(chosen[0] + chosen[1] * value):
        yield value  # the other is cheaper as it is
        return
    steeper = chosen[1] - other[1]
    if steeper == 0:
        return
    at = (other[0] - chosen[0]) / steeper
    if at >= 0 and math.isfinite(at):
        yield at
