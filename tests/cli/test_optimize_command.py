"""``greenload optimize``: options, exit statuses, files, one line for what is wrong; and one search for real."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from known_optimizations import PLANES, optimization

import greenload as gl
from greenload import cli
from greenload.optimization.data import Optimization

SCRIPT = """
import sys
import numpy as np
import greenload as gl

print("imported", *sys.argv[1:], file=sys.stderr)
source = gl.Arrays(np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3), np.uint8), np.arange(256) % 4)

def made(*stages):
    return gl.Pipeline(source, gl.Shuffle(), *stages, gl.Batch(16))

arrays = made(gl.RandomHorizontalFlip(), gl.Resize(24))
number = 3

def dataset():
    import tensorflow as tf
    return tf.data.Dataset.range(8)

def photos(folder):
    return gl.Pipeline(gl.ImageFolder(folder), gl.Shuffle(), gl.Decode(), gl.RandomResizedCrop(32), gl.Batch(8))
"""
ASKED = ["--epochs", "90", "--ram", "8GiB"]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file with pipelines, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("train.py").write_text(SCRIPT)
    return "train.py"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the library's function is called with; it gives the known optimization, with a plan that can be saved."""
    calls: list[Any] = []

    def optimize(pipeline: Any, **more: Any) -> Optimization:
        calls.append((pipeline, more))
        if more["out"]:
            Path(more["out"]).write_text("measured so far")
        return replace(optimization(), planned=gl.make_plan(pipeline, "native"))

    monkeypatch.setattr("greenload.optimization.optimize.optimize", optimize)
    return calls


def test_options_reach_the_library(script: str, asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        *("optimize", f"{script}:arrays", *ASKED, "--disk", "50GiB", "--folder", "kept", "--demand", "2000/s"),
        *("--allow", "antialias,float16", "--objective", "cpu", "--threads", "2", "--seconds", "60"),
        *("--json", "found.json", "--html", "found.html", "--plan", "plan.json", "--", "--mine"),
    ]
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == "imported --mine\n"
    ((pipeline, more),) = asked
    assert isinstance(pipeline, gl.Pipeline) and callable(more.pop("progress"))
    assert more == {
        "epochs": 90,
        "ram": "8GiB",
        "disk": "50GiB",
        "folder": "kept",
        "demand": "2000/s",
        "allow": "antialias,float16",
        "objective": "cpu",
        "threads": 2,
        "seconds": 60.0,
        "out": "found.json.search",
    }
    assert out.startswith(f"use {PLANES}\n") and "written: found.json, found.html" in out
    assert "the plan: plan.json, for gl.load(gl.load_plan('plan.json')) and greenload profile" in out
    assert not Path("found.json.search").exists(), "the search has ended, and is written"
    saved = Optimization.load("found.json")
    assert saved.settings.details == {"pipeline": "train.py:arrays"} and saved.winner == PLANES
    assert "Cost against memory held" in Path("found.html").read_text()
    assert gl.load_plan("plan.json", source=pipeline.source).backend == "native"
    assert gl.load_plan("found.json", source=pipeline.source).threads == pipeline_threads(pipeline)


def pipeline_threads(pipeline: gl.Pipeline) -> int:
    return gl.make_plan(pipeline, "native").threads


def test_without_a_file_nothing_is_kept(script: str, asked: list[Any]) -> None:
    assert cli.main(["optimize", f"{script}:arrays", *ASKED]) == 0
    assert cli.main(["optimize", f"{script}:arrays", *ASKED, "--plan", "plan.json"]) == 0
    assert [more["out"] for _, more in asked] == [None, "plan.json.search"]
    assert {path.name for path in Path().iterdir() if path.is_file()} == {"plan.json", "train.py"}


def test_a_folder_reaches_a_function(script: str, asked: list[Any], sample_folder: Path) -> None:
    assert cli.main(["optimize", f"{script}:photos", *ASKED, "--data", str(sample_folder)]) == 0
    assert len(asked[0][0].source) == 48


