"""``greenload report``: one saved report shown again, two held against each other, and bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from greenload import cli
from greenload.report.data import Report


@pytest.fixture
def files(measured: Report, modelled: Report, tmp_path: Path) -> tuple[Path, Path]:
    for name, report in (("a.json", measured), ("b.json", modelled)):
        report.save(tmp_path / name)
    return tmp_path / "a.json", tmp_path / "b.json"


def test_one_report_is_shown_and_written(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, copy = tmp_path / "a.html", tmp_path / "copy.json"
    assert cli.main(["report", str(files[0]), "--html", str(page), "--json", str(copy)]) == 0
    out = capsys.readouterr().out
    assert "Decode + crop" in out and f"written: {copy}, {page}" in out.replace("\n", "")
    assert "Where it goes" in page.read_text() and Report.load(copy) == Report.load(files[0])


def test_two_reports_are_compared(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, data = tmp_path / "ab.html", tmp_path / "ab.json"
    assert cli.main(["report", *map(str, files), "--html", str(page), "--json", str(data)]) == 0
    assert "B / A (95 %)" in capsys.readouterr().out
    assert "Two separate runs, not paired" in page.read_text()
    assert json.loads(data.read_text())["totals"][0]["name"] == "CPU time"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["report"], 2, "A.json"),
        (["report", "gone.json"], 1, "gone.json"),
        (["report", "a.json", "gone.json"], 1, "gone.json"),
        (["report", "a.json", "b.json", "a.json"], 2, "unrecognized"),
        (["report", "text.json"], 1, "text.json: a report is JSON"),
        (["report", "other.json"], 1, "greenload.report/1"),
        (["report", "newer.json"], 1, "greenload.report/2"),
        (["report", "."], 1, "."),
        (["report", "a.json", "--html", "no/such/a.html"], 2, "no/such/a.html"),
        (["report", "a.json", "--html", "x", "--json", "x"], 2, "need a file each"),
        (["report", "a.json", "b.json", "--html", "b.json"], 2, "b.json: is what is read"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str],
    status: int,
    says: str,
    files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.json").write_text("hello")
    Path("other.json").write_text("[1]")
    Path("newer.json").write_text(json.dumps({**json.loads(files[0].read_text()), "schema": "greenload.report/2"}))
    before = files[1].read_bytes()
    assert cli.main(arguments) == status
    error = capsys.readouterr().err.strip()
    assert error.startswith("greenload: error: ") and len(error.splitlines()) == 1 and says in error
    assert files[1].read_bytes() == before
