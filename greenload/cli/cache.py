"""The command cache: what ``Cache`` stages have kept in a folder."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from greenload.cli.arguments import AddCommand, check_writable
from greenload.cli.output import FAILED, OK, progress, say, write_json
from greenload.errors import UsageError
from greenload.system import file_output
from greenload.text import bytes_text, printable

if TYPE_CHECKING:
    from greenload.backends.native.cache_entries import CacheEntry

_SHOWN = 12
"""Digits of a key that tell it from others."""


def add_command(add: AddCommand) -> None:
    """Add the command to the parser."""
    cache = add("cache", _cache, "list, verify or clear what Cache(path) has kept in a folder")
    cache.add_argument("action", choices=_ACTIONS, help="what to do")
    cache.add_argument("folder", nargs="?", default=".", help="the path that Cache was given (default: where you are)")
    cache.add_argument(
        "--keep", metavar="KEY", action="append", default=[], help="clear: what stays; the first digits of its key"
    )


def _cache(options: argparse.Namespace) -> int:
    folder = Path(options.folder)
    check_writable(options.json)
    if options.keep and options.action != "clear":
        raise UsageError(f"--keep is for clear, not for {options.action}: leave it out")
    try:
        if not folder.is_dir():
            raise UsageError(f"{folder}: must be a folder: name the path that Cache was given")
        return _ACTIONS[options.action](options, folder)
    except OSError as error:
        if error.errno is None:  # it says all: a report or standard output can't be written
            raise
        raise OSError(
            f"{folder}: {options.action} needs a folder that it may {_NEEDS[options.action]}, but "
            f"{error.filename or folder}: {file_output.why(error)}"
        ) from None


def _list(options: argparse.Namespace, folder: Path) -> int:
    from greenload.backends.native.cache_entries import entries_below
    from greenload.report.columns import Facts

    kept = entries_below(folder)
    write_json(options.json, {"folder": str(folder), "kept": [asdict(each) | {"whole": each.whole} for each in kept]})
    if not kept:
        say(f"{folder}: nothing is kept there")
        return OK
    heads = ("key", "samples", "bytes", "form", "source", "stages", "since")
    say(Facts(heads, [tuple(map(printable, _row(each))) for each in kept]))
    say(
        *(
            f"{each.key[:_SHOWN]}: not used, being damaged or of another version: {', '.join(each.unusable)}"
            for each in kept
            if each.unusable
        )
    )
    return OK


def _row(kept: CacheEntry) -> tuple[str, ...]:
    samples = f"all {kept.count}" if kept.whole else f"{kept.samples} of {kept.count}"
    return kept.key[:_SHOWN], samples, bytes_text(kept.bytes), kept.form, kept.source, kept.stages, kept.when


def _verify(options: argparse.Namespace, folder: Path) -> int:
    from greenload.backends.native.cache_entries import verify

    with progress("verifying") as update:
        verified = verify(folder, lambda share: update(share, "verifying"))
    write_json(options.json, {"folder": str(folder), "verified": [asdict(each) for each in verified]})
    for each in verified:
        say(*(f"{each.key[:_SHOWN]}: {name}: {reason}" for name, reason in each.unusable))
        say(f"{each.key[:_SHOWN]}: {each.sound} blobs are sound" + (f", {each.damaged} damaged" * bool(each.damaged)))
    if not verified:
        say(f"{folder}: nothing is kept there")
    if any(each.damaged or each.unusable for each in verified):
        say("What is damaged is never used: it is read and kept anew. greenload cache clear makes room.")
        return FAILED
    return OK


def _clear(options: argparse.Namespace, folder: Path) -> int:
    from greenload.backends.native.cache_entries import clear, entries_below

    keys = [kept.key for kept in entries_below(folder)]
    for begin in options.keep:
        if not any(key.startswith(begin) for key in keys):
            raise UsageError(f"--keep {begin}: no key begins so; greenload cache list {folder} names them")
    removed = clear(folder, {key for key in keys if key.startswith(tuple(options.keep))} if options.keep else ())
    write_json(options.json, {"folder": str(folder), "removed": [asdict(each) for each in removed]})
    say(*(f"removed {each.key[:_SHOWN]}: {each.samples} samples, {bytes_text(each.bytes)}" for each in removed))
    left = [each for each in entries_below(folder) if each.unusable and not each.key.startswith(tuple(options.keep))]
    say(*(f"{each.key[:_SHOWN]}: left, being no block: {', '.join(each.unusable)}" for each in left))
    if not removed:
        say(f"{folder}: nothing was removed")
    return OK


_NEEDS = {"list": "read", "verify": "read", "clear": "change"}
_ACTIONS = {"list": _list, "verify": _verify, "clear": _clear}