def test_progress_fits_80_columns(script: str, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    @contextmanager
    def progress(text: str) -> Iterator[Any]:
        yield lambda share, now: shown.append(now)

    monkeypatch.setattr("greenload.cli.optimize.progress", progress)
    assert cli.main(["optimize", f"{script}:arrays", *ASKED]) == 0
    asked[0][1]["progress"](0.5, "racing native, planes in memory, 2 threads, build 3; 41 s left at most")
    assert shown == ["racing native, planes in memory, 2 thre…"]


def test_a_demand_that_nothing_meets_is_status_one_with_the_nearest(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unmet(pipeline: Any, **_: Any) -> Optimization:
        return replace(optimization(demand=20_000.0), planned=gl.make_plan(pipeline, "native"))

    monkeypatch.setattr("greenload.optimization.optimize.optimize", unmet)
    arguments = ["optimize", f"{script}:arrays", *ASKED, "--demand", "20000/s", "--plan", "plan.json"]
    assert cli.main(arguments) == 1
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert last.startswith(
        f"greenload: error: no plan meets the demand of 20000/s; nearest is {PLANES}: it gives 12,188"
    )
    assert out.startswith("no plan meets the demand") and Path("plan.json").exists()


@pytest.mark.slow
def test_a_dataset_is_improved_and_has_no_plan(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorflow")
    calls: list[dict[str, Any]] = []

    class Improvement:
        def to_dict(self) -> dict[str, Any]:
            return {"format": "known"}

        def render(self) -> str:
            return "one change saves 30 %"

    def optimize(dataset: Any, **more: Any) -> Improvement:
        calls.append(more)
        return Improvement()

    monkeypatch.setattr("greenload.optimization.optimize.optimize", optimize)
    arguments = ["optimize", f"{script}:dataset", *ASKED, "--demand", "2000/s"]
    assert cli.main([*arguments, "--json", "out.json"]) == 0
    assert "one change saves 30 %" in capsys.readouterr().out
    assert json.loads(Path("out.json").read_text()) == {"format": "known"}
    assert set(calls[0]) == {"epochs", "ram", "demand", "threads", "seconds", "progress"}
    for option, value in (
        ("--plan", "plan.json"),
        ("--html", "page.html"),
        ("--allow", "float16"),
        ("--objective", "cpu"),
    ):
        assert cli.main([*arguments, option, value]) == 2
        said = f"train.py:dataset: is a tf.data.Dataset, whose steps stay: leave {option} out"
        assert said in capsys.readouterr().err.splitlines()[-1]
    assert len(calls) == 1


def test_ctrl_c_says_what_is_kept(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: Any, **__: Any) -> Optimization:
        raise KeyboardInterrupt

    monkeypatch.setattr("greenload.optimization.optimize.optimize", stopped)
    for more, says in (
        (["--json", "out.json"], "what was measured is kept in out.json.search: the same command goes on from it"),
        ([], "interrupted: nothing was kept: with --json or --plan FILE"),
    ):
        assert cli.main(["optimize", f"{script}:arrays", *ASKED, *more]) == 130
        assert says in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "pipeline"),
        (["S:arrays"], "--epochs belongs to the training that is to be fed: add it, as --epochs 90"),
        (["S:arrays", "--epochs", "90"], "add it, as --ram 8GiB"),
        (["S:arrays", "--epochs", "none", "--ram", "1GB"], "positive whole number"),
        (["S:arrays", "--epochs", "2", "--ram", "lots"], "ram is a number of bytes, as '8GiB', '500MB' or 0"),
        (["S:arrays", *ASKED, "--disk", "much"], "disk is a number of bytes"),
        (["S:arrays", *ASKED, "--disk", "5GB"], "comes without one: add folder="),
        (["S:arrays", *ASKED, "--demand", "many"], "demand is a rate, as '2000/s'"),
        (["S:arrays", *ASKED, "--allow", "blur"], "allow must be"),
        (["S:arrays", *ASKED, "--objective", "money"], "invalid choice: 'money'"),
        (["S:arrays", *ASKED, "--threads", "0"], "positive whole number"),
        (["S:arrays", *ASKED, "--seconds", "1"], "seconds must be a number from 5"),
        (["S:arrays", *ASKED, "--json", "a", "--html", "a"], "need a file each"),
        (["S:arrays", *ASKED, "--json", "a", "--plan", "a"], "--plan and --json need a file each: name two"),
        (
            ["S:arrays", *ASKED, "--plan", "gone/plan.json"],
            "gone/plan.json: can't be written: its folder",
        ),
        (["S:gone", *ASKED], "has no pipeline 'gone'"),
        (["S:number", *ASKED], "must be a greenload.Pipeline"),
        (["S:photos", *ASKED], "needs a data folder: pass --data FOLDER"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_measured(
    arguments: list[str], says: str, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.replace("S:", f"{script}:") for argument in arguments]
    assert cli.main(["optimize", *given]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("imported")]
    assert len(lines) == 1 and lines[0].startswith("greenload: error: ") and says in lines[0], lines
    assert [path.suffix for path in Path().iterdir() if path.is_file()] == [".py"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    optimization().save("found.json")
    Path("damaged.json").write_text(json.dumps({**optimization().to_dict(), "candidates": 3}))
    Path("newer.json").write_text(json.dumps({**optimization().to_dict(), "schema": "greenload.optimization/2"}))


@pytest.mark.usefixtures("files")
def test_report_shows_an_optimization_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "found.json", "--html", "found.html", "--json", "copy.json"]) == 0
    assert capsys.readouterr().out.startswith(f"use {PLANES}\n")
    assert "Why not the others" in Path("found.html").read_text()
    assert Optimization.load("copy.json") == Optimization.load("found.json") == optimization()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (
            ["found.json", "found.json"],
            2,
            "is an optimization, which is shown by itself: leave found.json out",
        ),
        (["found.json", "--carbon"], 2, "is an optimization, which is shown by itself: leave --carbon out"),
        (["found.json", "--budget", "cpu_s_per_sample<=1"], 2, "leave --budget out"),
        (["damaged.json"], 1, "damaged.json: an optimization follows greenload.optimization/1"),
        (["newer.json"], 1, "this greenload reads greenload.optimization/1, found greenload.optimization/2"),
    ],
)
def test_report_says_what_is_wrong_in_one_line(
    arguments: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", *arguments]) == status
    error = capsys.readouterr().err.strip()
    assert error.startswith("greenload: error: ") and "\n" not in error and says in error


@pytest.mark.slow
@pytest.mark.timeout(900)  # most of it waits for processors where the machine is busy
def test_a_search_is_run_written_and_its_plan_is_used(
    script: str, sample_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorflow")
    data = ["--data", str(sample_folder)]
    files = ["--json", "found.json", "--html", "found.html", "--plan", "plan.json"]
    arguments = ["optimize", f"{script}:photos", *data, "--epochs", "3", "--ram", "100MB", "--seconds", "10"]
    assert cli.main([*arguments, *files]) == 0
    out = capsys.readouterr().out
    found = Optimization.load("found.json")
    assert found.best.outlay is not None and found.today is not None and found.unmet == ""
    assert found.winner in " ".join(out.split()) and "written: found.json, found.html" in out
    assert found.winner in Path("found.html").read_text().replace("&#39;", "'")
    assert found.training.samples == 48 and found.training.epochs == 3
    batches = list(gl.load(gl.load_plan("plan.json"), epochs=1))
    assert sum(len(images) for images, _ in batches) == 48
    assert cli.main(["profile", "plan.json", "--samples", "16", "--rounds", "1"]) == 0
