"""Distinguishes the limits of a process or machine (open files, memory, threads) from faults of a record.

A file that can't be opened because too many others are open is not bad: such an error stops the work and says which
limit to raise; the record doesn't count as bad.

=========================================  =======================================================================
the system says                            the fault is
=========================================  =======================================================================
EMFILE, ENFILE                             a limit: of open files, of the process or the machine
ENOMEM, ENOBUFS, EAGAIN                    a limit: of memory or other resources
ENOTCONN, EHOSTDOWN, ETIMEDOUT and alike   the file system's: none of its records can be read
ENOENT, EACCES, EPERM, EIO, ELOOP, …       the record's: missing, not readable by this user, on a bad block of a disk
=========================================  =======================================================================
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from threading import Thread
from typing import ParamSpec, TypeVar

from greenload.errors import BackendUnavailable, SourceError

_FILES = (errno.EMFILE, errno.ENFILE)
_MEMORY = (errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN)
_AWAY = (
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
)
_NO_MEMORY = ("std::bad_alloc", "OOM when allocating", "out of memory")
_NO_THREAD = "start new thread"
_P = ParamSpec("_P")
_T = TypeVar("_T")


def ran_out(error: BaseException | None) -> str:
    """What ran out where an operation failed, and the remedy; empty where it failed for another reason.

    Args:
        error: an error of the operating system, or one that was raised from it. For any other error the text decides,
            as libraries quote the system's text.
    """
    if error is None:
        return ""
    if isinstance(error, MemoryError):
        return _message(errno.ENOMEM)
    if isinstance(error, OSError):
        return _message(error.errno)
    if error.__cause__ is not None:
        return ran_out(error.__cause__)
    text = str(error)
    if any(part in text for part in _NO_MEMORY):
        return _message(errno.ENOMEM)
    named = (code for code in (*_FILES, errno.ENOMEM) if os.strerror(code) in text)
    return next(map(_message, named), "")


def _message(code: int | None) -> str:
    if code == errno.EMFILE:
        return (
            f"this process has as many files open as it may ({_limit('RLIMIT_NOFILE')}): close others, such as "
            "sockets, or raise the limit (ulimit -n)"
        )
    if code == errno.ENFILE:
        return "this machine has as many files open as it may: close others, or raise fs.file-max"
    if code in _MEMORY:
        return "this process gets no more memory: use fewer threads or smaller batches, or give it more"
    if code in _AWAY:
        return f"its file system can't be reached ({os.strerror(code or 0)}): mount it again"
    return ""


def raise_if_out(path: str, error: BaseException) -> None:
    """Raise, where reading a file failed since something ran out, the error that says so; its cause is what failed, so
    that it can be told again that something ran out.

    Raises:
        SourceError: something ran out; names the file and the remedy.
    """
    if why := ran_out(error):
        raise unreadable(path, why) from error


def unreadable(path: str, why: str) -> SourceError:
    """The error for a file that can't be read now, for no fault of its own.

    Args:
        path: the file.
        why: of ``ran_out``.
    """
    return SourceError(f"{path}: can't be read now, for no fault of its own: {why}")


def check_files() -> None:
    """Make sure that one more file can be opened. Where none can, TensorFlow aborts the process when it makes another
    iterator, as between epochs: ``std::random_device`` opens a file.

    Raises:
        SourceError: it can't; names the limit.
    """
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if why := ran_out(error):
            raise SourceError(f"nothing can be read now: {why}") from None


def start(thread: Thread) -> None:
    """Start a thread.

    Raises:
        BackendUnavailable: none can be started; names the limit.
    """
    try:
        thread.start()
    except RuntimeError as error:
        raise _no_thread(error) from None


def submit(pool: Executor, work: Callable[_P, _T], *args: _P.args, **named: _P.kwargs) -> Future[_T]:
    """Give work to a pool of threads.

    Raises:
        BackendUnavailable: it can't start a thread; names the limit.
        RuntimeError: it is shut down.
    """
    try:
        return pool.submit(work, *args, **named)
    except RuntimeError as error:
        raise _no_thread(error) from None


def _no_thread(error: RuntimeError) -> RuntimeError | BackendUnavailable:
    if _NO_THREAD not in str(error):
        return error
    return BackendUnavailable(no_thread())


def no_thread() -> str:
    """The message where the system starts no more threads, with the remedy."""
    return (
        f"no more threads can be started: this user may have {_limit('RLIMIT_NPROC')} (ulimit -u), a container what "
        "its pids limit says: raise it, or pass a smaller threads="
    )


def _limit(name: str) -> str:
    try:
        import resource  # not on Windows

        most = resource.getrlimit(getattr(resource, name))[0]
    except (ImportError, AttributeError, OSError, ValueError):
        return "as its system allows"
    return "any number" if most == resource.RLIM_INFINITY else f"{most:,}"
