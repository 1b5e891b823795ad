"""Step costs from windows: replay and prefixes, idle power, other processes, what is left over."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenload.energy.attribution.attribute import attribute, trial_cost
from greenload.energy.attribution.costs import Cost, unattributed_shares
from greenload.energy.attribution.intervals import Variance, half_width
from greenload.energy.attribution.observation import Metering, Observation, read_quantity
from greenload.energy.attribution.quantity import ISOLATION_BIAS
from greenload.energy.figures import Figure, scale, sum_figures
from greenload.errors import UsageError

FINITE = st.floats(-1e6, 1e6)


@st.composite
def figures(draw: st.DrawFn) -> Figure:
    value = draw(FINITE)
    return Figure(
        value,
        value - draw(st.floats(0, 1e3)),
        value + draw(st.floats(0, 1e3)),
        draw(st.sampled_from(["measured", "vendor-declared", "modelled"])),
        draw(st.floats(0, 2)),
        draw(st.booleans()),
    )


def window(step: str, kind: str, round_: int, build: int, cpu_s: float, **more: object) -> Observation:
    fields = {"samples": 100, "wall_ns": 10**9, **more}
    return Observation(step, kind, round_, build, cpu_s=cpu_s, **fields)  # type: ignore[arg-type]


def profile(seed: int = 0, *, missing: float = 0.0, noise: float = 0.01, wiggle: float = 0.0) -> Iterator[Observation]:
    """Windows of source (prefix, 0.1 ms), decode (replay, 0.9 ms), flip (replay, 0.0002 ms) and the full run.

    The counter sees 2 W idle, 30 J per own CPU second and 60 J per CPU second of another process of ``wiggle`` CPUs.
    """
    rng = np.random.default_rng(seed)
    for build in range(2):
        for round_ in range(5):
            for step, kind, ms in (
                ("source", "prefix", 0.1),
                ("decode", "with", 1.0),
                ("decode", "without", 0.1),
                ("flip", "with", 0.1002),
                ("flip", "without", 0.1),
                ("", "full", 1.0002 + missing),
            ):
                cpu_s = ms * (1 + noise * rng.standard_normal())
                yield observed(rng, step, kind, round_, build, cpu_s, 1000, wiggle)
            yield observed(rng, "", "idle", round_, build, 0.0, 0, wiggle)


def observed(
    rng: np.random.Generator, step: str, kind: str, round_: int, build: int, cpu_s: float, samples: int, wiggle: float
) -> Observation:
    wall_s = 1 + rng.uniform(0, 1)  # wall times swing by 2x; idle power must not
    other = wiggle * rng.uniform(0, 1)
    joules = {"cpu:package-0": 2 * wall_s + 30 * cpu_s + 60 * other, "dram": 0.5 * cpu_s}
    return Observation(step, kind, round_, build, samples, int(wall_s * 1e9), cpu_s, other, 8e4 * samples, joules)


DOMAINS = {"cpu:package-0": Metering("measured"), "dram": Metering("modelled", 0.4)}
STEPS = ("source", "decode", "flip")


def full_runs(cpu_s: float = 2.0, **more: object) -> list[Observation]:
    """The held-out run, of 100 samples, in two builds of three rounds."""
    return [window("", "full", r, b, cpu_s, **more) for b in (0, 1) for r in range(3)]


def cost_of_a(windows: list[Observation], domain: str | None = None) -> Figure:
    """What the replayed step a costs, free of the bias of running in isolation: CPU seconds, or joules of a GPU that
    draws nothing when idle."""
    domains = {} if domain is None else {domain: Metering("measured")}
    found = attribute(
        [*windows, *full_runs()], steps=["a"], domains=domains, idle_power_w={"gpu:0": 0.0}, isolation_bias={"a": 0.0}
    )
    cost = found.steps[0].cost
    return cost.cpu_s_per_sample if domain is None else cost.energy_j_per_sample[domain]


def test_replay_takes_the_difference_within_each_round() -> None:
    windows = [window("a", "with", r, b, 1.0 + r) for b in (0, 1) for r in range(4)]
    windows += [window("a", "without", r, b, 0.25 + r) for b in (0, 1) for r in range(4)]
    found = cost_of_a(windows)
    # Unpaired, the drift of 1 s per round would drown the difference.
    assert (found.value, found.low, found.high) == pytest.approx((0.0075, 0.0075, 0.0075))
    assert not found.unresolved


def test_replay_leaves_out_invalid_windows_and_unpaired_rounds() -> None:
    windows = [
        window("a", kind, r, 0, cpu, energy_j={"gpu:0": 50 * cpu})
        for r in range(4)
        for kind, cpu in (("with", 2.0), ("without", 1.0))
    ]
    windows[0] = dataclasses.replace(windows[0], energy_j={"gpu:0": -1e6}, void={"gpu:0": "the counter was reset"})
    windows.append(window("a", "with", 9, 0, 77.0, energy_j={"gpu:0": 77.0}))
    assert cost_of_a(windows, "gpu:0").value == pytest.approx(0.5)
    assert cost_of_a(windows).value == pytest.approx(0.01)


def test_what_no_window_shows_is_missing_not_zero() -> None:
    windows = [window("a", kind, r, 0, 1.0) for r in range(3) for kind in ("with", "without")]
    found = cost_of_a(windows, "gpu:0")
    assert found.value is None and found.low is None and found.unresolved


def test_a_cache_shows_as_a_negative_prefix_difference() -> None:
    windows = [
        window(step, "prefix", r, b, cpu)
        for b in (0, 1)
        for r in range(3)
        for step, cpu in (("decode", 1.0), ("cache", 0.2))
    ]
    found = attribute([*windows, *full_runs(0.2)], steps=["decode", "cache"], domains={})
    assert [step.cost.cpu_s_per_sample.value for step in found.steps] == pytest.approx([0.01, -0.008])


def test_unresolved_is_an_interval_around_zero_that_is_too_wide_to_be_a_finding() -> None:
    windows = [
        window("a", kind, r, 0, 1 + 0.1 * ((r + (kind == "with")) % 2))
        for r in range(6)
        for kind in ("with", "without")
    ]
    cheap, dear = (
        attribute([*windows, *full_runs(cpu_s)], steps=["a"], domains={}).steps[0].cost.cpu_s_per_sample
        for cpu_s in (1.0, 100.0)
    )
    assert cheap.low is not None and cheap.high is not None and cheap.low < 0 < cheap.high
    assert cheap.unresolved
    assert not dear.unresolved, "below 1 % of the full run either way: a finding"


def test_attribution_finds_the_steps_idle_power_and_nothing_left() -> None:
    found = attribute(list(profile()), steps=STEPS, domains=DOMAINS)
    source, decode, flip = found.steps
    assert [step.method for step in found.steps] == ["prefix", "replay", "replay"]
    assert source.cost.cpu_s_per_sample.value == pytest.approx(1e-4, rel=0.02)
    assert decode.cost.cpu_s_per_sample.value == pytest.approx(9e-4, rel=0.02)
    assert decode.cost.energy_j_per_sample["cpu:package-0"].value == pytest.approx(30 * 9e-4, rel=0.02)
    assert decode.cost.energy_j_per_sample["dram"].provenance == "modelled"
    assert decode.cost.energy_j_per_sample["dram"].systematic == 0.4
    assert not flip.cost.cpu_s_per_sample.unresolved, "below 1 % of the full run either way: a finding"
    assert found.idle_power_w["cpu:package-0"].value == pytest.approx(2.0)
    assert "dram" not in found.idle_power_w
    whole = found.total.energy_j_per_sample["cpu:package-0"].value
    assert whole is not None
    idle = found.idle_energy_j_per_sample["cpu:package-0"].value
    assert idle is not None and found.samples_per_s.value is not None
    assert idle == pytest.approx(2.0 / found.samples_per_s.value)
    assert whole == pytest.approx(30 * 1.0002e-3 + idle, rel=0.02)
    assert all(abs(share) < 0.05 for share in unattributed_shares(found.full, found.unattributed).values())
    rest = found.unattributed.cpu_s_per_sample
    assert rest.low is not None and rest.high is not None and rest.low < 0 < rest.high


def with_reads(void: tuple[str, ...] = ()) -> list[Observation]:
    """The profile's windows with two reads a sample where files are read, and a dozen of the sampler's own in each."""
    found = []
    for one in profile():
        reads = 12.0 + (2.0 * one.samples if one.kind in ("prefix", "full") else 0.0)
        reason = {"reads": "the system doesn't tell"} if one.kind in void else {}
        found.append(dataclasses.replace(one, reads=reads, void=reason))
    return found


def test_reads_are_attributed_as_other_costs_are() -> None:
    found = attribute(with_reads(), steps=STEPS, domains=DOMAINS)
    source, decode, _ = (step.cost.reads_per_sample for step in found.steps)
    assert source.value == pytest.approx(2.012) and not source.unresolved
    assert decode.value == 0.0, "what the sampler reads is in both windows of a pair"
    assert found.full.reads_per_sample.value == pytest.approx(2.012)
    assert found.total.reads_per_sample == found.full.reads_per_sample
    assert found.unattributed.reads_per_sample.value == pytest.approx(0.0, abs=1e-9)


def test_reads_that_nobody_counted_are_missing_not_zero() -> None:
    found = attribute(list(profile()), steps=STEPS, domains=DOMAINS)
    assert found.full.reads_per_sample.value is None and found.steps[0].cost.reads_per_sample.value is None
    void = attribute(with_reads(void=("prefix",)), steps=STEPS, domains=DOMAINS)
    assert void.steps[0].cost.reads_per_sample.value is None and void.full.reads_per_sample.value is not None
    assert void.unattributed.reads_per_sample.value is None


@pytest.mark.parametrize("missing", [0.2, -0.2])
def test_what_no_step_explains_is_seen_in_both_directions(missing: float) -> None:
    found = attribute(list(profile(missing=missing)), steps=STEPS, domains=DOMAINS)
    assert found.unattributed.cpu_s_per_sample.value == pytest.approx(missing * 1e-3, rel=0.2)
    shares = unattributed_shares(found.full, found.unattributed)
    assert shares["cpu_s"] == pytest.approx(missing / (1.0002 + missing), rel=0.2)
    assert "dram" not in shares, "modelled joules follow CPU seconds"


def test_joules_of_other_processes_are_not_ours() -> None:
    """The other process pays 60 J per CPU second and we pay 30: an even split would charge us the difference."""
    found = attribute(list(profile(wiggle=2.0)), steps=STEPS, domains=DOMAINS)
    decode = found.steps[1].cost.energy_j_per_sample["cpu:package-0"]
    assert decode.value == pytest.approx(30 * 9e-4, rel=0.06)
    assert found.idle_power_w["cpu:package-0"].value == pytest.approx(2.0, rel=0.1)


def test_another_process_that_never_varies_is_charged_its_share_of_cpu_seconds() -> None:
    windows = full_runs(1.0, other_cpu_s=1.0, energy_j={"cpu:package-0": 42.0})
    windows += [dataclasses.replace(one, step="a", kind="prefix") for one in windows]
    found = attribute(
        windows, steps=["a"], domains={"cpu:package-0": Metering("measured")}, idle_power_w={"cpu:package-0": 2.0}
    )
    assert found.full.energy_j_per_sample["cpu:package-0"].value == pytest.approx(0.2)


def test_a_gpu_is_not_charged_for_other_processes_on_the_cpu() -> None:
    windows = [window("", "full", r, 0, 1.0, other_cpu_s=5.0 * r, energy_j={"gpu:0": 42.0}) for r in range(4)]
    windows += [window("a", "prefix", r, 0, 1.0, energy_j={"gpu:0": 42.0}) for r in range(4)]
    found = attribute(windows, steps=["a"], domains={"gpu:0": Metering("measured")}, idle_power_w={"gpu:0": 2.0})
    assert found.full.energy_j_per_sample["gpu:0"].value == pytest.approx(0.4)
    assert found.unattributed.energy_j_per_sample["gpu:0"].value == pytest.approx(0.0)


def test_modelled_joules_are_taken_as_they_are_and_their_idle_power_added_in_the_total() -> None:
    windows = [window("", "full", r, 0, 1.0, energy_j={"cpu": 3.0}) for r in range(3)]
    windows += [
        window("a", kind, r, 0, c, energy_j={"cpu": 3.0 * c})
        for r in range(3)
        for kind, c in (("with", 2.0), ("without", 1.0))
    ]
    found = attribute(windows, steps=["a"], domains={"cpu": Metering("modelled", 0.4)}, idle_power_w={"cpu": 1.0})
    assert found.full.energy_j_per_sample["cpu"].value == pytest.approx(0.03)
    assert found.idle_energy_j_per_sample["cpu"].value == pytest.approx(0.01)
    assert found.total.energy_j_per_sample["cpu"].value == pytest.approx(0.04)
    assert found.idle_power_w["cpu"].provenance == "modelled"


def steady(idle_w: tuple[float, ...]) -> list[Observation]:
    """Windows that all cost the same on a counter of 2 W idle and 10 J per CPU second; only idle windows scatter."""

    def once(step: str, kind: str, round_: int, wall_s: float, cpu_s: float) -> Observation:
        joules = {"cpu:package-0": 2 * wall_s + 10 * cpu_s}
        return window(step, kind, round_, 0, cpu_s, wall_ns=int(wall_s * 1e9), energy_j=joules)

    works = (("a", "prefix", 2.0, 1.0), ("b", "with", 4.0, 3.0), ("b", "without", 3.0, 1.0), ("", "full", 4.0, 3.0))
    return [
        *(once(step, kind, round_, wall, cpu) for round_ in range(5) for step, kind, wall, cpu in works),
        *(window("", "idle", r, 0, 0.0, samples=0, energy_j={"cpu:package-0": w}) for r, w in enumerate(idle_w)),
    ]


def test_the_error_of_idle_power_is_in_what_it_was_taken_from_and_not_in_the_total() -> None:
    domains = {"cpu:package-0": Metering("measured")}
    found = attribute(steady((1.8, 1.9, 2.0, 2.1, 2.2)), steps=["a", "b"], domains=domains)
    error_w = found.idle_power_w["cpu:package-0"].half_width
    assert error_w is not None and error_w > 0.1

    def half(cost: Cost) -> float | None:
        return cost.energy_j_per_sample["cpu:package-0"].half_width

    # 100 samples in 4 s at full speed, in 2 s up to a, and b makes 1 s of difference: 1 s is in no step.
    assert half(found.full) == pytest.approx(error_w * 0.04)
    assert half(found.steps[0].cost) == pytest.approx(error_w * 0.02)
    one_s = Variance((0.01 * error_w / 2.776) ** 2, 4)  # Student's t of five idle windows
    isolation_bias = Variance((ISOLATION_BIAS * 0.2) ** 2, math.inf)  # the joules of b, which alone was replayed
    both = half_width([one_s, isolation_bias])
    assert half(found.steps[1].cost) == pytest.approx(both, rel=1e-3)
    assert half(found.unattributed) == pytest.approx(both, rel=1e-3), "what of idle power is in both cancels"
    total = found.total.energy_j_per_sample["cpu:package-0"]
    assert (total.value, half(found.total)) == pytest.approx((0.38, 0.0)), (
        "the counter saw it all, idle power known or not"
    )
    full, idle = found.full.energy_j_per_sample["cpu:package-0"].value, found.idle_energy_j_per_sample["cpu:package-0"]
    assert full is not None and idle.value is not None and full + idle.value == pytest.approx(0.38)


def test_a_replay_is_no_surer_than_that_it_ran_out_of_its_place() -> None:
    """However alike the windows are; counts of bytes and reads are the same in every place."""
    same = [dataclasses.replace(one, device_bytes=800.0) for one in steady((2.0, 2.0))]
    found = attribute(same, steps=["a", "b"], domains={})
    reading, work = (step.cost.cpu_s_per_sample.half_width for step in found.steps)
    assert reading == pytest.approx(0.0), "a prefix runs in its place"
    assert work == pytest.approx(1.96 * ISOLATION_BIAS * 0.02, rel=1e-3)
    assert found.unattributed.cpu_s_per_sample.half_width == pytest.approx(1.96 * ISOLATION_BIAS * 0.02, rel=1e-3)
    assert found.steps[1].cost.device_bytes_per_sample.half_width == pytest.approx(0.0)


def test_how_far_a_replay_may_be_out_of_place_is_told_by_step() -> None:
    found = attribute(steady((2.0, 2.0)), steps=["a", "b"], domains={}, isolation_bias={"b": 0.1})
    assert found.steps[1].cost.cpu_s_per_sample.half_width == pytest.approx(1.96 * 0.1 * 0.02, rel=1e-3)


def test_two_replays_are_out_of_place_together() -> None:
    """What a machine's caches do to one they do to the other: their errors don't cancel in the sum."""
    two = [
        *steady((2.0, 2.0)),
        *(dataclasses.replace(one, step="c") for one in steady(()) if one.kind in ("with", "without")),
    ]
    rest = attribute(two, steps=["a", "b", "c"], domains={}).unattributed.cpu_s_per_sample
    assert rest.half_width == pytest.approx(2 * 1.96 * ISOLATION_BIAS * 0.02, rel=1e-3)


def test_settling_takes_no_time_of_a_sample_and_has_no_joules() -> None:
    """4 s of work, and then 1 s in which it is seen that nothing is left, at 2 W."""
    settled = [
        dataclasses.replace(
            one,
            wall_ns=one.wall_ns + 10**9,
            idle_ns=10**9,
            energy_j={"cpu:package-0": one.energy_j["cpu:package-0"] + 2},
        )
        if one.kind != "idle"
        else one
        for one in steady((2.0, 2.0, 2.0))
    ]
    found, plain = (
        attribute(windows, steps=["a", "b"], domains={"cpu:package-0": Metering("measured")})
        for windows in (settled, steady((2.0, 2.0, 2.0)))
    )
    assert found.samples_per_s.value == pytest.approx(25.0)
    for cost in ("full", "total", "unattributed"):
        joules = getattr(found, cost).energy_j_per_sample["cpu:package-0"].value
        assert joules == pytest.approx(getattr(plain, cost).energy_j_per_sample["cpu:package-0"].value)
    assert found.idle_energy_j_per_sample["cpu:package-0"].value == pytest.approx(0.08)


def test_a_step_within_the_error_of_idle_power_is_unresolved() -> None:
    windows = [
        dataclasses.replace(one, energy_j={"gpu:0": 20 * one.wall_ns / 1e9 + (9 if one.kind == "full" else 0)})
        for one in steady(())
    ]
    idle = [window("", "idle", r, 0, 0.0, samples=0, energy_j={"gpu:0": w}) for r, w in enumerate((19, 20.1, 21.1))]
    found = attribute([*windows, *idle], steps=["a", "b"], domains={"gpu:0": Metering("measured")})
    assert found.steps[0].cost.energy_j_per_sample["gpu:0"].unresolved


def test_a_trial_is_judged_in_own_joules() -> None:
    windows = [*profile(), *(dataclasses.replace(one, step="try") for one in profile() if one.step == "decode")]
    found = trial_cost(windows, step="try", domains=DOMAINS)
    assert found.cpu_s_per_sample.value == pytest.approx(9e-4, rel=0.02)
    joules = found.energy_j_per_sample["cpu:package-0"]
    assert joules.value == pytest.approx(30 * 9e-4, rel=0.03), "without the idle 2 W"
    assert joules.low is not None and joules.low <= 30 * 9e-4 <= (joules.high or 0.0)


def test_a_counter_without_idle_power_gives_no_figure() -> None:
    found = attribute([one for one in profile() if one.kind != "idle"], steps=STEPS, domains=DOMAINS)
    assert found.full.energy_j_per_sample["cpu:package-0"].value is None
    assert found.full.energy_j_per_sample["dram"].value is not None


def test_a_step_without_windows_or_a_profile_without_a_full_run_is_an_error() -> None:
    windows = list(profile())
    with pytest.raises(UsageError, match="'resize'"):
        attribute(windows, steps=["source", "decode", "resize"], domains=DOMAINS)
    with pytest.raises(UsageError, match="full"):
        attribute([one for one in windows if one.kind != "full"], steps=STEPS, domains=DOMAINS)
    with pytest.raises(UsageError, match="prefixes"):
        attribute([*windows, window("cache", "prefix", 0, 0, 1.0)], steps=["decode", "cache"], domains=DOMAINS)


@given(st.lists(figures(), min_size=1, max_size=5))
def test_sums_keep_the_weakest_provenance_and_grow_in_quadrature(parts: list[Figure]) -> None:
    total = sum_figures(parts)
    assert total.value == pytest.approx(math.fsum(part.value or 0.0 for part in parts))
    widest = max(part.half_width or 0.0 for part in parts)
    # A width below the last bit of the sum's value is lost to rounding.
    assert total.half_width is not None and total.half_width >= 0.5 * widest - 1e-8
    if any(part.provenance == "modelled" for part in parts):
        assert total.provenance == "modelled"


def test_a_sum_with_a_missing_part_is_missing() -> None:
    assert sum_figures([Figure(1.0, 0.9, 1.1, "measured"), Figure.missing()]).value is None
    assert sum_figures([Figure(1.0, 0.9, 1.1, "measured"), Figure.missing()], common=True).value is None


@given(figures(), st.floats(-100, 100))
def test_scaling_keeps_the_interval_around_the_value(figure: Figure, factor: float) -> None:
    scaled = scale(figure, factor)
    assert figure.value is not None and scaled.value == figure.value * factor
    assert scaled.systematic == figure.systematic


@given(figures())
def test_figures_round_trip(figure: Figure) -> None:
    assert Figure.from_dict(figure.to_dict()) == figure
    assert Figure.from_dict(Figure.missing("modelled", 0.4).to_dict()) == Figure.missing("modelled", 0.4)


@pytest.mark.parametrize(
    "numbers", [(1.0, 2.0, 3.0), (1.0, None, 2.0), (math.nan, 0.0, 1.0), (1.0, 0.0, math.inf), (1.0, 0.0, 0.5)]
)
def test_impossible_figures_are_refused(numbers: tuple[float | None, float | None, float | None]) -> None:
    with pytest.raises(UsageError):
        Figure(*numbers, "measured")


def test_an_unknown_provenance_is_refused() -> None:
    with pytest.raises(UsageError, match="guessed"):
        Figure(1.0, 1.0, 1.0, "guessed")
    with pytest.raises(UsageError, match="guessed"):
        Metering("guessed")


@pytest.mark.parametrize(
    "change",
    [{"kind": "warm"}, {"samples": 0}, {"wall_ns": 0}, {"start_ns": -1}, {"idle_ns": 10**9}, {"idle_ns": -1}],
)
def test_impossible_windows_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(window("a", "with", 0, 0, 1.0), **change)  # type: ignore[arg-type]


def test_windows_round_trip() -> None:
    for one in (*profile(), *with_reads(), window("a", "with", 0, 0, 1.0, start_ns=5)):
        assert Observation.from_dict(one.to_dict()) == one


def test_what_a_window_does_not_know_is_left_out_of_its_json() -> None:
    bare = window("a", "with", 0, 0, 1.0)
    assert not {"reads", "start_ns"} & set(bare.to_dict())
    assert {"reads", "start_ns"} <= set(window("a", "with", 0, 0, 1.0, reads=0.0, start_ns=0).to_dict())
    assert (
        read_quantity(bare, "reads") is None
        and read_quantity(window("a", "with", 0, 0, 1.0, reads=3.0), "reads") == 3.0
    )


def test_results_are_frozen() -> None:
    figure = Figure(1.0, 1.0, 1.0, "measured")
    with pytest.raises(dataclasses.FrozenInstanceError):
        figure.value = 2.0  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Cost(figure, {}, figure).bytes_out_per_sample = 1.0  # type: ignore[misc]
