"""The windows of a plan's campaign: which of them read, and on how many builds a change is tried."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from greenload.energy.sampler import Sampler
from greenload.energy.settle import Settled
from greenload.profiling import campaign, pipeline_campaign, windows
from greenload.profiling.options import Options
from greenload.profiling.page_cache import Dropped
from greenload.profiling.pipeline_campaign import PipelineCampaign


class Passing:
    """Passes samples without any work."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def run(self, samples: int) -> int:
        self.asked.append(samples)
        return samples

    def close(self) -> None:
        pass


class Dropping:
    """Drops nothing, and remembers how often."""

    def drop(self) -> Dropped:
        return Dropped(1, 1, 0)


class Faked(PipelineCampaign):
    """A campaign whose runs pass samples, and whose windows hold a hundred."""

    def __init__(self, sampler: Sampler, cold: Any = None) -> None:
        steps = tuple(SimpleNamespace(name=kind, kind=kind) for kind in ("read", "pixels", "cache", "batch"))
        plan: Any = SimpleNamespace(steps=steps, pipeline=SimpleNamespace(times=1), segments=())
        super().__init__(plan, np.arange(8), sampler, Options(rounds=5), cold=cold)
        self.made = 0

    def _full(self, made: Any) -> Passing:
        self.made += 1
        return Passing()

    def _window_samples(self, run: Any, seconds: float, s_per_sample: float = 0.0) -> int:
        return 100


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (windows, campaign, pipeline_campaign):
        monkeypatch.setattr(module, "settle", lambda *_: Settled(True, 0.0))
    monkeypatch.setattr(pipeline_campaign, "DatasetBuilder", lambda plan, order: None)


def test_a_change_is_tried_on_several_builds_that_share_the_rounds() -> None:
    """On one build a change that does nothing would seem to save what two builds of one pipeline differ by."""
    with Sampler([]) as sampler:
        tried = Faked(sampler)
        tried.trial("no change", tried.plan)
    assert tried.made == 2 * windows.BUILDS
    assert Counter((one.build, one.kind) for one in tried.seen) == {
        (build, kind): 3 for build in range(windows.BUILDS) for kind in ("with", "without")
    }


def test_all_prefixes_are_read_cold_and_replays_are_not() -> None:
    """Before a cache of pixels a prefix ends in a step whose replay reads nothing."""
    with Sampler([]) as sampler:
        cold = Faked(sampler, Dropping())
        prefixes: dict[str, Passing] = {}
        replays: Any = SimpleNamespace(prefix=lambda step: prefixes.setdefault(step.name, Passing()))
        cold._prefixes(replays, cold.plan.steps[2], 0)
        assert len(cold.dropped) == len(cold.seen) == 10
        assert {name: run.asked[-5:] for name, run in prefixes.items()} == {"pixels": [8] * 5, "cache": [8] * 5}
        cold._replay(cold.plan.steps[1], (Passing(), Passing()), 0)
        assert len(cold.dropped) == 10 and cold.seen[-1].samples == 100
        cold.trial("a change", cold.plan)
        cold._window(Passing(), 100, "", "full", 0, 0)
        assert len(cold.dropped) == 10 + 12 + 1 and cold.seen[-1].samples == 8


def test_a_step_without_windows_has_no_cost() -> None:
    """A cost of 0 would put each step behind the one before it."""
    with Sampler([]) as sampler:
        seen = Faked(sampler)
        seen._replay(seen.plan.steps[1], (Passing(), Passing()), 0)
        assert seen.cost("pixels") == pytest.approx(0.0, abs=0.01)
        with pytest.raises(KeyError):
            seen.cost("cache")


def test_what_other_backends_do_on_batches_is_surest_to_be_out_of_place() -> None:
    import greenload as gl
    from greenload.planning.choose import make_plan

    pixels = (gl.Decode(), gl.Resize((8, 8)), gl.ToDtype("float32", scale=True))
    pipeline = gl.Pipeline(gl.Files(["a.jpg"]), *pixels, gl.Batch(4))
    alone = make_plan(pipeline, "tf", threads=1)
    mixed = make_plan(pipeline, {"Decode": "tf", "Resize": "pillow", "ToDtype": "tf"}, threads=1)
    with Sampler([]) as sampler:
        for plan, names in ((alone, set()), (mixed, {"Resize", "Batch + transfer"})):
            made = PipelineCampaign(plan, np.arange(1), sampler, Options(rounds=2))
            assert set(made.isolation_bias) == names


def test_bytes_that_reach_a_batch_are_the_same_in_memory_of_their_own() -> None:
    tf = pytest.importorskip("tensorflow")
    from greenload.profiling.replays import _anew

    for data in (b"", b"\xff\xd8\x00\xff", b"a" * 40_000):
        assert _anew({"image": tf.constant(data)})["image"].numpy() == data
