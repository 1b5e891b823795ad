"""What reaches a terminal: names of files, classes and stages can't steer it, whatever bytes they are made of."""

from __future__ import annotations

import itertools
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenload as gl
from greenload import errors
from greenload.energy.figures import Figure
from greenload.sources import Files
from greenload.system.notices import notify
from greenload.text import (
    DASH,
    SPELT,
    amount,
    breaks,
    bytes_text,
    call_count,
    error_line,
    more_text,
    one_line,
    percent,
    printable,
    rounded_figure,
    shortened,
)

NAME = os.fsdecode(b"a\x1b[2J\a\r\n\x7f\xc2\x9b\xe2\x80\xae\xe2\x80\xa8\xff b.jpg")
"""ESC, BEL, CR, LF, DEL, CSI of C1, a right-to-left override, a line separator, and a byte that isn't UTF-8."""
SHOWN = "a\\x1b[2J\\x07\\r\\n\\x7f\\x9b\\u202e\\u2028\\udcff b.jpg"
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.GreenloadError)]


def test_what_steers_a_terminal_is_escaped_once() -> None:
    assert printable(NAME) == SHOWN == printable(SHOWN)
    assert printable("画像 ü 🎨.jpg") == "画像 ü 🎨.jpg"
    assert printable(Path("a")) == "a"


@given(st.text())
def test_any_text_is_one_line_that_can_be_encoded(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() and shown.encode("utf-8").decode("utf-8") == shown
    assert len(shown.splitlines()) <= 1 and text.encode("ascii", SPELT).isascii()


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_one_printable_line(kind: type[errors.GreenloadError]) -> None:
    record = kind is errors.RecordError
    error = kind(NAME, "is cut\x1b[0m") if record else kind(f"{NAME}: can't be read")  # type: ignore[call-arg]
    assert str(error) == (f"{SHOWN}: is cut\\x1b[0m" if record else f"{SHOWN}: can't be read")
    assert f"{error}".isprintable() and repr(error).isprintable()
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error) and again.args == error.args
    if record:
        assert (again.path, again.reason) == (NAME, "is cut\x1b[0m"), "whoever opens the file needs its name as it is"


def test_warnings_are_one_printable_line_at_the_callers_place() -> None:
    with pytest.warns(UserWarning) as caught:
        notify(f"{NAME}: is left out")
    assert str(caught[0].message) == f"{SHOWN}: is left out" and caught[0].filename == __file__


