"""What the commands share: exit statuses, progress, checks of places to write, and warnings in one line."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TextIO

from greenload.errors import ReportError, UsageError
from greenload.system import file_output
from greenload.text import printable, screen_width

if TYPE_CHECKING:
    from _typeshed import SupportsWrite
    from rich.console import Console, RenderableType
    from rich.progress import Progress

OK, FAILED, USAGE = 0, 1, 2


class AddCommand(Protocol):
    """Adds a command with the options that all have."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], summary: str
    ) -> argparse.ArgumentParser: ...


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ours: one line, status 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Help and version, which argparse leaves out without a word where they can't be written."""
        with _writing():
            (file or sys.stderr).write(message)


def fail(message: str, status: int) -> int:
    """Say on standard error what failed; gives the status back."""
    tell(f"greenload: error: {message}")
    return status


def warn(message: str) -> None:
    """Say on standard error what deserves attention, in one line."""
    tell(f"greenload: warning: {message}")


def tell(line: str) -> None:
    """Write a line to standard error, printable. Where nobody reads that, the exit status still tells."""
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

    with _writing():
        console = _console()
        for one in shown:
            console.print(Sentence(printable(one)) if isinstance(one, str) else one, crop=False)
    flush()


def flush() -> None:
    """Write what was printed: what fails only as Python ends makes it complain, and end with a status of its own.

    Raises:
        OSError: as `say`.
    """
    with _writing():
        if sys.stdout is not None:
            sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
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


def positive(text: str) -> int:
    """A positive whole number."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, not {text!r}")
    return value


def share(text: str) -> float:
    """A share as ``5%`` or ``0.05``."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"must be a share, as 5% or 0.05, not {text!r}")
    return value


def resolved(options: argparse.Namespace) -> Any:
    """The pipeline that a command names, which gets what stands behind ``--`` as its script's own arguments."""
    from greenload.cli.resolve import resolve

    sys.path.insert(0, os.getcwd())  # package.module:name is looked for here too, as with python -m
    if _names_tensorflow(options.pipeline):
        quiet_tensorflow()  # before the user's own import of it
    return resolve(options.pipeline, options.data, options.script_arguments)


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


def check_places(options: argparse.Namespace, *taken: str) -> None:
    """Refuse ``--json`` and ``--html`` before minutes of work, not after; ``taken`` are files that must stay."""
    for file in (options.json, options.html):
        check_writable(file)
        if file and any(os.path.realpath(file) == os.path.realpath(one) for one in taken):
            raise UsageError(f"{file}: is what is read: name another file to write")
    if options.html:
        if options.json and os.path.abspath(options.json) == os.path.abspath(options.html):
            raise UsageError(f"{options.html}: --json and --html need a file each: name two")
        if importlib.util.find_spec("jinja2") is None:
            raise ReportError("--html needs jinja2: pip install 'greenload[report]'")


def check_writable(file: str | None) -> None:
    """Refuse a place that can't be written before minutes of work are lost to it."""
    if not file:
        return
    folder = os.path.dirname(os.path.realpath(file))
    if not os.path.isdir(folder):
        raise UsageError(f"{file}: can't be written: its folder does not exist")
    if os.path.isdir(file):
        raise UsageError(f"{file}: can't be written: it is a folder")
    if not os.access(file if os.path.exists(file) else folder, os.W_OK):
        raise UsageError(f"{file}: can't be written: permission denied; name another place")


def write_json(file: str | None, data: dict[str, Any]) -> None:
    """Write a result, where a file was named.

    Raises:
        OSError: it can't be written; says why and what helps.
    """
    if file:
        _write(file, json.dumps(data, indent=1) + "\n")


def _write(file: str, text: str) -> None:
    try:
        file_output.write(file, text)
    except OSError as error:
        raise OSError(f"{file}: can't be written: {file_output.why(error)}") from None


def present(
    options: argparse.Namespace, save: Callable[[str], None], page: Callable[[], str], shown: RenderableType
) -> None:
    """Write ``--json`` and ``--html``, then show: whether anybody reads along, the files are there; and the reverse."""
    try:
        if options.json:
            save(options.json)
        if options.html:
            _write(options.html, page())
    finally:
        say(shown)
    if files := [file for file in (options.json, options.html) if file]:
        say(f"written: {', '.join(files)}")


def _names_tensorflow(pipeline: str) -> bool:
    """Whether a pipeline is in a file that may import TensorFlow."""
    file = pipeline.rpartition(":")[0]
    if not file.endswith(".py") or not os.path.isfile(file):
        return False
    text = Path(file).read_text(encoding="utf-8", errors="replace")
    return "tensorflow" in text or "keras" in text


def quiet_tensorflow() -> None:
    """Import TensorFlow, if it is there, without the notes that its libraries write past Python to standard error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        import tensorflow

        tensorflow.config.list_physical_devices()  # looks for a GPU's driver, and says so if there is none
    except ImportError:
        pass  # whoever needs it says so
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show warnings as errors are shown, without the place in our source."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        warn(str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
