"""Whole searches on real photographs: the plan that comes out runs, its figures are of runs, and stops are kept."""

import functools
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import greenload as gl
from greenload.backends.native import op
from greenload.energy.emulators.powercap import PowercapEmulator
from greenload.energy.meters.discover import discover
from greenload.energy.meters.process import own_cpu_s
from greenload.energy.sampler import Sampler
from greenload.energy.settle import settle
from greenload.errors import PipelineError, RecordError, UsageError
from greenload.optimization import optimize as optimize_module
from greenload.optimization.data import Optimization
from greenload.optimization.optimize import optimize
from greenload.optimization.outlay import outlay
from greenload.optimization.pace import better
from greenload.optimization.records import Candidate
from greenload.optimization.search import Choice
from greenload.optimization.session import Teller, drawn_indices, silent
from greenload.optimization.training import Settings

pytestmark = pytest.mark.timeout(900)  # most of a search waits for processors where the machine is busy
slow = pytest.mark.slow
native = pytest.mark.skipif(not op.usable(), reason="the kernel's operations aren't built")
SECONDS = 12.0
ANY = Candidate(name="any", backends="tf", threads=2, prefetch=2, today=True)


@pytest.fixture(scope="module")
def found(train: gl.Pipeline) -> Optimization:
    """A search of a few seconds, for all that look at one."""
    return optimize(train, epochs=30, ram="64MB", seconds=SECONDS)


@slow
@native
def test_the_winner_runs_and_gives_the_same_pixels(found: Optimization, train: gl.Pipeline) -> None:
    assert found.best.rates.builds >= 1 and found.best.outlay is not None
    assert found.best.ram_bytes <= 64e6 and found.best.changes == ()
    plain, best = (list(gl.load(plan, epochs=1)) for plan in (gl.make_plan(train, "native"), found.plan))
    for (images, labels), (others, same) in zip(plain, best, strict=True):
        assert np.abs(images.numpy().astype(int) - others.numpy().astype(int)).max() <= 2
        assert np.array_equal(labels.numpy(), same.numpy())


@pytest.mark.alone
@slow
@native
def test_figures_are_of_what_load_runs(found: Optimization) -> None:
    """The winner's later epochs, by gl.load and the process's clock: within the interval, widened by half for a machine
    that others use."""
    dataset = gl.load(found.plan)
    for _ in dataset:
        pass
    settle()
    began, epochs = time.process_time(), 10
    for _ in range(epochs):
        for _ in dataset:
            pass
    later = (time.process_time() - began) / (epochs * 48)
    figure = found.best.rates.later_cpu_s
    assert figure.low is not None and figure.high is not None
    assert figure.low / 1.5 <= later <= figure.high * 1.5


@slow
@native
def test_every_plan_has_its_place(found: Optimization) -> None:
    today = found.today
    assert today is not None and today.rates.builds >= 1, "today's plan is always measured"
    assert [candidate.lost == "" for candidate in found.candidates].count(True) == 1 and found.best.lost == ""
    measured = [candidate for candidate in found.candidates if candidate.rates.builds]
    assert len(measured) >= 2 and all(candidate.outlay for candidate in measured)
    fitting = [candidate for candidate in measured if candidate.ram_bytes <= 64e6]
    assert found.best.outlay.energy_j.value <= 1.03 * min(one.outlay.energy_j.value for one in fitting)
    for candidate in measured:
        epochs = [
            outlay(candidate.rates, candidate, replace(found.training, epochs=n), found.coefficients).cpu_s.value
            for n in (1, 2, 3)
        ]
        assert epochs[2] - epochs[1] == pytest.approx(48 * candidate.rates.later_cpu_s.value)
    assert Optimization.from_dict(json.loads(json.dumps(found.to_dict()))).to_dict() == found.to_dict()


@slow
@native
def test_the_best_two_ran_held_out(found: Optimization) -> None:
    assert [run.name for run in found.held_out] == [found.winner, found.runner_up]
    for run in found.held_out:
        assert run.epochs == 3 and run.samples in (16, 32, 48) and run.seen_cpu_s > 0
        low, high = run.predicted_cpu_s.low, run.predicted_cpu_s.high
        assert low is not None and high is not None and low / 2 <= run.seen_cpu_s <= 2 * high


@slow
def test_nothing_may_be_kept(train: gl.Pipeline) -> None:
    found = optimize(train, epochs=3, ram=0, seconds=8)
    assert not any(candidate.kept or candidate.ram_bytes for candidate in found.candidates)
    assert any("plans stream" in note for note in found.notes)


class Stop(KeyboardInterrupt):
    pass


@slow
def test_a_search_that_is_stopped_goes_on(train: gl.Pipeline, tmp_path: Path) -> None:
    out = tmp_path / "out.json"

    def stopping(share: float, text: str) -> None:
        if out.exists() and json.loads(out.read_text())["builds"]:
            raise Stop

    with pytest.raises(Stop):
        optimize(train, epochs=3, ram=0, seconds=30, out=out, progress=stopping)
    kept = json.loads(out.read_text())["builds"]
    assert kept
    found = optimize(train, epochs=3, ram=0, seconds=8, out=out)
    again = json.loads(out.read_text())["builds"]
    assert again[: len(kept)] == kept, "nothing is run twice"
    assert found.candidate(kept[0]["name"]).rates.builds >= 1
    with pytest.raises(gl.ReportError, match="of another training"):
        optimize(train, epochs=4, ram=0, seconds=8, out=out)


