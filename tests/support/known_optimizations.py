"""An optimization whose figures are known: rates as given, everything else by the optimizer's own arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from greenload.energy.figures import Figure
from greenload.energy.meters.base import Channel, MeterStatus
from greenload.energy.meters.storage import NVME, DataLocation, Disk
from greenload.machine import Machine
from greenload.optimization.coefficients import Coefficients, in_use
from greenload.optimization.data import Optimization
from greenload.optimization.flips import flips
from greenload.optimization.records import Candidate, HeldOut, Moved, Pace, Rates
from greenload.optimization.training import Settings, Training
from greenload.optimization.verdict import judge

TODAY, STREAMING = "tf, streaming, 2 threads", "native, streaming, 2 threads"
PLANES, PIXELS = "native, planes in memory, 2 threads", "native, pixels in memory, 2 threads"
DISK, SMALLER = "native, pixels on disk, 2 threads", "native, no antialias, streaming, 2 threads"
PLAN: Mapping[str, Any] = {
    "format": "greenload.plan/1",
    "steps": [
        {"name": "Read: ImageFolder + Shuffle", "kind": "read", "backend": "tf"},
        {"name": "Cache", "kind": "cache", "backend": "tf", "keeps": {"form": "planes"}},
        {"name": "Decode + crop", "kind": "pixels", "backend": "native"},
    ],
}
"""Of a plan's file, what is shown."""


def figure(value: float, share: float = 0.02, provenance: str = "measured") -> Figure:
    return Figure(value, value * (1 - share), value * (1 + share), provenance)


def rates(first_ms: float, later_ms: float, counted: bool, **more: Any) -> Rates:
    """Of so many CPU ms a sample, on two threads that are busy; 12 W a busy CPU where a counter reads."""
    joules = [{"cpu:package-0": figure(12e-3 * ms)} if counted else {} for ms in (first_ms, later_ms)]
    return Rates(
        start_cpu_s=figure(0.8, 0.1),
        first_cpu_s=figure(first_ms / 1e3),
        later_cpu_s=figure(later_ms / 1e3),
        first_energy_j=joules[0],
        later_energy_j=joules[1],
        first_samples_per_s=figure(1950 / first_ms),
        later_samples_per_s=figure(1950 / later_ms),
        builds=3,
        windows=12,
        **more,
    )


def candidates(counted: bool) -> tuple[Candidate, ...]:
    two: dict[str, Any] = {"threads": 2, "prefetch": 2}
    return (
        Candidate(name=TODAY, backends="tf", today=True, rates=rates(1.8, 1.8, counted), expected_cpu_s=1.7e-3, **two),
        Candidate(name=STREAMING, backends="native", rates=rates(0.42, 0.42, counted), **two),
        Candidate(
            name=PLANES,
            backends="native",
            kept="planes in memory",
            ram_bytes=5.2e9,
            rates=rates(0.5, 0.16, counted),
            expected_cpu_s=0.15e-3,
            **two,
        ),
        Candidate(
            name=PIXELS,
            backends="native",
            kept="pixels in memory",
            share=0.62,
            ram_bytes=8.5e9,
            rates=rates(0.55, 0.24, counted),
            **two,
        ),
        Candidate(
            name=DISK,
            backends="native",
            kept="pixels on disk",
            disk_bytes=1.37e10,
            rates=rates(0.6, 0.2, counted, later_read_bytes=1.37e10 / 50_000, written_bytes=1.37e10 / 50_000),
            **two,
        ),
        Candidate(
            name=SMALLER, backends="native", changes=("antialias",), rates=rates(0.36, 0.36, counted), **two
        ),
        Candidate(name="pillow, streaming, 2 threads", backends="pillow", expected_cpu_s=2.4e-3, **two),
        Candidate(name="native + tf, streaming, 2 threads", backends="native: Decode; tf: the rest", **two),
    )  # fmt: skip


def coefficients(counted: bool) -> Coefficients:
    channels = [Channel("cpu:package-0", "measured")] if counted else []
    idle = {"cpu:package-0": figure(9.0, 0.03)} if counted else {}
    return in_use(channels, cpus=2, location=DataLocation((Disk("nvme0n1", NVME),)), idle_power_w=idle)


def optimization(*, counted: bool = False, **changed: Any) -> Optimization:
    """Six plans of 50,000 images over 90 epochs; planes in memory win. Joules are modelled, or ``counted``."""
    asked: dict[str, Any] = {name: changed.pop(name) for name in ("demand", "epochs", "objective") if name in changed}
    training = Training(
        samples=50_000, threads=2, ram=8_589_934_592, disk=50_000_000_000, folder="/data/kept", allow=("antialias",),
        **{"epochs": 90, **asked},
    )  # fmt: skip
    applied = coefficients(counted)
    verdict = judge(candidates(counted), training, applied)
    best = verdict.winner or verdict.nearest
    held = [
        HeldOut(name=name, epochs=3, samples=512, predicted_cpu_s=Figure(*ends, "measured"), seen_cpu_s=seen)
        for name, ends, seen in ((best, (1.5, 1.4, 1.6), 1.47), (verdict.runner_up, (1.65, 1.6, 1.7), 1.73))
        if name
    ]
    made = Optimization(
        created="2026-12-01T02:00:00+00:00",
        greenload="0.1.0",
        machine=Machine("Known CPU", 2, 16_000_000_000, "Linux 6.1", "3.11.9", {"numpy": "2.0.0"}),
        meters=(MeterStatus("cpu", "modelled", True, "no counter is readable here", "", "model"),),
        training=training,
        settings=Settings(details={"pipeline": "train.py:make"}),
        planned=PLAN,
        candidates=verdict.candidates,
        winner=best,
        runner_up=verdict.runner_up or None,
        ties=verdict.ties,
        pareto=verdict.pareto,
        unmet=verdict.limit,
        coefficients=applied,
        flips=flips(verdict.candidates, best, training, applied, verdict.ties),
        held_out=tuple(held),
        moved=(Moved(change="antialias", images=64, mean=0.83, most=41.0, detail="look at fine textures"),),
        pace=(Pace(threads=1, power_w=figure(31.2)), Pace(threads=2, power_w=figure(29.8))) if counted else (),
        notes=("racing to idle or keeping pace: no counter reads here, so nothing tells.",) if not counted else (),
        key="0123abcd",
    )
    return replace(made, **changed)
