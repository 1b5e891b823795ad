"""What commands share in their arguments: parsers, types, the pipeline that is named, and files to write."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from greenload.cli.output import quiet_tensorflow, writing
from greenload.errors import ReportError, UsageError
from greenload.specs import MAX_BYTES, TRUNCATED

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


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
        with writing():
            (file or sys.stderr).write(message)


def positive_int(text: str) -> int:
    """A positive whole number."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, not {text!r}")
    return value


def share_argument(text: str) -> float:
    """A share as ``5%`` or ``0.05``."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"must be a share, as 5% or 0.05, not {text!r}")
    return value


def named_pipeline(options: argparse.Namespace, *, plans: bool = False) -> Any:
    """The pipeline that a command names, which gets what stands behind ``--`` as its script's own arguments; with
    ``plans`` the plan of a file, where it names one."""
    from greenload.cli.resolve import find_pipeline

    prepare_imports(options.pipeline)
    return find_pipeline(options.pipeline, options.data, options.script_arguments, plans=plans)


def prepare_imports(*names: str) -> None:
    """Make ready for importing the modules of pipelines or functions, as they are named on the command line."""
    sys.path.insert(0, os.getcwd())  # package.module:name is looked for here too, as with python -m
    if any(map(_names_tensorflow, names)):
        quiet_tensorflow()  # before the user's own import of it


def check_outputs(options: argparse.Namespace, *inputs: str) -> None:
    """Refuse ``--json`` and ``--html`` before minutes of work, not after; ``inputs`` are files that must stay."""
    for file in (options.json, options.html):
        check_writable(file)
        if file and any(os.path.realpath(file) == os.path.realpath(taken) for taken in inputs):
            raise UsageError(f"{file}: is what is read: name another file to write")
    if options.html:
        if options.json and os.path.abspath(options.json) == os.path.abspath(options.html):
            raise UsageError(f"{options.html}: --json and --html need a file each: name two")
        if importlib.util.find_spec("jinja2") is None:
            raise ReportError("--html needs jinja2: pip install 'greenload[report]'")


def check_writable(file: str | None) -> None:
    """Refuse a file that can't be written before minutes of work are lost to it."""
    if not file:
        return
    folder = os.path.dirname(os.path.realpath(file))
    if not os.path.isdir(folder):
        raise UsageError(f"{file}: can't be written: its folder does not exist")
    if os.path.isdir(file):
        raise UsageError(f"{file}: can't be written: it is a folder")
    if not os.access(file if os.path.exists(file) else folder, os.W_OK):
        raise UsageError(f"{file}: can't be written: permission denied; name another place")


def _names_tensorflow(pipeline: str) -> bool:
    """Whether a pipeline is in a file that may import TensorFlow."""
    file = pipeline.rpartition(":")[0]
    if not file.endswith(".py") or not os.path.isfile(file):
        return False
    text = Path(file).read_text(encoding="utf-8", errors="replace")
    return "tensorflow" in text or "keras" in text


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that decode a folder's images."""
    parser.add_argument(
        "--threads", type=positive_int, default=None, help="threads that decode (default: all processors)"
    )
    parser.add_argument(
        "--max-bytes",
        type=positive_int,
        default=MAX_BYTES,
        help="the most bytes that decoding one image may take, as Decode(max_bytes=) (default %(default)s)",
    )
    parser.add_argument(
        "--truncated",
        choices=TRUNCATED,
        default="error",
        help="whether files that are cut off are bad, or good if Decode(truncated='fill') reads them "
        "(default %(default)s)",
    )
