"""What a search decides, on plans whose true costs are known: a simulated machine stands for the meters."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.energy.attribution.observation import Observation
from greenload.energy.emulators.powercap import PowercapEmulator
from greenload.energy.figures import Figure
from greenload.energy.meters.base import Channel
from greenload.energy.meters.discover import discover
from greenload.energy.sampler import Sampler
from greenload.errors import SourceError
from greenload.optimization.builds import Build, Drawn
from greenload.optimization.coefficients import Coefficients
from greenload.optimization.held_out import other_samples, run_each
from greenload.optimization.pace import better, paced
from greenload.optimization.records import Candidate, HeldOut, Pace, Rates
from greenload.optimization.search import Choice, Search, on_threads
from greenload.optimization.session import _choosable, _on_keeping, telling_channels
from greenload.optimization.training import Settings, Training
from greenload.optimization.verdict import Verdict

SAMPLES = 1000
PLAN = gl.make_plan(
    gl.Pipeline(gl.Arrays(np.zeros((8, 8, 8, 3), np.uint8), np.arange(8)), gl.Batch(4)), "tf", threads=4
)


@dataclass(frozen=True)
class Truth:
    """What a plan takes: CPU seconds of building, and of a sample in the first epoch and in later ones."""

    start: float = 1.0
    first: float = 0.001
    later: float = 0.001
    holds: float = 0.0
    """Bytes in memory, of all samples."""
    fails: str = ""


@dataclass
class Machine:
    """Runs plans as `Trials` does, by their truths, with builds that differ by 5 %."""

    truths: Mapping[str, Truth]
    seed: int = 0
    channels: Mapping[str, Any] = field(default_factory=dict)
    idle_windows: Sequence[Observation] = ()
    indices: Any = field(default_factory=lambda: np.arange(SAMPLES))
    built: list[tuple[str, int]] = field(default_factory=list)

    def lot(self, plans: Mapping[str, gl.Plan], number: int, until_s: float) -> list[Build]:
        return [self.build(name, plan.threads, number) for name, plan in plans.items()]

    def build(self, name: str, threads: int, number: int) -> Build:
        self.built.append((name, number))
        truth = self.truths[name.split(",")[0]]
        if truth.fails:
            return Build(name=name, round=number, samples=SAMPLES, failed=truth.fails)
        noise = np.random.default_rng((self.seed, len(self.built))).normal(1, 0.05)

        def window(cpu_s: float) -> Observation:
            return Observation(name, "full", 0, number, SAMPLES, round(cpu_s * noise / threads * 1e9), cpu_s * noise)

        return Build(
            name=name,
            round=number,
            samples=SAMPLES,
            start=window(truth.start + truth.first * SAMPLES),
            filling=window(truth.first * SAMPLES) if truth.holds else None,
            later=(window(truth.later * SAMPLES), window(truth.later * SAMPLES)),
            kept_bytes=truth.holds or None,
            kept_samples=SAMPLES if truth.holds else None,
            seconds=1.0,
        )


def option(name: str, truth: Truth, today: bool = False) -> Choice:
    known = Candidate(
        name=f"{name}, 4 threads",
        backends=name,
        kept="planes in memory" if truth.holds else "",
        threads=4,
        prefetch=2,
        today=today,
        ram_bytes=truth.holds,
    )
    return Choice(PLAN, known)


def search(truths: Mapping[str, Truth], builds: Sequence[Build] = (), seed: int = 0, **training: Any) -> Search:
    """A search over plans of these truths; the first is today's."""
    asked: dict[str, Any] = {"samples": SAMPLES, "epochs": 30, "ram": 10**9, "threads": 4, "objective": "cpu"}
    return Search(
        [option(name, truth, today=number == 0) for number, (name, truth) in enumerate(truths.items())],
        Training(**asked | training),
        Settings(seconds=60.0),
        Machine(truths, seed),  # type: ignore[arg-type]
        Drawn(samples=SAMPLES, of=SAMPLES),
        lambda idle_power_w: Coefficients(),
        available_bytes=8e9,
        builds=builds,
    )


