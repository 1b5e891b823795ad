"""The benchmark harness: its ratios, its verdicts, its windows, and one small run of everything."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import __main__ as command
from bench.contest import Row, Spread, Window, compete, cpu_s_per_image, looks, ratios, table


def window(contestant: str, k: int, cpu_s: float, images: int = 100, settled: bool = True) -> Window:
    return Window("g", contestant, 0, k, images, cpu_s, 1.0, settled)


def test_ratios_pair_windows_of_one_round():
    windows = [window("a", 0, 1.0), window("b", 0, 2.0), window("b", 1, 40.0), window("a", 1, 10.0)]
    assert ratios(windows, "g", "a", "b") == [0.5, 0.25]


def test_ratios_are_per_image():
    windows = [window("a", 0, 1.0, images=50), window("b", 0, 1.0, images=100)]
    assert ratios(windows, "g", "a", "b") == [2.0]


def test_void_windows_void_their_round_only():
    windows = [window("a", 0, 1.0), window("b", 0, 2.0, settled=False), window("a", 1, 3.0), window("b", 1, 1.0)]
    assert ratios(windows, "g", "a", "b") == [3.0]
    assert cpu_s_per_image(windows, "g", "b").median == 0.01


def test_no_common_round_is_an_error():
    with pytest.raises(ValueError, match="settled windows of 'a' and of 'b'"):
        ratios([window("a", 0, 1.0), window("b", 1, 1.0)], "g", "a", "b")


def test_other_groups_are_left_out():
    windows = [window("a", 0, 1.0), window("b", 0, 2.0), replace(window("b", 0, 9.0), group="h")]
    assert ratios(windows, "g", "a", "b") == [0.5]


@pytest.mark.parametrize(("median", "met"), [(1.05, True), (1.0501, False)])
def test_a_row_is_met_up_to_its_reach(median: float, met: bool):
    assert Row("x", "×", Spread(median, 0.0, 9.0), reach=1.05).met is met


def test_the_table_says_what_was_missed():
    spread = Spread(2.0, 1.0, 3.0)
    text = table([Row("bad", "×", spread, 1.0), Row("good", "×", spread, 2.0), Row("info", "s", spread)])
    verdicts = [line.split()[-1] for line in text.splitlines()[1:]]
    assert verdicts[:2] == ["MISSED", "met"]
    assert "reach" in text and "≤" not in text.splitlines()[3]


def burn(seconds: float, batch: int) -> Iterator[np.ndarray]:
    while True:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        yield np.zeros((batch, 2, 2, 3), np.uint8)


@pytest.mark.slow
def test_compete_tells_twice_the_work():
    contestants = {"one": lambda: burn(0.01, 8), "two": lambda: burn(0.02, 8)}
    windows = compete("g", contestants, builds=2, rounds=2, images=20)
    assert {(w.build, w.round) for w in windows} == {(0, 0), (0, 1), (1, 2), (1, 3)}
    assert all(w.images == 24 for w in windows)  # whole batches
    assert np.median(ratios(windows, "g", "two", "one")) == pytest.approx(2.0, rel=0.25)


def test_looks_describes_what_comes_out():
    def batches() -> Iterator[np.ndarray]:
        while True:
            yield np.array([[[[0, 2]]]], np.float32)

    assert looks(batches, 4) == {"shape": [1, 1, 1, 2], "dtype": "float32", "mean": 1.0, "std": 1.0}


@pytest.mark.parametrize("change", [{"dtype": "float32"}, {"shape": [1]}, {"mean": 12.0}])
def test_contestants_that_do_not_do_the_same_are_refused(change: dict[str, object]):
    ours = {"shape": [4, 2], "dtype": "uint8", "mean": 10.0, "std": 20.0}
    assert command.same_looks("g", {"greenload": ours, "other": dict(ours)})
    with pytest.raises(ValueError, match="other"):
        command.same_looks("g", {"greenload": ours, "other": ours | change})


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        command.arguments(["--only", "float32,speed"])
    assert "speed" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ("import", {0.3}),
        pytest.param("float32", {0.65}, marks=pytest.mark.long),
        pytest.param("dali-cpu,evaluation,memory", {1.05, 1.1}, marks=pytest.mark.long),
    ],
)
def test_a_small_run_of_contestants(
    parts: str, wanted: set[float], sample_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("tensorflow")
    out = tmp_path / "results" / "bench.json"
    asked = ["--photos", str(sample_folder), "--images", "48", "--batch", "16", "--builds", "1", "--rounds", "2"]
    command.main([*asked, "--only", parts, "--memory-batches", "3", "--quick", "--out", str(out)])
    result = json.loads(out.read_text())
    printed = capsys.readouterr().out
    reaches = {row["what"]: row["reach"] for row in result["rows"] if row["reach"] is not None}
    assert set(reaches.values()) >= wanted
    assert all(what in printed for what in reaches)
    assert all(w["images"] == 48 for w in result["windows"])
    assert result["machine"]["cpus"] >= 1
    assert all(0.05 < row["measured"]["median"] < 20 for row in result["rows"] if row["unit"] == "×")
    assert all(m["peak_bytes"] > m["before_bytes"] > 1e8 for m in result.get("memory", ()))
    assert all(not one["heavy"] for one in result.get("imports", ()))
