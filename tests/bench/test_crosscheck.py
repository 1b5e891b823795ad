"""Cross-checks with other tools: how readings are judged, and greenload itself on an emulated machine."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

from bench import crosscheck
from bench.crosscheck import CASES, OURS, Reading, judge, rows, table
from bench.crosscheck import crosscheck as check


def answer(said: str = "", **joules: float | None) -> dict[str, Any]:
    return {"joules": {name.replace("_", " "): value for name, value in joules.items()}, "said": said}


def test_a_reading_is_the_sum_of_the_cpus_that_a_tool_lists():
    one = judge("psys", "Zeus", "1", answer(cpu_0=30.0, cpu_1=35.0, dram_0=6.0), (29.0, 30.5))
    assert one.joules == 65.0
    assert one.off == pytest.approx((65.0 - 30.5) / 30.5)
    assert one.verdict == "wrong"


@pytest.mark.parametrize(
    ("joules", "verdict"),
    [(100.0, "right"), (104.0, "right"), (105.0, "right"), (106.2, "wrong"), (98.9, "wrong"), (-262043.0, "wrong")],
)
def test_a_reading_is_right_within_what_its_edges_allow_and_a_hundredth(joules: float, verdict: str):
    assert judge("plain", "tool", "1", answer(cpu=joules), (100.0, 105.0)).verdict == verdict


def test_no_figure_needs_a_reason():
    assert judge("reset", "tool", "1", answer(cpu=None), (1.0, 1.0)).verdict == "silent"
    assert judge("reset", "tool", "1", answer("void: it fell", cpu=None), (1.0, 1.0)).verdict == "says why"
    assert judge("hex", "tool", "1", {"error": "ValueError: 'a'"}, (1.0, 1.0)).verdict == "fails"
    assert judge("two", "tool", "1", answer(cpu_0=1.0, cpu_1=None), (1.0, 1.0)).joules is None


def test_rows_ask_nothing_of_other_tools_and_that_ours_is_never_wrong():
    right = Reading("plain", OURS, "1", 1.0, {}, "", False, 1.0, 1.0)
    wrong = Reading("reset", OURS, "1", 2.0, {}, "", False, 1.0, 1.0)
    theirs = Reading("reset", "Zeus", "1", 2.0, {}, "", False, 1.0, 1.0)
    found = {row.what: row.met for row in rows([right, wrong, theirs])}
    assert [met for what, met in found.items() if "greenload, windows" in what] == [False]
    assert [met for what, met in found.items() if "Zeus" in what] == [None]
    assert "wrong" in table([wrong]) and "+100.0%" in table([wrong])


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        crosscheck.main(["--only", "plain,sideways"])
    assert "sideways" in capsys.readouterr().err


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="a mount namespace needs root")
def test_greenload_is_right_over_a_wrap_and_says_why_not_over_a_reset():
    wanted = [case for case in CASES if case.name in ("wrap, then end", "reset")]
    wrapped, reset = check(wanted, tools=(OURS,), window_s=1.0)
    assert wrapped.verdict == "right" and wrapped.joules is not None and wrapped.joules > 10
    assert reset.verdict == "says why" and reset.joules is None, reset