def run(truths: Mapping[str, Truth], **asked: Any) -> Verdict:
    return search(truths, **asked).run()


@pytest.mark.parametrize("seed", range(5))
def test_the_cheapest_of_the_whole_training_is_chosen(seed: int) -> None:
    truths = {
        "today": Truth(later=0.002),
        "streams": Truth(later=0.001, first=0.001),
        "keeps": Truth(later=0.0005, first=0.004, holds=1e8),
        "dear": Truth(later=0.005, first=0.005),
    }
    assert run(truths, seed=seed).winner == "keeps, 4 threads"
    assert run(truths, seed=seed, epochs=2).winner == "streams, 4 threads", "filling doesn't pay in two epochs"


def test_every_plan_says_why_it_lost_and_today_is_measured_to_the_end() -> None:
    found = search({"today": Truth(later=0.002), "best": Truth(later=0.0005), "bad": Truth(fails="it can't")})
    verdict = found.run()
    assert {one.name: bool(one.lost) for one in verdict.candidates} == {
        "best, 4 threads": False,
        "today, 4 threads": True,
        "bad, 4 threads": True,
    }
    assert "it can't" in next(one.lost for one in verdict.candidates if one.name.startswith("bad"))
    counts = {name: sum(build.name.startswith(name) for build in found.builds) for name in ("today", "best", "bad")}
    assert counts["today"] == counts["best"] >= 2 and counts["bad"] == 1


def test_what_holds_more_than_may_be_held_is_never_built() -> None:
    truths = {"today": Truth(later=0.002), "large": Truth(later=0.0001, holds=2e9)}
    found = search(truths)
    assert found.run().winner == "today, 4 threads"
    assert all(not build.name.startswith("large") for build in found.builds)
    available = search(truths, ram=10**10)
    available._available_bytes = 1e9
    assert available.run().winner == "today, 4 threads", "what isn't there can't be held either"


def test_figures_are_of_what_was_kept_not_of_what_was_expected() -> None:
    truths = {"today": Truth(later=0.002), "keeps": Truth(later=0.0005, holds=3e8)}
    found = search(truths)
    found.options[1] = replace(found.options[1], candidate=replace(found.options[1].candidate, ram_bytes=1e8))
    winner = found.run().candidates[0]
    assert winner.name == "keeps, 4 threads" and winner.ram_bytes == pytest.approx(3e8)


def test_todays_plan_that_holds_more_than_may_be_held_is_measured_and_never_chosen() -> None:
    truths = {"today": Truth(later=0.0001, holds=2e9), "streams": Truth(later=0.002)}
    found = search(truths)
    verdict = found.run()
    today = next(one for one in verdict.candidates if one.today)
    assert today.rates.builds and today.ram_bytes == pytest.approx(2e9)
    assert verdict.winner == "streams, 4 threads" and "may be kept" in today.lost
    assert run(truths, ram=0).winner == "streams, 4 threads"


def test_a_plan_that_failed_in_one_of_its_builds_is_not_chosen() -> None:
    """A disk that is full after some windows, and a second build that fails: the first one's figures stand there."""
    truths = {"today": Truth(later=0.002), "best": Truth(later=0.0005), "next": Truth(later=0.001)}
    found = search(truths)
    whole, build = found.trials, found.trials.build  # type: ignore[attr-defined]

    def failing(name: str, threads: int, number: int) -> Build:
        built = build(name, threads, number)
        return replace(built, failed="the disk is full") if name.startswith("best") and number else built

    whole.build = failing  # type: ignore[attr-defined]
    verdict = found.run()
    assert verdict.winner == "next, 4 threads"
    assert next(one.lost for one in verdict.candidates if one.name.startswith("best")) == "it failed: the disk is full"


@pytest.mark.parametrize(("domains", "counted"), [(("gpu:0",), False), (("gpu:0", "cpu:package-0"), True), ((), False)])
def test_a_gpu_s_counter_alone_counts_no_joules_of_loading(domains: tuple[str, ...], counted: bool) -> None:
    found = search({"today": Truth()})
    found.trials.channels = {name: Channel(name, "measured", 1.0, 1e-6) for name in domains}  # type: ignore[misc]
    assert found.counted is counted