@slow
def test_a_demand_that_nothing_meets_names_the_nearest(train: gl.Pipeline) -> None:
    found = optimize(train, epochs=3, ram=0, demand=10**8, seconds=8)
    assert found.winner and "samples a second" in found.unmet
    assert all(candidate.lost for candidate in found.candidates if candidate.name != found.winner)


@slow
def test_threads_are_no_more_than_a_demand_needs(train: gl.Pipeline) -> None:
    found = optimize(train, epochs=3, ram=0, demand=2, threads=2, seconds=14)
    assert found.best.threads == found.plan.threads == 1 and not found.unmet


@pytest.fixture
def emulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PowercapEmulator]:
    monkeypatch.setattr("greenload.energy.meters.process.machine_cpu_s", own_cpu_s)
    with PowercapEmulator(tmp_path / "powercap") as machine:
        monkeypatch.setattr(optimize_module, "discover", functools.partial(discover, machine.root))
        yield machine


@slow
@pytest.mark.alone
def test_joules_of_counters_are_the_winners_figures(train: gl.Pipeline, emulated: PowercapEmulator) -> None:
    found = optimize(train, epochs=3, ram=0, seconds=16)
    assert found.coefficients.busy_cpu is None, "a counter has them"
    best = found.best
    joules = best.rates.later_energy_j["cpu:package-0"]
    assert joules.provenance == "measured" and joules.value and joules.value > 0
    # The emulated machine draws 20 W for a busy core: within what few short windows tell.
    watts = joules.value / best.rates.later_cpu_s.value
    assert watts == pytest.approx(emulated.power.busy_core_w, rel=0.3)
    (run, *_) = found.held_out
    assert run.seen_energy_j == pytest.approx(emulated.power.busy_core_w * run.seen_cpu_s, rel=0.4)
    assert run.predicted_energy_j.value == pytest.approx(run.seen_energy_j, rel=0.6)


@slow
@pytest.mark.alone
def test_racing_to_idle_is_run_beside_keeping_pace_where_a_counter_reads(
    train: gl.Pipeline, emulated: PowercapEmulator
) -> None:
    found = optimize(train, epochs=3, ram=0, demand=2, threads=2, seconds=16)
    assert [pace.threads for pace in found.pace] == [1, 2]
    least = emulated.power.idle_w
    assert all(pace.power_w.value is not None and pace.power_w.value > 0.8 * least for pace in found.pace)
    told = better(found.pace)
    assert found.best.threads == (told.threads if told else 1), "nothing tells them apart: no more threads than needed"


def test_what_is_wrong_is_said_at_once(train: gl.Pipeline, tmp_path: Path) -> None:
    began = time.monotonic()
    for wrong, rule in (
        ({"epochs": 0}, "epochs must be"),
        ({"ram": "lots"}, "ram is a number of bytes"),
        ({"demand": "fast"}, "demand is a rate"),
        ({"disk": "1GB"}, "add folder="),
    ):
        with pytest.raises(UsageError, match=rule):
            optimize(train, **{"epochs": 3, "ram": 0} | wrong)
    with pytest.raises(UsageError, match=r"optimize takes a Pipeline or a tf\.data\.Dataset, not int"):
        optimize(7, epochs=3, ram=0)  # type: ignore[arg-type]
    with pytest.raises(gl.ReportError, match="can't be written"):
        optimize(train, epochs=3, ram=0, out=tmp_path / "none" / "out.json")
    assert time.monotonic() - began < 20


@slow
def test_a_whole_batch_is_drawn_where_remainders_are_dropped(train: gl.Pipeline) -> None:
    *stages, _ = train.stages
    options = [Choice(gl.make_plan(gl.Pipeline(train.source, *stages, gl.Batch(32, drop_remainder=True))), ANY)]
    with Sampler([]) as sampler:
        tell = Teller(silent, 5.0, time.monotonic())
        indices, first_s = drawn_indices(options, Settings(seconds=5.0, records=8), None, sampler, tell)
    assert len(indices) == 32 and first_s > 0


def test_a_set_without_a_whole_batch_is_refused_where_remainders_are_dropped(train: gl.Pipeline) -> None:
    *stages, _ = train.stages
    with pytest.raises(PipelineError, match="nothing would be left"):
        optimize(gl.Pipeline(train.source, *stages, gl.Batch(64, drop_remainder=True)), epochs=3, ram=0, seconds=8)


def test_a_bad_record_is_named(train: gl.Pipeline, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cut.jpg").write_bytes(Path(train.source.paths[0]).read_bytes()[:1000])
    with pytest.raises((RecordError, PipelineError), match=r"cut\.jpg"):
        optimize(gl.Pipeline(gl.ImageFolder(tmp_path, min_classes=1), *train.stages), epochs=3, ram=0, seconds=8)
