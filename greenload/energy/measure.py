"""``measure``: joules and CPU seconds of any code."""

from __future__ import annotations

import functools
import inspect
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from greenload import scalars
from greenload.energy.figures import Figure
from greenload.energy.meters.base import Channel, Meter, MeterStatus
from greenload.energy.meters.discover import discover
from greenload.energy.sampler import PERIOD_S, Window
from greenload.energy.sharing import DEFAULT, LINGER_S, SharedSampler
from greenload.errors import MeterError, UsageError
from greenload.public import public

KEEP = 1000
"""Windows that a decorated function keeps."""
_BELOW = "apply it below @property, @classmethod and @staticmethod"

P = ParamSpec("P")
R = TypeVar("R", covariant=True)


class Energies(dict[str, Figure]):
    """Figures by domain. Asking for a domain that has none says why, and which there are."""

    def __init__(self, figures: Mapping[str, Figure], void: Mapping[str, str]) -> None:
        super().__init__(figures)
        self._void = dict(void)

    def __missing__(self, domain: str) -> Figure:
        if domain in self._void:
            raise MeterError(f"{domain} has no figure in this window: {self._void[domain]}")
        raise MeterError(
            f"there is no meter for {domain!r}, only for {', '.join(sorted({*self, *self._void})) or 'nothing'}: "
            "greenload doctor says why and what helps"
        )


class MeasuredWindow:
    """What :func:`measure` gives. Its figures are there once the ``with`` block has ended, whether or not it raised."""

    def __init__(self, statuses: Sequence[MeterStatus], channels: Mapping[str, Channel]) -> None:
        self.statuses: Sequence[MeterStatus] = tuple(statuses)
        """Every meter found or missing, with reason and remedy."""
        self._channels = dict(channels)
        self._window: Window | None = None
        self._thread_cpu_s: float | None = None
        self._failure = "a window has figures only after its block ended: read them after the with statement"

    @property
    def window(self) -> Window:
        """The plain numbers.

        Raises:
            MeterError: the block is still running, or ended in a fork of the process that opened it.
        """
        if self._window is None:
            raise MeterError(self._failure)
        return self._window

    @property
    def energy_j(self) -> Energies:
        """Joules by domain: of the whole package or GPU where measured, of this process where modelled.

        Windows that overlap each have all joules of their time: what they share is in both.

        One window has no sampling error to estimate: ``low`` and ``high`` are how far a measured figure may be off
        because its counter is refreshed only so often, and equal ``value`` for a model, whose error is ``systematic``.
        """
        window = self.window
        return Energies(
            {domain: _figure(self._channels[domain], window, joules) for domain, joules in window.energy_j.items()},
            window.void,
        )

    @property
    def void(self) -> Mapping[str, str]:
        """Domains that have a meter but no figure in this window, and why."""
        return self.window.void

    @property
    def provenance(self) -> Mapping[str, str]:
        """``measured``, ``vendor-declared`` or ``modelled`` for each metered domain."""
        return {domain: channel.provenance for domain, channel in self._channels.items()}

    @property
    def wall_s(self) -> float:
        """Length in seconds of monotonic time."""
        return self.window.wall_ns / 1e9

    @property
    def cpu_s(self) -> float:
        """CPU seconds of this process, all threads, and of its waited-for children, ``sampler_cpu_s`` left out."""
        return self.window.cpu_s

    @property
    def sampler_cpu_s(self) -> float:
        """CPU seconds that measuring took within the window: windows inside it and polls. Measured joules hold them."""
        return self.window.sampler_cpu_s

    @property
    def thread_cpu_s(self) -> float | None:
        """CPU seconds of the thread that opened the window, out of ``cpu_s``; None where another thread closed it."""
        _ = self.window
        return self._thread_cpu_s

    @property
    def other_cpu_s(self) -> float:
        """Busy CPU seconds of the rest of the machine, which a measured figure contains."""
        return self.window.other_cpu_s

    @property
    def rss_bytes(self) -> int:
        """Mean resident memory, in bytes."""
        return self.window.rss_bytes

    @property
    def device_read_bytes(self) -> int | None:
        """Bytes fetched from storage devices; None where the system doesn't tell."""
        return self.window.device_read_bytes

    @property
    def device_written_bytes(self) -> int | None:
        """Bytes sent to storage devices; None where the system doesn't tell."""
        return self.window.device_written_bytes

    def __repr__(self) -> str:
        if self._window is None:
            return "MeasuredWindow(running)"
        joules = ", ".join(
            f"{domain}={value:.3g} J {self._channels[domain].provenance}"
            for domain, value in self._window.energy_j.items()
        )
        return f"MeasuredWindow({self.wall_s:.3f} s, cpu {self.cpu_s:.3f} s, {joules})"


