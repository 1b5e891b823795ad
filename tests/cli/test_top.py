"""`greenload top`: a table of a running process, in a pipe and on a terminal, whatever becomes of the process."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from burning import burning, environment, wait_for
from rich.cells import cell_len

from greenload.cli.output import FAILED, OK, USAGE

ROW = re.compile(r"^(\S+) +([\d.,]+) +(\d+) % +([\d.,]+) +([\d,]+)", re.MULTILINE)
"""Name, CPU, share, waiting and calls of a step."""
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def command(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`greenload top`."""
    return subprocess.Popen(
        [sys.executable, "-m", "greenload.cli", "top", *arguments],
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def top(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Its status and what it says."""
    process = command(folder, *arguments)
    out, said = process.communicate(timeout=90)
    return process.returncode, out, said


@contextlib.contextmanager
def publishing(folder: Path, seconds: float = 60.0, **options: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has said something."""
    with burning(folder, seconds, **options) as process:
        wait_for((folder / f"{process.pid}.json").exists)
        yield process


def test_one_table_is_printed_and_written(tmp_path: Path) -> None:
    with publishing(tmp_path) as process:
        status, out, said = top(tmp_path, "--once", "--interval", "1", "--json", str(tmp_path / "top"))
    assert (status, said) == (OK, "")
    assert out.startswith(f"process {process.pid}: python -c --epochs 3 · 0:00:0")
    rows = {row[0]: row for row in ROW.findall(out)}
    assert abs(int(rows["decode"][2]) / int(rows["augment"][2]) - 3) < 0.6
    assert "train.py:12: " in out and "images" in out and "\ntrain.py:31" in out
    assert "\x1b" not in out and "\r" not in out
    written = json.loads((tmp_path / "top").read_text())
    assert written["process"]["pid"] == process.pid and written["whole"] == written["last"]
    decode, augment = written["last"]["datasets"][0]["steps"]
    assert (decode["name"], decode["where"], augment["kind"]) == ("decode", "train.py:31", "filter")
    assert decode["total_cpu_s"] == pytest.approx(0.003 * decode["calls"], rel=0.2)
    assert 0.8 < written["last"]["wall_s"] < 10


@pytest.mark.slow
def test_a_table_per_interval_is_printed_until_the_process_ends(tmp_path: Path) -> None:
    with publishing(tmp_path, 4.0) as process:
        status, out, said = top(tmp_path, str(process.pid), "--interval", "0.5", "--json", str(tmp_path / "top"))
    assert (status, said) == (OK, f"greenload: process {process.pid} has ended\n")
    tables = out.count(f"process {process.pid}: ")
    assert tables > 2
    written = json.loads((tmp_path / "top").read_text())
    assert written["whole"]["wall_s"] > written["last"]["wall_s"]
    calls = [int(row[4].replace(",", "")) for row in ROW.findall(out) if row[0] == "decode"]
    assert sum(calls) == written["whole"]["datasets"][0]["steps"][0]["calls"] and len(calls) == tables


def test_a_process_that_is_killed_before_its_first_table_has_no_figures(tmp_path: Path) -> None:
    with publishing(tmp_path) as process:
        process.kill()
        process.wait(60)
        assert top(tmp_path, str(process.pid)) == (
            FAILED,
            "",
            f"greenload: error: no process {process.pid} runs: leave it out to see which there are\n",
        )
    with publishing(tmp_path) as process:
        watching = command(tmp_path, "--once", "--interval", "3")
        time.sleep(1.5)
        process.kill()
        process.wait(60)
        out, said = watching.communicate(timeout=60)
    assert (watching.returncode, out) == (FAILED, "")
    assert said in (f"greenload: error: process {process.pid} has ended\n", NOBODY)


NOBODY = (
    "greenload: error: no process of this user tells what its datasets do: use gl.watch(dataset) in one that runs, run "
    "its script by greenload watch, or name the port of an EnergyCallback: greenload top :9464\n"
)


def test_where_nobody_tells_anything_the_remedy_is_named(tmp_path: Path) -> None:
    assert top(tmp_path) == (FAILED, "", NOBODY)
    mine = f"greenload: error: process {os.getpid()} tells nothing of its datasets: "
    status, _, said = top(tmp_path, str(os.getpid()))
    assert status == FAILED and said.startswith(mine) and len(said.splitlines()) == 1


def test_of_two_processes_one_must_be_named(tmp_path: Path) -> None:
    with publishing(tmp_path) as first, publishing(tmp_path) as second:
        status, out, said = top(tmp_path)
        assert (status, out) == (USAGE, "")
        named = "; ".join(f"{pid} python -c --epochs 3" for pid in sorted((first.pid, second.pid)))
        assert said == f"greenload: error: 2 processes tell what their datasets do: name one of {named}\n"
        both = [command(tmp_path, str(second.pid), "--once", "--interval", "0.5") for _ in range(2)]
        for watching in both:
            out, _ = watching.communicate(timeout=60)
            assert watching.returncode == OK and out.startswith(f"process {second.pid}: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train"], "a process is a PID, or HOST:PORT as 127.0.0.1:9464, found 'train'"),
        (["-5"], "a process is a PID, or HOST:PORT as 127.0.0.1:9464, found '-5'"),
        (["localhost:99999"], "a process is a PID, or HOST:PORT as 127.0.0.1:9464, found 'localhost:99999'"),
        (["--interval", "0"], "must be 0.1 to 86400 seconds, not '0'"),
        (["--interval", "nan"], "must be 0.1 to 86400 seconds, not 'nan'"),
        (["--json", "no/such/folder/file"], "its folder does not exist"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    status, out, line = top(tmp_path, *arguments)
    assert (status, out, line.count("\n")) == (USAGE, "", 1)
    assert said in line


def test_a_port_is_followed(tmp_path: Path) -> None:
    serve = """
from greenload.report.prometheus import Metrics, serve
metrics = Metrics()
metrics.show_status(publishing.document)
server = serve(metrics, 0)
os.environ["GREENLOAD_STATUS"] = "off"
open(os.environ["PORT_FILE"], "w").write(str(server.port))
"""
    named = tmp_path / "port"
    with burning(tmp_path, before=serve, PORT_FILE=str(named)) as process:
        wait_for(lambda: named.exists() and named.read_text())
        port = named.read_text()
        status, out, said = top(tmp_path, f":{port}", "--once", "--interval", "0.5")
        assert (status, said) == (OK, "") and out.startswith(f"process {process.pid}: python -c · ")
        assert {row[0] for row in ROW.findall(out)} == {"decode", "augment"}
        watching = command(tmp_path, f"127.0.0.1:{port}", "--interval", "0.3")
        assert watching.stdout is not None and watching.stdout.readline()
        process.kill()
        process.wait(60)
        _, said = watching.communicate(timeout=60)
        assert watching.returncode == OK
        assert re.fullmatch(rf"greenload: 127.0.0.1:{port} doesn't answer \(.*\)\n", said), said
    status, _, said = top(tmp_path, f":{port}")
    assert status == FAILED and "doesn't answer" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("sent", "status", "line"),
    [(signal.SIGINT, OK, ""), (signal.SIGTERM, 143, "greenload: error: ended by SIGTERM\n")],
)
def test_ctrl_c_is_no_failure_and_all_signals_keep_the_figures(
    tmp_path: Path, sent: signal.Signals, status: int, line: str
) -> None:
    with publishing(tmp_path):
        watching = command(tmp_path, "--interval", "0.5", "--json", str(tmp_path / "top"))
        assert watching.stdout is not None and watching.stdout.readline()
        watching.send_signal(sent)
        _, said = watching.communicate(timeout=60)
    assert (watching.returncode, said) == (status, line)
    assert json.loads((tmp_path / "top").read_text())["last"]["datasets"]


def test_it_ends_where_nobody_reads_on(tmp_path: Path) -> None:
    with publishing(tmp_path):
        watching = command(tmp_path, "--interval", "0.5")
        assert watching.stdout is not None and watching.stdout.readline()
        watching.stdout.close()
        assert watching.wait(30) == OK
        assert watching.stderr is not None and watching.stderr.read() == ""


@pytest.mark.slow
def test_a_process_that_is_stopped_is_said_to_be_silent(tmp_path: Path) -> None:
    with publishing(tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        code = "from greenload.cli import main, top; top.SILENCE_S = 0.5; raise SystemExit(main(['top', '--once', "
        run = [sys.executable, "-c", code + "'--interval', '0.2']))"]
        ended = subprocess.run(run, env=environment(tmp_path), capture_output=True, text=True, timeout=60)
        process.send_signal(signal.SIGCONT)
    assert ended.returncode == FAILED
    assert f"process {process.pid} runs, but has said nothing for 1 s: it is stopped, or" in ended.stderr


NAME = "lambda image: 画像を拡大する(\x1b[2J, " + "very_" * 12 + "long)"


class Terminal:
    """`greenload top` on a terminal of its own."""

    def __init__(self, folder: Path, columns: int, *arguments: str, lines: int = 40) -> None:
        self.shown = ""
        self.pid, self._number = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            variables = environment(folder, TERM="xterm-256color")
            for name in ("COLUMNS", "LINES"):
                variables.pop(name, None)
            # Not execv, which hands on what C code has set, as readline does of another terminal.
            os.execve(sys.executable, [sys.executable, "-m", "greenload.cli", "top", *arguments], variables)

    def wait_for(self, text: str, times: int = 1) -> None:
        end = time.monotonic() + 60
        while self.shown.count(text) < times:
            assert time.monotonic() < end and self._read(), self.shown

    def type(self, keys: bytes) -> None:
        os.write(self._number, keys)

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._number)[3] & termios.ECHO)

    def end(self) -> int:
        while self._read():
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert self.echoes()  # put back
        os.close(self._number)
        return status

    def _read(self) -> bool:
        try:
            if not select.select([self._number], [], [], 30)[0]:
                return False
            data = os.read(self._number, 1 << 16)
        except OSError:  # closed, in Linux
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("keys", [b"q", b"\x03"])
def test_on_a_terminal_it_is_replaced_and_the_last_one_stays(tmp_path: Path, columns: int, keys: bytes) -> None:
    with publishing(tmp_path, name=NAME) as process:
        terminal = Terminal(tmp_path, columns, "--interval", "0.4")
        terminal.wait_for("hand-over and the rest", times=2)
        assert not terminal.echoes()
        terminal.type(keys)
        assert terminal.end() == OK
    # On the screen that is put back afterwards, without its cursor.
    screen, kept = terminal.shown.split("\x1b[?1049l")
    assert screen.startswith("\x1b[?1049h") and screen.count("\x1b[?25l") == 1
    assert terminal.shown.count("\x1b[?25h") == 1
    lines = ESCAPE.sub("", kept).splitlines()
    assert any(line.startswith(f"process {process.pid}: ") for line in lines)
    assert max(map(cell_len, lines)) <= columns, kept
    assert "画像を拡大する(\\x1b[2J" in "".join(line.split("  ")[0] for line in lines)
    assert "very_" in kept and kept.count("hand-over and the rest") == 1


