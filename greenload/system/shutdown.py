"""The interpreter's end: calls into it that are under way end first, and no other begins.

A thread that asks for an interpreter that is ending never gets it: its call doesn't return, and what waits for the call
hangs, or the C++ around it aborts. TensorFlow's threads, DALI's and a user's daemon threads all come to greenload's
Python code, so each way in passes a gate here. At the interpreter's end the gate is shut, the calls inside are waited
for, and then the pools and graphs that are left are closed.

This runs as an ``atexit`` function: behind the end of the user's other threads, which may go on loading until then, and
behind the ``atexit`` functions that the user registered later. It leaves alone what a forked child has of its parent.
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
from types import TracebackType
from typing import Any, NoReturn, Protocol

from greenload.errors import UsageError
from greenload.system import forking

PATIENCE_S = 10.0
"""How long the end waits for calls that are under way: each works on one batch."""
QUIET_S = 0.02
"""So long, ``QUIET_TIMES`` times in a row, no call may have been refused: then TensorFlow's buffers are full of
refusals, and its threads ask for nothing more."""
QUIET_TIMES = 3

_POLL_S = 0.001

ENDING = "greenload: the interpreter is ending, so no batch is made any more"


class Closable(Protocol):
    """What is closed at the interpreter's end. Closing it twice is harmless."""

    def close(self) -> None:
        """Give back threads and buffers."""
        ...


class Gate:
    """Counts the threads inside something, so that it is given back only when there is none.

    The main thread may be interrupted at any instruction, also between going in and going out. So the count is by
    thread, and what the thread that shuts the gate left in it doesn't count.

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
        """How many were refused since it was shut."""

    def enter(self) -> bool:
        """Go in, unless the gate is shut."""
        with self._lock:
            if self.open:
                self._inside[threading.get_ident()] += 1
            else:
                self.refused += 1
            return self.open

    def leave(self) -> None:
        """Go out."""
        with self._lock:
            thread = threading.get_ident()
            self._inside[thread] -= 1
            if self._inside[thread] <= 0:
                del self._inside[thread]

    def shut(self, timeout: float | None = None) -> bool:
        """Let nobody in any more, and wait until no other thread is inside.

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

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _gate.leave()
        if not _gate.open:
            thread = threading.current_thread()
            if thread.daemon and not isinstance(thread, threading._DummyThread):
                _end_thread()  # whatever it was given: the end waits for nobody who works on it


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
    # What the thread drops as it ends must not be in the middle of being closed, in C++, when the interpreter goes.
    _closed.wait(2 * PATIENCE_S)
    raise SystemExit(ENDING)  # ends the thread, and nothing is printed


call_from_tensorflow = _FromTensorFlow()
"""``with call_from_tensorflow:`` holds what TensorFlow calls in Python. Once the interpreter is ending it raises
``StopIteration``."""
request = _OfCaller()
"""``with request:`` holds what gives a caller a batch. Once the interpreter is ending it raises ``SystemExit`` in the
caller's daemon threads, which end by it without a word, and ``UsageError`` in its other threads."""


def close_at_end(value: Closable) -> None:
    """See to it that a value, if it still lives, is closed at the interpreter's end: those registered last come first.

    It is closed before what was registered with ``atexit`` until now, DALI's own end above all: it shuts down graphs
    whether or not a thread is inside.
    """
    _left[next(_count)] = value
    if not is_ending():  # what is registered while such functions run is never called
        atexit.unregister(_end)
        atexit.register(_end)


def is_ending() -> bool:
    """Whether the interpreter has begun to end: then threads may not be started any more."""
    return not threading.main_thread().is_alive()


def _end() -> None:
    stuck = forking.tensorflow_is_stuck()
    if stuck:
        _leak_iterators()
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # who doesn't want to wait gets out at once
    threading.excepthook = _without_refusals(threading.excepthook)
    _gate.shut(PATIENCE_S)
    if not stuck and "tensorflow" in sys.modules and not _quiet():
        _end_iterators()
        _quiet()
    for _, value in sorted(_left.items(), reverse=True):
        with contextlib.suppress(Exception):  # as of a graph whose device failed: the others must be closed too
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
    """End iterators that go on asking, as one behind ``ignore_errors().repeat()``."""
    for iterator in _iterators():
        iterator._iterator_resource = None


def _leak_iterators() -> None:
    """Let no iterator of the parent's be freed in a forked child: it would wait for threads that aren't there."""
    for iterator in _iterators():
        forking.leak(iterator._iterator_resource)


def _without_refusals(hook: Any) -> Any:
    """A ``threading.excepthook`` that is silent of what was refused here."""

    def told(args: Any) -> None:
        if ENDING not in str(args.exc_value):
            hook(args)

    return told


def _after_fork() -> None:
    global _gate, _closed
    _gate, _closed = Gate(), threading.Event()  # who was inside is so in the parent
    _left.clear()


_gate = Gate()
_closed = threading.Event()
"""Set once what was left is closed."""
_left: weakref.WeakValueDictionary[int, Closable] = weakref.WeakValueDictionary()
_count = itertools.count()
atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
