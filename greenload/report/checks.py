"""`Check`: the verdict on one budget, or on one comparison with a baseline, as a report holds it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from greenload.errors import UsageError
from greenload.report.record import Record

OUTCOMES = ("met", "exceeded", "undecided", "missing")
"""The interval keeps to the limit, lies beyond it, or holds it; or there is no figure to judge."""


@dataclass(frozen=True, slots=True)
class Check(Record):
    """One rule, and what a report's figures say to it.

    Example:
        >>> Check("cpu_s_per_sample<=0.0015", "exceeded", 0.0021, 0.002, 0.0022, 0.0015, "").failed
        True

    Raises:
        UsageError: the outcome is unknown, a number isn't finite, or the interval's ends are exchanged.
    """

    rule: str
    """The rule as it was given, ``"cpu_s_per_sample<=0.0015"``."""
    outcome: str
    """One of `OUTCOMES`."""
    value: float | None
    """The figure, in the unit of the rule's quantity; None where there is none."""
    low: float | None
    """Lower end of its 95 % interval."""
    high: float | None
    """Upper end of its 95 % interval."""
    limit: float | None
    """What it was held against; None where that couldn't be known."""
    detail: str
    """Why, in words: the step that weighs most or grew, what is missing, what helps."""

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise UsageError(f"a check's outcome is one of {OUTCOMES}, found {self.outcome!r}: use one of them")
        numbers = (self.value, self.low, self.high, self.limit)
        if not all(math.isfinite(number) for number in numbers if number is not None):
            raise UsageError(f"a check's numbers are finite, found {numbers}: use None for what is unknown")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise UsageError(f"a check's interval has its low end first, found {numbers}: exchange them")

    @property
    def failed(self) -> bool:
        """Whether a command ends with status 1 for it: exceeded, or nothing was there to judge."""
        return self.outcome in ("exceeded", "missing")


def check_line(check: Check) -> str:
    """The check in one line, ``"exceeded: cpu_s_per_sample<=0.0015, found 0.002123 (0.002 to 0.0022): …"``."""
    number = "" if check.value is None else f", found {interval_text(check.value, check.low, check.high)}"
    return f"{check.outcome}: {check.rule}{number}{f': {check.detail}' if check.detail else ''}"


def interval_text(value: float, low: float | None = None, high: float | None = None) -> str:
    """A number with its interval, to the digits that the interval supports: ``"0.002123 (0.002 to 0.0022)"``."""
    if low is None or high is None or low == high:
        return f"{value:.4g}"
    largest = max(abs(low), abs(high))
    # Cut before the logarithm: an interval may be so narrow that the quotient is infinite.
    digits = max(2, 3 + math.floor(math.log10(min(largest / (high - low), 1e3))))
    return f"{value:.{digits}g} ({low:.{digits}g} to {high:.{digits}g})"


def quantity(field: str, step: str = "") -> str:
    """A rule's quantity: a field of the total, or of a step by its name, ``'steps."Batch".cpu_s_per_sample'``."""
    quote = "'" if '"' in step else '"'
    return f"steps.{quote}{step}{quote}.{field}" if step else field
