"""Ctrl-C at any time: a command ends soon, with status 130 and one line at most; real processes and real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from known_fits import known

from greenload import cli
from greenload.cli.interrupt import STATUS

LINE = "greenload: error: interrupted\n"
GRACE_S = 2.0
"""Of the processes here, less than a command's."""
FORMS = {
    "waits": "time.sleep(60)",
    "waits in C": """
        import ctypes
        libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)""",
    "goes on": """
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass""",
    "makes another error of it": """
        try:
            time.sleep(60)
        except BaseException:
            raise ImportError("half a module")""",
    "makes a status of it": """
        try:
            time.sleep(60)
        except BaseException:
            return 0""",
    "loses it while garbage is collected": """
        import gc
        def collected(phase, info):
            if phase == "start":
                gc.callbacks.clear()
                ready()
                time.sleep(0.5)
        gc.callbacks.append(collected)
        gc.collect()
        time.sleep(60)""",
    "has a thread that isn't a daemon": """
        import threading
        threading.Thread(target=time.sleep, args=(60,)).start()
        time.sleep(60)""",
    "is interrupted in a thread's complaint": """
        import threading
        def fail():
            time.sleep(0.5)
            raise RuntimeError("in a thread")
        threading.Thread(target=fail).start()
        try:
            time.sleep(60)
        finally:
            time.sleep(1)""",
    "ends": """
        import atexit
        atexit.register(time.sleep, 60)
        return 0""",
}
SLOW = ("waits in C", "goes on", "ends")
"""Those that only the deadline ends."""


@dataclass
class Ended:
    """How a process ended that was interrupted."""

    status: int
    stderr: str
    took_s: float


def script(body: str) -> str:
    waits = "" if "ready()" in body else "ready()\n        "
    return f"""
import sys, time
from greenload.cli import interrupt, streams
interrupt.GRACE_S = {GRACE_S}
def ready():
    print("ready", flush=True)
def run():
        {waits}{body.strip()}
streams.open_closed_streams()
sys.exit(interrupt.guarded(run, process=True))
"""


def started(code: str, **options: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )  # type: ignore[call-overload]
    return process


def interrupted(processes: dict[str, subprocess.Popen[str]], again_s: float | None = None) -> dict[str, Ended]:
    """Wait until all are ready, interrupt each, and see how they end."""
    try:
        for process in processes.values():
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.2)  # "ready" is said just before
        found = {}
        for process in processes.values():
            process.send_signal(signal.SIGINT)
        if again_s is not None:
            time.sleep(again_s)
            for process in processes.values():
                process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        for name, process in processes.items():
            said = process.communicate(timeout=30)[1]
            found[name] = Ended(process.returncode, said, time.monotonic() - begin)
        return found
    finally:
        for process in processes.values():
            process.kill()


@pytest.mark.slow
def test_whatever_becomes_of_the_interrupt_the_process_ends() -> None:
    quick = [name for name in FORMS if name not in SLOW]
    found = interrupted({name: started(script(FORMS[name])) for name in (*quick, *SLOW)})
    assert {name: (one.status, one.stderr) for name, one in found.items()} == dict.fromkeys(FORMS, (STATUS, LINE))
    assert max(found[name].took_s for name in quick) < GRACE_S, found
    assert max(one.took_s for one in found.values()) < GRACE_S + 3, found


@pytest.mark.slow
def test_a_second_interrupt_ends_it_at_once() -> None:
    found = interrupted({name: started(script(FORMS[name])) for name in SLOW}, again_s=0.1)
    assert {name: (one.status, one.stderr) for name, one in found.items()} == dict.fromkeys(SLOW, (STATUS, LINE))
    assert max(one.took_s for one in found.values()) < GRACE_S, found


@pytest.mark.slow
def test_what_is_temporary_is_removed(tmp_path: Path) -> None:
    body = """
        import atexit, tempfile
        left = tempfile.mkdtemp()
        atexit.register(__import__("shutil").rmtree, left)
        with tempfile.TemporaryDirectory():
            time.sleep(60)"""
    process = started(script(body), env={**os.environ, "TMPDIR": str(tmp_path)})
    found = interrupted({"": process})[""]
    assert (found.status, found.stderr, list(tmp_path.iterdir())) == (STATUS, LINE, [])


def test_within_another_program_it_is_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("greenload.cli.commands.run_command", command)
    assert cli.main(["doctor"]) == STATUS
    assert capsys.readouterr() == ("", LINE)


@pytest.mark.slow
def test_what_waits_for_the_interrupt_ends_as_it_would_have_ended() -> None:
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
    body = f"""
        from greenload.cli.serve_options import serving
        with serving("0") as served:
            threading.Timer(1.0, lambda: ready()).start()
            served.until_interrupted()
        time.sleep({GRACE_S + 0.5})
        return 3"""
    found = interrupted({"": started("import threading\n" + script(body))})[""]
    assert found.status == 3 and found.stderr.endswith(" until interrupted\n"), found


def test_a_job_in_the_background_that_ignores_it_goes_on() -> None:
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + script("time.sleep(0.7)\n        return 3")
    found = interrupted({"": started(code)})[""]
    assert (found.status, found.stderr) == (3, "")


def test_a_job_in_the_background_is_ended_by_sigterm_all_the_same() -> None:
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + script("time.sleep(30)\n        return 3")
    process = started(code)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "ended by SIGTERM" in said[1]


IMPORTING = """
import os, signal, sys
from greenload.cli import main
left = int(sys.argv.pop(1))
def imported(event, args):
    global left
    if event == "import":
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(imported)
status = main()
print(left, file=sys.stderr)
sys.exit(status)
"""
"""Interrupts itself at the given import since `main` was called. Where it isn't, it says how many were left."""


@pytest.mark.slow
def test_in_any_import_it_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    known().save(file)

    def interrupted(place: int) -> tuple[int, str]:
        command = [sys.executable, "-c", IMPORTING, str(place), "report", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 or done.stdout == ""
        return done.returncode, done.stderr

    most = 1_000_000
    status, left = interrupted(most)
    assert status == 0
    imports = most - int(left)
    assert imports > 100
    for place in {1, 2, 3, 5, 10, 20, 50, *range(100, imports, 100), imports}:
        assert interrupted(place) == (STATUS, LINE), place


@pytest.mark.slow
@pytest.mark.parametrize("command", ["calibrate", "profile-dataset", "compare"])
def test_a_command_ends_within_seconds(command: str, sample_folder: Path, tmp_path: Path) -> None:
    from bench.interrupts import arguments, interrupt

    found = interrupt([sys.executable, "-m", "greenload.cli", *arguments(command, sample_folder, tmp_path)], 8.0)
    last = f"{found.stderr.splitlines()[-1].partition(': what was measured is kept in ')[0]}\n"
    assert not found.finished and not found.fault and last == LINE, found
