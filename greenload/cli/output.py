"""What commands write: their result, progress, notes and errors in one line, and files."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from greenload.system import file_output
from greenload.system.frameworks import imported
from greenload.text import printable, screen_width

OK, FAILED, USAGE = 0, 1, 2
"""Exit statuses."""

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress


def fail(message: str, status: int) -> int:
    """Say on standard error what failed; gives the status back."""
    tell(f"greenload: error: {message}")
    return status


def warn(message: str) -> None:
    """Say on standard error what deserves attention, in one line."""
    tell(f"greenload: warning: {message}")


def tell(line: str) -> None:
    """Write a line to standard error, printable. Where nobody reads that, the exit status still tells."""
    if sys.stderr is None:  # the process was started without: print would take standard output
        return
    try:
        print(printable(line), file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


def say(*shown: RenderableType) -> None:
    """Print texts, a line each, and what rich renders, as wide as the terminal, or as needed where there is none.

    Where nobody reads on, as behind ``| head``, the command goes on in silence.

    Raises:
        OSError: it can't be written, as where the disk is full.
    """
    from greenload.report.columns import Sentence

    with writing():
        console = _console()
        for each in shown:
            console.print(Sentence(printable(each)) if isinstance(each, str) else each, crop=False)
    flush()


def flush() -> None:
    """Write what was printed: what fails only as Python ends makes it complain, and end with a status of its own.

    Raises:
        OSError: it can't be written, as where the disk is full.
    """
    with writing():
        if sys.stdout is not None:
            sys.stdout.flush()


@contextmanager
def writing() -> Iterator[None]:
    """Write to standard output; in silence from where nobody reads on.

    Raises:
        OSError: it can't be written, as where the disk is full.
    """
    try:
        yield
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:
        _silence(sys.stdout)
        raise OSError(f"standard output can't be written: {error.strerror}") from None


def _silence(stream: TextIO) -> None:
    """Send what is still to be written nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def _console() -> Console:
    from rich.console import Console

    class Patient(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process here, whatever its status was to be

    return Patient(width=screen_width(), height=25)  # rich takes a dumb terminal, or a file, for one of 80 columns


@contextmanager
def progress(text: str) -> Iterator[Callable[[float, str], None]]:
    """A bar on standard error that says what runs and how long it still takes; silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    bar: Progress
    with Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(text, total=1.0)
        yield lambda share, now: bar.update(task, completed=share, description=now)


def write_json(file: str | None, data: dict[str, Any]) -> None:
    """Write a result, where a file was named.

    Raises:
        OSError: it can't be written; says why and what helps.
    """
    if file:
        write_text(file, json.dumps(data, indent=1) + "\n")


def write_text(file: str, text: str) -> None:
    """Write a text to a file.

    Raises:
        OSError: it can't be written; says why and what helps.
    """
    try:
        file_output.write(file, text)
    except OSError as error:
        raise OSError(f"{file}: can't be written: {file_output.why(error)}") from None


def present(
    options: argparse.Namespace, save: Callable[[str], None], page: Callable[[], str], shown: RenderableType
) -> None:
    """Write ``--json`` and ``--html``, then show. Where one of the two fails, the other is still done."""
    try:
        if options.json:
            save(options.json)
        if options.html:
            write_text(options.html, page())
    finally:
        say(shown)
    if files := [file for file in (options.json, options.html) if file]:
        say(f"written: {', '.join(files)}")


def quiet_tensorflow() -> None:
    """Import TensorFlow, if it is there, without the notes that its libraries write past Python to standard error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        imported("tensorflow").config.list_physical_devices()  # looks for a GPU's driver, and says so if there is none
    except ImportError:
        pass  # the code that needs it says so
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show warnings as errors are shown, without the line of our source."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        warn(str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
