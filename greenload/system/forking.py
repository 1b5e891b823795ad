"""Guards what a forked child must not use: only the thread that forked goes on in it.

Code that waits in the child for another thread of its parent waits for ever; code that ends one crashes. So does what
asks for a lock that such a thread held: Python's own of a module that was being imported can't be opened again, so
nothing that a child needs may be imported late, in a thread. TensorFlow's locks can't be opened again either, and to
free a tensor takes its allocator's, which its threads take all the time. So a child frees nothing of TensorFlow's that
its parent made: not while it works, and not as it ends.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import itertools
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
        value: what the child must not free: that would end threads that it doesn't have, or ask for a lock of theirs.
        abandon: called in the child with the value; must hold no reference to it.
    """
    _abandoned[next(_count), abandon] = value


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


def _before_fork() -> None:
    # Garbage that is collected in the child before it is abandoned would be freed. Each thread that forks has its own
    # note, since another may fork meanwhile.
    _forker.collects = gc.isenabled()
    gc.disable()


def _collect_again() -> None:
    if _forker.collects:
        gc.enable()


def _after_fork() -> None:
    global _tensorflow_ran_in_parent
    for made in _properties:
        known = made()
        if known is not None and hasattr(known, "lock"):
            known.lock = threading.RLock()
    for (_, abandon), value in list(_abandoned.items()):
        abandon(value)
    # TensorFlow starts its threads with its first operation; merely importing it starts none.
    context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    _tensorflow_ran_in_parent |= getattr(context, "_context_handle", None) is not None
    if _tensorflow_ran_in_parent:
        leak(_of_tensorflow())
    _collect_again()


def _of_tensorflow() -> list[Any]:
    """All objects of TensorFlow's classes in this process: tensors, and what deletes functions and resources."""
    kinds: dict[type, bool] = {}
    found = []
    for value in gc.get_objects():
        kind = type(value)
        if kind not in kinds:
            kinds[kind] = any(str(base.__module__).startswith("tensorflow.") for base in kind.__mro__)
        if kinds[kind]:
            found.append(value)
    return found


_count = itertools.count()
_abandoned: weakref.WeakValueDictionary[tuple[int, Callable[[Any], None]], Any] = weakref.WeakValueDictionary()
"""By a number: a value may have no hash, as an array."""
_properties: list[weakref.ref[Any]] = []
_tensorflow_ran_in_parent = False
_forker = threading.local()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_collect_again, after_in_child=_after_fork)
