"""Fixtures: reports worked out from simulated windows, as a profile would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from greenload.energy.attribution.attribute import attribute
from greenload.energy.attribution.costs import Indistinct
from greenload.energy.attribution.observation import Metering, Observation
from greenload.energy.figures import Figure
from greenload.energy.meters.base import MeterStatus
from greenload.machine import Machine
from greenload.report.carbon import estimate_carbon
from greenload.report.checks import Check
from greenload.report.cost_records import CacheState, FirstEpoch, FullRun, IdleCost, IteratorStart, OwnCount, ReportStep
from greenload.report.data import Advice, ColdRun, Precision, Report, Skipped

STEPS = (
    ("source", ("ImageFolder", "Shuffle"), "prefix", 0.08, 82e3),
    ("Decode + crop", ("Decode", "RandomResizedCrop"), "replay", 0.84, 190e3),
    ("RandomResizedCrop: resize", ("RandomResizedCrop",), "replay", 1.26, 150528.0),
    ("RandomHorizontalFlip", ("RandomHorizontalFlip",), "replay", 0.004, 150528.0),
    ("Batch", ("Batch",), "replay", 0.03, 150528.0),
)


def windows(seed: int, counter: bool, missing: float, counted: bool) -> Iterator[Observation]:
    rng = np.random.default_rng(seed)
    now_s = 0.0
    for build in range(2):
        effect = {name: 1 + 0.02 * rng.standard_normal() for name, *_ in STEPS}
        for round_ in range(5):

            def window(
                step: str, kind: str, ms: float, read: float, build: int = build, round_: int = round_
            ) -> Observation:
                nonlocal now_s
                samples = 0 if kind == "idle" else 512
                cpu_s = ms * max(samples, 1) / 1e3 * (1 + 0.01 * rng.standard_normal())
                wall_s = 0.5 * cpu_s * (1 + rng.uniform(0, 0.2)) + 0.05
                joules = {"storage:nvme0n1": 1.75e-9 * read * samples}
                if counter:
                    joules |= {
                        "cpu:package-0": 9.5 * wall_s + 14 * cpu_s + 0.02 * rng.standard_normal(),
                        "dram:package-0": 1.5 * wall_s + 1.1 * cpu_s + 0.01 * rng.standard_normal(),
                        "gpu:0": 18 * wall_s + 0.01 * rng.standard_normal(),
                    }
                else:
                    joules |= {"cpu": 2.76 * cpu_s, "dram": 0.3 * wall_s}
                start_s, now_s = now_s, now_s + wall_s + 0.1
                return Observation(
                    step=step,
                    kind=kind,
                    round=round_,
                    build=build,
                    samples=samples,
                    wall_ns=int(wall_s * 1e9),
                    cpu_s=cpu_s,
                    other_cpu_s=0.01,
                    device_bytes=read * samples,
                    energy_j=joules,
                    reads=(2.0 * samples if read else 0.0) + 9 if counted else None,
                    start_ns=int(start_s * 1e9),
                )

            for name, _, method, ms, _ in STEPS:
                if method == "prefix":
                    yield window(name, "prefix", ms * effect[name], 82e3)
                else:
                    yield window(name, "with", 0.05 + ms * effect[name], 0.0)
                    yield window(name, "without", 0.05, 0.0)
            yield window("", "full", sum(ms for *_, ms, _ in STEPS) * (1 + missing), 82e3)
            yield window("", "idle", 0.2, 0.0)


def build(
    *, counter: bool = True, missing: float = 0.0, seed: int = 1, root: str = "data/train", counted: bool = False
) -> Report:
    observed = tuple(windows(seed, counter, missing, counted))
    measured, modelled = ("measured", 0.0), ("modelled", 0.4)
    domains = {"storage:nvme0n1": ("modelled", 0.72)}
    domains |= (
        {"cpu:package-0": measured, "dram:package-0": measured, "gpu:0": measured}
        if counter
        else {"cpu": modelled, "dram": modelled}
    )
    found = attribute(
        observed,
        steps=[name for name, *_ in STEPS],
        domains={name: Metering(*one) for name, one in domains.items()},
        idle_power_w=None if counter else {"cpu": 1.48},
    )

    def fields(cost: object) -> dict[str, object]:
        names = ("cpu_s_per_sample", "energy_j_per_sample", "device_bytes_per_sample", "reads_per_sample")
        return {name: getattr(cost, name) for name in names}

    none = "no RAPL zone under /sys/class/powercap: a virtual machine rarely has one"
    meters = [MeterStatus(name, one[0], True, "readable", "", "rapl") for name, one in domains.items()]  # type: ignore[arg-type]
    if not counter:
        meters.append(MeterStatus("cpu:package-0", "measured", False, none, "run on bare metal", "rapl"))
    return Report(
        created="2026-03-01T12:00:00+00:00",
        machine=Machine("AMD EPYC 7B13", 2, 8_201_000_000, "Linux 6.1", "3.11.2", {"tensorflow": "2.21.0"}),
        meters=tuple(meters),
        pipeline={"name": "imagenet:train", "seed": 7, "source": {"source": "ImageFolder", "root": root}},
        plan={"backend": "tf", "threads": 2, "prefetch": 2},
        samples=512,
        steps=tuple(
            ReportStep(
                **fields(one.cost),
                name=one.name,
                stages=stages,
                backend="tf",
                method=one.method,
                bytes_out_per_sample=out,
            )  # type: ignore[arg-type]
            for one, (_, stages, _, _, out) in zip(found.steps, STEPS, strict=True)
        ),
        full=FullRun(**fields(found.full), samples_per_s=found.samples_per_s, bytes_out_per_sample=150528.0),  # type: ignore[arg-type]
        idle=IdleCost(found.idle_power_w, found.idle_energy_j_per_sample),
        unattributed=found.unattributed,
        total=found.total,
        skipped=(Skipped("Cache", "not measured: it would change what comes before it"),),
        windows=observed,
    )


@pytest.fixture(scope="session")
def make_report() -> Callable[..., Report]:
    """``make_report(counter=, missing=, seed=, root=, counted=)``: the figures of simulated windows."""
    return build


@pytest.fixture(scope="session")
def measured() -> Report:
    """A report of a machine with counters."""
    return build()


@pytest.fixture(scope="session")
def modelled() -> Report:
    """A report of a machine without any counter."""
    return build(counter=False)


@pytest.fixture(scope="session")
def mixed() -> Report:
    """A report whose steps run on two backends."""
    report = build(counter=False)
    steps = (report.steps[0], *(replace(step, backend="dali-cpu") for step in report.steps[1:]))
    return replace(report, steps=steps, plan={**report.plan, "backend": "dali-cpu"})


@pytest.fixture(scope="session")
def clocked() -> Report:
    """A report whose steps on pixels counted their own CPU time: decoding less than its replay, the flip none."""
    report = build(counter=False)
    source, decode, resize, flip, batch = (replace(step, backend="native") for step in report.steps)

    def counted(step: ReportStep, ms: float) -> ReportStep:
        return replace(step, in_place=OwnCount(Figure(ms / 1e3, ms / 1e3 * 0.98, ms / 1e3 * 1.02, "measured")))

    steps = (source, counted(decode, 0.6), counted(resize, 1.26), counted(flip, 0.0), batch)
    return replace(report, steps=steps, plan={**report.plan, "backend": "native"})


@pytest.fixture(scope="session")
def gpu_only() -> Report:
    """A report of a machine whose GPU has a counter and whose processor has none: 20 mJ of idle GPU."""
    report = build(counter=False)
    gpu = {"gpu:0": Figure(0.02, 0.019, 0.021, "measured")}
    total = replace(report.total, energy_j_per_sample={**report.total.energy_j_per_sample, **gpu})
    idle = replace(report.idle, energy_j_per_sample={**report.idle.energy_j_per_sample, **gpu})
    return replace(report, total=total, idle=idle)


@pytest.fixture(scope="session")
def unexplained() -> Report:
    """A report whose held-out run costs a fifth more than its steps."""
    return build(missing=0.2)


@pytest.fixture(scope="session")
def advised() -> Report:
    """A report of a dataset with a side input, reads counted, a batch that spares its map, and two changes to make."""
    report = build(counted=True)
    source, decode, resize, flip, batch = report.steps
    steps = (
        source,
        replace(decode, branch="masks", where="train.py:31"),
        replace(resize, branch="masks", where="train.py:44"),
        flip,
        replace(batch, cpu_s_per_sample=Figure(-0.0001, -0.00013, -0.00007, "measured")),
    )
    advice = (
        Advice(
            title="Cache what decode gives",
            detail="ds.cache() after it: 190 kB a sample.",
            method="trial",
            saves_cpu_s_per_sample=Figure(0.0006, 0.00055, 0.00065, "measured"),
            saves_energy_j_per_sample={"cpu:package-0": Figure(0.012, 0.010, 0.014, "measured")},
        ),
        Advice(
            title="Resize before augmenting",
            detail="other pixels",
            method="estimate",
            saves_cpu_s_per_sample=Figure(0.0002, -0.0001, 0.0005, "modelled", 0.3, unresolved=True),
        ),
    )
    return replace(report, steps=steps, advice=advice, pipeline={"name": "train.py:make_dataset"})


@pytest.fixture(scope="session")
def cached() -> Report:
    """A report of a dataset that keeps what it resized: its first epoch costs what all of it does, later ones 5 %."""
    report = build(counter=False)
    source, decode, resize, flip, batch = report.steps

    def cost(ms: float) -> dict[str, Any]:
        def figure(value: float) -> Figure:
            return Figure(value, value * 0.98, value * 1.02, "measured")

        return {"cpu_s_per_sample": figure(ms / 1e3), "energy_j_per_sample": {"cpu": figure(ms * 2.76e-3)}}

    def times(step: ReportStep, runs: str, ms: float) -> ReportStep:
        return replace(step, runs=runs, **cost(ms))

    cache = replace(resize, name="cache", stages=("cache",), where="train.py:40")
    behind = (times(flip, "every epoch", 0.02), times(batch, "every epoch", 0.04))
    first = FirstEpoch(
        steps=(
            times(source, "every epoch", 0.1),
            times(decode, "every epoch", 0.9),
            times(resize, "every epoch", 0.4),
            times(cache, "every epoch", 0.05),
            *behind,
        ),
        full=replace(report.full, **cost(1.52)),
        idle=report.idle,
        unattributed=replace(report.unattributed, **cost(0.01)),
        total=replace(report.total, **cost(1.52)),
    )
    return replace(
        report,
        steps=(
            *(times(step, "first epoch", 0.0) for step in (source, decode, resize)),
            times(cache, "every epoch", 0.014),
            *behind,
        ),
        full=replace(report.full, **cost(0.076)),
        unattributed=replace(report.unattributed, **cost(0.002)),
        total=replace(report.total, **cost(0.076)),
        first_epoch=first,
        caches=(CacheState("cache"),),
        iterator_start=IteratorStart(
            Figure(0.004, 0.0038, 0.0042, "measured"), Figure(0.002, 0.0018, 0.0022, "measured"), 512.0
        ),
        pipeline={"name": "train.py:make_dataset"},
    )


@pytest.fixture(scope="session")
def judged() -> Report:
    """A report with every optional part: read cold, less precise than asked, budgets, carbon, steps not told apart."""
    report = build()
    flip, batch = report.steps[3:]
    groups = (
        Indistinct((flip.name, batch.name), "cpu_s", Figure(3.4e-5, 3e-5, 3.8e-5, "measured")),
        Indistinct((flip.name, batch.name), "cpu:package-0", Figure(4.6e-4, 4e-4, 5.2e-4, "measured")),
    )
    checks = (
        Check("cpu_s_per_sample<=0.005", "met", 0.0022, 0.0021, 0.0023, 0.005, ""),
        Check("energy_j_per_sample.gpu<=0.01", "missing", None, None, None, 0.01, "no figure for gpu"),
        Check("cpu_s_per_sample<=0.0015", "exceeded", 0.0022, 0.0021, 0.0023, 0.0015, "most in Decode + crop, 38 %"),
        Check("samples_per_s>=900", "undecided", 900.0, 880.0, 920.0, 900.0, "the interval holds the limit"),
    )
    meters = (*report.meters, MeterStatus("gpu:1", "measured", False, "NVML: not supported", "", "nvml"))
    return replace(
        report,
        meters=meters,
        together=groups,
        checks=checks,
        carbon=estimate_carbon(report.total.energy_j_per_sample, meters, pue=1.2),
        precision=Precision(0.05, 0.083, "Batch, CPU seconds", builds=8, rounds=5, planned_s=180, took_s=176),
        cold=ColdRun(
            512, 42_000_000, 8_400_000, "8.4 MB of 42.0 MB stay in memory: data/train/x.jpg is mapped by process 7"
        ),
    )


@pytest.fixture(scope="session")
def hostile() -> Report:
    """A report whose names try to be markup, terminal control, and what UTF-8 can't hold."""
    report = build(counter=False, root="data/<script>document.title='hacked'</script>\x1b[2J[red]\udc80")
    name = "</script><img src=x onerror=document.title='hacked'> ${1+1} [bold]"
    advice = Advice(title=name, detail=name, method="trial", saves_cpu_s_per_sample=Figure.missing())
    return replace(
        report,
        advice=(advice,),
        together=(Indistinct((name, "\x1b[2J"), name, Figure(1.0, 0.9, 1.1, "measured")),),
        checks=(Check(name, "exceeded", None, None, None, None, f"\x1b[2J{name}"),),
        precision=Precision(0.05, 0.3, f"\x1b[2J{name}", 2, 5, 60, 50),
        cold=ColdRun(1, 1, None, f"\x1b[2J\udc80{name}"),
        carbon=estimate_carbon({}, [MeterStatus(name, "measured", False, "\x1b[2J", "", "rapl")]),
        windows=tuple(replace(one, step=name) if one.step == "source" else one for one in report.windows),
        steps=(replace(report.steps[0], name=name, where=name, branch=name, backend=name), *report.steps[1:]),
        pipeline={**report.pipeline, "name": name},
        machine=replace(report.machine, cpu_model="<b>CPU</b>&amp;\u2028"),
        meters=tuple(
            replace(one, reason=f"<script>document.title='hacked'</script>\x1b[2J\udc80{one.reason}")
            for one in report.meters
        ),
        skipped=(Skipped("<script>document.title='hacked'</script>", "'\"><script>document.title='hacked'</script>"),),
    )
