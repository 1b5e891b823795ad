"""Where a fit's joules went: the arithmetic, on windows made by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenload.energy.attribution.costs import HAND_OVER, Cost
from greenload.energy.figures import Figure, scale, sum_figures
from greenload.energy.meters.base import Channel
from greenload.energy.sampler import Window
from greenload.machine import Machine
from greenload.report.cost_records import FullRun, IdleCost, ReportStep
from greenload.report.data import Report
from greenload.training.fit import scalars
from greenload.training.joules import IdlePower, SplitBasis
from greenload.training.loader_costs import BESIDE, UNATTRIBUTED
from greenload.training.spent import EnergyPart, Passed, Spent, WatchedPart
from greenload.training.split import WatchedSteps, split_window

PACKAGE, GPU = "cpu:package-0", "gpu:0"
CHANNELS = {PACKAGE: Channel(PACKAGE, "measured", update_s=0.001), GPU: Channel(GPU, "measured", update_s=0.1)}
MODELLED = {"cpu": Channel("cpu", "modelled", systematic=0.5), "dram": Channel("dram", "modelled", systematic=0.4)}


def exact(value: float, provenance: str = "measured") -> Figure:
    return Figure(value, value, value, provenance)


IDLE_POWER = {PACKAGE: IdlePower(exact(10.0)), GPU: IdlePower(exact(25.0))}
PASSED = Passed(batches=100, samples=1000, waiting_s=4.0)


def window(wall_s: float, cpu_s: float, *, other_s: float = 0.0, off_j: float = 0.0, **energy_j: float) -> Window:
    names = {"package": PACKAGE, "gpu": GPU}
    joules = {names.get(name, name): value for name, value in energy_j.items()}
    return Window(
        wall_ns=round(wall_s * 1e9),
        cpu_s=cpu_s,
        other_cpu_s=other_s,
        device_read_bytes=None,
        device_written_bytes=None,
        rss_bytes=0,
        energy_j=joules,
        void={},
        resolution_j=dict.fromkeys(joules, off_j),
    )


def profiled(joules: dict[str, float], *, backend: str = "tf", cpu_s: float = 0.01) -> Report:
    """Two steps, one and three quarters of the cost, and nothing besides."""

    def cost(share: float) -> dict[str, Any]:
        return {
            "cpu_s_per_sample": Figure(share * cpu_s, share * cpu_s * 0.95, share * cpu_s * 1.05, "measured"),
            "energy_j_per_sample": {
                name: Figure(share * one, share * one * 0.9, share * one * 1.1, "measured")
                for name, one in joules.items()
            },
            "device_bytes_per_sample": exact(0.0),
        }

    return Report(
        created="2026-03-01T12:00:00+00:00",
        machine=Machine("a processor", 2, 8_000_000_000, "Linux 6.1", "3.11.2", {}),
        meters=(),
        pipeline={"name": "photos"},
        plan={},
        samples=512,
        steps=(
            ReportStep(**cost(0.25), name="read", stages=(), backend="tf", method="prefix"),
            ReportStep(**cost(0.75), name="decode", stages=(), backend=backend, method="replay"),
        ),
        full=FullRun(**cost(1.0), samples_per_s=exact(200.0)),
        idle=IdleCost(),
        unattributed=Cost(**cost(0.0)),
        total=Cost(**cost(1.0)),
    )


def reading(profile: Report, device_bytes: float | None) -> Report:
    """The same, with bytes read from devices a sample, a quarter and three quarters of them in its two steps."""

    def read(share: float) -> dict[str, Figure]:
        found = Figure.missing() if device_bytes is None else exact(share * device_bytes)
        return {"device_bytes_per_sample": found}

    steps = tuple(replace(step, **read(share)) for step, share in zip(profile.steps, (0.25, 0.75), strict=True))
    rest = replace(profile.unattributed, **read(0.0))
    return replace(profile, steps=steps, full=replace(profile.full, **read(1.0)), unattributed=rest)


def found(given_window: Window, **changed: Any) -> Spent:
    validation, passed, fed = changed.pop("validation", []), changed.pop("passed", PASSED), changed.pop("fed", None)
    watched = changed.pop("watched", None)
    basis = replace(SplitBasis(CHANNELS, IDLE_POWER, profiled({PACKAGE: 0.2, GPU: 0.0})), **changed)
    return split_window("fit", given_window, validation, passed, basis, fed=fed, watched=watched)


def value(figure: Figure | None) -> float:
    assert figure is not None and figure.value is not None
    return figure.value


def test_the_parts_of_a_fit_that_is_known() -> None:
    # 20 s: 10 W and 25 W of idle power, 10 J/s of loader and model for the package, 100 W more of the GPU
    spent = found(window(20.0, 30.0, package=800.0, gpu=2500.0))
    assert value(spent.waiting.energy_j[PACKAGE]) == pytest.approx(40.0)
    assert value(spent.waiting.energy_j[GPU]) == pytest.approx(100.0), "the GPU's idle power is drawn while it waits"
    assert value(spent.idle.energy_j[PACKAGE]) == pytest.approx(160.0)
    assert value(spent.loader.energy_j[PACKAGE]) == pytest.approx(200.0)
    assert value(spent.model.energy_j[PACKAGE]) == pytest.approx(400.0)
    assert value(spent.model.energy_j[GPU]) == pytest.approx(2000.0)
    assert value(spent.loader.cpu_s) == pytest.approx(10.0) and value(spent.model.cpu_s) == pytest.approx(20.0)
    assert [step.name for step in spent.steps] == ["read", "decode", UNATTRIBUTED]
    assert value(spent.steps[1].energy_j[PACKAGE]) == pytest.approx(150.0)
    assert spent.waiting_share == pytest.approx(0.2)
    assert spent.model.energy_j[PACKAGE].provenance == "measured" and spent.notes == ()
    # ±15 % of the loader's 200 J, which was profiled alone, are ±30 J of the model's 400 J as well
    assert spent.loader.energy_j[PACKAGE].systematic == spent.steps[0].energy_j[PACKAGE].systematic == BESIDE
    assert spent.model.energy_j[PACKAGE].systematic == pytest.approx(BESIDE * 200 / 400)
    assert spent.loader.energy_j[GPU].systematic == spent.total.energy_j[PACKAGE].systematic == 0


def test_the_remainder_inherits_every_error() -> None:
    noisy = {PACKAGE: IdlePower(Figure(10.0, 9.7, 10.3, "measured"))}
    spent = found(window(20.0, 30.0, package=800.0, off_j=2.0), idle_power=noisy, channels={PACKAGE: CHANNELS[PACKAGE]})
    # the loader's ±20 J, the counter's ±2 J, idle power's 20 s × ±0.3 W
    assert spent.model.energy_j[PACKAGE].half_width == pytest.approx((20.0**2 + 2.0**2 + 6.0**2) ** 0.5)
    assert spent.total.energy_j[PACKAGE].half_width == pytest.approx(2.0), "what was counted needs no idle power"
    assert spent.model.cpu_s is not None and spent.model.cpu_s.half_width == pytest.approx(0.5)


def test_validation_is_apart() -> None:
    inner = window(5.0, 8.0, package=170.0, gpu=625.0)
    spent = found(window(25.0, 38.0, package=970.0, gpu=3125.0), validation=[inner])
    assert value(spent.validation.energy_j[PACKAGE]) == pytest.approx(120.0)
    assert value(spent.validation.energy_j[GPU]) == pytest.approx(500.0)
    assert value(spent.model.energy_j[PACKAGE]) == pytest.approx(400.0), "as without validation"
    assert value(spent.model.cpu_s) == pytest.approx(20.0) and value(spent.validation.cpu_s) == 8.0
    assert spent.validation_s == 5.0 and spent.waiting_share == pytest.approx(4 / 20)
    assert [part.name for part in spent.parts] == ["loader", "waiting", "model", "validation", "others", "idle"]


def test_other_processes_beyond_those_in_the_idle_power_are_apart() -> None:
    busy = {PACKAGE: IdlePower(exact(14.0), others_per_s=0.2)}  # 4 W of it are a steady process's
    only = {PACKAGE: CHANNELS[PACKAGE]}
    as_ever = found(window(20.0, 30.0, other_s=4.0, package=880.0), idle_power=busy, channels=only)
    assert value(as_ever.others.energy_j[PACKAGE]) == 0 and value(as_ever.model.energy_j[PACKAGE]) == pytest.approx(400)
    more = found(window(20.0, 30.0, other_s=14.0, package=1080.0), idle_power=busy, channels=only)
    others = more.others.energy_j[PACKAGE]
    assert others.value == pytest.approx(200.0) and others.half_width == pytest.approx(196.0)
    assert value(more.model.energy_j[PACKAGE]) == pytest.approx(400.0)
    assert (more.model.energy_j[PACKAGE].half_width or 0) > 190
    assert value(more.others.cpu_s) == 14.0


def test_other_processes_do_not_show_in_a_gpu() -> None:
    spent = found(window(20.0, 30.0, other_s=15.0, package=800.0, gpu=2500.0))
    assert value(spent.others.energy_j[GPU]) == 0 and value(spent.others.energy_j[PACKAGE]) == pytest.approx(200.0)


def test_modelled_joules_are_the_process_s_own_and_idle_power_comes_on_top() -> None:
    idle = {"cpu": IdlePower(Figure(1.5, 1.5, 1.5, "modelled", 0.5))}
    profile = profiled({"cpu": 0.02, "dram": 0.001})
    spent = found(
        window(20.0, 30.0, other_s=9.0, cpu=82.8, dram=8.0), channels=MODELLED, idle_power=idle, profile=profile
    )
    assert value(spent.total.energy_j["cpu"]) == pytest.approx(112.8)
    assert value(spent.model.energy_j["cpu"]) == pytest.approx(62.8) and spent.others.energy_j["cpu"].value is None
    assert value(spent.idle.energy_j["cpu"]) == pytest.approx(24.0) and value(spent.idle.energy_j["dram"]) == 0
    assert spent.model.energy_j["cpu"].provenance == "modelled" and spent.model.energy_j["cpu"].systematic == 0.5


def test_unknown_waiting_is_missing_not_zero() -> None:
    why = "how long the step waited for data isn't known: because"
    spent = found(window(20.0, 30.0, package=800.0, gpu=2500.0), passed=Passed(100, 1000, None, (why,)))
    assert spent.waiting.energy_j[PACKAGE].value is None and spent.waiting_share is None
    assert value(spent.idle.energy_j[PACKAGE]) == pytest.approx(200.0) and spent.notes == (why,)
    assert value(spent.model.energy_j[PACKAGE]) == pytest.approx(400.0)


def watched_with(hand_over_s: float, joules: dict[str, float] | None = None) -> WatchedSteps:
    """One function of 5 CPU seconds, and the profile's hand-over."""
    each = {name: exact(one) for name, one in (joules or {}).items()}
    steps = (WatchedPart("decode", each, exact(5.0), step="decode", calls=1000, cpu_s_per_call=exact(0.005)),)
    return WatchedSteps(steps, (EnergyPart(HAND_OVER, each, exact(hand_over_s)),), samples=1000)


