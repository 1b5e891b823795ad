"""Every exception that greenload raises, in one hierarchy.

    GreenloadError
    ├── PipelineError (ValueError)       a stage, its argument, or the order of stages can't work
    ├── SourceError                      a source can't be opened, holds nothing to load, or can't be read now, since
    │   │                                open files or memory ran out (which is never a RecordError)
    │   └── RecordError                  one record is bad: names the file, the reason and its position
    ├── BackendUnavailable               a backend can't run here: says why, and the remedy
    ├── MeterError                       a meter can't be read, or a window of it is invalid
    ├── ReportError (ValueError)         a report file is not one, or of another version
    └── UsageError (ValueError)          an argument of a command or a function is wrong

Each message states the rule, the value found and the remedy, in one line. As text it holds no character that a terminal
would obey, whatever the names in it: file names hold anything.
"""

from __future__ import annotations

from greenload.public import public
from greenload.text import printable


@public
class GreenloadError(Exception):
    """Base of every exception that greenload raises.

    Example:
        >>> str(gl.SourceError("a\\x1b[2J.jpg: no such file"))
        'a\\\\x1b[2J.jpg: no such file'
    """

    def __str__(self) -> str:
        return printable(super().__str__())


@public
class PipelineError(GreenloadError, ValueError):
    """A stage, its argument, or the order of stages can't work. Raised before anything runs."""


@public
class SourceError(GreenloadError):
    """A source can't be opened, holds nothing to load, or can't be read now: open files or memory ran out."""


@public
class RecordError(SourceError):
    """One record of a source is bad.

    Args:
        path: what names the record to its owner: a file's path, or ``"images[7]"`` for arrays. It is kept as it is; in
            the error's text control characters are escaped.
        reason: why it can't be used, without the path.
    """

    path: str
    """What names the record: a file's path, or an index into arrays."""
    reason: str
    """Why the record can't be used."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[type[RecordError], tuple[str, str]]:
        return type(self), (self.path, self.reason)


@public
class BackendUnavailable(GreenloadError):
    """A backend can't run on this machine; the message names the remedy."""


@public
class MeterError(GreenloadError):
    """A meter can't be read, or what it said in a window can't be trusted."""


@public
class ReportError(GreenloadError, ValueError):
    """A report's or a plan's file is not one, or was written by another version of the format."""


@public
class UsageError(GreenloadError, ValueError):
    """An argument of a command or a function is wrong."""
