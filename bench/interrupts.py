"""How commands end on Ctrl-C: ``python -m bench.interrupts`` sends SIGINT at many times and counts what came of it.

A command must end within `LIMIT_S` with status 130, say at most one line on standard error, and leave nothing in the
temporary folder, whenever the signal comes: in imports, in TensorFlow, while windows are measured, as it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

LIMIT_S = 5.0
"""Seconds from the signal to the end that are allowed."""
_ROOT = Path(__file__).resolve().parents[1]  # where `bench` and `greenload` are importable
_DATASET = """
import glob
import tensorflow as tf

def decode(path):
    return tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path), channels=3), (96, 96))

def dataset(data):
    return tf.data.Dataset.list_files(data + "/*/*.jpg", shuffle=False).map(decode, num_parallel_calls=2).batch(8)
"""
COMMANDS = ("doctor", "sample", "check", "pack", "profile", "profile-dataset", "compare", "calibrate")


@dataclass(frozen=True)
class Try:
    """One command that was interrupted."""

    command: str
    delay_s: float
    """From its start to the signal."""
    status: int | None
    """None if it didn't end by itself within a minute."""
    took_s: float
    """From the signal to its end."""
    lines: int
    """On standard error, but for what a profile announces before it starts."""
    left: int
    """Files and folders in its temporary folder at the end."""
    finished: bool
    """Whether it had ended before the signal."""
    stderr: str

    @property
    def fault(self) -> str:
        """What is wrong with how it ended; empty where nothing is."""
        if self.finished:
            return ""
        ended = self.status in (130, -signal.SIGINT)  # by the signal itself: Python hadn't begun
        found = [] if ended else [f"status {self.status}"]
        found += [f"{self.took_s:.1f} s"] if self.took_s > LIMIT_S else []
        found += [f"{self.lines} lines"] if self.lines > 1 else []
        found += [f"{self.left} files left"] if self.left else []
        return ", ".join(found)


def _lines(said: str) -> int:
    return sum(not line.startswith("planned: ") for line in said.splitlines())


def interrupt(command: Sequence[str], delay_s: float, name: str = "", again_s: float | None = None) -> Try:
    """Run a command, send it SIGINT ``delay_s`` seconds later, perhaps once more, and see how it ends."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "TMPDIR": folder, "PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": ""}
        env.pop("TF_CPP_MIN_LOG_LEVEL", None)
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
        )
        assert process.stderr is not None
        time.sleep(delay_s)
        finished = process.poll() is not None
        sent_s = time.monotonic()
        if not finished:
            process.send_signal(signal.SIGINT)
            if again_s is not None:
                time.sleep(again_s)
                process.send_signal(signal.SIGINT)
        try:
            said = process.communicate(timeout=60)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            said = process.communicate()[1]
            return Try(name, delay_s, None, time.monotonic() - sent_s, _lines(said), 0, finished, said)
        took_s = time.monotonic() - sent_s
        left = len(list(Path(folder).rglob("*")))
    return Try(name, delay_s, process.returncode, took_s, _lines(said), left, finished, said)


def arguments(name: str, photos: Path, folder: Path) -> list[str]:
    """A command's arguments; what it writes is below ``folder``."""
    file = folder / "mine.py"
    file.write_text(_DATASET)
    out = str(folder / f"out-{time.monotonic_ns()}")
    return {
        "doctor": ["doctor"],
        "sample": ["sample", out, "--images", "4000"],
        "check": ["check", str(photos)],
        "pack": ["pack", str(photos), out],
        "profile": ["profile", "imagenet:train", "--data", str(photos)],
        "profile-dataset": ["profile", f"{file}:dataset", "--data", str(photos)],
        "compare": ["compare", "imagenet:train", "imagenet:evaluate", "--proxy", "--data", str(photos), "--json", out],
        "calibrate": ["calibrate"],
    }[name]


def sweep(name: str, photos: Path, tries: int, longest_s: float, again_s: float | None = None) -> list[Try]:
    """A command interrupted at ``tries`` times, evenly from its start to ``longest_s``."""
    program = [sys.executable, "-m", "greenload.cli"]
    found = []
    for index in range(tries):
        with tempfile.TemporaryDirectory() as folder:
            command = [*program, *arguments(name, photos, Path(folder))]
            one = interrupt(command, longest_s * index / max(tries - 1, 1), name, again_s)
        found.append(one)
        told = "finished before" if one.finished else one.fault or "well"
        print(f"{name} {one.delay_s:.2f} s: {told} ({one.took_s:.2f} s)", flush=True)
    return found


def main() -> int:
    """Sweep the commands, print what was wrong, and write it as JSON. Status 1 if anything was."""
    parser = argparse.ArgumentParser(prog="python -m bench.interrupts", description=__doc__.splitlines()[0])
    parser.add_argument("commands", nargs="*", help=f"of {', '.join(COMMANDS)}; all if none is named")
    parser.add_argument("--photos", type=Path, default=Path("data/sample"), help="of make photographs")
    parser.add_argument("--tries", type=int, default=24)
    parser.add_argument("--longest", type=float, default=30.0, metavar="S", help="the last signal's time")
    parser.add_argument("--again", type=float, metavar="S", help="send a second signal, so much later")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = [
        one
        for name in options.commands or COMMANDS
        for one in sweep(name, options.photos, options.tries, options.longest, options.again)
    ]
    sent = [one for one in found if not one.finished]
    bad = [one for one in sent if one.fault]
    print(
        f"{len(bad)} of {len(sent)} ended badly; the longest took {max((one.took_s for one in sent), default=0):.1f} s"
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
