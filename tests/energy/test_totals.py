"""Joules from a moment on, over one sampler after another: with the time in which they were counted, gaps left out."""

from __future__ import annotations

import time

from greenload.energy.emulators.replay_meter import ReplayMeter
from greenload.energy.meters.base import Channel
from greenload.energy.meters.model import ModelMeter
from greenload.energy.sampler import Sampler
from greenload.energy.sharing import SharedSampler, running
from greenload.energy.totals import RunningTotals, Totals

DOMAIN = "cpu:package-0"
KEY = (DOMAIN, "measured")


def counting(*counters: float) -> Sampler:
    return Sampler([ReplayMeter([Channel(DOMAIN, "measured")], [{DOMAIN: value} for value in counters])], period_s=600)


def test_totals_go_on_with_the_next_sampler_and_without_the_time_between() -> None:
    totals = Totals()
    began_s = time.monotonic()
    for _ in range(2):
        with counting(10.0, 10.0, 13.0, 17.0) as sampler:
            counted = RunningTotals(sampler, totals)
            time.sleep(0.05)
            before_j = totals.domains[KEY].joules if totals.domains else 0.0
            assert counted.read().domains[KEY].joules == before_j + 3.0
            time.sleep(0.05)
            totals = counted.freeze()
        assert counted.read() == totals  # it has stopped
        time.sleep(0.2)
    total = totals.domains[KEY]
    assert (total.joules, total.gaps) == (14.0, 0)
    assert 0.2 <= total.seconds < time.monotonic() - began_s - 0.35
    assert totals.cpu_s > 0 and totals.failing == {}


def test_the_time_of_a_reset_is_not_counted() -> None:
    with counting(10.0, 10.0, 12.0, 1.0, 4.0) as sampler:
        counted = RunningTotals(sampler)
        seconds = []
        for _ in range(3):
            time.sleep(0.02)
            seconds.append(counted.read().domains[KEY].seconds)
    assert seconds[0] > 0 and seconds[1] == seconds[0] and seconds[2] > seconds[1]
    assert counted.read().domains[KEY].gaps == 1


def test_what_runs_is_found_without_a_claim_on_it() -> None:
    mine = SharedSampler(lambda: ([ModelMeter(["cpu"], cpus=1, disks=())], []))
    before = running(besides=mine)
    assert mine.running is None
    with mine.use() as use:
        assert mine.running is use and running(besides=mine) is before
    assert mine.running is None
