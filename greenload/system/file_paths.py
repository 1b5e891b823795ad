"""What names a file: a text, or a path of ``pathlib``."""

from __future__ import annotations

import os
from typing import Any

from greenload.errors import UsageError


def check_path(path: Any) -> None:
    """Make sure that a value names a file.

    Args:
        path: what was given.

    Raises:
        UsageError: it is neither a text nor a path, or empty.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise UsageError(f"path must be a file's path, not {path!r}: give one such as 'file.json'")
