"""``greenload compare``: pipelines and functions by name, options, exit statuses, one line for what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from known_comparisons import comparison, dearer, unscored

from greenload import cli
from greenload.report.checks import Check
from greenload.strategies.data import Comparison
from greenload.strategies.records import LimitCheck

SCRIPT = """
import sys
import numpy as np
import greenload as gl

runs = []
print("imported", *sys.argv[1:], file=sys.stderr)
source = gl.Arrays(np.random.default_rng(0).integers(0, 256, (96, 8, 8, 3), np.uint8), np.arange(96) % 4)

def made(*stages):
    return gl.Pipeline(source, gl.Shuffle(), *stages, gl.Batch(16))

plain = made()
flip = made(gl.RandomHorizontalFlip())
other = gl.Pipeline(gl.Arrays(np.zeros((96, 8, 8, 3), np.uint8), np.zeros(96, np.int64)), gl.Batch(16))
number = 3

def folder(path):
    return made(gl.RandomVerticalFlip())

def accuracy(dataset, seed):
    runs.append(seed)
    flipped = float(sum(images.numpy().astype(float).sum() for images, _ in dataset))
    return 0.9 + 1e-3 * seed + 1e-15 * flipped

def failing(dataset, seed):
    raise ValueError("no model")
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file with pipelines and functions, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("strategies.py").write_text(SCRIPT)
    return "strategies.py"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the library's function is called with; it gives the known comparison."""
    calls: list[Any] = []

    def compare(strategies: Any, **more: Any) -> Comparison:
        calls.append((strategies, more))
        return comparison()

    monkeypatch.setattr("greenload.strategies.compare.compare", compare)
    return calls


def test_options_reach_the_library(script: str, asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        *(f"{script}:plain", f"mirrored={script}:flip", f"{script}:folder"),
        *("--evaluate", f"{script}:accuracy", "--seeds", "4", "--budget", "15min", "--budget", "score>=0.9"),
        *("--limit", "energy<=1.2*plain", "--limit", "images_per_s>=10", "--at-least", "0.92", "--demand", "2000/s"),
        *("--backend", "tf", "--confidence", "90%", "--precision", "5%", "--json", "out.json", "--html", "out.html"),
    ]
    folder = [*arguments[:3], "--data", "photos", *arguments[3:]]
    assert cli.main(["compare", *folder]) == 2 and "takes no data folder" in capsys.readouterr().err
    needs = [f"{script}:plain", f"{script}:folder"]
    assert cli.main(["compare", *needs]) == 2 and "needs a data folder" in capsys.readouterr().err
    assert cli.main(["compare", *arguments[:2], *arguments[3:], "--", "--mine"]) == 0
    out, err = capsys.readouterr()
    assert err == "imported --mine\n", "run once, for two pipelines and a function"
    assert "recommended" in out and "written: out.json, out.html" in out
    ((strategies, more),) = asked
    assert list(strategies) == ["plain", "mirrored"]
    assert more.pop("evaluate").__name__ == "accuracy" and callable(more.pop("progress"))
    assert more == {
        "seeds": 4,
        "budget": "15min",
        "limits": ("energy<=1.2*plain", "images_per_s>=10"),
        "at_least": 0.92,
        "demand": 2000.0,
        "backend": "tf",
        "confidence": 0.9,
        "precision": 0.05,
        "out": "out.json",
    }
    saved = Comparison.load("out.json")
    assert [check.outcome for check in saved.checks] == ["met"] and "What they do to images" in Path(
        "out.html"
    ).read_text()