def _figure(channel: Channel, window: Window, joules: float) -> Figure:
    off_j = window.resolution_j.get(channel.domain, 0.0)
    return Figure(
        joules,
        max(0.0, joules - off_j),
        joules + off_j,
        channel.provenance,
        channel.systematic,
        unresolved=off_j >= joules > 0,
    )


class MeasuredWindows(Sequence[MeasuredWindow]):
    """The last windows of a decorated function, in the order in which the calls ended. Safe in threads."""

    def __init__(self, keep: int) -> None:
        self._windows: deque[MeasuredWindow] = deque(maxlen=keep)
        self._lock = threading.Lock()

    def _append(self, window: MeasuredWindow) -> None:
        with self._lock:
            self._windows.append(window)

    def _snapshot(self) -> tuple[MeasuredWindow, ...]:
        with self._lock:
            return tuple(self._windows)

    def clear(self) -> None:
        """Forget all windows so far."""
        with self._lock:
            self._windows.clear()

    def __len__(self) -> int:
        return len(self._windows)

    @overload
    def __getitem__(self, index: int) -> MeasuredWindow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[MeasuredWindow]: ...
    def __getitem__(self, index: int | slice) -> MeasuredWindow | Sequence[MeasuredWindow]:
        return self._snapshot()[index]

    def __iter__(self) -> Iterator[MeasuredWindow]:
        return iter(self._snapshot())

    def __repr__(self) -> str:
        return f"MeasuredWindows({len(self)} of at most {self._windows.maxlen})"


class MeasuredFunction(Protocol[P, R]):
    """A function whose calls are measured, as `measure` gives it as a decorator."""

    windows: MeasuredWindows
    """A window for each call that has ended, the last ``keep`` of them."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, and keep a window of the call."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Methods bind as usual."""


class Measurement:
    """What `measure` gives: a context manager for a block, and a decorator for functions."""

    def __init__(self, shared: SharedSampler, keep: int, *, once: bool) -> None:
        self._shared = shared
        self._keep = keep
        self._once = once
        self._entered = threading.Lock()
        self._open: _Open | None = None

    def __enter__(self) -> MeasuredWindow:
        if not self._entered.acquire(blocking=False):
            raise UsageError(
                "a measurement is of one block at a time"
                + (", and given meters are closed after the first" if self._once else "")
                + ": call gl.measure() for each"
            )
        try:
            self._open = _Open(self._shared)
        except BaseException:
            self._entered.release()
            raise
        return self._open.window

    def __exit__(self, *_: object) -> None:
        opened, self._open = self._open, None
        assert opened is not None
        try:
            opened.end()
        finally:
            if not self._once:
                self._entered.release()

    def __call__(self, function: Callable[P, R]) -> MeasuredFunction[P, R]:
        """Measure every call of a function, or of an ``async`` one; its window is added to ``function.windows``.

        Raises:
            UsageError: a generator, whose body runs in pieces between its consumer's; or meters were given, which are
                closed after one use.
        """
        if self._once:
            raise UsageError(
                "a function is called many times, but given meters are closed after one use: leave them out"
            )
        if not callable(function) or isinstance(function, staticmethod):
            raise UsageError(f"measure decorates functions, not {function!r}: {_BELOW}")
        runs = (function, type(function).__call__)  # an object's own __call__ may be async as well
        if any(inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call) for call in runs):
            raise UsageError(
                f"{getattr(function, '__qualname__', function)} is a generator, whose body runs in pieces between its "
                "consumer's: measure the loop that consumes it"
            )
        shared, windows = self._shared, MeasuredWindows(self._keep)
        shared.linger_s = LINGER_S  # between calls

        if any(inspect.iscoroutinefunction(call) for call in runs):

            @functools.wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                opened = _Open(shared)
                try:
                    return await cast(Any, function)(*args, **kwargs)
                finally:
                    opened.end()
                    windows._append(opened.window)
        else:

            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                opened = _Open(shared)
                try:
                    return cast(Any, function)(*args, **kwargs)
                finally:
                    opened.end()
                    windows._append(opened.window)

        cast(Any, wrapper).windows = windows
        return cast(MeasuredFunction[P, R], wrapper)


