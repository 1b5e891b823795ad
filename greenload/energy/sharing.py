"""One running sampler for everything that is measured at the same time in one process."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from greenload.energy.meters.base import Meter, MeterStatus
from greenload.energy.meters.discover import discover
from greenload.energy.sampler import PERIOD_S, Sampler

Find = Callable[[], tuple[Sequence[Meter], Sequence[MeterStatus]]]
"""Finds meters, and says of each whether it can be used: as `discover`."""
LINGER_S = 5.0
"""Seconds that a sampler of many short measurements outlives the last of them: finding meters and opening a driver's
session take longer than most of them, and the few polls in between take next to nothing."""


@dataclass(frozen=True, slots=True)
class Use:
    """A claim on a running sampler, up to `SharedSampler.release`."""

    sampler: Sampler
    statuses: tuple[MeterStatus, ...]
    """Every meter found or missing, with reason and remedy."""
    pid: int
    """The process that the sampler runs in."""


class SharedSampler:
    """A sampler that starts with its first user and stops after its last, or some seconds later.

    Windows are cut from marks, of which one sampler takes any number: nested and concurrent measures need one thread,
    one set of open meters and one NVML session between them. A forked child has none of its parent's threads, so it
    starts a sampler of its own. One that lingers ends with the interpreter, which it doesn't keep. Safe in threads.

    Args:
        find: finds the meters each time that the sampler starts.
        period_s: seconds between polls.
        linger_s: seconds that it goes on without a user, to be there for the next; with 0 it stops after the last.

    Example:
        >>> shared = SharedSampler()
        >>> with shared.use() as first, shared.use() as second:
        ...     first.sampler is second.sampler
        True
    """

    def __init__(self, find: Find = discover, *, period_s: float = PERIOD_S, linger_s: float = 0.0) -> None:
        self.linger_s = linger_s
        """Seconds that it goes on without a user, from the next time that it has none."""
        self._find = find
        self._period_s = period_s
        self._lock = threading.Condition(threading.Lock())
        self._now: Use | None = None
        self._users = 0
        self._until_s = 0.0
        self._watch: threading.Thread | None = None
        _all.add(self)

    def acquire(self) -> Use:
        """Claim the running sampler; starts it for the first user.

        Raises:
            MeterError: two meters claim one domain.
            UsageError: ``period_s`` isn't positive.
        """
        with self._lock:
            if self._now is None:
                self._now = self._start()
            self._users += 1
            return self._now

    def release(self, use: Use) -> None:
        """Give a claim back, once. After the last one the sampler stops and closes its meters, or lingers first."""
        if use.pid != os.getpid():
            return  # claimed by the parent of this process, and its to give back
        with self._lock:
            self._users -= 1
            if self._users:
                return
            self._until_s = time.monotonic() + self.linger_s
            if self.linger_s <= 0 or not self._watched():
                self._stop()

    def stop_now(self) -> None:
        """Stop a sampler that only lingers, and close its meters. Harmless if there is none, or if it has users."""
        with self._lock:
            if self._users == 0:
                self._stop()

    @property
    def running(self) -> Use | None:
        """What runs now, without a claim on it: it may stop at any time."""
        with self._lock:
            return self._now

    @contextmanager
    def use(self) -> Iterator[Use]:
        """Claim the sampler for a block."""
        use = self.acquire()
        try:
            yield use
        finally:
            self.release(use)

    def _start(self) -> Use:
        meters, statuses = self._find()
        try:
            return Use(Sampler(meters, period_s=self._period_s).start(), tuple(statuses), os.getpid())
        except BaseException:
            for meter in meters:
                meter.close()
            raise

    def _stop(self) -> None:
        use, self._now = self._now, None
        self._lock.notify_all()
        if use is not None:
            use.sampler.stop()

    def _watched(self) -> bool:
        """Whether a thread stops the sampler when its time has come: one thread for all calls in a row."""
        if self._watch is None:
            self._watch = threading.Thread(target=self._linger, name="greenload-linger", daemon=True)
            try:
                self._watch.start()
            except RuntimeError:  # the interpreter is ending, or has too many threads
                self._watch = None
        return self._watch is not None

    def _linger(self) -> None:
        with self._lock:
            while self._now and not self._users and (left_s := self._until_s - time.monotonic()) > 0:
                self._lock.wait(left_s)
            self._watch = None
            if self._users == 0:
                self._stop()

    def _forget(self) -> None:
        """In a forked child: the lock may be held by a thread that isn't there, the meters are the parent's."""
        self._lock = threading.Condition(threading.Lock())
        self._now = self._watch = None
        self._users = 0


def _after_fork() -> None:
    for shared in list(_all):
        shared._forget()


_all: weakref.WeakSet[SharedSampler] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _stop_all() -> None:
    """Before the interpreter ends under their threads."""
    for shared in list(_all):
        shared.stop_now()


DEFAULT = SharedSampler(linger_s=LINGER_S)
"""The process's own, over every meter of this machine."""


def running(*, besides: SharedSampler | None = None) -> Use | None:
    """A sampler that runs in this process, for whomever; None where there is none.

    Args:
        besides: one that doesn't count.
    """
    with suppress(RuntimeError):  # another was made meanwhile
        shared = [DEFAULT, *(one for one in _all if one is not DEFAULT and one is not besides)]
        return next((use for one in shared if (use := one.running)), None)
    return None
