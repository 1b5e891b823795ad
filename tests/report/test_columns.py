"""What commands and prints show at any width: in terminals, dumb ones too, in files, and where COLUMNS overrules it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from functools import partial
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.text import Text
from widths import WIDTHS, assert_figures_are_whole, figures

import greenload as gl
from greenload import cli
from greenload.cli.calibrate import cost_text
from greenload.planning import cost_table
from greenload.report.columns import Facts, FigureTable, Line, Sentence, plain_text
from greenload.report.data import Report
from greenload.report.terminal import report_text

FINDINGS = Facts(
    ("", "what", "found", "remedy"),
    [
        (Text("no"), "meter cpu", "/sys/class/powercap/intel-rapl:0/energy_uj: 12.5 W above", "sudo chmod 0444 it"),
        (Text("yes"), "画像を読む", "version 2.21.0, 0.392 W per GB resident, ±40%", ""),
    ],
    named=2,
)


def test_costs_of_a_machine_and_findings_are_whole_at_every_width() -> None:
    assert_figures_are_whole(partial(plain_text, cost_text(cost_table.reference())))
    assert_figures_are_whole(partial(plain_text, FINDINGS))


def test_facts_stand_side_by_side_or_one_below_the_other() -> None:
    wide, narrow = plain_text(FINDINGS, 120).splitlines(), plain_text(FINDINGS, 40).splitlines()
    assert wide[0].split() == ["what", "found", "remedy"] and "sudo chmod 0444 it" in wide[1]
    assert narrow[0] == "no meter cpu" and "  remedy: sudo chmod 0444 it" in narrow and "remedy:" not in narrow[-1]


def test_sentences_keep_their_indent_and_columns_their_headings() -> None:
    assert plain_text(Sentence("saves 0.60 ±0.05 ms", indent=3), 14) == "   saves 0.60\n   ±0.05 ms"
    lines = [Line(("step", "1", "22222222", "x")), Line(("input b",)), Line(("long name", "3", "4", "y"))]
    columns = FigureTable("n", ("a", "bb\ncc", "d"), lines, left=frozenset({"d"}))
    assert [line.split() for line in plain_text(columns, 200).splitlines() if "─" not in line] == [
        ["bb"],
        ["n", "a", "cc", "d"],
        ["step", "1", "22222222", "x"],
        ["input", "b"],
        ["long", "name", "3", "4", "y"],
    ]
    assert plain_text(columns, 20).count("input b") == 2 and "22222222" in plain_text(columns, 20)


def test_a_plan_is_printed_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    train = gl.Pipeline(gl.Files(["a.jpg"]), gl.Decode(), gl.RandomResizedCrop(224), gl.Batch(256))
    plan = gl.make_plan(train, "tf")
    monkeypatch.setenv("COLUMNS", "0")  # as if there were none
    assert str(plan) == plan.describe(), "no terminal"
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        assert figures(str(plan)) == figures(plan.describe())
        assert max(map(cell_len, str(plan).splitlines())) <= width


@pytest.fixture
def file(measured: Report, tmp_path: Path) -> Path:
    measured.save(tmp_path / "r.json")
    return tmp_path / "r.json"


def test_a_file_has_no_edge_but_columns_overrule_it(
    file: Path, measured: Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for columns, width in (("", 1000), ("40", 40), ("120", 120), ("x", 1000)):
        monkeypatch.setenv("COLUMNS", columns)
        assert cli.main(["report", str(file)]) == 0
        found = capsys.readouterr().out.splitlines()
        assert [line.rstrip() for line in found] == report_text(measured, width).splitlines(), columns


@pytest.mark.slow
@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}])
def test_a_terminal_has_its_own_width(file: Path, measured: Report, env: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 60, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")}
    command = [sys.executable, "-m", "greenload.cli", "report", str(file)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=clean | env) as process:
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # Linux says so at the end
            while got := os.read(ours, 65536):
                written += got
        os.close(ours)
    assert process.returncode == 0
    lines = Text.from_ansi(written.decode().replace("\r\n", "\n")).plain.splitlines()
    assert [line.rstrip() for line in lines] == report_text(measured, 60).splitlines()
