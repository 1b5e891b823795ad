"""Programs in the manner of public tutorials: under `greenload watch` they print what they print alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "bench" / "tutorials"
STEPS = {
    "augmentation": {"lambda pair, seed: cropped(pair…", "counter: scan"},
    "csv_columns": {"packed", "encoded", "from_line"},
    "custom_loop": {"normalized"},
    "distributed": {"scaled", "lambda x, y: (x * 2, y)"},
    "generator": {"series", "turned_by_python", "ragged_batch: dense_to_ragged"},
    "images_from_directory": {"image_dataset_from_directory: map", "rescaled"},
    "performance_guide": {"_records", "slow", "increased"},
    "text_vectorization": {"text_dataset_from_directory: map", "vectorized"},
    "tfrecords": {"parsed", "decoded"},
    "time_series": {"split_window", "timeseries_dataset_from_array: map"},
}
"""Steps that a table must have, by program."""
QUICK = ("custom_loop", "distributed")
CASES = [pytest.param(name, marks=pytest.mark.slow if name in QUICK else pytest.mark.long) for name in sorted(STEPS)]


def test_every_program_is_known() -> None:
    assert {file.stem for file in FOLDER.glob("[!_]*.py")} == set(STEPS)


@pytest.mark.parametrize("name", CASES)
def test_a_program_is_as_alone_and_has_its_table(name: str, tmp_path: Path) -> None:
    program, environment = str(FOLDER / f"{name}.py"), os.environ | {"PYTHONPATH": str(FOLDER.parents[1])}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = (sys.executable, *words, program)
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=140)

    alone, watched = run(), run("-m", "greenload", "watch", "--json", "watch.json")
    assert (watched.returncode, watched.stdout) == (alone.returncode, alone.stdout)
    assert alone.returncode == 0, alone.stderr
    steps = [
        step for dataset in json.loads((tmp_path / "watch.json").read_text())["datasets"] for step in dataset["steps"]
    ]
    assert STEPS[name] <= {step["name"] for step in steps if step["calls"]}
    assert any(step["name"] in watched.stderr for step in steps)