def test_a_profile_of_something_else_beside_a_watched_dataset_is_said_and_left_out() -> None:
    fits = found(window(20.0, 30.0, package=800.0, gpu=2500.0), watched=watched_with(10.0))
    assert value(fits.loader.cpu_s) == pytest.approx(15.0) and not fits.does_not_fit
    spent = found(window(20.0, 30.0, package=800.0, gpu=2500.0), watched=watched_with(60.0))
    assert spent.does_not_fit.startswith("the profile doesn't fit: with its hand-over and joules the loader comes to 6")
    assert value(spent.loader.cpu_s) == 5.0 and value(spent.model.cpu_s) == 25.0
    assert [step.name for step in spent.steps] == ["decode"] and value(spent.model.energy_j[PACKAGE]) > 0
    assert [note for note in spent.notes if "can't be told from the model's" in note]
    dear = found(window(20.0, 30.0, package=800.0, gpu=2500.0), watched=watched_with(1.0, {PACKAGE: 2000.0, GPU: 0.0}))
    assert f"4e+03 J in {PACKAGE}" in dear.does_not_fit and value(dear.loader.energy_j[PACKAGE]) == pytest.approx(100.0)
    over = found(window(20.0, 30.0, package=800.0, gpu=2500.0), watched=watched_with(27.0))
    assert not over.does_not_fit and [note for note in over.notes if "32 CPU s, is 2 more" in note]


