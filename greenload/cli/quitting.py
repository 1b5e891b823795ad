"""Waits until a time has come, or the user wants no more: by q, Ctrl-C, or by closing what reads standard output."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from greenload.cli import interrupt

Wait = Callable[[float], bool]
"""Waits for so many seconds; whether to go on."""
_QUIT = b"qQ\x04"
_READ = select.POLLIN | select.POLLHUP


@contextlib.contextmanager
def quitting(*, keys: bool) -> Iterator[Wait]:
    """A wait that ends with the user's wish to quit. Ctrl-C is such a wish in its block, and no interrupt.

    Args:
        keys: whether q on the terminal that standard input is means it, too; it is then read as it is typed.
    """
    with contextlib.ExitStack() as stack:
        poll = select.poll()
        poll.register(stack.enter_context(_ctrl_c()), _READ)
        terminal = _terminal() if keys else None
        if terminal is not None:
            stack.enter_context(_unbuffered(terminal))
            poll.register(terminal, _READ)
        with contextlib.suppress(OSError, ValueError):
            poll.register(sys.stdout.fileno(), 0)  # told only where its reader has gone
        yield lambda seconds: _wait(poll, terminal, seconds)


def _wait(poll: select.poll, terminal: int | None, seconds: float) -> bool:
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        for number, _ in poll.poll(left_s * 1e3 + 1):
            if number != terminal:
                return False
            typed = os.read(number, 64)
            if not typed or any(key in _QUIT for key in typed):  # nothing: the terminal was closed
                return False
    return True


@contextlib.contextmanager
def _ctrl_c() -> Iterator[int]:
    """The end of a pipe that can be read once Ctrl-C came."""
    reads, writes = os.pipe()
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGINT, lambda *_: os.write(writes, b"\0") and None)
    expected, interrupt.expected = interrupt.expected, True
    try:
        yield reads
    finally:
        interrupt.expected = expected
        if before is not None:
            signal.signal(signal.SIGINT, before)
        os.close(reads)
        os.close(writes)


def _terminal() -> int | None:
    """Standard input, where it is a terminal that this process has for itself now."""
    try:
        number = sys.stdin.fileno()
        return number if os.isatty(number) and os.tcgetpgrp(number) == os.getpgrp() else None
    except (OSError, ValueError, AttributeError):
        return None


@contextlib.contextmanager
def _unbuffered(terminal: int) -> Iterator[None]:
    """Have keys read as they are typed, and not shown."""
    import termios
    import tty

    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
