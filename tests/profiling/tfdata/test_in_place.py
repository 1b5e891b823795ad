"""Profiles of datasets by clocks around their functions: which steps they tell, what stands in, and known CPU times."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.energy.attribution.observation import FIRST_EPOCH, IN_PLACE, ITERATOR_START, WHOLE
from greenload.energy.meters.base import Channel, MeterStatus, Reading
from greenload.energy.sampler import Sampler
from greenload.profiling.tfdata import clocked_campaign
from greenload.report.data import Report
from greenload.report.terminal import report_text
from greenload.report.validation import validate
from greenload.system.work import Work

tf = pytest.importorskip("tensorflow")

Range = tf.data.Dataset.range
QUICK: dict[str, Any] = {"rounds": 2, "samples": 64}


class Package:
    """A counter of a machine that draws 10 W idle, 5 W for each CPU second of this process, and more for noted work.

    Other processes draw nothing: `nobody` hides them.
    """

    name = "package"
    channels = (Channel("cpu:package-0", "measured", update_s=0.001),)

    def __init__(self) -> None:
        self.noted_j = 0.0

    def read(self) -> Reading:
        """What has been drawn so far."""
        joules = 10 * time.monotonic() + 5 * time.process_time() + self.noted_j
        return Reading(time.monotonic_ns(), {"cpu:package-0": joules}, {})

    def close(self) -> None:
        """Nothing to give back."""


def burnt(seconds: float, package: Package | None = None, watts: float = 0.0) -> Callable[[Any], Any]:
    """A function for ``map`` that takes so much of its thread's CPU time, of so many watts more than others'."""

    def burn(x: Any) -> Any:
        begun = time.thread_time()
        while time.thread_time() - begun < seconds:
            pass
        if package is not None:
            package.noted_j += watts * (time.thread_time() - begun)
        return x

    return lambda x: tf.ensure_shape(tf.numpy_function(burn, [x], tf.int64), ())


def add_one(x: Any) -> Any:
    """A step of next to no work."""
    return x + 1


def work(x: Any) -> Any:
    """Takes a moment."""
    return tf.cast(tf.reduce_sum(tf.random.stateless_uniform([20_000], seed=(1, 2))), tf.int64) * 0 + x


def is_even(x: Any) -> Any:
    """Whether it is; takes a moment."""
    return work(x) % 2 == 0


def methods(report: Report) -> dict[str, str]:
    """How each step was measured."""
    return {step.name: step.method for step in report.steps}


def worked(report: Report) -> dict[str, float]:
    """Calls for each sample, by the steps with clocks."""
    return {step.name: step.clock.calls_per_sample for step in report.steps if step.clock}


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.usefixtures("few_builds")
def test_steps_of_a_known_cpu_time() -> None:
    dataset = Range(400).map(burnt(1e-3), num_parallel_calls=2, name="long").map(burnt(3e-4), name="short").batch(16)
    report = gl.profile(dataset, name="burnt", rounds=3)
    found = {step.name: step for step in report.steps}
    assert list(methods(report).values()) == ["prefix", IN_PLACE, IN_PLACE, "replay", IN_PLACE]
    for name, truth in (("long", 1e-3), ("short", 3e-4)):
        figure = found[name].cpu_s_per_sample
        assert figure.value == pytest.approx(truth, rel=0.3, abs=1.2e-4), "with what a call into Python takes"
        assert figure.half_width is not None and figure.half_width < 0.15 * truth
    full, rest = report.full.cpu_s_per_sample.value, report.unattributed.cpu_s_per_sample.value
    assert full is not None and rest is not None and abs(rest) < 0.1 * full
    assert sum(step.cpu_s_per_sample.value or 0.0 for step in report.steps) == pytest.approx(full - rest)
    clock = found["long"].clock
    assert clock is not None and clock.calls_per_sample == pytest.approx(1.0, rel=0.1)
    waiting = clock.waiting_s_per_sample.value
    assert waiting is not None and waiting > 0, "two calls share the interpreter"


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process takes CPU time, as far as profiles see."""
    window = Sampler.window
    monkeypatch.setattr(Sampler, "window", lambda self, *marks: replace(window(self, *marks), other_cpu_s=0.0))


