"""The user's cache folder: what is worth keeping between runs, and can be made anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

from greenload.system import file_output

_FORMER = re.compile(r".+\.partial-\d+")  # what files were called while earlier versions wrote them


def place(*names: str) -> Path:
    """Where something is kept in the cache folder, ``$XDG_CACHE_HOME/greenload`` on Linux.

    Raises:
        ImportError: platformdirs, which tells the folder, isn't installed.
    """
    import platformdirs  # not on a GPU machine that has little more than DALI

    return Path(platformdirs.user_cache_dir("greenload"), *names)


def prepare(path: Path) -> None:
    """Make the folder that a place is in, for this user alone where it isn't there yet.

    Raises:
        OSError: it can't be made.
    """
    for folder in (place(), path.parent):
        os.makedirs(folder, 0o700, exist_ok=True)


def remember(path: Path, data: str | bytes) -> None:
    """Keep something at a place in the cache folder, instead of what was there: whole, or not at all.

    Those who keep the same at the same time don't mix; the last one stays.

    Args:
        path: of `place`.
        data: text is kept as UTF-8.

    Raises:
        OSError: it can't be written.
    """
    prepare(path)
    file_output.sweep(str(path.parent), _FORMER)
    file_output.replace(str(path), data.encode() if isinstance(data, str) else data)
