"""The folder in which the processes of one user tell each other what they do: small files that end with the machine.

``$XDG_RUNTIME_DIR/greenload`` where the system gives the user such a folder, else ``greenload-UID`` below the folder of
temporary files. Only its user may enter it: others could write there what a command then shows.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path


class NoFolder(OSError):
    """No folder can be had; its text says why."""


def made(named: str = "") -> Path:
    """The folder that this process writes to; it is made where it isn't there.

    Args:
        named: a folder to take instead, where there is one.

    Raises:
        NoFolder: none can be had.
    """
    refused = []
    for folder in _folders(named):
        try:
            folder.mkdir(0o700, exist_ok=True)
            if why := _refusal(folder):
                raise NoFolder(why)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise NoFolder("this user can't write there")
            return folder
        except OSError as error:
            refused.append(f"{folder}: {error.strerror or error}")
    raise NoFolder("; ".join(refused))


def there(named: str = "") -> list[Path]:
    """All folders that a process of this user may have written to, whatever its environment was.

    Args:
        named: the only one, where there is one.
    """
    return [folder for folder in _folders(named) if not _refusal(folder)]


def _folders(named: str) -> Iterator[Path]:
    if named:
        yield Path(named)
        return
    user = os.getuid() if hasattr(os, "getuid") else 0
    for parent in dict.fromkeys((os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{user}")):
        if os.path.isabs(parent) and _is_users(parent, user):
            yield Path(parent, "greenload")
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp")):
        yield Path(parent, f"greenload-{user}")


def _is_users(folder: str, user: int) -> bool:
    try:
        state = os.stat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == user


def _refusal(folder: Path) -> str:
    """Why a folder can't be trusted; empty if it can."""
    try:
        state = os.lstat(folder)
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISDIR(state.st_mode):
        return "it must be a folder: remove what is there"
    if hasattr(os, "getuid") and state.st_uid != os.getuid():
        return f"it must be this user's, and is user {state.st_uid}'s"
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "only its user may write to it: chmod 700"
    return ""
