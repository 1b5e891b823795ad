"""Commands that a signal ends clean up, and say so by status and one line; where they can't, they end all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

START = """
import os, signal, sys, time
from greenload.system import scratch
from greenload.cli import interrupt
"""
BODY = """
def run():
    with scratch.ScratchFolder():
        print("ready", flush=True)
        {body}
    print("went on")
    return 0
sys.exit(interrupt.guarded(run, process=True))
"""


def begun(code: str, folder: Path, before: str = "") -> subprocess.Popen[str]:
    """A process that has its scratch folder in a folder, and is in the middle of its work."""
    process = subprocess.Popen(
        [sys.executable, "-c", START + before + BODY.format(body=code)],
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    assert len(list(folder.iterdir())) == 1
    return process


def ended(process: subprocess.Popen[str], folder: Path) -> tuple[int, str, str]:
    """Its status and what it said; nothing of it must be left."""
    out, said = process.communicate(timeout=60)
    assert list(folder.iterdir()) == []
    return process.returncode, out, said


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_command_as_ctrl_c_does(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    process = begun("time.sleep(60)", tmp_path)
    process.send_signal(sent)
    process.send_signal(sent)  # as timeout(1) does: to the process, and to its group
    assert ended(process, tmp_path) == (status, "", f"greenload: error: ended by {sent.name}\n")


def test_what_passes_the_exception_over_is_ended_for_it(tmp_path: Path) -> None:
    body = """
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass"""
    process = begun(body, tmp_path, before="interrupt.GRACE_S = 0.5\n")
    process.send_signal(signal.SIGTERM)
    assert ended(process, tmp_path) == (143, "", "greenload: error: ended by SIGTERM\n")


@pytest.mark.slow
def test_signals_that_are_ignored_stay_so(tmp_path: Path) -> None:
    process = begun("time.sleep(1)", tmp_path, before="signal.signal(signal.SIGHUP, signal.SIG_IGN)\n")  # as nohup does
    process.send_signal(signal.SIGHUP)
    assert ended(process, tmp_path) == (0, "went on\n", "")


@pytest.mark.slow
def test_a_child_ends_by_itself_and_its_parent_hears_nothing(tmp_path: Path) -> None:
    body = """
        child = os.fork()
        if child == 0:
            time.sleep(60)
        time.sleep(0.2)
        os.kill(child, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        time.sleep(1)"""
    process = begun(body, tmp_path, before="interrupt.GRACE_S = 0.2\n")
    assert ended(process, tmp_path) == (0, "-15\nwent on\n", "")


def command(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "greenload.cli", *arguments],
        env=os.environ | {"TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder.parent / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_half_of_the_samples_are_never_taken_for_all(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed, whose photographs the samples are cut from")
    out, scratch = tmp_path / "out", tmp_path / "tmp"
    scratch.mkdir()
    process = command(scratch, "sample", str(out), "--images", "100000")
    wait_for(lambda: any(out.glob(".greenload-sample-partial-*/class-7/*")))
    assert not any(out.glob("class-*"))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not any(out.glob("class-*"))
    (dead,) = out.glob(".greenload-sample-partial-*")
    process = command(scratch, "sample", str(out), "--images", "100000")
    wait_for(lambda: any(one.parents[1] != dead for one in out.glob(".greenload-sample-partial-*/class-7/*")))
    process.send_signal(signal.SIGTERM)
    assert ended(process, scratch) == (143, "", "greenload: error: ended by SIGTERM\n")
    assert [one.name for one in out.iterdir()] == [".greenload-sample.json"]
    assert command(scratch, "sample", str(out), "--images", "8").wait(60) == 0
    assert len(list(out.glob("class-?/*.jpg"))) == 8 and not any(out.glob(".greenload-sample-partial-*"))


@pytest.mark.slow
def test_a_profile_of_a_dataset_leaves_nothing_behind(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    scratch, mine = tmp_path / "tmp", tmp_path / "mine.py"
    scratch.mkdir()
    mine.write_text(
        """import tensorflow as tf
def odd(x):
    if x % 2 == 0:
        return x + 1
    return x
ds = tf.data.Dataset.range(10**6).map(odd).cache().batch(4)
"""
    )
    process = command(scratch, "profile", f"{mine}:ds", "--samples", "64")
    wait_for(lambda: any(scratch.glob("greenload-scratch-*")))
    assert any(scratch.glob("__autograph_generated_file*"))
    process.send_signal(signal.SIGTERM)
    assert ended(process, scratch) == (143, "", "greenload: error: ended by SIGTERM\n")
