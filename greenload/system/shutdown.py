"""Ends greenload's work before the interpreter ends: running calls finish first, and no new one begins.

A thread that needs the interpreter while it ends never gets it: the thread's call doesn't return, and its caller hangs,
or the C++ code around it aborts. TensorFlow's threads, DALI's and a user's daemon threads all call greenload's Python
code, so each entry passes a gate here. At the interpreter's end the gate is shut, running calls are waited for, and
then the remaining pools and graphs are closed.

This runs as an ``atexit`` function: after the user's other threads have ended, which may load until then, and after the
``atexit`` functions that the user registered later. In a forked child it touches nothing of the parent's.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import itertools
import os
import signal
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from greenload.errors import UsageError
from greenload.system import forking

PATIENCE_S = 10.0
"""How long the end waits for running calls: each works on one batch."""
QUIET_S = 0.02
"""So long, ``QUIET_TIMES`` times in a row, no call may have been refused: then TensorFlow's buffers are full of
refusals, and its threads ask for nothing more."""
QUIET_TIMES = 3

_POLL_S = 0.001

ENDING = "greenload: the interpreter is ending, so no batch is made any more"


class Closable(Protocol):
    """What can be closed at the interpreter's end. Closing it twice is harmless."""

    def close(self) -> None:
        """Give back threads and buffers."""


class Gate:
    """Counts the threads inside a section, so that its resources are given back only when no thread is inside.

    The main thread may be interrupted at any instruction, also between entering and leaving. So the count is by thread,
    and the thread that shuts the gate doesn't count.

    Example:
        >>> gate = Gate()
        >>> if gate.enter():
        ...     try:
        ...         work()
        ...     finally:
        ...         gate.leave()
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: Counter[int] = Counter()
        self.open = True
        self.refused = 0
        """How many threads were refused since it was shut."""

    def enter(self) -> bool:
        """Enter, unless the gate is shut.

        Returns:
            Whether it was open.
        """
        with self._lock:
            if self.open:
                self._inside[threading.get_ident()] += 1
            else:
                self.refused += 1
            return self.open

    def leave(self) -> None:
        """Leave."""
        with self._lock:
            thread = threading.get_ident()
            self._inside[thread] -= 1
            if self._inside[thread] <= 0:
                del self._inside[thread]

    def shut(self, timeout: float | None = None) -> bool:
        """Refuse all threads from now on, and wait until no other thread is inside.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether no other thread is inside.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                self.open = False
                empty = not set(self._inside) - {threading.get_ident()}
            if empty or (end is not None and time.monotonic() >= end):
                return empty
            time.sleep(_POLL_S)


class _FromTensorFlow:
    """A call of TensorFlow's threads into Python."""

    def __enter__(self) -> None:
        if not _gate.enter():
            raise StopIteration(ENDING)  # the one error of Python code that TensorFlow doesn't log

    def __exit__(self, *_: object) -> None:
        _gate.leave()


class _OfCaller:
    """A caller's request for a batch."""

    def __enter__(self) -> None:
        if not _gate.enter():
            _refuse()

    def __exit__(self, *_: object) -> None:
        _gate.leave()
        if not _gate.open:
            thread = threading.current_thread()
            if thread.daemon and not isinstance(thread, threading._DummyThread):
                _end_thread()  # even with a batch: the end doesn't wait for its work on that


def _refuse() -> None:
    thread = threading.current_thread()
    if isinstance(thread, threading._DummyThread):  # TensorFlow's
        raise StopIteration(ENDING)
    if thread.daemon:
        _end_thread()
    raise UsageError(
        f"{ENDING}: load in a function that atexit calls only if it was registered after the last dataset was made"
    )


def _end_thread() -> NoReturn:
    # What the thread drops as it ends must not be in the middle of being closed, in C++, when the interpreter ends.
    _closed.wait(2 * PATIENCE_S)
    raise SystemExit(ENDING)  # ends the thread, and nothing is printed


call_from_tensorflow = _FromTensorFlow()
"""``with call_from_tensorflow:`` holds what TensorFlow calls in Python. Once the interpreter is ending it raises
``StopIteration``."""
request = _OfCaller()
"""``with request:`` holds what gives a caller a batch. Once the interpreter is ending it raises ``SystemExit`` in the
caller's daemon threads, which end by it without a word, and ``UsageError`` in its other threads."""


def weak_call(owner: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    """A function for TensorFlow that calls a method of an owner which something else keeps alive, such as the running
    dataset: TensorFlow keeps every function it may call for the life of the process, so it gets one that holds nothing.
    """
    weak = weakref.ref(owner)

    def call(*inputs: Any) -> Any:
        with call_from_tensorflow:
            alive = weak()
            assert alive is not None
            return method(alive, *inputs)

    return call


def close_at_end(value: Closable) -> None:
    """Have a value that is still alive closed at the interpreter's end; values registered last are closed first.

    It is closed before all functions run that have been registered with ``atexit`` until now, above all DALI's own,
    which shuts down graphs even while a thread is inside.
    """
    _left[next(_count)] = value
    if not is_ending():  # what is registered while such functions run is never called
        atexit.unregister(_end)
        atexit.register(_end)


def is_ending() -> bool:
    """Whether the interpreter has begun to end: then threads may not be started any more."""
    return not threading.main_thread().is_alive()


def _end() -> None:
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C ends the process at once
    threading.excepthook = _without_refusals(threading.excepthook)
    _gate.shut(PATIENCE_S)
    asks = "tensorflow" in sys.modules and not forking.tensorflow_is_stuck()
    if asks and not _quiet():
        _end_iterators()
        _quiet()
    for _, value in sorted(_left.items(), reverse=True):
        with contextlib.suppress(Exception):  # as of a graph whose device failed: the others are closed too
            value.close()
    _closed.set()
    if interrupt is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def _quiet() -> bool:
    """Wait until TensorFlow's threads ask for nothing more; ``False`` if they go on asking."""
    end = time.monotonic() + PATIENCE_S
    for _ in range(QUIET_TIMES):
        before = -1
        while before != _gate.refused:
            if time.monotonic() > end:
                return False
            before = _gate.refused
            time.sleep(QUIET_S)
    return True


def _iterators() -> list[Any]:
    """All iterators of TensorFlow's datasets in this process."""
    module = sys.modules.get("tensorflow.python.data.ops.iterator_ops")
    kind = getattr(module, "OwnedIterator", None)
    return [value for value in gc.get_objects() if isinstance(value, kind)] if kind else []


def _end_iterators() -> None:
    """End iterators that go on asking for batches, as one behind ``ignore_errors().repeat()``."""
    for iterator in _iterators():
        iterator._iterator_resource = None


def _without_refusals(hook: Any) -> Any:
    """A ``threading.excepthook`` that prints nothing for calls that were refused here."""

    def quiet_hook(args: Any) -> None:
        if ENDING not in str(args.exc_value):
            hook(args)

    return quiet_hook


def _after_fork() -> None:
    global _gate, _closed
    _gate, _closed = Gate(), threading.Event()  # the threads inside are the parent's
    _left.clear()


_gate = Gate()
_closed = threading.Event()
"""Set once all remaining values are closed."""
_left: weakref.WeakValueDictionary[int, Closable] = weakref.WeakValueDictionary()
_count = itertools.count()
atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
