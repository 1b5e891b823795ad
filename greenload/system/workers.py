"""Runs work in a few threads of a pipeline's own, until the interpreter's very end.

``concurrent.futures`` takes no more work once the main thread has ended, but the user's other threads may still load
then, and so may functions that ``atexit`` calls.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from greenload.errors import UsageError
from greenload.system import forking, limits, shutdown

P = ParamSpec("P")
T = TypeVar("T")

_Task = tuple[Future[Any], Callable[[], Any]]
_Tasks = SimpleQueue[_Task | None]  # None ends the thread that takes it


class Workers:
    """Threads that run submitted calls in order, several at a time. They are started as they are needed.

    Once the main thread has ended no more are started: nothing would end them, and Python 3.12 forbids it. If there is
    no thread by then, the submitting thread runs the call itself.

    Args:
        threads: how many, at most.
        name: what they do; each is called ``greenload-NAME``.

    Example:
        >>> workers = Workers(2, "decode")
        >>> workers.submit(sum, [1, 2]).result()
        3
    """

    def __init__(self, threads: int, name: str) -> None:
        self._most = threads
        self._name = f"greenload-{name}"
        self._tasks: _Tasks = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False
        # When it is no longer referred to its threads end; at the interpreter's end `shutdown` closes its owner.
        forking.close_when_dropped(self, functools.partial(_dismiss, self._tasks, self._threads))

    @property
    def closed(self) -> bool:
        """Whether they take no more work."""
        return self._closed

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a call run.

        Raises:
            UsageError: they are closed.
            BackendUnavailable: no thread can be started; says why.
        """
        future: Future[T] = Future()
        task: _Task = future, lambda: work(*args, **kwargs)
        with self._lock:
            if self._closed:
                raise UsageError(f"the threads {self._name!r} are closed: make another pipeline")
            if len(self._threads) < self._most and not shutdown.is_ending():
                self._start()
            if self._threads:
                self._tasks.put(task)
                return future
        _do(task)
        return future

    def _start(self) -> None:
        thread = threading.Thread(target=_work, args=(self._tasks,), name=self._name, daemon=True)
        limits.start(thread)
        self._threads.append(thread)

    def close(self, *, cancel: bool = False) -> None:
        """Take no more work, and wait until submitted calls are done. Calling it twice is harmless.

        Args:
            cancel: cancel calls that no thread has begun.
        """
        with self._lock:
            self._closed = True
        while cancel:
            try:
                task = self._tasks.get_nowait()
            except Empty:
                break
            if task is not None:
                task[0].cancel()
        _dismiss(self._tasks, self._threads)


_here = threading.local()


def in_worker() -> bool:
    """Whether this is a thread of a pool. Garbage may be collected in one too, and must not wait for such a thread."""
    return getattr(_here, "works", False)


def _work(tasks: _Tasks) -> None:
    _here.works = True
    while (task := tasks.get()) is not None:
        _do(task)
        del task  # or what it refers to would live until the next one comes
    tasks.put(None)  # for the next thread: an interrupt may have left one more than are known


def _do(task: _Task) -> None:
    future, work = task
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)


def _dismiss(tasks: _Tasks, threads: Sequence[threading.Thread]) -> None:
    tasks.put(None)
    # Garbage may be collected in any thread, so also in one of these, which would wait for itself, or for another that
    # waits for it.
    if not in_worker():
        for thread in threads:
            thread.join()
