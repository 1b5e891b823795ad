"""Tells other processes of this user what this one's watched datasets do: ``greenload top`` reads it.

A daemon thread writes a small file about once a second while any dataset is watched and something was done. It never
raises into the user's program, and waits for no disk: where the file can't be written, the status says so at the port
of an `EnergyCallback`, which has the same document. ``GREENLOAD_STATUS=off`` turns the file off.

A status names the user's script and its arguments in the file, which only the user reads; at the port, which others may
reach, the script alone.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import psutil  # the machine's facts need it, too, which a thread asks for: see forking

from greenload.energy import sharing
from greenload.energy.meters.discover import discover_cpu
from greenload.energy.totals import RunningTotals, Totals
from greenload.errors import MeterError
from greenload.machine import machine
from greenload.profiling.in_place.model import BufferWatch
from greenload.profiling.in_place.published import folder_named, is_off
from greenload.profiling.in_place.status import DatasetStatus, EnergyCount, Status
from greenload.profiling.in_place.watched import Watched, all_watched
from greenload.system import processes, runtime_folder, shutdown

PERIOD_S = 1.0
"""Seconds between two statuses; more where that takes more than `SHARE`."""
SHARE = 0.0006
"""Part of a processor's time that statuses may take, on a busy machine too, where a cold cache triples their cost."""
_LONGEST_S = 4.0  # between two statuses, whatever they take
_LOOK_S = 1.8
"""Seconds from one look at buffers to the next, which takes as long as all the rest: to be in every second status."""
_METERS = sharing.SharedSampler(discover_cpu, period_s=4 * PERIOD_S)
"""Where no others run. They are read with each status, and polled besides only where a counter could wrap."""
_PATIENCE_S = 2.0  # for the thread, at the interpreter's end: it takes milliseconds


def publish() -> None:
    """Have what is watched told to others, from now on and for as long as anything is. Harmless if repeated."""
    if is_off() or shutdown.is_ending():
        return
    with _lock:
        _Publisher.running = _Publisher.running or _Publisher.started()


def document() -> bytes:
    """What this process says of itself now, as JSON, to whoever may ask."""
    status = _teller.status()
    return _encoded(replace(status, command=status.command[:2]))


def _encoded(status: Status) -> bytes:
    return json.dumps(status.to_dict(), allow_nan=False).encode()


def tell_idle_power(watts: Mapping[str, float | None]) -> None:
    """Say what the idle machine draws by domain, once that was measured: joules of work are without it."""
    _teller.idle_w |= {domain: power for domain, power in watts.items() if power is not None}


class _Teller:
    """Makes statuses. Safe in threads."""

    def __init__(self) -> None:
        self.idle_w: dict[str, float] = {}
        self.failure = ""
        self._lock = threading.Lock()
        self._claim: sharing.Use | None = None
        self._totals: RunningTotals | None = None
        self._counted = Totals()
        self._buffers: dict[int, BufferWatch] = {}
        """By the number of what is watched, which may be another object later."""
        self._looked_s = 0.0
        self._fixed: tuple[str, float, dict[str, object]] | None = None

    def status(self) -> Status:
        with self._lock:
            if self._fixed is None:
                began = psutil.Process().create_time()
                self._fixed = processes.identity(os.getpid()), began, machine().to_dict()
            identity, started, facts = self._fixed
            self._count()
            watched = all_watched()
            self._buffers = {each.number: self._buffers.get(each.number, BufferWatch()) for each in watched}
            looks = time.monotonic() - self._looked_s >= _LOOK_S
            self._looked_s = time.monotonic() if looks else self._looked_s
            return Status(
                pid=os.getpid(),
                identity=identity,
                command=[os.path.basename(sys.executable or "python"), *getattr(sys, "argv", [])],
                started=started,
                written=time.time(),
                time_s=time.monotonic(),
                cpu_s=time.process_time(),
                other_cpu_s=self._counted.other_cpu_s,
                datasets=[self._dataset(each, looks=looks) for each in watched],
                energy={
                    domain: EnergyCount(total.joules, total.seconds, provenance, self.idle_w.get(domain))
                    for (domain, provenance), total in self._counted.domains.items()
                },
                machine=facts,
                notes=[self.failure] if self.failure else [],
            )

    def _dataset(self, watched: Watched, *, looks: bool) -> DatasetStatus:
        buffers = self._buffers[watched.number]
        if looks:
            with contextlib.suppress(RuntimeError):  # an iterator was made meanwhile
                buffers.look(watched.iterators)
        return DatasetStatus(
            watched.number,
            watched.name,
            watched.sample_unit,
            watched.steps,
            watched.read(),
            watched.unwatched,
            buffers.to_dict(),
            tuple(watched.telling),
        )

    def start_meters(self) -> None:
        """Have joules counted where nobody else counts any."""
        with self._lock, contextlib.suppress(MeterError):
            if self._claim is None:
                self._claim = _METERS.acquire()

    def stop_meters(self) -> None:
        """Harmless if repeated."""
        with self._lock:
            claim, self._claim = self._claim, None
        if claim is not None:
            _METERS.release(claim)

    def _count(self) -> None:
        """Read the meters: those of a measurement, which may be more, before the own."""
        use = sharing.running(besides=_METERS) or self._claim
        if self._totals is not None and (use is None or use.sampler is not self._totals.sampler):
            self._counted, self._totals = self._totals.freeze(), None
        if use is not None and self._totals is None:
            with contextlib.suppress(MeterError):  # it has just stopped
                self._totals = RunningTotals(use.sampler, self._counted)
        if self._totals is not None:
            self._counted = self._totals.read()