@pytest.mark.parametrize("lacking", ["profile", "samples"])
def test_without_a_profile_or_samples_loader_and_model_are_one(lacking: str) -> None:
    changed: dict[str, Any] = (
        {"profile": None} if lacking == "profile" else {"passed": Passed(100, None, 4.0, ("why",))}
    )
    spent = found(window(20.0, 30.0, package=800.0, gpu=2500.0), **changed)
    assert spent.loader.energy_j[PACKAGE].value is None and spent.model.energy_j[PACKAGE].value is None
    assert value(spent.work.energy_j[PACKAGE]) == pytest.approx(600.0) and value(spent.work.cpu_s) == 30.0
    assert [part.name for part in spent.parts] == ["loader and model", "waiting", "others", "idle"]
    assert spent.steps == () and len(spent.notes) == 1
    assert ("EnergyCallback(gl.profile" in spent.notes[0]) == (lacking == "profile")


def test_a_profile_without_counters_shares_out_by_cpu_seconds_and_says_so() -> None:
    spent = found(window(20.0, 30.0, package=800.0, gpu=2500.0), profile=profiled({"cpu": 0.02}))
    loader = spent.loader.energy_j[PACKAGE]
    assert loader.value == pytest.approx(200.0) and loader.provenance == "modelled" and loader.systematic == 0.5
    assert spent.model.energy_j[PACKAGE].provenance == "modelled"
    assert spent.loader.energy_j[GPU].value is None, "a GPU's joules don't follow CPU seconds"
    assert len(spent.notes) == 2 and PACKAGE in spent.notes[0] and GPU in spent.notes[1]


