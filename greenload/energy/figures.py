"""`Figure`: a number with its interval, its provenance and its model's band; sums and multiples of figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from greenload.errors import UsageError

PROVENANCES = ("measured", "vendor-declared", "modelled")
"""Where a figure can come from, the most trustworthy first."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a report. The unit is in the name of the field that holds it.

    ``low`` and ``high`` bound the 95 % interval of the sampling error alone. ``systematic`` is the relative band of a
    model, common to every figure of its meter: it cancels in ratios between plans on one machine, sampling error does
    not, so the two are never mixed.

    Example:
        >>> Figure(2.0, 1.5, 2.5, "measured").half_width
        0.5

    Raises:
        UsageError: a number isn't finite, the interval doesn't hold the value, or the provenance is unknown.
    """

    value: float | None
    """The estimate; None where no meter could say."""
    low: float | None
    """Lower end of the 95 % interval; None where ``value`` is."""
    high: float | None
    """Upper end of the 95 % interval; None where ``value`` is."""
    provenance: str
    """One of `PROVENANCES`."""
    systematic: float = 0.0
    """Relative band of a model: 0.4 is ±40 %. 0 for what is measured."""
    unresolved: bool = False
    """The meter can't tell this from zero, or could say nothing."""

    def __post_init__(self) -> None:
        numbers = (self.value, self.low, self.high)
        if self.provenance not in PROVENANCES:
            raise UsageError(f"a provenance is one of {PROVENANCES}, found {self.provenance!r}: use one of them")
        if not (math.isfinite(self.systematic) and self.systematic >= 0):
            raise UsageError(f"a figure's systematic band is 0 or more, found {self.systematic!r}: give it as a share")
        if any(number is None for number in numbers):
            if any(number is not None for number in numbers):
                raise UsageError(f"a figure has a value and an interval or neither, found {numbers}: give all or none")
            return
        if not all(math.isfinite(number) for number in numbers if number is not None):
            raise UsageError(f"a figure's numbers are finite, found {numbers}: use Figure.missing for what is unknown")
        assert self.value is not None and self.low is not None and self.high is not None
        if not self.low <= self.value <= self.high:
            raise UsageError(f"a figure's interval holds its value, found {numbers}: give (value, low, high)")

    @classmethod
    def missing(cls, provenance: str = "measured", systematic: float = 0.0) -> Figure:
        """A figure that no meter could give. It is not zero, and sums with it are missing too."""
        return cls(None, None, None, provenance, systematic, unresolved=True)

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval, in the figure's own unit; None where it is missing."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    def to_dict(self) -> dict[str, Any]:
        """The figure in the report's JSON shape."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "systematic": self.systematic,
            "provenance": self.provenance,
            "unresolved": self.unresolved,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Figure:
        """The inverse of `to_dict`."""
        return cls(
            data["value"],
            data["low"],
            data["high"],
            data["provenance"],
            data.get("systematic", 0.0),
            data.get("unresolved", False),
        )


def cannot_resolve(low: float, high: float, resolution: float = 0.0) -> bool:
    """Whether an interval leaves open if there is any cost at all.

    It does when it contains zero and its half-width exceeds ``resolution``, the smallest cost that matters, in the
    figure's unit. A cost pinned to zero within ``resolution`` is known to be negligible, which is a result.
    """
    return low <= 0 <= high and (high - low) / 2 > resolution


def sum_figures(figures: Iterable[Figure], *, resolution: float = 0.0, common: bool = False) -> Figure:
    """The sum of figures.

    Half-widths add in quadrature where errors are independent, else as they are; a missing part makes the sum missing;
    the provenance is the weakest, the model's band the widest among the parts that count: bands of one model are
    common, so they never shrink by summing.

    Args:
        figures: the parts.
        resolution: the smallest sum that matters, in the figures' unit.
        common: errors may go together, as those of domains do that share their windows, builds and other processes:
            the interval then holds however they are correlated.

    Example:
        >>> sum_figures([Figure(1.0, 0.7, 1.3, "measured"), Figure(2.0, 1.6, 2.4, "measured")]).high
        3.5
        >>> sum_figures([Figure(1.0, 0.5, 1.5, "measured"), Figure(2.0, 1.5, 2.5, "measured")], common=True).high
        4.0
    """
    parts = list(figures)
    provenance = max((part.provenance for part in parts), key=PROVENANCES.index, default="measured")
    systematic = max((part.systematic for part in parts if part.value != 0), default=0.0)
    if any(part.value is None for part in parts):
        return Figure.missing(provenance, systematic)
    value = math.fsum(part.value for part in parts if part.value is not None)
    below = [part.value - part.low for part in parts if part.value is not None and part.low is not None]
    above = [part.high - part.value for part in parts if part.value is not None and part.high is not None]
    under, over = (math.fsum(ends) if common else math.hypot(*ends) for ends in (below, above))
    low, high = value - under, value + over
    return Figure(value, low, high, provenance, systematic, cannot_resolve(low, high, resolution))


def scale(figure: Figure, factor: float) -> Figure:
    """The figure times an exact number: a change of unit, or of sign.

    Example:
        >>> scale(Figure(0.002, 0.001, 0.003, "measured"), 1000).value
        2.0
    """
    if figure.value is None or figure.low is None or figure.high is None:
        return figure
    low, high = sorted((figure.low * factor, figure.high * factor))
    return Figure(figure.value * factor, low, high, figure.provenance, figure.systematic, figure.unresolved)