def generated() -> Any:
    """Numbers of a Python generator."""
    return tf.data.Dataset.from_generator(
        lambda: (np.int64(n) for n in range(64)), output_signature=tf.TensorSpec((), tf.int64)
    )


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "nobody")
def test_joules_are_those_of_a_steps_own_cpu_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    from greenload.energy.attribution import precision
    from greenload.profiling import profile

    monkeypatch.setattr(precision, "WINDOW_S", 0.1)  # of replays, where a counter reads
    package = Package()
    status = MeterStatus("cpu:package-0", "measured", True, "readable", "", "package")
    monkeypatch.setattr(profile, "discover", lambda **given: ([package], [status]))
    dataset = (
        Range(400).map(burnt(1e-3, package, 25.0), name="hot").map(burnt(1e-3, package, 5.0), name="cool").batch(16)
    )
    report = gl.profile(dataset, rounds=3)
    steps = {step.name: step for step in report.steps}
    watts = {}
    for name in ("hot", "cool"):
        joules = steps[name].energy_j_per_sample["cpu:package-0"]
        assert steps[name].method == IN_PLACE and joules.provenance == "measured"
        assert joules.value is not None and steps[name].cpu_s_per_sample.value is not None
        watts[name] = joules.value / steps[name].cpu_s_per_sample.value
        clock = steps[name].clock
        assert clock is not None and clock.replay_cpu_s_per_sample is not None
        replays = [window for window in report.windows if window.step == name and window.kind == "with"]
        assert replays and all(window.work[name].timed for window in replays)
    assert watts["hot"] == pytest.approx(28.0, rel=0.15) and watts["cool"] == pytest.approx(9.5, rel=0.25), watts
    full = report.full.energy_j_per_sample["cpu:package-0"].value
    summed = sum(step.energy_j_per_sample["cpu:package-0"].value or 0.0 for step in report.steps)
    assert full is not None and summed == pytest.approx(full, rel=0.15)


SHAPES: Mapping[str, tuple[Callable[[], Any], dict[str, float]]] = {
    "parallel": (lambda: Range(64).map(work, num_parallel_calls=2).batch(8), {"work": 1.0}),
    "filter": (lambda: Range(64).filter(is_even).batch(8), {"is_even": 2.0}),
    "batches": (lambda: Range(64).batch(8).map(lambda x: x + 1, name="added"), {"added": 1 / 8}),
    "interleave": (
        lambda: Range(8).interleave(lambda n: Range(8).map(work), cycle_length=2).batch(8),
        {"work": 1.0},
    ),
    "generator": (lambda: generated().map(work).batch(8), {"work": 1.0}),
}


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
@pytest.mark.parametrize("shape", SHAPES)
def test_functions_are_clocked_wherever_they_are_called(shape: str) -> None:
    make, calls = SHAPES[shape]
    report = gl.profile(make(), **QUICK)
    found = worked(report)
    assert {name: found[name] for name in calls} == pytest.approx(calls, rel=0.4)  # buffers hold some
    assert all(methods(report)[name] == IN_PLACE for name in calls) and report.steps[-1].name == "hand-over"
    data = report.to_dict()
    validate(data)
    again = Report.from_dict(json.loads(json.dumps(data)))
    assert again.steps == report.steps and again.windows == report.windows
    shown = report_text(report, 160)
    assert "waiting" in shown and "hand-over" in shown and "In place: CPU time of" in shown
    steps = sum(step.cpu_s_per_sample.value or 0.0 for step in report.steps)
    full, rest = report.full.cpu_s_per_sample.value or 0.0, report.unattributed.cpu_s_per_sample.value or 0.0
    assert steps + rest == pytest.approx(full)


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows", "nobody")
@pytest.mark.parametrize("shape", ["filter", "generator"])
def test_replays_have_clocks_where_a_counter_tells_joules(monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    from greenload.energy.attribution import precision
    from greenload.profiling import profile

    monkeypatch.setattr(precision, "WINDOW_S", 0.01)
    status = MeterStatus("cpu:package-0", "measured", True, "readable", "", "package")
    monkeypatch.setattr(profile, "discover", lambda **given: ([Package()], [status]))
    make, calls = SHAPES[shape]
    report = gl.profile(make(), **QUICK)
    for name in calls:
        kinds = {window.kind: window.work[name] for window in report.windows if window.step == name}
        assert kinds["with"].timed and not kinds["without"].calls
    assert all(step.energy_j_per_sample["cpu:package-0"].value is not None for step in report.steps)


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_steps_with_functions_are_not_replayed_where_no_counter_tells_joules() -> None:
    report = gl.profile(Range(64).map(work).map(add_one).batch(8).prefetch(2), **QUICK)
    replayed = {window.step for window in report.windows if window.kind == "with"}
    assert replayed - {ITERATOR_START} == {"range", "batch"}
    clocked = [window for window in report.windows if window.kind == IN_PLACE]
    assert clocked and all(set(window.work) == {"work", "add_one"} for window in clocked)
    assert {step["name"]: step["method"] for step in report.plan["steps"]}["work"] == IN_PLACE


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_without_the_kernel_all_is_replayed_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocked_campaign, "why_not", lambda: "the kernel's operations aren't built")
    report = gl.profile(Range(64).map(work).batch(8), **QUICK)
    assert list(methods(report)) == ["range", "work", "batch"] and IN_PLACE not in methods(report).values()
    reasons = {one.name: one.reason for one in report.skipped}
    assert reasons == {"clocks": "no step is measured in place, all by replays: the kernel's operations aren't built"}
    assert "In place" not in report_text(report, 160)


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_a_dataset_that_cannot_be_built_with_clocks_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    from greenload.profiling import profile

    def fail(*given: Any) -> Any:
        raise ValueError("no such function")

    monkeypatch.setattr(profile, "clocked_copy", fail)
    report = gl.profile(Range(64).map(work).batch(8), **QUICK)
    assert IN_PLACE not in methods(report).values()
    assert "no such function" in {one.name: one.reason for one in report.skipped}["clocks"]


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_a_step_whose_calls_all_change_threads_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    from greenload.profiling import profile
    from greenload.profiling.tfdata.passes import ClockedCopy

    made = profile.clocked_copy

    def lost(*given: Any) -> ClockedCopy:
        copy = made(*given)

        def read() -> dict[str, Work]:
            seen = dict(copy.read())
            seen["work"] = Work(seen["work"].calls, 0, 0.0, 0.0, seen["work"].calls)
            return seen

        return ClockedCopy(copy.dataset, copy.names, read)

    monkeypatch.setattr(profile, "clocked_copy", lost)
    report = gl.profile(Range(64).map(work).map(add_one).batch(8), **QUICK)
    assert methods(report)["work"] in ("replay", "prefix") and methods(report)["add_one"] == IN_PLACE
    (reason,) = [one.reason for one in report.skipped if one.name == "work"]
    assert reason.startswith("measured not in place") and reason.endswith("on another thread than it began on")


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_a_dataset_in_two_branches_has_one_row_for_both() -> None:
    one = Range(64).map(work)
    report = gl.profile(tf.data.Dataset.zip(one, one).batch(8), **QUICK)
    assert list(methods(report)) == ["range", "work", "range (2)", "batch", "hand-over"]
    assert worked(report) == pytest.approx({"work": 2.0}, rel=0.4)
    assert "work (2)" not in {window.step for window in report.windows}
    reasons = {one.name: one.reason for one in report.skipped}
    assert reasons["work (2)"] == "it is the same dataset as work, whose row holds what both cost"
    steps = {step["name"]: step["method"] for step in report.plan["steps"]}
    assert steps["work (2)"] == IN_PLACE and validate(report.to_dict()) is None


