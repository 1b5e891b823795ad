"""The command watch: runs a script, and tells what its datasets cost.

The script's standard output and exit status are its own. Nothing is imported here before the script runs that it might
want to set up, as NumPy or TensorFlow.
"""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from greenload.cli.arguments import AddCommand, Parser, check_writable
from greenload.cli.output import OK, USAGE, fail, tell, write_json, write_text
from greenload.cli.program import check_script, end_as_interrupted, run_module, run_script
from greenload.errors import UsageError
from greenload.system.after_import import after_import
from greenload.text import printable, screen_width

if TYPE_CHECKING:
    from greenload.profiling.in_place.process import ProcessSpan, ProcessWatch

WATCH = "watch"
_SUMMARY = "run a script as it is, and tell what the steps of its datasets cost in it"
_DESCRIPTION = f"""{_SUMMARY[0].upper()}{_SUMMARY[1:]}. Options before the script are greenload's, those behind it the
script's. Figures begin when TensorFlow is imported. A script that ends by os._exit or SIGTERM leaves no table."""
_DATASETS = "tensorflow.python.data.ops.dataset_ops"
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
    after_import(_DATASETS, watching.begin)
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
    """The watch over this process, from its script's import of TensorFlow to its end."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._process = os.getpid()
        self._watch: ProcessWatch | None = None
        self._missing = "the script imports no TensorFlow, so that there is no dataset to watch"

    def begin(self, datasets: ModuleType) -> None:
        # TensorFlow has imported NumPy by now, for which the script has set what it wants.
        from greenload.profiling.in_place.process import ProcessWatch

        try:
            self._watch = ProcessWatch(datasets)
        except Exception as error:  # the script runs on
            self._missing = f"no dataset can be watched: {error}"

    def end(self) -> None:
        """Tell what was done; not in a fork of the process."""
        if os.getpid() != self._process:
            return
        try:
            if self._watch is None:
                tell(f"greenload: {self._missing}")
            else:
                self._tell(self._watch.end())
        except Exception as error:  # the script's status stays
            tell(f"greenload: error: {error}")
        finally:
            end_as_interrupted()

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
