"""Plans whose rates are known, for tests of what follows from them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from greenload.energy.figures import Figure
from greenload.optimization.coefficients import BUSY_CPU, HELD, IDLE, MOVED, Coefficient, Coefficients
from greenload.optimization.outlay import outlay
from greenload.optimization.records import Candidate, Rates
from greenload.optimization.training import Training

COEFFICIENTS = Coefficients(
    busy_cpu=Coefficient(name=BUSY_CPU, value=2.0, band=0.5, source="a test"),
    idle=Coefficient(name=IDLE, value=1.5, band=0.25, source="a test"),
    held=Coefficient(name=HELD, value=0.4, band=0.4, source="a test"),
    moved=Coefficient(name=MOVED, value=3.0, band=0.9, source="a test"),
)
NAMES = (BUSY_CPU, IDLE, HELD, MOVED)


def figure(value: float, share: float = 0.0) -> Figure:
    """A measured figure with a relative half-width."""
    return Figure(value, value * (1 - share), value * (1 + share), "measured")


def rates(
    first_s: float, later_s: float, *, first_rate: float, later_rate: float, start_s: float = 0.0, share: float = 0.0
) -> Rates:
    """Rates that nothing was read or written for."""
    return Rates(
        start_cpu_s=figure(start_s, share),
        first_cpu_s=figure(first_s, share),
        later_cpu_s=figure(later_s, share),
        first_samples_per_s=figure(first_rate, share),
        later_samples_per_s=figure(later_rate, share),
        builds=2,
    )


def plan(name: str, measured: Rates, **facts: object) -> Candidate:
    """A candidate with rates, on one backend and two threads."""
    given = {"backends": "native", "threads": 2, "prefetch": 2, **facts}
    return Candidate(name=name, rates=measured, **given)  # type: ignore[arg-type]


def spent(candidate: Candidate, training: Training, coefficients: Coefficients = COEFFICIENTS) -> Candidate:
    """The candidate with its outlay."""
    return replace(candidate, outlay=outlay(candidate.rates, candidate, training, coefficients))


trainings = st.builds(
    Training,
    samples=st.integers(1, 100_000),
    epochs=st.integers(1, 200),
    ram=st.integers(0, 64).map(lambda gb: gb * 10**9),
    disk=st.integers(0, 64).map(lambda gb: gb * 10**9),
    demand=st.none() | st.floats(1.0, 5000.0),
    threads=st.just(2),
)
_seconds = st.floats(1e-5, 0.05)
_per_s = st.floats(1.0, 10_000.0)
_bytes = st.floats(0.0, 1e6)


@st.composite
def all_rates(draw: st.DrawFn) -> Rates:
    """Rates with reads and writes, and with intervals."""
    known = rates(
        draw(_seconds),
        draw(_seconds),
        first_rate=draw(_per_s),
        later_rate=draw(_per_s),
        start_s=draw(st.floats(0.0, 5.0)),
        share=draw(st.sampled_from([0.0, 0.05, 0.3])),
    )
    return replace(known, first_read_bytes=draw(_bytes), later_read_bytes=draw(_bytes), written_bytes=draw(_bytes))


@st.composite
def plans(draw: st.DrawFn, least: int = 1, most: int = 8) -> list[Candidate]:
    """Plans with names of their own; some hold memory or disk."""
    held = st.sampled_from([0.0, 0.0, 1e9, 2.5e9, 8e9, 40e9])
    number = draw(st.integers(least, most))
    made = []
    for index in range(number):
        ram, disk = draw(held), draw(held)
        made.append(
            plan(
                f"plan {index}",
                draw(all_rates()),
                ram_bytes=ram,
                disk_bytes=disk,
                kept="planes" if ram or disk else "",
                threads=draw(st.sampled_from([1, 2])),
                backends=draw(st.sampled_from(["native", "tf", "tf reads, native decodes"])),
            )
        )
    return made
