"""Runs what a user wrote, with a bound on waiting, and gives errors in one line."""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

from greenload.errors import GreenloadError, SourceError
from greenload.system import limits
from greenload.system.frameworks import tf

STUCK_AFTER_S = 60.0
"""Seconds without any element after which a dataset counts as stuck."""
LEAVING_S = 2.0
"""Seconds that an interrupt waits for the work to end, so that nothing of it runs on."""
_POLL_S = 0.25
_LONGEST_CHAIN = 64
Result = TypeVar("Result")


class Pulse:
    """When elements last came."""

    def __init__(self) -> None:
        self.last_s = time.monotonic()
        self._abandoned = False

    def __call__(self) -> None:
        """Say that something came. Ends the thread that says so, once nobody waits for it any more."""
        self.last_s = time.monotonic()
        if self._abandoned:
            raise SystemExit

    def abandon(self) -> None:
        """Wait no longer."""
        self._abandoned = True


def patiently(work: Callable[[], Result], pulse: Pulse, patience_s: float | None = None) -> Result:
    """Do work that runs a user's dataset, as long as its pulse is felt.

    In a thread of its own: what waits inside TensorFlow for a generator can't be interrupted. Where it raises, its
    iterators have ended, and with them TensorFlow's threads; where this thread is interrupted, that is waited for, 2 s
    at most.

    Raises:
        BackendUnavailable: no thread can be started.
        SourceError: no element came for ``patience_s`` seconds, `PATIENCE_S` if not given, or the dataset raised.
    """
    limit_s = STUCK_AFTER_S if patience_s is None else patience_s
    results: list[Result] = []
    errors: list[BaseException] = []
    ended = threading.Event()  # not Thread.join: interrupted once, Python 3.11 takes a thread that runs for ended

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            clear_frames(error)
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=run, name="greenload-profile", daemon=True)
    pulse()
    limits.start(thread)
    try:
        while not ended.wait(_POLL_S):
            if time.monotonic() - pulse.last_s > limit_s:
                raise SourceError(
                    f"the dataset gave no element for {limit_s:g} s: check that its generator or filter ever gives one,"
                    " or make its shuffle buffer smaller"
                )
    except BaseException as error:
        pulse.abandon()
        if not isinstance(error, SourceError):  # one that is stuck won't end in time
            ended.wait(LEAVING_S)
        raise
    if errors:
        raise translated(errors[0])
    return results[0]


def clear_frames(error: BaseException) -> None:
    """Clear the frames that an error came through: their iterators end, and with them TensorFlow's threads."""
    chain: list[BaseException | None] = [error]
    for cause in chain:  # grows while it is read
        if cause is not None and len(chain) < _LONGEST_CHAIN:
            traceback.clear_frames(cause.__traceback__)
            chain += [cause.__cause__, cause.__context__]


def translated(error: BaseException) -> BaseException:
    """TensorFlow's errors while it runs a dataset as greenload's; others as they are."""
    if isinstance(error, tf.errors.OpError) and not isinstance(error, GreenloadError):
        return SourceError(f"the dataset raised {tf_error_line(error)}")
    return error


def tf_error_line(error: BaseException) -> str:
    """An error of TensorFlow's in one line: its class and what it says, without the places in graphs."""
    text = re.sub(r"\{\{[^}]*\}\}|\[\[[^\]]*\]\]|\[Op:[^\]]*\]", " ", str(getattr(error, "message", None) or error))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    line = next((line for line in lines if line and not line.startswith(("Detected at", "Traceback"))), "")
    kind = re.match(r"(\w+(?:Error|Exception)): ", line)
    return (line if kind else f"{type(error).__name__}: {line}")[:300].rstrip(" :,")
