"""Makes temporary folders that are removed however their process ends: well, by an error, or by a kill."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import tempfile
import weakref

PREFIX = "greenload-scratch-"
"""How the names of scratch folders in the system's temporary folder begin."""


class ScratchFolder:
    """A folder that is removed when it is closed or dropped, and when the interpreter ends.

    Its owner holds a lock on it, which the system releases however the owner ends. So the folder of a killed process is
    recognised, and removed when another scratch folder is made beside it. Where the file system has no such locks, as
    over a network, it stays.

    Args:
        parent: the folder that it is made in; the system's temporary folder if not given.
        prefix: how its name begins.
        mode: its permissions, less the umask.

    Raises:
        OSError: it can't be made.

    Example:
        >>> with ScratchFolder() as folder: ...
    """

    path: str

    def __init__(self, parent: str | None = None, prefix: str = PREFIX, mode: int = 0o700) -> None:
        parent = tempfile.gettempdir() if parent is None else parent
        _remove_abandoned(parent, prefix)
        self.path, lock = _made(os.path.join(parent, prefix), mode)
        self._finalize = weakref.finalize(self, _remove, self.path, lock, os.getpid())
        _live.add(self)

    def close(self) -> None:
        """Remove it with its content. Calling it twice is harmless, and so it is where the folder has been renamed."""
        self._finalize()

    def __enter__(self) -> str:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


def close_all() -> None:
    """Remove the scratch folders of this process, for an end that runs no finalizers."""
    for folder in list(_live):
        folder.close()


_live: weakref.WeakSet[ScratchFolder] = weakref.WeakSet()


def _made(base: str, mode: int) -> tuple[str, int]:
    """A new folder, and the descriptor that holds its lock."""
    while True:
        path = f"{base}{secrets.token_hex(8)}"
        os.mkdir(path, mode)
        lock = _opened(path)
        if lock is not None and _locked(lock) and os.path.isdir(path):
            return path, lock
        if lock is not None:  # another process saw it before it was locked, and took it for abandoned
            os.close(lock)


def _opened(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _locked(number: int) -> bool:
    """Take a lock; ``False`` if another process holds it. ``True`` also where the file system has no locks."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _remove(path: str, lock: int, made_in: int) -> None:
    if os.getpid() == made_in:  # the end of a fork doesn't end the folder
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _remove_abandoned(parent: str, prefix: str) -> None:
    names = re.compile(re.escape(prefix) + "[0-9a-f]{16}")
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if names.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(entry.path)


def _remove_if_abandoned(path: str) -> None:
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(lock).st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error where its owner lives, or there are no locks
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