def test_a_table_that_is_higher_than_the_terminal_is_cut_there_and_kept_whole(tmp_path: Path) -> None:
    with publishing(tmp_path):
        terminal = Terminal(tmp_path, 80, "--interval", "0.4", lines=6)
        terminal.wait_for("processors busy", times=2)
        terminal.type(b"q")
        assert terminal.end() == OK
    screen, kept = terminal.shown.split("\x1b[?1049l")
    before_its_end = screen.split("\x1b[H")[:-1]
    assert len(before_its_end) > 2 and not any("hand-over" in shown for shown in before_its_end)
    assert "hand-over" in kept


def test_a_process_that_ends_gives_the_terminal_back(tmp_path: Path) -> None:
    with publishing(tmp_path) as process:
        terminal = Terminal(tmp_path, 80, "--interval", "0.4")
        terminal.wait_for("hand-over")
        process.kill()
        process.wait(60)
        assert terminal.end() == OK
    kept = ESCAPE.sub("", terminal.shown.split("\x1b[?1049l")[1])
    assert "hand-over" in kept and f"greenload: process {process.pid} has ended" in kept


def test_starting_it_imports_no_framework(tmp_path: Path) -> None:
    code = "import sys; from greenload.cli import main; main(['top', '--once', '--interval', '0.2']); "
    code += "print([name for name in ('tensorflow', 'numpy', 'psutil', 'keras', 'PIL') if name in sys.modules])"
    with publishing(tmp_path):
        ended = subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True)
    assert ended.stdout.endswith("\n[]\n"), ended


