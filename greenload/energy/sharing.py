"""One running sampler for all who measure at the same time in one process."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from greenload.energy.discover import discover
from greenload.energy.meter import Meter, MeterStatus
from greenload.energy.sampler import PERIOD_S, Sampler

Find = Callable[[], tuple[Sequence[Meter], Sequence[MeterStatus]]]
"""Finds meters, and says of each whether it can be used: as `discover`."""


@dataclass(frozen=True, slots=True)
class Use:
    """A claim on a running sampler, up to `SharedSampler.release`."""

    sampler: Sampler
    statuses: tuple[MeterStatus, ...]
    """Every meter found or missing, with reason and remedy."""
    pid: int
    """The process that the sampler runs in."""


class SharedSampler:
    """A sampler that starts with its first user and stops after its last.

    Windows are cut from marks, of which one sampler takes any number: nested and concurrent measures need one thread,
    one set of open meters and one NVML session between them. A forked child has none of its parent's threads, so it
    starts a sampler of its own. Safe in threads.

    Args:
        find: finds the meters each time that the sampler starts.
        period_s: seconds between polls.

    Example:
        >>> shared = SharedSampler()
        >>> with shared.use() as first, shared.use() as second:
        ...     first.sampler is second.sampler
        True
    """

    def __init__(self, find: Find = discover, *, period_s: float = PERIOD_S) -> None:
        self._find = find
        self._period_s = period_s
        self._lock = threading.Lock()
        self._now: Use | None = None
        self._users = 0
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
        """Give a claim back, once. The last one stops the sampler and closes its meters."""
        if use.pid != os.getpid():
            return  # claimed by the parent of this process, and its to give back
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._now = None
                use.sampler.stop()

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

    def _forget(self) -> None:
        """In a forked child: the lock may be held by a thread that isn't there, the meters are the parent's."""
        self._lock = threading.Lock()
        self._now = None
        self._users = 0


def _after_fork() -> None:
    for shared in list(_all):
        shared._forget()


_all: weakref.WeakSet[SharedSampler] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

DEFAULT = SharedSampler()
"""The process's own, over every meter of this machine."""
