"""Builds of real plans on real photographs: what runs is what `load` runs, and nothing of it stays behind."""

import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.backends.native import op
from greenload.energy.sampler import Sampler
from greenload.energy.settle import settle
from greenload.optimization import trials as trials_module
from greenload.optimization.builds import Build
from greenload.optimization.trials import Trials
from greenload.plans.plan import Plan

pytestmark = pytest.mark.timeout(900)  # most of it waits for processors where the machine is busy
slow = pytest.mark.slow
native = pytest.mark.skipif(not op.usable(), reason="the kernel's operations aren't built")


@pytest.fixture
def sampler() -> Iterator[Sampler]:
    with Sampler([]) as running:
        yield running


def cached(train: gl.Pipeline, **where: Any) -> Plan:
    source, shuffle, decode, *rest = train.source, *train.stages
    kept = gl.Pipeline(source, shuffle, decode, gl.Cache(**where), *rest, seed=train.seed)
    return gl.make_plan(kept, "native", threads=2)


def all_of(train: gl.Pipeline) -> np.ndarray:
    return np.arange(len(train.source), dtype=np.int64)


def run(sampler: Sampler, train: gl.Pipeline, **plans: Plan) -> dict[str, Build]:
    trials = Trials(all_of(train), len(train.source), sampler)
    trials.window_s = 0.1
    return {build.name: build for build in trials.lot(plans, 0)}


@pytest.mark.alone
@slow
@native
def test_a_build_takes_what_epochs_of_load_take(train: gl.Pipeline, sampler: Sampler) -> None:
    plan = gl.make_plan(train, "native", threads=2)
    build = run(sampler, train, plain=plan)["plain"]
    assert not build.failed and build.samples == 48 and build.filling is None
    assert len(build.later) == trials_module.ROUNDS
    dataset = gl.load(plan)
    for _ in dataset:
        pass
    settle()
    began, epochs = time.process_time(), 8
    for _ in range(epochs):
        for _ in dataset:
            pass
    took = (time.process_time() - began) / epochs
    seen = sum(window.cpu_s for window in build.later) / sum(window.samples for window in build.later) * 48
    assert seen == pytest.approx(took, rel=0.35)
    assert build.start is not None and build.start.cpu_s > 1.3 * seen, "it holds building and tracing"


@pytest.mark.alone
@slow
@native
def test_what_fills_is_told_from_what_starts_and_from_what_follows(train: gl.Pipeline, sampler: Sampler) -> None:
    build = run(sampler, train, kept=cached(train, form="planes", ram=64_000_000))["kept"]
    assert build.start and build.filling and build.filling.samples == 48
    reads = [(window.reads or 0) * 48 / window.samples for window in (build.filling, *build.later)]
    assert reads[0] >= max(reads[1:]) + 48, "what was kept is forgotten, and files are read again; later ones aren't"
    assert build.start.cpu_s > build.filling.cpu_s
    assert build.kept_samples == 48 and build.kept_bytes and build.kept_bytes > 48 * 50_000


@slow
@native
def test_of_drawn_samples_as_large_a_part_is_kept_as_of_the_set(train: gl.Pipeline, sampler: Sampler) -> None:
    """Half of the set is drawn, and the budget holds about half of the set: of what is drawn half is kept too."""
    whole = run(sampler, train, kept=cached(train, form="planes", ram=64_000_000))["kept"]
    budget = int(whole.kept_bytes or 0) // 2
    trials = Trials(all_of(train)[::2].copy(), len(train.source), sampler)
    trials.window_s = 0.05
    (build,) = trials.lot({"kept": cached(train, form="planes", ram=budget)}, 0)
    assert build.samples == 24 and build.kept_bytes and build.kept_bytes <= budget / 2
    assert 6 <= (build.kept_samples or 0) <= 18
    assert build.begin_cpu_s > 0
    assert not build.begins, "an epoch of so few is hardly more than its beginning"


@slow
@native
def test_a_folder_is_left_as_it_was(train: gl.Pipeline, sampler: Sampler, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    build = run(sampler, train, kept=cached(train, form="transcoded", path=str(tmp_path), disk=64_000_000))["kept"]
    assert not build.failed and build.kept_samples == 48
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine"]


class Broken(RuntimeError):
    pass


@slow
def test_a_plan_that_fails_says_why_in_one_line_and_others_go_on(train: gl.Pipeline, sampler: Sampler) -> None:
    def fail(image: Any) -> Any:
        raise Broken("this stage\ncan't")

    failing = gl.Pipeline(*[train.source, *train.stages[:-1]], gl.Apply(fail), train.stages[-1])
    builds = run(sampler, train, good=gl.make_plan(train, "tf"), bad=gl.make_plan(failing, "tf"))
    assert builds["good"].later and not builds["good"].failed
    assert "this stage" in builds["bad"].failed and "\n" not in builds["bad"].failed
    assert builds["bad"].start is None


@slow
def test_a_plan_that_hangs_is_given_up(train: gl.Pipeline, sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials_module, "STUCK_AFTER_S", 4.0)
    let_go = []

    def hang(image: Any) -> Any:
        while not let_go:
            time.sleep(0.1)
        return image

    hanging = gl.Pipeline(
        train.source, *train.stages[:-1], gl.Apply(functools.partial(_in_python, hang)), train.stages[-1]
    )
    trials = Trials(all_of(train), len(train.source), sampler)
    began = time.monotonic()
    try:
        (build,) = trials.lot({"hangs": gl.make_plan(hanging, "tf")}, 0)
    finally:
        let_go.append(True)
    assert "gave no element for 4 s" in build.failed and time.monotonic() - began < 60


def _in_python(function: Any, image: Any) -> Any:
    from greenload.system.frameworks import tf

    shape = image.shape
    done = tf.numpy_function(function, [image], image.dtype)
    done.set_shape(shape)
    return done


@slow
@native
def test_held_out_runs_are_of_the_epochs_asked_for(train: gl.Pipeline, sampler: Sampler) -> None:
    trials = Trials(all_of(train), len(train.source), sampler)
    plan = gl.make_plan(train, "native", threads=2)
    seen = [trials.once("plan", plan, epochs, 1000) for epochs in (1, 40)]
    assert [one.start.samples for one in seen if one.start] == [48, 40 * 48]
    assert seen[1].start and seen[0].start and seen[1].start.cpu_s > seen[0].start.cpu_s