def test_a_loader_a_little_dearer_than_everything_is_said_not_hidden() -> None:
    spent = found(window(20.0, 9.0, package=350.0, gpu=2500.0))
    assert value(spent.model.energy_j[PACKAGE]) == pytest.approx(-50.0)
    assert value(spent.model.cpu_s) == pytest.approx(-1.0) and not spent.does_not_fit
    assert [note for note in spent.notes if "10 CPU s, is 1 more" in note]
    assert [note for note in spent.notes if f"200 J in {PACKAGE}, is 50 more" in note]


@pytest.mark.parametrize(("cpu_s", "package_j", "claim"), [(4.0, 800.0, "10 CPU s"), (30.0, 150.0, "200 J in")])
def test_a_profile_that_claims_more_than_was_used_does_not_fit(cpu_s: float, package_j: float, claim: str) -> None:
    spent = found(window(20.0, cpu_s, package=package_j, gpu=2500.0))
    assert f"doesn't fit: 1,000 samples cost {claim}" in spent.does_not_fit and not spent.notes
    assert spent.to_dict()["notes"] == [spent.does_not_fit]
    assert [part.name for part in spent.parts] == ["loader and model", "waiting", "others", "idle"]
    assert value(spent.work.cpu_s) == cpu_s and spent.steps == ()
    for part in (spent.loader, spent.model):
        assert part.cpu_s is not None and part.cpu_s.value is None
        assert all(figure.value is None for figure in part.energy_j.values())
    assert not {"loader_j", "model_j", "loader_cpu_s"} & {name for name, _ in scalars(spent)}


def by_element(per_element: float, axes: list[int | None]) -> Report:
    plan = {"sample_unit": "element", "samples_per_element": per_element, "element_ranks": axes}
    return replace(profiled({PACKAGE: 0.2, GPU: 0.0}), plan=plan)


@pytest.mark.parametrize(
    ("per_element", "axes", "passed_axes", "samples"),
    [
        (1.0, [2, 1], (2, 1), 100),  # batches of a function: the elements that were profiled
        (1.0, [2, 1], (2, 1, 1), 100),  # with class weights
        (32.0, [2, 1], (2, 1), 3200),
        (1.0, [1, 0], (2, 1), 1000),  # batched behind what was profiled
        (2.0, [1, 0], (2, 1), 2000),
        (1.0, [None], (None,), 1000),  # can't be known: rows, as ever
    ],
)
def test_samples_are_counted_in_the_profile_s_unit(
    per_element: float, axes: list[int | None], passed_axes: tuple[int | None, ...], samples: int
) -> None:
    passed = replace(PASSED, ranks=passed_axes)
    spent = found(window(20.0, 300.0, package=8000.0, gpu=2500.0), profile=by_element(per_element, axes), passed=passed)
    assert value(spent.loader.cpu_s) == pytest.approx(0.01 * samples) and spent.passed.samples == 1000
    assert [note for note in spent.notes if "counts elements of its dataset" in note] == list(spent.notes)
    assert bool(spent.notes) == (samples != 1000)


def test_a_batch_taken_for_a_sample_is_named_as_the_reason() -> None:
    profile = by_element(1.0, [None])
    spent = found(window(20.0, 0.4, package=800.0, gpu=2500.0), profile=profile)
    assert "one element of the dataset, while rows" in spent.does_not_fit
    assert "samples_per_element=" in spent.does_not_fit
    whole = found(window(20.0, 0.4, package=800.0, gpu=2500.0))
    assert "must be a row of the batches" in whole.does_not_fit


