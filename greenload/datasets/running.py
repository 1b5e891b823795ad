"""Running what a user wrote: waits bounded, errors in one line, variables put back."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from greenload import limits
from greenload.datasets.graph import Node
from greenload.errors import GreenloadError, SourceError

PATIENCE_S = 60.0
"""Seconds without any element after which a dataset counts as stuck."""
_POLL_S = 0.25
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

    In a thread of its own: what waits inside TensorFlow for a generator can't be interrupted.

    Raises:
        BackendUnavailable: no thread can be started.
        SourceError: no element came for ``patience_s`` seconds, `PATIENCE_S` if not given, or the dataset raised.
    """
    limit_s = PATIENCE_S if patience_s is None else patience_s
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="greenload-profile", daemon=True)
    pulse()
    limits.start(thread)
    try:
        while thread.is_alive():
            thread.join(_POLL_S)
            if time.monotonic() - pulse.last_s > limit_s and thread.is_alive():
                raise SourceError(
                    f"the dataset gave no element for {limit_s:g} s: check that its generator or filter ever gives one,"
                    " or make its shuffle buffer smaller"
                )
    except BaseException:
        pulse.abandon()
        raise
    if errors:
        raise translated(errors[0])
    return results[0]


def translated(error: BaseException) -> BaseException:
    """TensorFlow's errors while it runs a dataset as greenload's; others as they are."""
    import tensorflow as tf

    if isinstance(error, tf.errors.OpError) and not isinstance(error, GreenloadError):
        return SourceError(f"the dataset raised {said(error)}")
    return error


def said(error: BaseException) -> str:
    """An error of TensorFlow's in one line: its class and what it says, without the places in graphs."""
    text = re.sub(r"\{\{[^}]*\}\}|\[\[[^\]]*\]\]|\[Op:[^\]]*\]", " ", str(getattr(error, "message", None) or error))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    line = next((line for line in lines if line and not line.startswith(("Detected at", "Traceback"))), "")
    kind = re.match(r"(\w+(?:Error|Exception)): ", line)
    return (line if kind else f"{type(error).__name__}: {line}")[:300].rstrip(" :,")


@contextmanager
def kept(root: Node) -> Iterator[None]:
    """Put the variables back that a dataset's functions capture: counters, generators of random numbers."""
    import tensorflow as tf

    saved: dict[int, tuple[Any, Any]] = {}
    for node in root.nodes():
        traced = getattr(node.function, "function", None) if node.inner is None else None
        for handle in getattr(traced, "captured_inputs", ()):
            data = getattr(handle, "_handle_data", None)
            if handle.dtype != tf.resource or data is None or len(data.shape_and_type) != 1 or id(handle) in saved:
                continue
            try:
                value = tf.raw_ops.ReadVariableOp(resource=handle, dtype=data.shape_and_type[0].dtype)
            except (tf.errors.OpError, ValueError):
                continue  # a table, which has nothing that running changes
            saved[id(handle)] = handle, tf.identity(value)
    try:
        yield
    finally:
        for handle, value in saved.values():
            tf.raw_ops.AssignVariableOp(resource=handle, value=value)
