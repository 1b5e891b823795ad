"""The command watch: runs a script, and tells what its datasets cost.

The script's standard output and exit status are its own. Nothing is imported here before the script runs that it might
want to set up, as NumPy or TensorFlow.
"""

from __future__ import annotations

import argparse
import atexit
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from greenload.cli.arguments import AddCommand, Parser, check_writable
from greenload.cli.output import OK, USAGE, fail, tell, write_json, write_text
from greenload.cli.program import check_script, end_as_interrupted, run_module, run_script
from greenload.errors import UsageError
from greenload.system.after_import import after_import
from greenload.text import printable, screen_width

if TYPE_CHECKING:
    from greenload.profiling.in_place.process import ProcessWatch
    from greenload.profiling.in_place.process_span import ProcessSpan

WATCH = "watch"
_SUMMARY = "run a script as it is, and tell what the steps of its datasets cost in it"
_DESCRIPTION = f"""{_SUMMARY[0].upper()}{_SUMMARY[1:]}. Options before the script are greenload's, those behind it the
script's. Figures begin when TensorFlow is imported, or gl.iterate is first used. A script that ends by os._exit or
SIGTERM leaves no table."""
_DATASETS, _BATCHES = "tensorflow.python.data.ops.dataset_ops", "greenload.loading.iterate"
"""Modules that make what is watched."""
_VALUES = ("--json", "--out")
"""Options with a value."""


def add_command(add: AddCommand) -> None:
    """Add the command to the parser, where it is listed. It runs by `main` alone, before all others are imported."""
    watch = add(WATCH, _refuse, _SUMMARY)
    watch.description = _DESCRIPTION
    _add_arguments(watch)


def _add_arguments(watch: argparse.ArgumentParser) -> None:
    watch.usage = "greenload watch [--out FILE] [--json FILE] (SCRIPT | -m MODULE) [ARGUMENT ...]"
    watch.add_argument("--out", metavar="FILE", help="write the table to a file instead of standard error")
    watch.add_argument("-m", dest="module", metavar="MODULE", help="run a module, as python -m does")
    watch.add_argument("script", nargs="?", metavar="SCRIPT", help="the script; what stands behind it is its own")


def _refuse(_: argparse.Namespace) -> int:
    raise UsageError("watch runs a script in a process of its own: run python -m greenload watch SCRIPT")


def split_arguments(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command's own arguments up to the script, and what stands behind it, which is the script's.

    Args:
        given: arguments behind ``watch``.

    Example:
        >>> split_arguments(["--json", "x.json", "train.py", "--json", "y"])
        (['--json', 'x.json', 'train.py'], ['--json', 'y'])
    """
    index = 0
    while index < len(given):
        word = given[index]
        if word == "--":
            own = [*given[:index], *given[index + 1 : index + 2]]
            if len(own) > index and own[-1].startswith("-"):
                own.insert(index, "--")
            return own, list(given[index + 2 :])
        if not word.startswith("-") or word == "-" or (word.startswith("-m") and len(word) > 2):
            return list(given[: index + 1]), list(given[index + 1 :])
        if word == "-m":
            return list(given[: index + 2]), list(given[index + 2 :])
        index += 2 if word in _VALUES else 1
    return list(given), []


def main(arguments: Sequence[str]) -> int:
    """Run the command; a script that ends by an exception, or ends itself, ends this by the same.

    Args:
        arguments: behind ``watch``.

    Returns:
        The exit status.
    """
    given, behind = split_arguments(arguments)
    parser = Parser(prog=f"greenload {WATCH}", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON")
    _add_arguments(parser)
    try:
        options = parser.parse_args(given)
        _check(options)
    except UsageError as error:
        return fail(str(error), USAGE)
    watching = _Watching(options)
    watching.begin()
    atexit.register(watching.end)  # registered first, it runs last: after all that the script registers
    if options.module is None:
        run_script(options.script, behind)
    else:
        run_module(options.module, behind)
    return OK


def _check(options: argparse.Namespace) -> None:
    for file in (options.json, options.out):
        check_writable(file)
    if options.out and options.json and os.path.abspath(options.out) == os.path.abspath(options.json):
        raise UsageError(f"{options.out}: --json and --out need a file each: name two")
    if (options.module is None) == (options.script is None):
        raise UsageError("name the script to run, or a module as -m NAME; see greenload watch --help")
    if options.module is None:
        check_script(options.script)


class _Watching:
    """The watch over this process, from its script's import of what makes batches to its end."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._process = os.getpid()
        self._begun = _times()
        self._watch: ProcessWatch | None = None
        self._to_do: list[Callable[[ProcessWatch], None]] = []
        self._is_beginning = False
        self._missing = "the script imports no TensorFlow, so that there is no dataset to watch"

    def begin(self) -> None:
        """Have whatever makes batches watched as soon as the script imports it."""
        after_import(_DATASETS, lambda module: self._have(lambda watch: watch.watch_datasets(module)))
        after_import(_BATCHES, lambda _: self._have(lambda watch: None))  # which it watches from its begin on

    def _have(self, done: Callable[[ProcessWatch], None]) -> None:
        """Have something done by the watch. The script has set by now what it wants of NumPy, which this imports."""
        self._to_do.append(done)
        if self._is_beginning:  # what watches imports what makes batches, too
            return
        self._is_beginning = True
        try:
            if self._watch is None:
                from greenload.profiling.in_place.process import ProcessWatch

                self._watch = ProcessWatch()
            while self._to_do:
                self._to_do.pop(0)(self._watch)
        except Exception as error:  # the script runs on
            self._missing = f"nothing can be watched: {error}"
        finally:
            self._is_beginning = False

    def end(self) -> None:
        """Tell what was done; not in a fork of the process."""
        if os.getpid() != self._process:
            return
        try:
            if self._watch is None:
                self._tell_nothing()
            else:
                self._tell(self._watch.end())
        except Exception as error:  # the script's status stays
            tell(f"greenload: error: {error}")
        finally:
            end_as_interrupted()

    def _tell_nothing(self) -> None:
        """Say why there is no table, wherever one was wanted."""
        line = f"greenload: {self._missing}"
        try:
            if self._options.json:
                from greenload.profiling.in_place.live import Live
                from greenload.profiling.in_place.process_span import ProcessSpan

                wall_s, cpu_s = (now - then for now, then in zip(_times(), self._begun, strict=True))
                write_json(self._options.json, ProcessSpan(Live(wall_s, cpu_s, ()), [self._missing]).to_dict())
        finally:
            if self._options.out:
                write_text(self._options.out, f"{printable(line)}\n")
            else:
                tell(line)

    def _tell(self, span: ProcessSpan) -> None:
        from greenload.profiling.in_place.live_table import render_live
        from greenload.report.columns import plain_text

        table = plain_text(render_live(span.live), screen_width())
        text = "\n".join([table, *map(printable, span.notes), ""])
        try:
            write_json(self._options.json, span.to_dict())
        finally:
            if self._options.out:
                write_text(self._options.out, text)
            elif sys.stderr is not None:
                sys.stderr.write(text)
                sys.stderr.flush()


def _times() -> tuple[float, float]:
    """By the monotonic clock, and of this process's CPU time."""
    return time.monotonic(), time.process_time()
