"""The benchmark of joules in place: what steps burn is what the emulated counter gets, and how figures are judged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import in_place_joules, known_steps
from bench.in_place import ALONE, Found, Profile
from greenload.backends.native.library import why_missing
from greenload.energy.emulators.layout import PowercapLayout
from greenload.energy.emulators.powercap import PowercapEmulator


def found(truth: float, value: float, half: float = 0.1) -> Found:
    return Found(ALONE, "shape", "step", truth, value, value - half, value + half, 20.0)


def test_figures_may_be_off_by_5_percent_of_the_step_or_1_of_all() -> None:
    judged = [in_place_joules.Judged(one) for one in (found(10.0, 10.49), found(10.0, 10.51), found(1.0, 0.81))]
    assert [one.within for one in judged] == [True, False, True]
    assert [one.allowed for one in judged] == pytest.approx([0.5, 0.5, 0.2])
    assert not in_place_joules.Judged(Found(ALONE, "shape", "step", 1.0, None, None, None, 20.0)).within


def test_rows_count_figures_intervals_and_sums() -> None:
    steps = (found(10.0, 10.05), found(10.0, 10.4), found(10.0, 11.0))
    profiles = [Profile(ALONE, "shape", 50.0, 20.0, 20.2, steps), Profile(ALONE, "shape", 70.0, 20.0, 22.0, ())]
    rows = {row.what: row for row in in_place_joules.judged(profiles, ALONE)}
    values = {what.partition(": ")[2]: row.measured.median for what, row in rows.items()}
    assert values == pytest.approx(
        {
            "steps' joules within 5 %, or 1 % of all, of 3": 200 / 3,
            "steps' joules inside their interval, of 3": 100 / 3,
            "sums within 3 % of the whole, of 2": 50.0,
            "mean error of the sum": 5.5,
            "a profile": 60.0,
        }
    )
    assert [row.met for row in rows.values()] == [False, False, False, None, None]


@pytest.mark.alone
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler: install g++")
@pytest.mark.skipif(bool(why_missing()), reason=why_missing() or "")
def test_a_counter_gets_each_steps_watts_for_what_it_burnt(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    truth_s = {"first": 3e-4, "second": 7e-4}
    dataset = tf.data.Dataset.range(512)
    for number, (name, cost_s) in enumerate(truth_s.items()):
        dataset = dataset.map(known_steps.burner(name, number, round(cost_s * 1e9)), num_parallel_calls=2)
    known = known_steps.Known(dataset.batch(known_steps.BATCH), truth_s)
    layout = PowercapLayout(dram=False, core=False)
    with PowercapEmulator(tmp_path / "powercap", layout, in_place_joules.POWER) as machine:
        for number in range(2):
            known_steps.count_in(number, machine.ledger.address(f"step {number}"))
        try:
            before = [known_steps.burnt_s(number) for number in range(2)]
            truths = in_place_joules.truths_j(known, machine)
            burnt = [known_steps.burnt_s(number) - start_s for number, start_s in enumerate(before)]
            drawn = [machine.true_energy_j(in_place_joules.DOMAIN, f"step {number}") for number in range(2)]
        finally:
            for number in range(2):
                known_steps.count_in(number, None)
    watts = [in_place_joules.WATTS[f"step {number}"] for number in range(2)]
    assert drawn == pytest.approx([w * s for w, s in zip(watts, burnt, strict=True)], rel=0.01)
    samples = 2 * 512  # each burns in the run, and once more while the other's calls are empty
    assert all(s / samples >= least_s for s, least_s in zip(burnt, truth_s.values(), strict=True))
    for (name, joules), w, s in zip(truths.items(), watts, burnt, strict=True):
        assert 0 < joules - w * s / samples < in_place_joules.WATTS["other"] * 30e-6, f"{name}: a call takes some µs"
