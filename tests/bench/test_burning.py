"""Pipelines that burn a known CPU time: what they burn, what they note, and a neighbour's share."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import burning
from greenload.energy.emulators.ledger import Ledger, create_ledger
from greenload.energy.emulators.powercap import PowercapEmulator
from greenload.energy.emulators.writer import process_cpu_s

pytestmark = pytest.mark.alone


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PowercapEmulator]:
    with PowercapEmulator(tmp_path / "powercap", power=burning.POWER) as machine:
        monkeypatch.setenv("GREENLOAD_EMULATOR", str(machine.state))
        yield machine


def noted_s(ledger: Ledger) -> dict[str, float]:
    found: dict[str, float] = {}
    for _, kind, cpu_s, _ in ledger.read():
        found[kind] = found.get(kind, 0.0) + cpu_s
    return found


@pytest.mark.parametrize("kind", ["parsing", "vector"])
def test_work_burns_what_is_asked_and_notes_it_in_time(tmp_path: Path, kind: str) -> None:
    create_ledger(tmp_path / "ledger", ["parsing", "vector"])
    ledger = Ledger(tmp_path / "ledger")
    used = []
    threads = [
        threading.Thread(target=lambda: used.append(burning.burn(kind, 0.05, ledger, noted_as="unheard-of")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(0.0495 <= cpu_s < 0.06 for cpu_s in used)
    assert noted_s(ledger) == {kind: pytest.approx(sum(used))}
    assert sum(moved for *_, moved in ledger.read()) > 0
    before = noted_s(ledger)[kind]
    thread = threading.Thread(target=burning.burn, args=(kind, 0.5, ledger))
    thread.start()
    while thread.is_alive() and noted_s(ledger)[kind] == before:
        time.sleep(0.001)
    assert noted_s(ledger)[kind] - before < 0.4, "noted while it is under way"
    thread.join()


@pytest.mark.parametrize("make", [burning.pipeline, burning.dataset], ids=["pipeline", "dataset"])
def test_steps_burn_in_the_pattern_1_2_4(machine: PowercapEmulator, monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    pytest.importorskip("tensorflow")
    import greenload as gl

    monkeypatch.setenv("GREENLOAD_BURN_S", "0.0005")
    made = make(samples=32, batch=8)
    batches = list(gl.load(made, epochs=1) if isinstance(made, gl.Pipeline) else made)
    machine.true_energy_j("cpu:package-0")
    assert len(batches) == 4
    cpu_s = noted_s(machine.ledger)
    for step in burning.STEPS:
        # To half a piece, 0.05 ms, or a little longer on a busy machine.
        assert 32 * (step.units * 0.0005 - 0.0001) <= cpu_s[step.name] < 32 * (step.units * 0.0005 + 0.0004)
    joules = {step.name: machine.true_energy_j("cpu:package-0", step.name) for step in burning.STEPS}
    per_cpu_s = {name: joules[name] / cpu_s[name] for name in joules}
    assert per_cpu_s["middle"] > 1.4 * per_cpu_s["heavy"]


def test_the_reading_step_reads_its_files(
    machine: PowercapEmulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("tensorflow")
    import greenload as gl

    monkeypatch.setenv("GREENLOAD_BURN_S", "0.0001")
    paths = burning.write_files(tmp_path / "files", count=5, size=100_000)
    assert [path.stat().st_size for path in paths] == [100_000] * 5
    with open("/proc/self/io") as before_io:
        before = int(before_io.readline().split()[1])
    list(gl.load(burning.reading_pipeline(tmp_path / "files", samples=20, batch=10), epochs=1))
    with open("/proc/self/io") as after_io:
        after = int(after_io.readline().split()[1])
    assert after - before >= 20 * 100_000
    assert sum(size for _, kind, _, size in machine.ledger.read() if kind == "read") >= 2 * 20 * 100_000


def test_a_neighbour_takes_its_share_on_and_off(machine: PowercapEmulator) -> None:
    cores = len(os.sched_getaffinity(0))
    with burning.Neighbour(machine, share=0.25, mean_s=0.02) as neighbour:
        start_s, start = process_cpu_s(neighbour.pid, 0.0), time.monotonic()
        time.sleep(2.0)
        used = (process_cpu_s(neighbour.pid, 0.0) - start_s) / (time.monotonic() - start) / cores
        assert machine.true_energy_j("cpu:package-0", "neighbour") > 0
    # A busy machine gives it less, and its times of work are counted in CPU seconds.
    assert 0.02 < used < 0.5
    assert process_cpu_s(neighbour.pid, -1.0) == -1.0


def test_its_power_model_is_printed_for_the_command_line() -> None:
    root = str(Path(burning.__file__).parents[1])
    command = [sys.executable, "-m", "bench.burning", "--power"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert '"heavy": 1.0' in done.stdout and '"light": 2.0' in done.stdout, done.stderr
