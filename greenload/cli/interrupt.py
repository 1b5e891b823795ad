"""Ends a command within seconds of Ctrl-C, SIGTERM, or the SIGHUP of a closed terminal.

The exit status tells which of them came, and one line at most is printed.

An interrupted import leaves modules in halves, libraries turn a KeyboardInterrupt into errors of their own or lose it,
and C++ code may wait for long. So nothing is imported here once it came, what was raised doesn't matter, and a thread
that only waits ends the process where the main thread doesn't. A process that was interrupted isn't torn down by
Python: threads still at work would be waited for.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

STATUS = 130
"""Of what was interrupted: 128 + SIGINT, as shells say it."""
GRACE_S = 4.0
"""From the signal to the end: time to stop meters, close pools and remove what is temporary."""
_POLL_S = 0.1
_SAID = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM", signal.SIGHUP: "ended by SIGHUP"}
_LINE = "greenload: error: {}"

left = ""
"""What becomes of the work done so far, said behind the cause; a command sets it while it knows (see `guarded`)."""

expected = False
"""Whether the next interrupt is waited for, by what is interrupted when all work is done: it ends that alone."""


def guarded(run: Callable[[], int], *, process: bool) -> int:
    """What ``run`` gives, or `STATUS` if it was interrupted, with a line on standard error.

    Args:
        run: does the work; imports what it needs.
        process: whether the process is for this alone. Then SIGTERM and SIGHUP interrupt it too, unless its parent
            ignores them, as nohup does; it doesn't outlive an interrupt by more than `GRACE_S`, a second Ctrl-C ends
            it at once, and there is no return from either.
    """
    global left
    left = ""  # of this command alone
    # A shell that puts a command into the background has it ignore Ctrl-C, and SIGTERM is all that ends it.
    usual = signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_IGN)
    if process and usual and os.name == "posix":
        return _Guard().run(run)
    try:
        return run()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            print(_line(signal.SIGINT), file=sys.stderr, flush=True)
        return STATUS


def _line(number: int) -> str:
    """What is said of a signal."""
    said = _SAID[signal.Signals(number)]
    return _LINE.format(f"{said}: {left}" if left else said)


class _Guard:
    """Ends this process on a signal."""

    def __init__(self) -> None:
        self._came = 0
        """The first signal's number."""
        usual = (signal.SIG_DFL, signal.default_int_handler)
        self._caught = [number for number in _SAID if signal.getsignal(number) in usual]
        """Those that it ends on: a signal that its parent ignores, as nohup does, stays ignored."""
        self._working = False
        self._lost = False
        self._telling = threading.Lock()
        self._uncaught, self._unraisable, self._in_thread = sys.excepthook, sys.unraisablehook, threading.excepthook

    def run(self, run: Callable[[], int]) -> int:
        try:
            self._begin()
            self._working = True
            if self._came:  # before there was anything to interrupt
                self._leave()
            status = run()
            self._working = False
        except BaseException:  # an interrupt inside a library may come out as anything
            if self._came:
                self._leave()
            self._working = False
            raise
        if self._came:  # and somebody swallowed it
            self._leave()
        return status

    def _begin(self) -> None:
        reads, writes = os.pipe()
        os.set_blocking(writes, False)
        with contextlib.suppress(RuntimeError):  # no thread can be started: then nothing bounds the end
            threading.Thread(target=self._watch, args=(reads,), daemon=True, name="greenload-interrupt").start()
        # Python writes the signal's number there as it comes, whatever the main thread does.
        signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
        for number in self._caught:
            signal.signal(number, self._interrupt)
        os.register_at_fork(after_in_child=self._in_child)
        for number in self._caught:
            atexit.register(signal.signal, number, signal.SIG_DFL)  # runs last: Python calls no handler after it
        atexit.register(_remove_temporary)
        sys.excepthook = lambda *error: self._leave() if self._came else self._uncaught(*error)
        sys.unraisablehook = self._ignored
        threading.excepthook = lambda error: None if self._came else self._in_thread(error)

    def _in_child(self) -> None:
        """A child is ended by what ends any process, and its parent doesn't hear of it."""
        signal.set_wakeup_fd(-1)
        for number in self._caught:
            if number != signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._came and not self._lost:
            if number == signal.SIGINT:
                self._end(self._came)
            return  # timeout(1) sends a signal to the process, and once more to its group
        self._came, self._lost = self._came or number, False
        if self._working:  # else all is done, and only Python's own end is left
            raise KeyboardInterrupt

    def _ignored(self, error: sys.UnraisableHookArgs) -> None:
        """Python can't raise an interrupt out of a callback of its garbage collection: it is sent again."""
        if not self._came:
            self._unraisable(error)
        elif error.exc_type is KeyboardInterrupt:
            self._lost = True

    def _watch(self, pipe: int) -> None:
        """End the process if it is still there `GRACE_S` after an interrupt, or at a second Ctrl-C."""
        while (number := os.read(pipe, 1)[0]) not in self._caught or expected:
            pass
        deadline_s = time.monotonic() + GRACE_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            if select.select([pipe], [], [], min(left_s, _POLL_S))[0] and os.read(pipe, 1)[0] == signal.SIGINT:
                break
            if self._lost:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # it may sleep
                os.read(pipe, 1)  # written for this one, too
        self._end(number)

    def _leave(self) -> None:
        """End the process in order: what was to be removed at its end is removed."""
        self._working = self._lost = False
        self._tell(self._came)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)  # libraries complain of what was cut short
        atexit._run_exitfuncs()
        with contextlib.suppress(Exception):
            _remove_temporary()  # what threads that are still at work made meanwhile
        os._exit(128 + self._came)

    def _end(self, number: int) -> None:
        """End the process at once; only its temporary files are removed first."""
        self._tell(number)
        with contextlib.suppress(Exception):  # a module may be there in halves
            _remove_temporary()
        os._exit(128 + number)

    def _tell(self, number: int) -> None:
        if not self._telling.acquire(blocking=False):
            return
        with contextlib.suppress(OSError):  # nobody reads it; the status tells
            os.write(2, f"{_line(number)}\n".encode(errors="backslashreplace"))


def _remove_temporary() -> None:
    if scratch := sys.modules.get("greenload.system.scratch"):
        scratch.close_all()
    for name, module in list(sys.modules.items()):
        if name.startswith("__autograph_generated_file") and module.__file__:
            # TensorFlow removes the file at a regular end, but not what Python compiled of it.
            for path in (module.__file__, module.__cached__):
                with contextlib.suppress(OSError, TypeError):
                    os.unlink(path)
            with contextlib.suppress(OSError, TypeError):
                os.rmdir(os.path.dirname(module.__cached__))