def resized(x: Any) -> Any:
    """TensorFlow resizes on threads of its own, where it uses a filter."""
    image = tf.cast(tf.fill((600, 600, 3), x), tf.uint8)
    return tf.image.resize(image, (200, 200), antialias=True)


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.usefixtures("few_builds")
def test_a_function_that_other_threads_share_is_replayed() -> None:
    report = gl.profile(Range(64).map(resized).map(lambda image: tf.sqrt(image), name="root").batch(8), samples=64)
    assert methods(report)["resized"] in ("replay", "prefix") and methods(report)["root"] == IN_PLACE
    reason = {one.name: one.reason for one in report.skipped}["resized"]
    assert "not in place" in reason and "ScaleAndTranslate may run on other threads" in reason
    costs = {step.name: step.cpu_s_per_sample.value or 0.0 for step in report.steps}
    whole = report.full.cpu_s_per_sample.value
    assert whole is not None and costs["resized"] > 0.5 * whole
    assert sum(costs.values()) == pytest.approx(whole, rel=0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_a_function_before_a_cache_is_told_by_first_epochs() -> None:
    report = gl.profile(Range(64).map(work).cache().map(add_one).batch(8), **QUICK)
    first = report.first_epoch
    assert first is not None and methods(report)["work"] == IN_PLACE
    own = {step.name: step.cpu_s_per_sample.value for step in first.steps}
    later = {step.name: step.cpu_s_per_sample.value for step in report.steps}
    assert later["work"] == 0.0 and own["work"] is not None and own["work"] > 2e-5
    assert {window.kind for window in report.windows if window.step == FIRST_EPOCH} == {"with", WHOLE, IN_PLACE}
    assert list(own)[-1] == list(later)[-1] == "hand-over"


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.usefixtures("few_builds")
def test_a_wanted_precision_is_planned_and_kept() -> None:
    said: list[str] = []
    dataset = Range(4000).map(work, num_parallel_calls=2).map(is_even).batch(16)
    report = gl.profile(dataset, precision=0.1, announce=said.append)
    asked = report.precision
    assert asked is not None and said[0].startswith("planned: ")
    assert all("out of reach" in line for line in said[1:]), "which a busy machine may make of it"
    assert asked.took_s <= 1.3 * asked.planned_s and (asked.reached or asked.builds > 5)
