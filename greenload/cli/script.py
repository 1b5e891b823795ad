"""A user's script while it is imported: its own arguments, its flags, its end, and how long it ran.

A script may parse arguments, train, or end itself where it is imported. It is given its own command line and nothing of
greenload's, and what it does there besides defining a pipeline is said.
"""

from __future__ import annotations

import argparse
import builtins
import importlib.util
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

from greenload.errors import UsageError
from greenload.system.notices import notify
from greenload.text import one_line

LONG_S = 5.0
"""Seconds that a script may run while it is imported, imports of installed packages apart, before that is said."""
_HELP = frozenset({"-h", "-?", "--help", "--helpfull", "--helpshort", "--version"})
"""Arguments behind which a script prints something and ends."""
_GUARD = 'if __name__ == "__main__":'


class _Refused(SystemExit):
    """A script's ``argparse`` refused its arguments: what it would have printed in several lines."""

    def __init__(self, message: str) -> None:
        super().__init__(2)
        self.message = message


class _Helped(SystemExit):
    """A script's ``argparse`` ended it with status 0: behind its help or its version."""

    def __init__(self) -> None:
        super().__init__(0)


@contextmanager
def running(name: str, arguments: Sequence[str]) -> Iterator[None]:
    """Give a script its own command line in ``sys.argv`` while it is imported or called; greenload's comes back.

    Args:
        name: the script's file, or its module's name: ``sys.argv[0]``.
        arguments: its own.

    Raises:
        UsageError: it ended itself, or refused its arguments.
        SystemExit: it printed its help, with status 0.
    """
    own, error, end = sys.argv, argparse.ArgumentParser.error, argparse.ArgumentParser.exit

    def refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
        raise _Refused(f"{message} ({' '.join(parser.format_usage().split())})")

    def leave(parser: argparse.ArgumentParser, status: int = 0, message: str | None = None) -> NoReturn:
        if status == 0 and message is None:
            raise _Helped
        end(parser, status, message)

    sys.argv = [name, *arguments]
    _replace_methods(argparse.ArgumentParser, error=refuse, exit=leave)
    try:
        yield
    except _Refused as refused:
        raise UsageError(
            f"{name} refuses its arguments: {refused.message}; what stands behind -- is handed to it: "
            "greenload profile FILE.py:NAME -- ARGUMENTS"
        ) from refused
    except _Helped:
        raise
    except SystemExit as ended:
        if ended.code in (None, 0) and not _HELP.isdisjoint(arguments):
            raise
        raise UsageError(
            f"{name} ends itself by {_exit(ended)} instead of giving a pipeline: put what ends it behind {_GUARD}"
        ) from ended
    finally:
        sys.argv = own
        _replace_methods(argparse.ArgumentParser, error=error, exit=end)


def _replace_methods(owner: type, **methods: Callable[..., object]) -> None:
    for name, method in methods.items():
        setattr(owner, name, method)


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Say how long a script ran while it was imported, where that was long: it may train there."""
    imports = _Imports()
    original, builtins.__import__ = builtins.__import__, imports
    start = time.monotonic()
    try:
        yield
    finally:
        builtins.__import__ = original
    took_s = time.monotonic() - start - imports.seconds
    if took_s > LONG_S:
        notify(
            f"{name} ran for {took_s:.0f} s while it was imported, before profiling: if it trains there, put that "
            f"behind {_GUARD}"
        )


def parse_flags(module: ModuleType, known: frozenset[str]) -> None:
    """Parse absl's flags from ``sys.argv``, as ``absl.app.run`` would, where the script defined some and didn't.

    Args:
        module: the script, imported.
        known: the flags that there were before, as `flags` gives them.

    Raises:
        UsageError: a flag is unknown, or has a wrong value.
    """
    absl: Any = sys.modules.get("absl.flags")
    made = flags() - known
    # Given twice, a flag that takes several values would have each of them twice.
    if not made or any(absl.FLAGS[name].present for name in made):
        return
    # Where only what it imports has flags, the arguments are the script's own parser's.
    own = bool(absl.FLAGS.get_key_flags_for_module(module.__name__))
    try:
        absl.FLAGS(list(sys.argv), known_only=not own)
    except absl.Error as error:
        raise UsageError(
            f"{sys.argv[0]} refuses its flags: {one_line(error)}; what stands behind -- is handed to it: "
            "greenload profile FILE.py:NAME -- FLAGS"
        ) from error


def flags() -> frozenset[str]:
    """The names of absl's flags that scripts and their packages have defined so far; absl's own left out."""
    absl: Any = sys.modules.get("absl.flags")
    if absl is None:
        return frozenset()
    by_module = absl.FLAGS.flags_by_module_dict()
    return frozenset(
        flag.name for name, flags_of in by_module.items() if not name.startswith("absl.") for flag in flags_of
    )


def _exit(ended: SystemExit) -> str:
    """``"sys.exit(1)"``."""
    return f"sys.exit({'' if ended.code is None else one_line(ended.code)})"


class _Imports:
    """Stands in for ``__import__``, and adds up the seconds in which installed packages were imported."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._import = builtins.__import__
        self._thread = threading.get_ident()
        self._inside = False
        paths = sysconfig.get_paths()
        self._folders = tuple(os.path.realpath(paths[name]) + os.sep for name in ("stdlib", "purelib", "platlib"))

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> ModuleType:
        relative = bool(args[3] if len(args) > 3 else kwargs.get("level"))
        own = relative or self._inside or threading.get_ident() != self._thread
        if own or not self._installed(name.partition(".")[0]):
            return self._import(name, *args, **kwargs)
        self._inside, start = True, time.monotonic()
        try:
            return self._import(name, *args, **kwargs)
        finally:
            self._inside = False
            self.seconds += time.monotonic() - start

    def _installed(self, name: str) -> bool:
        try:
            loaded = sys.modules.get(name)
            spec = importlib.util.find_spec(name) if loaded is None else loaded.__spec__
        except (ImportError, ValueError, AttributeError):
            return False
        file = None if spec is None else spec.origin or next(iter(spec.submodule_search_locations or ()), None)
        return file is not None and os.path.realpath(file).startswith(self._folders)