class _Open:
    """A window that has begun."""

    def __init__(self, shared: SharedSampler) -> None:
        self._shared = shared
        self._use = shared.acquire()
        try:
            self.window = MeasuredWindow(self._use.statuses, self._use.sampler.channels)
            self._thread = threading.get_ident()
            self._start = self._use.sampler.mark()
            self._thread_cpu_s = time.thread_time()
        except BaseException:
            shared.release(self._use)
            raise

    def end(self) -> None:
        if self._use.pid != os.getpid():
            self.window._failure = (
                f"this window was opened in process {self._use.pid} and ended in its fork {os.getpid()}, where nothing "
                "was measured: open another in the fork"
            )
            return
        try:
            same = threading.get_ident() == self._thread
            self.window._thread_cpu_s = time.thread_time() - self._thread_cpu_s if same else None
            sampler = self._use.sampler
            self.window._window = sampler.window(self._start, sampler.mark())
        finally:
            self._shared.release(self._use)


@overload
def measure(meters: Callable[P, R], /) -> MeasuredFunction[P, R]: ...
@overload
def measure(
    meters: tuple[Sequence[Meter], Sequence[MeterStatus]] | None = None,
    *,
    period_s: float = PERIOD_S,
    keep: int = KEEP,
    **discovery: Any,
) -> Measurement: ...
@public
def measure(
    meters: Any = None, *, period_s: float = PERIOD_S, keep: int = KEEP, **discovery: Any
) -> Measurement | MeasuredFunction[P, R]:
    """Measure a block of code, or every call of a function, with every meter of this machine.

    As a context manager it gives a window whose figures are there after the block, also if the block raised; the
    exception passes. As a decorator, of ``async`` functions too, it keeps a window of each call in
    ``function.windows``, a sequence in the order in which the calls ended.

    Windows may nest and overlap, in threads and in async tasks: all share one sampler, and one set of open meters.
    Energy counters and the process's CPU time know nothing of blocks, threads or tasks, so **each window has the whole
    machine's joules, and this process's CPU seconds, of its time**. What two windows overlap in is in both: their sum
    counts it twice. ``thread_cpu_s`` tells threads apart; two tasks of one event loop share their thread as well.

    Entering and leaving read the meters, so a plain ``with`` is right in async code; the CPU time that this takes is
    left out of ``cpu_s``, and is ``sampler_cpu_s``. The first to enter also finds the meters, and so does the next
    one once none was inside for 5 s: that opens the drivers' sessions, for which all others wait. One ``measure()``
    around all has it done once, at its beginning.

    Args:
        meters: meters and their statuses, as from :func:`greenload.energy.meters.discover.discover`, which is asked if
            None. They are closed at the end of the block. Or the function, where used as plain ``@gl.measure``.
        period_s: seconds between polls.
        keep: windows that a decorated function keeps, the last ones.
        discovery: passed to ``discover``, as ``powercap_root=…``; the sampler is then not shared with other measures.

    Raises:
        UsageError: an argument is out of range; one measurement is entered twice at a time.

    Example:
        >>> with measure() as window:
        ...     total = sum(range(1_000_000))
        >>> window.cpu_s > 0 and window.wall_s > 0
        True
        >>> @measure
        ... def add(n: int) -> int:
        ...     return sum(range(n))
        >>> add(1000), len(add.windows)
        (499500, 1)
    """
    if callable(meters):
        return Measurement(DEFAULT, keep, once=False)(meters)
    if not period_s > 0:
        raise UsageError(f"period_s must be positive, got {period_s}: leave it out for {PERIOD_S} s")
    count = scalars.whole(keep)
    if count is None or count < 1:
        raise UsageError(f"keep must be 1 or more, got {keep!r}: leave it out for the last {KEEP} windows")
    keep = count
    if meters is not None:
        if not isinstance(meters, tuple):
            raise UsageError(f"meters are a pair, as from discover, not {meters!r}: leave them out; or {_BELOW}")
        return Measurement(SharedSampler(lambda: meters, period_s=period_s), keep, once=True)
    if discovery or period_s != PERIOD_S:
        return Measurement(SharedSampler(lambda: discover(**discovery), period_s=period_s), keep, once=False)
    return Measurement(DEFAULT, keep, once=False)