def test_only_plans_that_keep_to_the_bounds_can_take_the_winner_s_place() -> None:
    truths = {"today": Truth(later=0.0001, holds=2e9), "streams": Truth(later=0.002), "dear": Truth(later=0.003)}
    found = search(truths)
    verdict = found.run()
    names = {one.name for one in _choosable(found, verdict.candidates, verdict.winner)}
    assert names == {"streams, 4 threads", "dear, 4 threads"}
    found.excluded["dear, 4 threads"] = "it paces"
    assert len(_choosable(found, verdict.candidates, verdict.winner)) == 1


def test_why_nothing_is_kept_is_said_as_it_is(train: gl.Pipeline) -> None:
    asked = Training(samples=48, epochs=3, ram=10**6, threads=2)
    assert "fits in 1.0 MB of memory" in _on_keeping(train, asked, [])
    assert "One epoch" in _on_keeping(train, replace(asked, epochs=1), [])
    assert "ram= lets" in _on_keeping(train, replace(asked, ram=0), [])
    assert "in memory already" in _on_keeping(PLAN.pipeline, asked, [])
    assert _on_keeping(train, asked, [option("keeps", Truth(holds=1e3)).candidate]) == ""


def test_bytes_are_read_again_where_the_page_cache_is_too_small_for_what_a_plan_reads() -> None:
    """1,000 records of 1 MB, and 2 GB for them: what is kept on disk may be larger than they are."""
    found = search({"today": Truth()})
    found.drawn = Drawn(samples=100, of=1000, file_bytes=1e6, page_cache_bytes=2e9)
    streams = Candidate(name="any", backends="tf", threads=1, prefetch=2)
    on_disk = replace(streams, kept="pixels on disk", disk_bytes=3e9)
    half = replace(streams, kept="files in memory", share=0.5, ram_bytes=1.8e9)
    again = [found._with_bytes(Rates(), one).later_read_bytes for one in (streams, on_disk, half)]
    assert again == [0.0, pytest.approx(3e6), pytest.approx(0.5e6)]
    assert found._with_bytes(Rates(), on_disk).first_read_bytes == 1e6
    assert found._with_bytes(Rates(), on_disk).written_bytes == pytest.approx(3e6)


def test_plans_are_built_together_that_fit_in_memory_together() -> None:
    names = ("one", "two", "three")
    found = search({"today": Truth()} | {name: Truth(holds=4e8) for name in names})
    every = tuple(one.candidate.name for one in found.options)
    assert found._together(every) == list(every)
    found._available_bytes = 1e9
    assert found._together(every) == list(every[:3])
    found._available_bytes = 1e8
    assert found._together(every[1:]) == [every[1]], "one is always built"


def test_only_counters_that_tell_a_plan_s_own_joules_take_the_place_of_a_model() -> None:
    cpus = [Channel(f"cpu:package-{number}", "measured") for number in range(2)]
    drive = Channel("storage:nvme0n1", "vendor-declared")
    watts = {channel.domain: Figure(9.0, 8.0, 10.0, "measured") for channel in cpus}
    assert telling_channels([*cpus, drive], watts) == cpus
    assert telling_channels([*cpus, drive], {"cpu:package-0": watts["cpu:package-0"]}) == []


def test_a_held_out_run_that_fails_is_a_note() -> None:
    held = HeldOut(name="one", epochs=3, samples=8, predicted_cpu_s=Figure(1.0, 0.9, 1.1, "measured"), seen_cpu_s=1.0)

    def run_one(name: str) -> HeldOut:
        if name != "one":
            raise SourceError("cut.jpg: it ends too early")
        return held

    runs, notes = run_each(("one", "two"), run_one)
    assert runs == (held,) and notes == ("Held out, two failed: cut.jpg: it ends too early",)