TRAINING = """
import os, sys, threading
import tensorflow as tf, keras
import greenload as gl
energy = gl.EnergyCallback(port=0, idle_s=0)
open(sys.argv[1], "w").write(str(energy._server.port))
images = tf.data.Dataset.range(10**6).map(lambda x: tf.cast(tf.fill((8,), x % 7), tf.float32), name="fill")
train = gl.watch(images.map(lambda x: (x, tf.reduce_sum(x))).batch(32).prefetch(2))
model = keras.Sequential([keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(train, steps_per_epoch=100, epochs=10**6, verbose=0, callbacks=[energy])
"""


@pytest.mark.slow
def test_a_fit_under_an_energy_callback_is_followed_at_its_port(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    pytest.importorskip("prometheus_client")
    named = tmp_path / "port"
    process = subprocess.Popen([sys.executable, "-c", TRAINING, str(named)], env=environment(tmp_path))
    try:
        wait_for(lambda: named.exists() and named.read_text())
        wait_for(lambda: list(tmp_path.glob("*.json")))  # it has begun
        status, out, said = top(tmp_path, f":{named.read_text()}", "--once", "--json", str(tmp_path / "top"))
    finally:
        process.kill()
        process.wait()
    assert (status, said) == (OK, "")
    written = json.loads((tmp_path / "top").read_text())["last"]
    assert [step["calls"] > 0 for step in written["datasets"][0]["steps"]] == [True, True]
    assert written["energy_j"] or "of the whole machine" in out
    assert "its last buffer was" in out
