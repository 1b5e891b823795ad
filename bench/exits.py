"""How processes end that make batches: every form of ``exit_forms``, on every backend, each in fresh interpreters.

    python -m bench.exits [--tries 3] [--backends auto,tf] [--forms repeat,loop_sigint] [--out bench-exits.json]

A process has to end within its time, with its status, and without a word that isn't its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.exit_forms import FORMS, Form
from greenload.machine import machine
from greenload.sources.samples import make_samples

FORMAT = "greenload.exits/1"
BACKENDS = ("auto", "tf", "dali-cpu", "pillow", "native")
LIMIT_S = 120
"""So long may a process take, importing TensorFlow on a busy machine included."""
ENDING_S = 20
"""So long may it take behind its last line, or behind the signal."""
IMAGES = 96
SCRIPT = Path(__file__).with_name("exit_forms.py")
_CHATTER = re.compile(r"WARNING: All log messages before absl|[IWE]0000 .*(cuda|oneDNN|cpu_feature|computation_placer)")
"""What TensorFlow says while it is imported."""
_CHAINED = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
"""Python's words between the tracebacks of one error: where Ctrl-C comes, TensorFlow may be handling another."""


@dataclass(frozen=True)
class Ended:
    """How one process ended."""

    backend: str
    form: str
    status: int | None
    """``None`` if it had to be killed."""
    seconds: float
    """From its last line, or from the signal, to its end."""
    faults: tuple[str, ...]
    """What wasn't as it has to be."""
    stderr: str


def end(backend: str, name: str, folder: str) -> Ended:
    """Run a form in a process of its own, and see how it ends."""
    with tempfile.TemporaryDirectory() as scratch:
        return _end(backend, name, folder, scratch)


def _end(backend: str, name: str, folder: str, scratch: str) -> Ended:
    form = FORMS[name]
    level = "1" if form.warned else "2"
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": level, "PYTHONFAULTHANDLER": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["TMPDIR"] = scratch
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), backend, name, folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    over = threading.Event()
    lines: list[str] = []

    def follow() -> None:
        for line in process.stdout or ():
            lines.append(line.strip())
            if lines[-1] in ("ready", "done"):
                over.set()
        over.set()

    with ThreadPoolExecutor(2) as pool:
        pool.submit(follow)
        assert process.stderr  # a pipe, as asked for
        errors = pool.submit(process.stderr.read)
        over.wait(LIMIT_S)
        if lines[-1:] == ["ready"]:
            time.sleep(0.1 * (process.pid % 10))  # at any moment of what it does
            process.send_signal(getattr(signal, form.signal))
        began = time.monotonic()
        status: int | None = None
        try:
            status = process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        seconds = time.monotonic() - began
        said = [line for line in errors.result().splitlines() if not _CHATTER.match(line)]
    return Ended(backend, name, status, round(seconds, 2), tuple(_faults(form, status, lines, said)), "\n".join(said))


def _faults(form: Form, status: int | None, lines: Sequence[str], said: Sequence[str]) -> Iterator[str]:
    if status is None:
        yield f"didn't end within {ENDING_S} s"
    elif status not in form.status:
        yield f"status {status} instead of {' or '.join(map(str, form.status))}"
    if form.status == (0,) and "done" not in lines:
        yield "its work wasn't done"
    yield from (line for line in lines if line.startswith("all") and line != "all True")
    said = [line for line in said if line.strip()]
    if form.warned:
        yield from (line for line in said if "UsageError" in line or "is closed" in line)
        if not any(line.startswith(form.raises) for line in said):  # TensorFlow's threads may warn behind it
            yield f"no {form.raises}"
    elif form.raises:  # its traceback, and nothing else
        if not said or said[0] != "Traceback (most recent call last):" or not said[-1].startswith(form.raises):
            yield f"more or less than the traceback of {form.raises}"
        elif sum(line.startswith("Traceback") for line in said) > 1 + sum(line in _CHAINED for line in said):
            yield "more than one traceback"
    elif said:
        yield f"{len(said)} lines on standard error"


def run(folder: str, backends: Sequence[str], forms: Sequence[str], tries: int, at_once: int = 2) -> list[Ended]:
    """Every form on every backend, so many times; those that don't end as they have to are printed.

    Args:
        folder: class folders with JPEGs.
        backends: by name.
        forms: by name.
        tries: of each form on each backend.
        at_once: processes that run beside each other.
    """
    works = [(backend, form, folder) for form in forms for backend in backends for _ in range(tries)]
    found = []
    with ThreadPoolExecutor(at_once) as pool:
        for ended in pool.map(lambda work: end(*work), works):
            found.append(ended)
            if ended.faults:
                print(f"{ended.form} on {ended.backend}: {'; '.join(ended.faults)}\n{ended.stderr[-800:]}", flush=True)
    return found


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.exits", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench-exits.json"), help="the JSON file to write")
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--at-once", type=int, default=2, help="processes that run beside each other")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        make_samples(Path(folder) / "photos", images=IMAGES, classes=4)
        photos, backends, forms = f"{folder}/photos", options.backends.split(","), options.forms.split(",")
        found = run(photos, backends, forms, options.tries, options.at_once)
    bad = [ended for ended in found if ended.faults]
    longest = max(found, key=lambda ended: ended.seconds)
    print(f"{len(found)} processes, {len(forms)} forms: {len(bad)} didn't end as they have to")
    print(f"the longest took {longest.seconds} s behind its last line or its signal: {longest.form}, {longest.backend}")
    report = {"format": FORMAT, "machine": asdict(machine()), "processes": [asdict(ended) for ended in found]}
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
