"""The GPU's bench, rehearsed on DALI's CPU operators: a fault there would cost an hour of a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import gpu, gpu_pixels, gpu_rows
from greenload.backends.dali import plugin


@pytest.mark.long
@pytest.mark.slow
def test_a_rehearsal_of_every_contest(
    sample_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nvidia.dali")
    monkeypatch.setattr(gpu_pixels, "CHECKED", 8)
    out = tmp_path / "gpu.json"
    asked = ["--out", str(out), "--cpu-rehearsal", "--data", str(sample_folder), "--batch", "4,8", "--threads", "2"]
    assert gpu.main([*asked, "--seconds", "0.2", "--warm-up", "0", "--rounds", "1"]) == 0
    result = json.loads(out.read_text())
    assert result["complete"]
    contestants = [name for name in gpu.CONTESTANTS if name != gpu_rows.IN_TENSORFLOW or plugin.availability().usable]
    assert {row["contestant"] for row in result["summary"]} == set(contestants)
    assert [row["setting"]["augmented"] for row in result["summary"]].count(True) == len(contestants)
    assert all("not run" in line for line in result["reach"])  # what a CPU does says nothing of a GPU
    assert result["pixels"]["decode"]["max_levels"] == 0
    assert all(found["mean_levels"] < 0.01 for found in result["pixels"].values())
    assert "augmented" in capsys.readouterr().out


def test_reach_is_judged_by_both_and_says_what_was_not_run() -> None:
    setting = {"batch": 256, "dtype": "float32", "hw_load": 0.65, "augmented": False}

    def row(name: str, rate: float, joules: float | None) -> dict[str, object]:
        return {"contestant": name, "setting": setting, "images_per_s": rate, "gpu_j_per_image": joules}

    lines = gpu_rows.reach([row("greenload", 980.0, 1.05), row("handwritten", 1000.0, 1.0)], {}, on_gpu=True)
    assert lines == [
        "greenload against handwritten, batch 256, float32, hardware decoder 0.65: "
        "images/s 0.980 (at least 0.97: met), joules 1.050 (at most 1.03: MISSED)"
    ]
    rows = [row("greenload", 960.0, None), row("handwritten", 1000.0, None)]
    lines = gpu_rows.reach(rows, {"tensorflow": "none here"}, on_gpu=True)
    assert "images/s 0.960 (at least 0.97: MISSED), joules not run: no energy counter" in lines[0]
    assert lines[1] == "tensorflow against handwritten: not run: none here"
    assert "images/s not run: no GPU, joules not run: no GPU" in gpu_rows.reach(rows, {}, on_gpu=False)[0]
