"""Parses the command line, runs the command that it names, and prints errors as one line on standard error."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence

import greenload
from greenload.cli import cache, calibrate, check, compare, doctor, optimize, pack, profile, report, sample, top, watch
from greenload.cli.arguments import Parser
from greenload.cli.output import FAILED, USAGE, fail, flush, one_line_warnings
from greenload.errors import GreenloadError, UsageError
from greenload.text import SPELT

_RUN_SCRIPTS = frozenset({profile.PROFILE, calibrate.CALIBRATE, compare.COMPARE, optimize.OPTIMIZE})
"""Commands that import a user's script."""


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run one command of ``arguments``, or of those of the process; gives the exit status."""
    if arguments is None:  # the streams are this command's own
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors=SPELT)
    given = list(sys.argv[1:] if arguments is None else arguments)
    given, behind = _split(given)
    try:
        try:
            options = _parser().parse_args(given, argparse.Namespace(script_arguments=behind))
            command: Callable[[argparse.Namespace], int] = options.command
            with one_line_warnings():
                return command(options)
        finally:  # also what --help, --version and a user's file printed
            flush()
    except Exception as error:
        if "--debug" in given:
            raise
        if isinstance(error, GreenloadError | OSError | Warning):  # warnings are raised under python -W error
            return fail(str(error), USAGE if isinstance(error, UsageError) else FAILED)
        # A bug of ours: even that is one line, and says how to see more.
        return fail(f"unexpected {type(error).__name__}: {error} (--debug shows where)", FAILED)


def _split(given: list[str]) -> tuple[list[str], list[str]]:
    """A command's own arguments, and those behind ``--`` of the script that it runs."""
    command = next((word for word in given if not word.startswith("-")), "")
    if command not in _RUN_SCRIPTS or "--" not in given:
        return given, []
    end = given.index("--")
    return given[:end], given[end + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="greenload", description="What each step of an input pipeline costs, in CPU seconds and joules."
    )
    parser.add_argument("--version", action="version", version=f"greenload {greenload.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.set_defaults(command=run)
        sub.add_argument("--json", metavar="FILE", help="write the result as JSON")
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return sub

    for module in (doctor, calibrate, sample, check, pack, cache, profile, optimize, compare, report, top, watch):
        module.add_command(command)
    return parser