@pytest.mark.slow
def test_a_bad_record_of_any_name_is_told_as_text(sample_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    good = sorted(sample_folder.rglob("*.jpg"))[:2]
    (tmp_path / "a" / "good.jpg").write_bytes(good[0].read_bytes())
    (tmp_path / "b" / "good.jpg").write_bytes(good[1].read_bytes())
    bad = os.path.join(tmp_path / "b", NAME)
    Path(bad).write_bytes(good[0].read_bytes()[:2000])
    train = gl.Pipeline(gl.ImageFolder(str(tmp_path)), gl.Decode(), gl.Resize((32, 32)), gl.Batch(3))
    with pytest.warns(UserWarning, match="left out 1 bad of 3 records") as caught:
        list(gl.load(train, epochs=1, backend="dali-cpu", on_error="skip"))
    assert all(str(one.message).isprintable() and SHOWN in str(one.message) for one in caught)
    with pytest.raises(Exception, match=r"b\.jpg") as raised:
        list(gl.load(train, epochs=1, backend="dali-cpu"))
    first = str(raised.value).splitlines()[0]
    assert SHOWN in first and first.isprintable(), first
    with pytest.raises(gl.RecordError) as found:
        list(gl.iterate(train, epochs=1, backend="pillow"))
    assert found.value.path == bad and str(found.value).isprintable()


def test_errors_of_names_are_text_before_anything_runs(tmp_path: Path) -> None:
    for wrong in (
        lambda: gl.ImageFolder(str(tmp_path / NAME)),
        lambda: gl.Report.load(tmp_path / NAME),
        lambda: gl.make_plan(gl.Pipeline(Files(["a.jpg"]), gl.Decode(), gl.Resize((4, 4)), gl.Batch(2)), NAME),
        lambda: gl.make_plan(gl.Pipeline(Files(["a.jpg"]), gl.Decode(), gl.Resize((4, 4)), gl.Batch(2)), {NAME: "tf"}),
    ):
        with pytest.raises((gl.GreenloadError, TypeError)) as raised:
            wrong()
        assert str(raised.value).isprintable(), repr(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_the_command_line_can_say_it_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    command = [sys.executable, "-m", "greenload.cli", "report", tmp_path / NAME]
    done = subprocess.run(command, capture_output=True, env=env, timeout=60)
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr.decode(encoding).count("\n") == 1 and f"/{SHOWN}: " in done.stderr.decode(encoding)


def test_figures_are_spelt_where_signs_are_lacking() -> None:
    assert "0.84 ±0.02 → −1 × 2 …é".encode("ascii", SPELT) == b"0.84 +-0.02 -> -1 x 2 ...\\xe9"
    assert "\udc80".encode("utf-8", SPELT) == b"\\udc80"


@given(st.text(st.sampled_from("a0 /_画"), max_size=60), st.integers(2, 20))
def test_lines_are_never_wider_than_they_may_be(text: str, width: int) -> None:
    from rich.cells import cell_len

    edges = [0, *breaks(text, width), len(text)]
    lines = [text[begin:end] for begin, end in itertools.pairwise(edges)]
    assert "".join(lines) == text
    if not text.startswith(" "):
        assert all(cell_len(line.rstrip()) <= width for line in lines)


@pytest.mark.parametrize(
    ("value", "half", "expected"),
    [
        (0.93241, 0.0233, ("0.932", "0.023")),
        (0.93241, 0.0433, ("0.93", "0.04")),
        (0.93241, 0.0, ("0.932", "")),
        (1234.5, 35.4, ("1,234", "35")),
        (1234.5, 86.0, ("1,230", "90")),
        (123456.0, 1200.0, ("123,500", "1,200")),
        (-0.001, 0.029, ("−0.001", "0.029")),
        (-0.0001, 0.05, ("0.00", "0.05")),
        (0.0, 0.0, ("0", "")),
        (5.0, 0.996, ("5.0", "1.0")),
    ],
)
def test_digits_end_where_the_interval_does(value: float, half: float, expected: tuple[str, str]) -> None:
    assert rounded_figure(Figure(value, value - half, value + half, "measured")) == expected


@given(st.floats(-1e12, 1e12), st.floats(0, 1e12))
def test_any_figure_can_be_shown(value: float, half: float) -> None:
    figure = Figure(value, value - half, value + half, "measured")
    parts = rounded_figure(figure)
    assert parts is not None
    shown = float(parts[0].replace(",", "").replace("−", "-"))
    assert abs(shown - value) <= max(half, abs(value) * 0.006, 1e-12)
    assert amount(figure)


def test_shares_and_bytes() -> None:
    assert percent(math.inf) == DASH and percent(None) == DASH
    assert percent(-0.001) == "0 %" and percent(-0.104) == "−10 %"
    assert percent(0.025, fine=True) == "2.5 %" and percent(0.254, fine=True) == "25 %"
    assert bytes_text(82_100) == "82.1 kB" and bytes_text(150_528) == "151 kB" and bytes_text(12) == "12 B"


def test_counts_are_zero_only_where_they_may_be() -> None:
    assert call_count(Figure(0.0039, 0.0038, 0.004, "measured")) == "0.0039"
    assert call_count(Figure(0.001, -0.001, 0.003, "measured")) == "0"
    assert call_count(Figure.missing()) == DASH and call_count(None) == DASH


def test_a_text_is_shortened_to_so_many_characters() -> None:
    assert shortened("plain: profiling", 16) == "plain: profiling"
    assert shortened("plain: profiling, decode", 19) == "plain: profiling,…" and len(shortened("a" * 99, 40)) == 40


def test_foreign_errors_are_one_line() -> None:
    assert error_line(ValueError("a  b\n  c")) == "ValueError: a b c"
    assert one_line("x" * 300) == "x" * 200 and one_line(" a \n") == "a"


def test_text_needs_no_numpy() -> None:
    script = "import sys, greenload.text, greenload.errors; assert not {'numpy', 'scipy', 'rich'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_how_much_more_is_a_share_and_from_twice_on_a_factor() -> None:
    assert more_text(0.31) == "31 % more than" and more_text(0.021) == "2.1 % more than"
    assert more_text(7.46) == "8.5 times as much as" and more_text(1.0) == "2 times as much as"
    assert more_text(0.31, 0.2, 0.45) == "31 % (20 % to 45 %) more than"
    assert more_text(2.3, 0.9, 4.3) == "3.3 times (1.9 to 5.3) as much as"
