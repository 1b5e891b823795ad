"""Finds the files of records in a folder, or of a pattern."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable

from greenload.errors import SourceError
from greenload.sources import listing


def files_of_pattern(pattern: str) -> tuple[str, ...]:
    """The files of a pattern, without indices and litter, unless the pattern spells out their name."""
    spelled = set(pattern.split(os.sep))

    def wanted(path: str) -> bool:
        # A name that begins with a dot is found only by a pattern that has the dot.
        names = (name for name in path.split(os.sep) if not name.startswith(".") and name not in spelled)
        return not path.endswith(".index") and not any(map(listing.is_litter, names))

    return tuple(sorted(filter(wanted, glob.glob(pattern, recursive=True))))


_SHARD = re.compile(r"(.*?)[-_.]?(\d{4,})-of-(\d{4,})(.*)")


def record_files(names: Iterable[str]) -> list[str]:
    """Which of a folder's names are those of TFRecord files, sorted."""
    named = (name for name in names if ".tfrec" in name or _SHARD.fullmatch(name))
    return sorted(name for name in named if not listing.is_litter(name) and not name.endswith(".index"))


def files_in(folder: str) -> tuple[str, ...]:
    """The TFRecord files of a folder: one set, all of which is there.

    Raises:
        SourceError: there are none, several sets, or some of a set are missing.
    """
    names = record_files(entry.name for entry in listing.scan(folder))
    if not names:
        raise SourceError(
            f"{folder}: no TFRecord files in it (looked for names with .tfrec and NAME-00000-of-00010): "
            "name them with a pattern, or make them with greenload pack"
        )
    sets: dict[tuple[str, int, str], int] = {}
    for name in names:
        shard = _SHARD.fullmatch(name)
        if shard:
            key = (shard[1], int(shard[3]), shard[4])
            sets[key] = sets.get(key, 0) + 1
    if len(sets) > 1:
        shown = ", ".join(f"{before}-*-of-{count:05}{behind}" for before, count, behind in sorted(sets))
        raise SourceError(
            f"{folder}: holds several sets of files: {shown}: name one as a pattern, or TFDS(..., split=)"
        )
    for (before, count, _), present in sets.items():
        if present != count:
            raise SourceError(f"{folder}: only {present} of the {count} files of {before!r} are there: copy the others")
    return tuple(os.path.join(folder, name) for name in names)
