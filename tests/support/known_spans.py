"""Spans of a fit on a watched dataset whose figures are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from greenload.energy.figures import Figure
from greenload.machine import Machine
from greenload.profiling.in_place.model import Buffer
from greenload.training.drift import drifts
from greenload.training.fit_report import FitReport
from greenload.training.spent import EnergyPart, Passed, Spent, WatchedPart
from greenload.training.timeline import SpanSpent, timeline


def exact(value: float) -> Figure:
    return Figure(value, value, value, "modelled", 0.5)


def part(name: str, joules: float, cpu_s: float | None = None) -> EnergyPart:
    return EnergyPart(name, {"cpu": exact(joules)}, None if cpu_s is None else exact(cpu_s))


def step(name: str, joules: float, cpu_s: float, calls: int = 100, **more: Any) -> WatchedPart:
    each = Figure(cpu_s / calls, 0.95 * cpu_s / calls, 1.05 * cpu_s / calls, "measured")
    return WatchedPart(name, {"cpu": exact(joules)}, exact(cpu_s), step=name, calls=calls, cpu_s_per_call=each, **more)


def spent(wall_s: float = 2.0, *, waiting_s: float | None = 0.1, **changed: Any) -> Spent:
    """A span in which the loader took 3 J, the model 5, and the idle machine 2."""
    steps = (step("decode", 2.0, 0.8), step("crop", 1.0, 0.4))
    made = Spent(
        name="fit",
        start_ns=0,
        wall_s=wall_s,
        validation_s=0.0,
        passed=Passed(10, 100, waiting_s),
        total=part("total", 10.0, 3.2),
        loader=part("loader", 3.0, 1.2),
        steps=steps,
        waiting=part("waiting", 0.5),
        model=part("model", 5.0, 2.0),
        work=part("loader and model", 8.0, 3.2),
        validation=part("validation", 0.0, 0.0),
        others=EnergyPart("others", {"cpu": Figure.missing()}),
        idle=part("idle", 1.5),
    )
    return replace(made, **changed)


def buffer(elements: float) -> Buffer:
    return Buffer("Prefetch", size=4.0, elements=elements, bytes=100.0)


def fit_report(name: str = "decode", model: str = "small", spans: int = 20) -> FitReport:
    """A fit of two epochs, each with a validation."""

    def one(k: int) -> Spent:
        steps = (step(name, 2.0 + k % 3, 0.8, where="train.py:31", waiting_s=0.5), step("crop", 1.0, 0.4))
        return spent(steps=steps, model=part("model", 4.0 + k % 5, 2.0), buffers=(buffer(3.0 - k % 4 / 2),))

    seen = [SpanSpent(2.0 * k, k % 10 == 9, one(k)) for k in range(spans)]
    whole = replace(one(1), wall_s=40.0, validation_s=4.0, validation_steps=(step(name, 1.0, 0.2),))
    epochs = tuple(replace(whole, name=f"epoch {k + 1}", start_ns=round(k * 20e9), wall_s=20.0) for k in range(2))
    return FitReport(
        created="2026-03-01T12:00:00+00:00",
        machine=Machine("a processor", 2, 8_000_000_000, "Linux 6.1", "3.11.2", {}),
        meters=(),
        model=model,
        profile="",
        fit=whole,
        epochs=epochs,
        timeline=timeline(seen, whole.total),
        drift=drifts(whole, spent(steps=(step(name, 2.0, 0.4),))),
    )
