"""What attribution gives: the cost of one sample, of each step and of the whole, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from greenload.energy.figures import Figure

HAND_OVER = "hand-over"
"""The row of what a dataset takes beside its functions and its other measured steps: passing elements on."""
_UNCOUNTED = Figure.missing()


@dataclass(frozen=True, slots=True)
class Cost:
    """What one sample costs, by kind of cost."""

    cpu_s_per_sample: Figure
    """CPU seconds, user plus system."""
    energy_j_per_sample: Mapping[str, Figure]
    """Joules by domain, without idle power."""
    device_bytes_per_sample: Figure = _UNCOUNTED
    """Bytes read from storage devices."""
    bytes_out_per_sample: float | None = None
    """Bytes that leave a step for the next; None where unknown."""
    reads_per_sample: Figure = _UNCOUNTED
    """Read system calls."""


@dataclass(frozen=True, slots=True)
class ClockFigures:
    """What the clock around a step's function saw while the whole ran, beside its CPU seconds."""

    waiting_s_per_sample: Figure
    """Seconds in which its calls had no processor: reads, locks, the interpreter, other processes."""
    calls_per_sample: float
    crossed_share: float
    """Of its calls, those that ended on another thread than they began on: they count like the others."""
    replay_cpu_s_per_sample: Figure | None = None
    """CPU seconds of its replay, where it was replayed too."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """The cost of one step, and how it was measured."""

    name: str
    method: str
    """``"in place"``, ``"replay"`` or ``"prefix"``."""
    cost: Cost
    clock: ClockFigures | None = None
    """What the clock around its function saw; None where it wasn't measured in place."""


@dataclass(frozen=True, slots=True)
class Indistinct:
    """Steps that can't be told apart in one quantity, and their sum per sample.

    Example:
        >>> Indistinct(("flip", "crop"), "cpu_s", Figure(2e-5, 1e-5, 3e-5, "measured")).to_dict()["steps"]
        ['flip', 'crop']
    """

    steps: tuple[str, ...]
    """Two or more, in the pipeline's order."""
    quantity: str
    """``"cpu_s"`` or an energy domain."""
    figure: Figure
    """CPU seconds or joules of all of them."""

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        return {"steps": list(self.steps), "quantity": self.quantity, "figure": self.figure.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Indistinct:
        """The inverse of `to_dict`."""
        return cls(tuple(data["steps"]), data["quantity"], Figure.from_dict(data["figure"]))


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where the whole pipeline's cost goes."""

    steps: tuple[StepCost, ...]
    full: Cost
    """The held-out run at full speed. Of measured joules the idle power and other processes are taken out; the error of
    that is in the interval, as in the interval of every step."""
    samples_per_s: Figure
    """Throughput of the held-out run."""
    idle_power_w: Mapping[str, Figure]
    """The machine's idle power by domain."""
    idle_energy_j_per_sample: Mapping[str, Figure]
    """Joules of the idle power while one sample passes at full speed."""
    unattributed: Cost
    """``full`` less the sum of ``steps``. The error of the idle power that is in both cancels."""
    total: Cost
    """``full`` with the idle power for as long as it takes: the counters saw both, so the total has hardly any of the
    idle power's error."""
    indistinct: tuple[Indistinct, ...] = ()
    """Steps that can't be told apart in a quantity, with their sum; empty where all are."""


def unattributed_shares(full: Cost, unattributed: Cost) -> dict[str, float]:
    """What no step explains, as a share of the held-out run: for ``cpu_s`` and each domain that is not modelled.

    Modelled joules follow CPU seconds and bytes, so they add nothing. A domain counts only where its meter can tell the
    rest from zero: above its idle power an idle GPU's joules are noise, of which any share may be left over.
    """
    pairs = {"cpu_s": (full.cpu_s_per_sample, unattributed.cpu_s_per_sample)}
    for domain, figure in full.energy_j_per_sample.items():
        rest = unattributed.energy_j_per_sample.get(domain)
        if rest is None or rest.low is None or rest.high is None or figure.provenance != "measured":
            continue
        if not rest.low <= 0 <= rest.high:
            pairs[domain] = (figure, rest)
    return {
        name: rest.value / whole.value
        for name, (whole, rest) in pairs.items()
        if whole.value and rest.value is not None
    }
