"""The command line: parses arguments, calls the library, shows the result.

Its exit status is 0 if all is fine, 1 if the work failed, 2 for wrong usage, 130 after Ctrl-C, 143 after SIGTERM, 129
after a closed terminal.

The script imports this module before it calls `main`, so that nothing here may take long: a Ctrl-C in an import is
Python's own until `main` runs.
"""

from __future__ import annotations

import sys

from greenload.cli import interrupt, streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Errors are one line on standard error; ``--debug`` shows the traceback.

    Args:
        arguments: the command's own. None: those of the process, which then is this command's: an interrupt ends it.

    Returns:
        The exit status: 0 fine, 1 the work failed, 2 wrong usage, 130 interrupted, 143 ended by SIGTERM, 129 by SIGHUP.
    """

    def run() -> int:
        from greenload.cli.commands import run_command

        return run_command(arguments)

    if arguments is None and sys.argv[1:2] == ["watch"]:  # runs a script, whose signals and streams are its own
        from greenload.cli.watch import main as watch

        return watch(sys.argv[2:])
    if arguments is None:
        streams.open_closed_streams()
    return interrupt.guarded(run, process=arguments is None)
