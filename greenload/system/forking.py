"""Guards what a forked child must not use: only the thread that forked goes on in it.

Code that waits in the child for another thread of its parent waits for ever; code that ends one crashes. So does what
asks for a lock that such a thread held: Python's own of a module that was being imported can't be opened again, so
nothing that a child needs may be imported late, in a thread.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from greenload.errors import UsageError

T = TypeVar("T")


def check(made_in: int, what: str) -> None:
    """Make sure that an object with threads is used in the process that made it.

    Args:
        made_in: that process's id.
        what: what the object is, for the error.

    Raises:
        UsageError: this is another process.
    """
    if os.getpid() != made_in:
        raise UsageError(
            f"{what} works only in the process that made it ({made_in}), not in its fork {os.getpid()}, where its "
            "threads are missing: make another in this process"
        )


def in_child(value: Any, abandon: Callable[[Any], None]) -> None:
    """Have a child of this process abandon a value that is alive when the process forks.

    Args:
        value: what the child must not free, since that would end threads that the child doesn't have.
        abandon: called in the child with the value; must hold no reference to it.
    """
    _abandoned[value] = abandon


def close_when_dropped(value: Any, close: Callable[[], None]) -> weakref.finalize[[], Any]:
    """Have ``close`` called once: when a value is no longer referred to, or when the result is called.

    In a fork of this process nothing is closed: the threads to wait for are the parent's. At the interpreter's end
    nothing is closed either: ``shutdown.close_at_end`` does that.

    Args:
        value: what is closed.
        close: gives back its threads and buffers; must hold no reference to it.
    """
    made_in = os.getpid()

    def close_here() -> None:
        if os.getpid() == made_in:
            close()

    end = weakref.finalize(value, close_here)
    end.atexit = False
    return end


class cached_property(functools.cached_property[T]):
    """``functools.cached_property``, whose lock a child finds open: until Python 3.12 all instances share one."""

    def __init__(self, work: Callable[[Any], T]) -> None:
        super().__init__(work)
        _properties.append(weakref.ref(self))


def leak(value: Any) -> None:
    """Never free a value."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def tensorflow_is_stuck() -> bool:
    """Whether TensorFlow was in use when this process was forked: then its threads are missing, and it hangs."""
    return _tensorflow_ran_in_parent


def _after_fork() -> None:
    global _tensorflow_ran_in_parent
    for made in _properties:
        known = made()
        if known is not None and hasattr(known, "lock"):
            known.lock = threading.RLock()
    for value, abandon in list(_abandoned.items()):
        abandon(value)
    # TensorFlow starts its threads with its first operation; merely importing it starts none.
    context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    _tensorflow_ran_in_parent |= getattr(context, "_context_handle", None) is not None


_abandoned: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()
_properties: list[weakref.ref[Any]] = []
_tensorflow_ran_in_parent = False
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