def test_progress_fits_80_columns(script: str, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    @contextmanager
    def progress(text: str) -> Iterator[Any]:
        yield lambda share, now: shown.append(now)

    monkeypatch.setattr("greenload.cli.compare.progress", progress)
    assert cli.main(["compare", f"{script}:plain", f"{script}:flip"]) == 0
    asked[0][1]["progress"](0.5, "randaugment: profiling, RandomResizedCrop with its input alone")
    assert shown == ["randaugment: profiling, RandomResizedCr…"]


def test_a_proxy_takes_its_settings(script: str, asked: list[Any]) -> None:
    pipelines = ["compare", f"{script}:plain", f"{script}:flip"]
    assert cli.main([*pipelines, "--proxy"]) == 0
    assert cli.main([*pipelines, "--proxy", "epochs=2,samples=50,size=16,batch=8"]) == 0
    assert cli.main(pipelines) == 0
    first, second, none = (more["evaluate"] for _, more in asked)
    assert (first.epochs, second.epochs, second.samples, second.size, second.batch) == (20, 2, 50, 16, 8)
    assert none is None


def test_pipelines_of_one_name_go_by_their_files(script: str, asked: list[Any]) -> None:
    Path("others.py").write_text(SCRIPT)
    assert cli.main(["compare", f"{script}:plain", "others.py:plain"]) == 0
    assert list(asked[0][0]) == ["strategies.py:plain", "others.py:plain"]


def test_a_budget_that_is_exceeded_is_status_one(
    script: str, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", f"{script}:plain", f"{script}:flip", "--budget", "energy<=10"]
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("greenload: error: exceeded: energy<=10, found 1100") and "of trivial" in error
    dearer(comparison(), 0.5, "mixup").save("old.json")
    assert cli.main([*arguments[:3], "--baseline", "old.json"]) == 1
    assert "exceeded: baseline old.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--proxy"], 1, "no recommendation: no run gave a score"),
        (["--evaluate", "S:failing", "--at-least", "0.9"], 1, "no recommendation: no run gave a score"),
        (["--limit", "images_per_s>=9000"], 1, "no strategy keeps to images_per_s>=9000"),
        (["--limit", "images_per_s>=1000"], 0, ""),
        ([], 0, ""),
    ],
)
def test_where_nothing_can_be_taken_the_status_is_one(
    arguments: list[str],
    status: int,
    says: str,
    script: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcome = "exceeded" if "9000" in " ".join(arguments) else "met"
    rules = arguments[1:2] if "--limit" in arguments else []
    limits = tuple(
        LimitCheck(strategy=card.strategy, check=Check(rule, outcome, 2000.0, 1990.0, 2010.0, 9000.0, ""))
        for rule in rules
        for card in unscored().cards
    )
    nothing = replace(unscored(), reason="no run gave a score", limits=limits)
    monkeypatch.setattr("greenload.strategies.compare.compare", lambda *_, **__: nothing)
    given = [argument.replace("S:", f"{script}:") for argument in arguments]
    assert cli.main(["compare", f"{script}:plain", f"{script}:flip", *given]) == status
    error = capsys.readouterr().err.splitlines()[-1]
    assert says in error and ("greenload: error" in error) == bool(status)


def test_ctrl_c_says_what_is_kept(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: Any, **__: Any) -> Comparison:
        raise KeyboardInterrupt

    monkeypatch.setattr("greenload.strategies.compare.compare", stopped)
    arguments = ["compare", f"{script}:plain", f"{script}:flip"]
    for more, says in (
        (["--json", "out.json"], "interrupted: what was measured is kept in out.json: the same command goes on from"),
        ([], "interrupted: nothing was kept: with --json FILE"),
    ):
        assert cli.main([*arguments, *more]) == 130
        assert says in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr("greenload.cli.commands.run_command", stopped)
    assert cli.main(["doctor"]) == 130
    assert capsys.readouterr().err == "greenload: error: interrupted\n", "of another command"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "[NAME=]PIPELINE"),
        (["S:plain"], 2, "two strategies or more, found 1"),
        (["S:plain", "S:plain"], 2, "found 'strategies.py:plain' twice: name one as OTHER=PIPELINE"),
        (["a=S:plain", "a=S:flip"], 2, "strategies have a name each, found 'a' twice"),
        (["plain=S:flip", "S:plain"], 2, "found 'plain' twice"),
        (["S:plain", "S:gone"], 2, "has no pipeline 'gone'; it has made, plain, flip, other, folder"),
        (["S:plain", "S:number"], 2, "must be a greenload.Pipeline"),
        (["S:plain", "gone.py:plain"], 2, "gone.py"),
        (["S:plain", "S:other"], 2, "the source of other isn't that of plain"),
        (["S:plain", "S:flip", "--evaluate", "S:number"], 2, "'number', which can't be called"),
        (["S:plain", "S:flip", "--evaluate", "S:nothing"], 2, "no function 'nothing'; it has made, folder, accuracy"),
        (["S:plain", "S:flip", "--evaluate", "accuracy"], 2, "a function is named MODULE:NAME or FILE.py:NAME"),
        (["S:plain", "S:flip", "--evaluate", "S:accuracy", "--proxy"], 2, "not allowed with"),
        (["S:plain", "S:flip", "--proxy", "epochs"], 2, "--proxy takes samples, size, epochs and batch"),
        (["S:plain", "S:flip", "--proxy", "epochs=many"], 2, "found 'epochs=many'"),
        (["S:plain", "S:flip", "--proxy", "size=4"], 2, "size must be 8 or more"),
        (["S:plain", "S:flip", "--proxy", "--limit", "energy<=2*gone"], 2, "a multiple of plain, flip"),
        (["S:plain", "S:flip", "--limit", "joy<=2"], 2, "a limit is of score, energy"),
        (["S:plain", "S:flip", "--at-least", "0.9"], 2, "nothing is evaluated"),
        (["S:plain", "S:flip", "--budget", "soon"], 2, "a budget is a time, as 15min"),
        (["S:plain", "S:flip", "--budget", "1h", "--budget", "2h"], 2, "found 1h and 2h"),
        (["S:plain", "S:flip", "--budget", "joy<=1"], 2, "a budget is of cpu_s_per_sample"),
        (["S:plain", "S:flip", "--seeds", "2"], 2, "from 3 to 1,000, found 2"),
        (["S:plain", "S:flip", "--demand", "many"], 2, "images per second"),
        (["S:plain", "S:flip", "--confidence", "2"], 2, "confidence"),
        (["S:plain", "S:flip", "--tolerance", "5%"], 2, "give --baseline too"),
        (["S:plain", "S:flip", "--baseline", "gone.json"], 1, "gone.json"),
        (["S:plain", "S:flip", "--baseline", "known.json", "--json", "known.json"], 2, "is the baseline"),
        (["S:plain", "S:flip", "--json", "a", "--html", "a"], 2, "need a file each"),
        (["S:plain", "S:flip", "--json", "known.json"], 1, "its runs are of another comparison"),
        (["S:plain", "S:flip", "--json", "cut.json"], 1, "cut.json: a report is JSON"),
        (["S:plain", "S:flip", "--backend", "gone"], 1, "strategy plain: backend must be one of"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_measured(
    arguments: list[str], status: int, says: str, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison().save("known.json")
    before = Path("known.json").read_bytes()
    Path("cut.json").write_bytes(before[:400])
    assert cli.main(["compare", *(argument.replace("S:", f"{script}:") for argument in arguments)]) == status
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("imported")]
    assert len(lines) == 1 and lines[0].startswith("greenload: error: ") and says in lines[0], lines
    assert "pipeline 'gone'" not in lines[0] or "accuracy" not in lines[0], "no pipeline, but a function that scores"
    assert Path("known.json").read_bytes() == before


@pytest.mark.slow
def test_a_comparison_is_run_kept_shown_and_gone_on_from(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorflow")
    arguments = ["compare", f"{script}:plain", f"{script}:flip", "--evaluate", f"{script}:accuracy"]
    arguments += ["--demand", "10", "--json", "out.json", "--html", "out.html"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "plain" in out and "flip" in out and "written: out.json, out.html" in out
    made = Comparison.load("out.json")
    assert made.finished and [card.strategy for card in made.cards] == ["plain", "flip"]
    assert {(run.strategy, run.seed) for run in made.runs} == {
        (name, k) for name in ("plain", "flip") for k in range(3)
    }
    assert all(card.starves is False for card in made.cards) and made.tied_with("plain") == ("flip",)
    assert [len(images) for images in made.pictures.values()] == [6, 6]
    page = Path("out.html").read_text()
    assert page.count("data:image/png") == 12 and "tied" in page
    # Nothing is run again.
    runs = sys.modules["_pipeline_file_strategies"].runs
    assert len(runs) == 7  # the first is run twice, as it pays for what all use
    assert cli.main(arguments) == 0
    assert sys.modules["_pipeline_file_strategies"].runs == [] and Comparison.load("out.json").runs == made.runs
    # And the file is read again.
    capsys.readouterr()
    assert cli.main(["report", "out.json", "--html", "again.html"]) == 0
    assert "plain" in capsys.readouterr().out and Path("again.html").read_text().count("data:image/png") == 12


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    comparison().save("a.json")
    dearer(comparison(), 2.0, "mixup").save("b.json")
    unscored().save("costs.json")


@pytest.mark.usefixtures("files")
def test_report_shows_a_comparison_and_judges_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "a.json", "--html", "a.html", "--json", "copy.json"]) == 0
    out = capsys.readouterr().out
    assert "recommended" in out and "randaugment" in out and "Score against cost" in Path("a.html").read_text()
    assert Comparison.load("copy.json") == comparison()
    assert cli.main(["report", "costs.json"]) == 0
    capsys.readouterr()
    assert cli.main(["report", "b.json", "--baseline", "a.json", "--budget", "score>=0.9", "--html", "b.html"]) == 1
    out, error = capsys.readouterr()
    assert "exceeded: baseline a.json" in error and "mixup costs more" in Path("b.html").read_text()
    assert "met: score&gt;=0.9" in Path("b.html").read_text() and "met: score>=0.9" in " ".join(out.split())
    assert cli.main(["report", "b.json", "--baseline", "a.json", "--tolerance", "100%"]) == 0


@pytest.mark.usefixtures("files")
def test_report_holds_two_comparisons_against_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "a.json", "b.json", "--html", "ab.html", "--json", "ab.json"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "mixup" in out and "a training, J" in out and "2.00 (" in out and "more" in out
    data = json.loads(Path("ab.json").read_text())
    assert [each["strategy"] for each in data["strategies"]] == ["plain", "trivial", "randaugment", "mixup"]
    assert "Two comparisons" in Path("ab.html").read_text()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["a.json", "--carbon"], 2, "leave --carbon out"),
        (["a.json", "b.json", "--budget", "score>=0.9"], 2, "leave b.json out"),
        (["a.json", "profile.json"], 1, "profile.json: a comparison follows greenload.compare/1"),
        (["profile.json", "a.json"], 1, "a.json: a report follows greenload.report/1"),
        (["profile.json", "--baseline", "a.json"], 1, "a.json: a report follows greenload.report/1"),
        (["a.json", "--baseline", "profile.json"], 1, "profile.json: a comparison follows greenload.compare/1"),
        (["a.json", "--budget", "reads_per_sample<=1"], 2, "a budget is of cpu_s_per_sample"),
        (["profile.json", "--budget", "score>=1"], 2, "a budget is of cpu_s_per_sample"),
        (["damaged.json"], 1, "damaged.json: a comparison follows greenload.compare/1"),
    ],
)
def test_report_says_what_is_wrong_in_one_line(
    arguments: list[str], status: int, says: str, measured: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    measured.save("profile.json")
    Path("damaged.json").write_text(json.dumps({**comparison().to_dict(), "cards": 3}))
    assert cli.main(["report", *arguments]) == status
    error = capsys.readouterr().err.strip()
    assert error.startswith("greenload: error: ") and "\n" not in error and says in error


def test_pictures_of_a_file_are_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = comparison().to_dict()
    for uri in ("javascript:alert(1)", "data:image/svg+xml;base64,AAAA", 'data:image/png;base64,A" onload="x'):
        data["pictures"]["plain"] = [uri]
        (tmp_path / "odd.json").write_text(json.dumps(data))
        assert cli.main(["report", str(tmp_path / "odd.json")]) == 1
        assert "does not match" in capsys.readouterr().err