def test_unknown_idle_power_leaves_the_total_alone() -> None:
    spent = found(window(20.0, 30.0, package=800.0, gpu=2500.0), idle_power={GPU: IDLE_POWER[GPU]})
    for part in (spent.waiting, spent.model, spent.idle, spent.work):
        assert part.energy_j[PACKAGE].value is None and part.energy_j[GPU].value is not None
    assert value(spent.total.energy_j[PACKAGE]) == 800.0


def test_a_void_domain_has_a_reason_and_no_figure() -> None:
    given_window = replace(window(20.0, 30.0, gpu=2500.0), void={PACKAGE: "the counter was reset"})
    spent = found(given_window)
    assert spent.void == {PACKAGE: "the counter was reset"}
    for part in (*spent.parts, *spent.steps, spent.total):
        assert part.energy_j[PACKAGE].value is None and part.total_j.value is None, "no sum of the rest alone"
    assert spent.total.energy_j[GPU].value == 2500.0
    assert not any(name.endswith("_j") for name, _ in scalars(spent))


@pytest.mark.parametrize("seen", [False, True])
def test_a_validation_too_short_for_a_counter_takes_nothing_else_with_it(seen: bool) -> None:
    short = replace(window(0.05, 0.1, package=2.0), void={GPU: "shorter than the counter's refresh"})
    whole, also = window(20.05, 30.1, package=802.0, gpu=2505.0), [window(5.0, 8.0, package=170.0, gpu=625.0)]
    if seen:  # and one that the counter saw
        whole = window(25.05, 38.1, package=972.0, gpu=3130.0)
    spent = found(whole, validation=[short, *also] if seen else [short])
    wall_s = 25.05 if seen else 20.05
    assert spent.void == {} and value(spent.total.energy_j[GPU]) == (3130.0 if seen else 2505.0)
    assert value(spent.waiting.energy_j[GPU]) == 100.0
    assert value(spent.idle.energy_j[GPU]) == pytest.approx(25.0 * (wall_s - 4))
    drawn = 2505.0 - 25 * 20.05  # what the model and the short one drew, beyond idle power
    assert value(spent.model.energy_j[GPU]) == value(spent.work.energy_j[GPU]) == pytest.approx(drawn)
    assert spent.validation.energy_j[GPU].value == (500.0 if seen else None)
    assert value(spent.model.energy_j[PACKAGE]) == pytest.approx(400.0), "its counter saw both"
    assert [note for note in spent.notes if f"1 of {2 if seen else 1} validations, 0.05 s" in note and GPU in note]


STORAGE = Channel("storage:all", "modelled", systematic=0.96)


def test_a_storage_domain_that_the_profile_names_otherwise_is_told_by_its_bytes() -> None:
    profile = reading(profiled({PACKAGE: 0.2, "storage:nvme1n1": 1e-5}), 1000.0)
    channels = {PACKAGE: CHANNELS[PACKAGE], "storage:all": STORAGE}
    moved = window(20.0, 30.0, package=800.0, **{"storage:all": 0.02})
    moved = replace(moved, device_read_bytes=1_500_000, device_written_bytes=500_000)
    # 10 nJ a byte; 1000 samples of 1000 bytes are the loader's
    spent = found(moved, profile=profile, channels=channels)
    loader = spent.loader.energy_j["storage:all"]
    assert value(loader) == pytest.approx(0.01) and loader.provenance == "modelled" and loader.systematic == 0.96
    assert [value(step.energy_j["storage:all"]) for step in spent.steps] == pytest.approx([0.0025, 0.0075, 0.0])
    assert value(spent.model.energy_j["storage:all"]) == pytest.approx(0.01)
    assert value(spent.loader.total_j) == pytest.approx(200.01) and value(spent.model.total_j) == pytest.approx(400.01)
    assert [note for note in spent.notes if "storage:all" in note and "bytes that it read" in note]
    assert {"loader_j", "model_j", "loader/read_j"} <= {name for name, _ in scalars(spent)}
    at_rest = replace(moved, device_read_bytes=0, device_written_bytes=0, energy_j={PACKAGE: 800.0, "storage:all": 0.0})
    assert value(found(at_rest, profile=profile, channels=channels).loader.energy_j["storage:all"]) == 0


