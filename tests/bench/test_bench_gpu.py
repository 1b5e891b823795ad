"""The GPU's bench, rehearsed on DALI's CPU operators: a fault there would cost an hour of a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import gpu, gpu_pixels


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
    assert {row["contestant"] for row in result["summary"]} == {"greenload", "handwritten"}
    assert [row["setting"]["augmented"] for row in result["summary"]].count(True) == 2
    assert result["pixels"]["decode"]["max_levels"] == 0
    assert all(found["mean_levels"] < 0.01 for found in result["pixels"].values())
    assert "augmented" in capsys.readouterr().out
