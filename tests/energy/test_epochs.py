"""Costs of an epoch that fills caches, and of those that read them, from windows of known costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from greenload.energy.attribution.epochs import first_epoch, later_epochs
from greenload.energy.attribution.observation import FIRST_EPOCH, Metering, Observation, writing_step

STEPS = ["source", "decode", "cache", "batch"]
DOMAINS = {"cpu": Metering("modelled", 0.5)}


def windows(*, first: bool = True) -> Iterator[Observation]:
    """Windows of 100 samples: 1 ms to read, 8 ms to decode, 0.5 ms to write, 0.2 ms to read again, 0.3 ms to batch."""

    def window(step: str, kind: str, ms: float, k: int, build: int) -> Observation:
        cpu_s = ms * 0.1 * (1 + 0.001 * k)
        return Observation(step, kind, k, build, 100, 10**9, cpu_s, energy_j={"cpu": 3 * cpu_s})

    for build in range(2):
        for k in range(3):
            for step, more, less in [
                ("source", 1.1, 0.1), ("decode", 8.1, 0.1), ("cache", 0.3, 0.1), ("batch", 0.4, 0.1),
                (writing_step("cache"), 9.5, 9.0),
            ]:  # fmt: skip
                yield window(step, "with", more, k, build)
                yield window(step, "without", less, k, build)
            yield window("", "full", 0.5, k, build)
            if first:
                yield window(FIRST_EPOCH, "with", 9.9, k, build)


def test_later_epochs_read_what_the_first_one_wrote() -> None:
    seen = list(windows())
    later = later_epochs(seen, steps=STEPS, runs=["cache", "batch"], domains=DOMAINS)
    ms = [1e3 * (step.cost.cpu_s_per_sample.value or 0.0) for step in later.steps]
    assert ms == pytest.approx([0, 0, 0.2, 0.3], abs=0.01) and [step.name for step in later.steps] == STEPS
    assert later.steps[1].cost.energy_j_per_sample["cpu"].provenance == "modelled"
    assert later.unattributed.cpu_s_per_sample.value == pytest.approx(0, abs=1e-5)
    first = first_epoch(seen, steps=STEPS, caches=["cache"], domains=DOMAINS)
    ms = [1e3 * (step.cost.cpu_s_per_sample.value or 0.0) for step in first.steps]
    assert ms == pytest.approx([1, 8, 0.5, 0.3], rel=0.02)
    assert first.full.cpu_s_per_sample.value == pytest.approx(9.9e-3, rel=0.01)
    assert first.unattributed.cpu_s_per_sample.value == pytest.approx(0.1e-3, rel=0.1)


def test_a_first_epoch_that_could_not_be_run_is_the_sum_of_its_steps() -> None:
    found = first_epoch(list(windows(first=False)), steps=STEPS, caches=["cache"], domains=DOMAINS)
    assert found.full.cpu_s_per_sample.value == pytest.approx(9.8e-3, rel=0.01)
    assert found.unattributed.cpu_s_per_sample.value is None and found.samples_per_s.value is None


def test_a_cache_whose_writing_was_not_measured_has_no_row() -> None:
    seen = [one for one in windows() if one.step != writing_step("cache")]
    assert [step.name for step in first_epoch(seen, steps=STEPS, caches=["cache"], domains=DOMAINS).steps] == [
        "source", "decode", "batch",
    ]  # fmt: skip
