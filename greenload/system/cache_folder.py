"""Keeps data between runs in the user's cache folder: data that can be made anew.

One rule holds for all of it. A file is written whole, and the data of two writers never mix. A file that is damaged or
can't be read isn't used: a warning says so, and it is rewritten. A file of another version has another name, or isn't
used without a warning. Where the folder can't be written one warning says so, and nothing is lost but time.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from greenload.system import file_input, file_output
from greenload.system.json_data import LARGEST_BYTES, DataError
from greenload.system.notices import notify

T = TypeVar("T")
_FORMER = re.compile(r".+\.partial-\d+")  # what files were called while earlier versions wrote them


def locate(*names: str) -> Path:
    """Where something is kept in the cache folder, ``$XDG_CACHE_HOME/greenload`` on Linux."""
    try:
        import platformdirs
    except ImportError:  # on a GPU machine that has little more than DALI
        return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "greenload", *names)
    return Path(platformdirs.user_cache_dir("greenload"), *names)


def recall(
    path: Path, parse: Callable[[bytes], T | None], what: str, remedy: str, limit: int = LARGEST_BYTES
) -> T | None:
    """What a file holds; ``None`` where there is no file, or one that isn't used: then a warning says why.

    Args:
        path: the file.
        parse: its content as a value. Gives ``None`` for what another version wrote, or of other data; raises
            ``DataError`` where the content is damaged.
        what: what is kept there, for the warning: ``"this table of costs"``.
        remedy: what makes it anew: ``"run greenload calibrate"``.
        limit: bytes that the file may have at most.
    """
    try:
        return parse(file_input.read(path, limit))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DataError as error:
        notify(f"{path}: {what} is damaged and not used ({error}): {remedy}")
    except OSError as error:
        notify(f"{path}: {what} can't be read and is not used ({error.strerror}): {remedy}")
    return None


def remember(path: Path, data: str | bytes, what: str) -> bool:
    """Keep something; where it can't be written, a warning says so, once in a process.

    Args:
        path: of ``locate``.
        data: text is kept as UTF-8.
        what: what is kept there, for the warning: ``"what was verified"``.

    Returns:
        Whether it is kept.
    """
    try:
        keep(path, data)
    except OSError as error:
        _say_once(f"{path.parent}: {what} can't be kept there, and is made anew each time: {error.strerror}")
        return False
    return True


_say_once = functools.cache(notify)


def keep(path: Path, data: str | bytes) -> None:
    """Write a file in the cache folder, instead of what was there: whole, or not at all.

    Of several who write it at the same time the last one's stays.

    Args:
        path: of ``locate``.
        data: text is kept as UTF-8.

    Raises:
        OSError: it can't be written.
    """
    prepare(path)
    file_output.sweep(str(path.parent), _FORMER)
    file_output.replace(str(path), data.encode() if isinstance(data, str) else data)


def prepare(path: Path) -> None:
    """Make the folder of a file, for this user alone where it isn't there yet.

    Raises:
        OSError: it can't be made.
    """
    for folder in (locate(), path.parent):
        os.makedirs(folder, 0o700, exist_ok=True)
