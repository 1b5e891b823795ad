"""Any report at all, for Hypothesis: missing figures, odd names, whatever the schema allows."""

from __future__ import annotations

import dataclasses
from datetime import UTC
from typing import Any

from hypothesis import strategies as st

from greenload.energy.attribution.costs import Cost
from greenload.energy.attribution.observation import Observation
from greenload.energy.figures import Figure
from greenload.energy.meters.base import MeterStatus
from greenload.machine import Machine
from greenload.report.cost_records import FullRun, IdleCost, OwnCount, ReportStep
from greenload.report.data import Advice, Report, Skipped

NUMBERS = st.floats(-1e9, 1e9)
PROVENANCE = st.sampled_from(["measured", "vendor-declared", "modelled"])
DOMAINS = st.sampled_from(["cpu", "cpu:package-0", "dram:package-1", "gpu:0", "storage:nvme0n1"])
# With surrogates and control characters: names of files hold anything.
TEXT = st.text(st.characters(), max_size=12)
JSON = st.dictionaries(
    TEXT, st.none() | st.booleans() | st.integers(-9, 9) | TEXT | st.lists(TEXT, max_size=2), max_size=3
)


@st.composite
def figures(draw: st.DrawFn) -> Figure:
    if draw(st.integers(0, 4)) == 0:
        return Figure.missing(draw(PROVENANCE), 0.4)
    low, value, high = sorted(draw(st.tuples(NUMBERS, NUMBERS, NUMBERS)))
    return Figure(value, low, high, draw(PROVENANCE), draw(st.floats(0, 2)), draw(st.booleans()))


@st.composite
def costs(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "cpu_s_per_sample": draw(figures()),
        "energy_j_per_sample": draw(st.dictionaries(DOMAINS, figures(), max_size=2)),
        "device_bytes_per_sample": draw(figures()),
        "bytes_out_per_sample": draw(st.none() | NUMBERS),
        "reads_per_sample": draw(figures()),
    }


@st.composite
def reports(draw: st.DrawFn) -> Report:
    domains = st.dictionaries(DOMAINS, figures(), max_size=2)
    step = st.builds(
        lambda cost, **more: ReportStep(**cost, **more),
        costs(),
        name=TEXT,
        stages=st.lists(TEXT, max_size=2).map(tuple),
        backend=TEXT,
        method=st.sampled_from(["replay", "prefix"]),
        branch=st.just("") | TEXT,
        where=TEXT,
        in_place=st.none() | st.builds(OwnCount, figures()),
    )
    advice = st.builds(
        Advice,
        title=TEXT,
        detail=TEXT,
        method=st.sampled_from(["trial", "estimate"]),
        saves_cpu_s_per_sample=figures(),
        saves_energy_j_per_sample=domains,
    )
    window = st.builds(
        Observation,
        TEXT,
        st.sampled_from(["with", "without", "prefix", "full"]),
        st.integers(0, 9),
        st.integers(0, 9),
        st.integers(1, 99),
        st.integers(1, 10**12),
        NUMBERS,
        energy_j=st.dictionaries(DOMAINS, NUMBERS, max_size=2),
        void=st.dictionaries(DOMAINS, TEXT, max_size=1),
        reads=st.none() | st.integers(0, 10**6).map(float),
        start_ns=st.none() | st.integers(0, 10**12),
        counted_s=st.dictionaries(TEXT, NUMBERS, max_size=2),
    )
    return Report(
        created=draw(st.datetimes(timezones=st.just(UTC))).isoformat(),
        machine=Machine(draw(TEXT), 2, 10**9, draw(TEXT), "3.11", {"numpy": "2"}, draw(JSON.map(_not_fields))),
        meters=tuple(
            draw(st.lists(st.builds(MeterStatus, DOMAINS, PROVENANCE, st.booleans(), TEXT, TEXT, TEXT), max_size=2))
        ),
        pipeline=draw(JSON),
        plan=draw(JSON),
        samples=draw(st.integers(1, 10**9)),
        steps=tuple(draw(st.lists(step, max_size=2))),
        full=FullRun(**draw(costs()), samples_per_s=draw(figures())),
        idle=IdleCost(draw(domains), draw(domains)),
        unattributed=Cost(**draw(costs())),
        total=Cost(**draw(costs())),
        skipped=tuple(draw(st.lists(st.builds(Skipped, TEXT, TEXT), max_size=2))),
        advice=tuple(draw(st.lists(advice, max_size=2))),
        windows=tuple(draw(st.lists(window, max_size=3))),
    )


def _not_fields(extra: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in extra.items() if name not in {one.name for one in dataclasses.fields(Machine)}
    }