def test_storage_that_can_not_be_told_is_left_out_of_sums_with_a_note() -> None:
    profile = reading(profiled({PACKAGE: 0.2}), None)
    channels = {PACKAGE: CHANNELS[PACKAGE], "storage:all": STORAGE}
    moved = replace(
        window(20.0, 30.0, package=800.0, **{"storage:all": 0.02}), device_read_bytes=2_000_000, device_written_bytes=0
    )
    spent = found(moved, profile=profile, channels=channels)
    assert value(spent.loader.total_j) == pytest.approx(200.0) and value(spent.model.total_j) == pytest.approx(400.0)
    assert value(spent.total.total_j) == pytest.approx(800.02) and value(spent.work.total_j) == pytest.approx(600.02)
    assert [note for note in spent.notes if "storage:all" in note and "go on without it" in note]


def test_a_step_that_the_model_runs_is_not_the_loader_s() -> None:
    profile = profiled({PACKAGE: 0.2, GPU: 0.0}, backend="keras")
    spent = found(window(20.0, 30.0, package=800.0, gpu=2500.0), profile=profile)
    assert [step.name for step in spent.steps] == ["read", UNATTRIBUTED]
    assert value(spent.loader.energy_j[PACKAGE]) == pytest.approx(50.0)
    assert value(spent.loader.cpu_s) == pytest.approx(2.5)


def test_epochs_that_cost_differently_are_charged_each_by_its_own() -> None:
    first, later = profiled({PACKAGE: 0.2, GPU: 0.0}), profiled({PACKAGE: 0.02, GPU: 0.0}, cpu_s=0.001)
    later = replace(later, steps=later.steps[1:])  # the first one stands before the cache
    fed = [(first, replace(PASSED, batches=50, samples=500)), (later, replace(PASSED, batches=50, samples=500))]
    spent = found(window(20.0, 30.0, package=800.0, gpu=2500.0), profile=later, fed=fed)
    assert value(spent.loader.cpu_s) == pytest.approx(5.5) and value(spent.model.cpu_s) == pytest.approx(24.5)
    assert value(spent.loader.energy_j[PACKAGE]) == pytest.approx(110.0)
    assert [step.name for step in spent.steps] == ["read", "decode", UNATTRIBUTED]
    assert [value(step.cpu_s) for step in spent.steps] == pytest.approx([1.25, 3.75 + 0.375, 0.0])
    loader = spent.loader.cpu_s
    assert loader is not None and loader.half_width == pytest.approx(math.hypot(0.25, 0.025))
    one = found(window(20.0, 30.0, package=800.0, gpu=2500.0), profile=later, fed=[])
    assert one.parts[0].name == "loader and model" and one.steps == ()


@pytest.mark.parametrize("low", [0.002, -0.001])
def test_what_the_profile_left_in_no_step_is_said_where_its_interval_tells_it_from_nothing(low: float) -> None:
    profile = profiled({PACKAGE: 0.2, GPU: 0.0})
    rest = replace(profile.unattributed, cpu_s_per_sample=Figure(0.003, low, 0.008 - low, "measured"))
    spent = found(window(20.0, 30.0, package=800.0, gpu=2500.0), profile=replace(profile, unattributed=rest))
    said = ["the profile left 30% of CPU seconds in no step: the loader's split by step is that uncertain"]
    assert list(spent.notes) == (said if low > 0 else [])


numbers = st.floats(0.0, 1e3)


@given(st.lists(numbers, min_size=8, max_size=8), st.booleans(), st.floats(0, 2))
def test_parts_always_add_up_to_the_total(made: list[float], waits: bool, others_per_s: float) -> None:
    wall_s, cpu_s, other_s, joules, in_wall_s, in_cpu_s, in_joules, samples = made
    whole = window(1 + wall_s + in_wall_s, cpu_s + in_cpu_s, other_s=2 * other_s, package=joules + in_joules)
    inner = window(in_wall_s, in_cpu_s, other_s=other_s, package=in_joules)
    spent = found(
        whole,
        validation=[inner],
        passed=Passed(10, int(samples), wall_s / 2 if waits else None),
        channels={PACKAGE: CHANNELS[PACKAGE]},
        idle_power={PACKAGE: IdlePower(exact(10.0), others_per_s)},
    )
    parts = [part for part in spent.parts if waits or part.name != "waiting"]
    parts += [] if spent.validation_s else [spent.validation]
    rest = sum_figures([spent.total.energy_j[PACKAGE], *(scale(part.energy_j[PACKAGE], -1) for part in parts)])
    assert rest.value == pytest.approx(0, abs=1e-6 * (1 + joules + in_joules + 10 * (wall_s + in_wall_s)))
    if not spent.does_not_fit:
        steps = sum_figures(step.energy_j[PACKAGE] for step in spent.steps)
        assert steps.value == pytest.approx(value(spent.loader.energy_j[PACKAGE]))