class _Publisher:
    """Writes statuses to this process's file, in a thread of its own, until nothing is watched any more."""

    running: _Publisher | None = None
    """The process's own."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._file: Path | None = None
        self._thread = threading.Thread(target=self._run, name="greenload-status", daemon=True)

    @classmethod
    def started(cls) -> _Publisher | None:
        publisher = cls()
        try:
            publisher._thread.start()
        except RuntimeError as error:
            _teller.failure = f"no status file is written, since no thread can be started ({error})"
            return None
        return publisher

    def close(self) -> None:
        self._stop.set()
        self._thread.join(_PATIENCE_S)
        _teller.stop_meters()
        self._remove()

    def _run(self) -> None:
        period_s, costs_s = PERIOD_S, [0.0, 0.0]
        while not self._stop.wait(period_s):
            with _lock:
                if not all_watched():
                    _Publisher.running = None
                    break
            began_s = time.thread_time()
            try:
                self._write()
            except Exception as error:  # a training goes on without its status
                _teller.failure = f"no status file is written: {type(error).__name__}: {error}"
            # Of two in a row, one of which looks at buffers.
            costs_s = [costs_s[1], time.thread_time() - began_s]
            period_s = max(PERIOD_S, min(sum(costs_s) / 2 / SHARE, _LONGEST_S))
        _teller.stop_meters()
        self._remove()

    def _write(self) -> None:
        status = _teller.status()
        if not status.used and self._file is None:
            return
        _teller.start_meters()
        try:
            if self._file is None:
                self._file = runtime_folder.made(folder_named()) / f"{status.pid}.json"
            _replace(self._file, _encoded(status))
            _teller.failure = ""
        except OSError as error:
            self._file = None if isinstance(error, FileNotFoundError) else self._file  # somebody cleaned up
            _teller.failure = f"no status file is written: {error.strerror or error}"

    def _remove(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink()


def _replace(file: Path, data: bytes) -> None:
    """Put a file in the place of another, in one go; nothing waits for the disk, as it needn't outlive the machine."""
    partial = file.with_suffix(".partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(partial, flags, 0o600), "wb", buffering=0) as out:
            view = memoryview(data)
            while view:
                view = view[out.write(view) :]
        os.replace(partial, file)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _end() -> None:
    with _lock:
        publisher, _Publisher.running = _Publisher.running, None
    if publisher is not None:
        publisher.close()


def _after_fork() -> None:
    """A child has neither the thread nor the meters, and what is in the file isn't its."""
    global _lock, _teller
    _lock, _teller = threading.Lock(), _Teller()
    _Publisher.running = None


_lock = threading.Lock()
_teller = _Teller()
atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