def test_threads_are_as_few_as_the_demand_needs() -> None:
    """4 threads give 4,000 samples a second, one 1,000."""
    truths = {"today": Truth(), "dear": Truth(later=0.004)}
    assert run(truths, demand=800.0).winner == "today, 1 thread"
    assert run(truths, demand=1500.0).winner == "today, 2 threads"
    assert run(truths, demand=3900.0).winner == "today, 4 threads"
    assert run(truths).winner == "today, 4 threads", "without a demand all are used"


def test_a_demand_that_nothing_meets_has_a_nearest_plan_and_what_limits_it() -> None:
    verdict = run({"today": Truth(later=0.002), "quick": Truth(later=0.001)}, demand=10_000.0)
    assert verdict.winner == "" and verdict.nearest == "quick, 4 threads"
    assert "4 threads are busy" in verdict.limit


def test_a_search_goes_on_from_its_builds_and_repeats_none() -> None:
    truths = {"today": Truth(later=0.002), "best": Truth(later=0.0005), "next": Truth(later=0.00055)}
    whole = search(truths)
    whole.run()
    again = search(truths, builds=whole.builds[:3])
    verdict = again.run()
    assert verdict.winner == "best, 4 threads" and again.builds[:3] == whole.builds[:3]
    seen = [(build.name, build.round) for build in again.builds]
    assert len(set(seen)) == len(seen)


def test_a_plan_on_other_threads_has_a_name_of_its_own() -> None:
    given = option("native", Truth(), today=True)
    fewer = on_threads(given, 1)
    assert (fewer.candidate.name, fewer.candidate.threads, fewer.plan.threads) == ("native, 1 thread", 1, 1)
    assert not fewer.candidate.today and on_threads(fewer, 12).candidate.name == "native, 12 threads"
    named = replace(given, candidate=replace(given.candidate, name="native, 4 threads, as given"))
    assert on_threads(named, 2).candidate.name == "native, 2 threads, as given"


def test_held_out_samples_are_others_where_there_are_enough() -> None:
    drawn = np.arange(0, 100, 4)
    others = other_samples(drawn, 100, 0)
    assert len(others) == len(drawn) == len(set(others)) and not set(others) & set(drawn)
    assert others.max() < 100 and list(others) == sorted(others)
    assert list(other_samples(drawn, 30, 0)) == list(drawn)


def test_paced_plans_fill_what_they_keep_before_and_let_go_of_it_before_it_closes(tmp_path: Path) -> None:
    passed: dict[int, int] = {}
    ends: list[str] = []

    def made(threads: int) -> Callable[[ExitStack], Generator[int, None, None]]:
        def of(stack: ExitStack) -> Generator[int, None, None]:
            stack.callback(ends.append, f"cache {threads}")
            return batches()

        def batches() -> Generator[int, None, None]:
            try:
                while True:
                    passed[threads] = passed.get(threads, 0) + 10
                    yield 10
            finally:
                ends.append(f"batches {threads}")

        return of

    with PowercapEmulator(tmp_path / "powercap") as machine:
        meters, _ = discover(machine.root)
        with Sampler(meters) as sampler:
            paces = paced({1: made(1), 2: made(2)}, sampler, demand=10.0, seed=0, samples=1000)
    assert [pace.threads for pace in paces] == [1, 2] and all(pace.power_w.value for pace in paces)
    assert all(1000 < count < 1200 for count in passed.values())
    assert ends == ["batches 2", "cache 2", "batches 1", "cache 1"]


def test_a_pace_is_better_only_where_the_counter_says_so() -> None:
    def pace(threads: int, low: float, high: float) -> Pace:
        return Pace(threads=threads, power_w=Figure((low + high) / 2, low, high, "measured"))

    assert better([pace(1, 10, 11), pace(4, 12, 13)]) == pace(1, 10, 11)
    assert better([pace(1, 12, 13), pace(4, 10, 11)]) == pace(4, 10, 11)
    assert better([pace(1, 10, 12), pace(4, 11, 13)]) is None
    assert better([pace(1, 10, 12)]) is None and better([]) is None
