"""What ``bench.reach`` makes of windows, and that its contestants do what they say."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import reach, reach_kernel, reach_memory, reach_peers, reach_rows, reach_subjects
from bench.by_hand import Workload
from bench.contest import Window, table
from bench.processes import Memory
from bench.reach_kernel import Build, Turn
from bench.reach_pace import Pace, gains, paced
from bench.reach_rows import Preparation
from bench.reach_subjects import CACHED, CACHED_UINT8, DISK, FLOAT, HALF, PLAIN, RAM, STREAMING, TEXTBOOK, TUNED
from greenload.backends.native import library


def window(group: str, contestant: str, k: int, cpu_s: float, build: int = 0, images: int = 100) -> Window:
    return Window(group, contestant, build, k, images, cpu_s, 1.0, True)


def test_what_was_asked_is_shown_and_what_lacks_is_named():
    windows = [window(PLAIN, "greenload", 0, 0.6), window(PLAIN, TUNED, 0, 1.0)]
    rows, lacking = reach_rows.compared(windows)
    assert [(row.what, row.measured.median, row.reach) for row in rows] == [
        ("streaming: greenload over hand-tuned", 0.6, 0.62)
    ]
    assert all(text.startswith("streaming: ") for text in lacking), "groups that didn't run are nobody's lack"
    assert any("pack --transcode" in text for text in lacking)


def test_half_a_set_is_held_against_the_mean_of_both_regimes():
    windows = [window(CACHED, HALF, 0, 0.42), window(CACHED, RAM, 0, 0.1), window(CACHED, STREAMING, 0, 0.7)]
    windows += [window(CACHED, HALF, 1, 0.5), window(CACHED, RAM, 1, 0.1)]  # a round that lacks one
    windows += [window(CACHED, DISK, 1, 0.11)]
    assert reach_rows.half_over_mean(windows) == [pytest.approx(1.05)]
    rows, _ = reach_rows.compared(windows)
    assert {row.what: row.reach for row in rows}["cached: all on disk over all in RAM"] == 1.2
    assert "1/2 of the set in RAM 4.600" in reach_rows.curve(windows)[0]


def test_ninety_epochs_are_a_first_and_89_later_ones():
    windows = [window(FLOAT, TEXTBOOK, 0, 0.2), window(FLOAT, CACHED_UINT8, 0, 0.01)]
    first = Preparation(CACHED_UINT8, 0, 100, 0.31, 1.0)
    row, cost = reach_rows.in_all(windows, [first])
    assert row.measured.median == pytest.approx((0.31 + 89 * 0.01) / (90 * 0.2))
    assert row.reach == 0.06 and cost.measured.median == pytest.approx(3.1)
    assert reach_rows.in_all(windows, [replace(first, turn=1)])[:-1] == [], "another build's preparation"


def test_images_per_second_should_be_more():
    paces = [Pace(PLAIN, "greenload", 0, 0, 100, 1.0), Pace(PLAIN, TUNED, 0, 0, 100, 1.5)]
    assert gains(paces, PLAIN, "greenload", TUNED) == [1.5]
    row = reach_rows.speeds(paces)[0]
    assert row.met is False and replace(row, least=1.5).met is True
    assert "≥ 1.6" in table([row])


def test_a_cache_is_charged_for_what_it_takes_beyond_its_bytes():
    names = reach_memory.CONTESTANTS
    found = [Memory(name, "memory", 9, int(peak * 1e6), 1) for name, peak in zip(names, (800, 1150, 1000), strict=True)]
    ratio, above, *_ = reach_memory.rows(found, int(200e6))
    assert ratio.measured.median == 0.8 and above.measured.median == pytest.approx(150)


def test_the_kernels_clocks_are_held_against_the_threads_and_against_standing_ones():
    shares, overhead, setup, _ = reach_kernel.rows([Build(12.0, 20.0)], [Turn(1.005, 1.0, 1.0, 0.98)])
    assert shares.measured.median == 0.98 and shares.met
    assert overhead.measured.median == pytest.approx(0.005) and overhead.met
    assert setup.measured.median == 12.0


def test_windows_of_peers_are_those_of_torchvision():
    draw = random.Random(0)
    drawn = np.array([reach_peers.window_of(375, 500, draw) for _ in range(4000)])
    top, left, tall, wide = drawn.T
    assert (top >= 0).all() and (top + tall <= 375).all() and (left >= 0).all() and (left + wide <= 500).all()
    # Where a window doesn't fit it is drawn anew, so large ones are rarer than an even draw would have them.
    assert np.mean(tall * wide) == pytest.approx(81_100, rel=0.03)
    assert reach_peers.window_of(1, 1000, random.Random(0)) == (0, 499, 1, 1)


def test_a_rotated_set_is_another_to_a_cache_and_the_same_photographs():
    work = Workload(("a", "b", "c"), (0, 1, 2))
    assert reach_subjects.rotated(work, 4) == replace(work, paths=("b", "c", "a"), labels=(1, 2, 0))


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        reach.arguments(["--only", "streaming,speed"])
    assert "speed" in capsys.readouterr().err


@pytest.mark.slow
def test_paces_are_taken_in_turns():
    batches = {name: lambda: iter([np.zeros(8)] * 1000) for name in ("a", "b")}
    found = paced("g", batches, builds=1, rounds=2, images=20)
    assert sorted((one.contestant, one.round, one.images) for one in found) == [
        (name, k, 24) for name in ("a", "b") for k in (0, 1)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "reaches"),
    [
        ("evaluation", {0.35}),
        pytest.param("kernel", {0.01, 30.0}, marks=pytest.mark.long),
        pytest.param("streaming,pace", {0.62}, marks=pytest.mark.long),
        pytest.param("cached", {1.0, 1.05, 1.2}, marks=pytest.mark.long),
        pytest.param("float32,memory", {0.06, 0.4, 200.0}, marks=pytest.mark.long),
    ],
)
def test_a_small_run(
    parts: str, reaches: set[float], sample_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("tensorflow")
    if library.why_missing():
        pytest.skip("the kernel isn't built")
    out = tmp_path / "reach.json"
    asked = ["--photos", str(sample_folder), "--images", "48", "--batch", "16", "--quick", "--rounds", "1"]
    reach.main([*asked, "--only", parts, "--out", str(out)])
    result, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert result["machine"] and all(row["what"] in printed for row in result["rows"])
    assert {row["reach"] for row in result["rows"]} >= reaches
