"""The command line: parses, calls the library, shows. Exit status 0 fine, 1 the work failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import greenload
from greenload.errors import GreenloadError, ReportError, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

_OK, _FAILED, _USAGE = 0, 1, 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Errors are one line on standard error; ``--debug`` shows the traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        options = _parser().parse_args(given)
        command: Callable[[argparse.Namespace], int] = options.command
        with _one_line_warnings():
            return command(options)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # whoever read the output has seen enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _OK
    except UsageError as error:
        if debug:
            raise
        return _fail(str(error), _USAGE)
    except (GreenloadError, OSError) as error:
        if debug:
            raise
        return _fail(str(error), _FAILED)
    except Exception as error:  # a bug of ours: even that is one line, and says how to see more
        if debug:
            raise
        return _fail(f"unexpected {type(error).__name__}: {error} (--debug shows where)", _FAILED)


def _fail(message: str, status: int) -> int:
    print(f"greenload: error: {_printable(message)}", file=sys.stderr)
    return status


def _printable(text: str) -> str:
    """One line that no terminal chokes on: file names hold anything."""
    from greenload.report.table import printable as escaped  # brings SciPy along, which most commands can do without

    return escaped(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
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

    command("doctor", _doctor, "which meters and backends work here, why others don't, and what helps")
    sample = command("sample", _sample, "make a folder of sample photos: crops of two real photographs")
    sample.add_argument("folder", help="where to; must be new or empty")
    sample.add_argument("--images", type=_positive, default=512, help="how many (default %(default)s)")
    sample.add_argument("--seed", type=int, default=0, help="the same seed gives the same files (default %(default)s)")
    check = command("check", _check, "read and decode every image of a folder, and name the bad ones")
    check.add_argument("data", help="the folder of images or records, a CSV or Parquet table, or a pattern")
    check.add_argument("--threads", type=_positive, default=None, help="threads that decode (default: all processors)")
    pack = command("pack", _pack, "write a folder's images into few large files that are read in large stretches")
    pack.add_argument("data", help="the folder of images or records, a CSV or Parquet table, or a pattern")
    pack.add_argument("out", help="where to; must be new or empty")
    pack.add_argument("--format", choices=("tfrecord", "arrayrecord"), default="tfrecord", help="(default %(default)s)")
    pack.add_argument("--shard-mb", type=float, default=128, help="megabytes in a file (default %(default)s)")
    pack.add_argument("--seed", type=int, default=0, help="of the records' order (default %(default)s)")
    pack.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what to do about bad images")
    pack.add_argument("--threads", type=_positive, default=None, help="threads (default: all processors)")
    calibrate = command("calibrate", _calibrate, "measure what work costs on this machine: what backend auto goes by")
    calibrate.add_argument("pipeline", nargs="?", help="also measure the steps of this one; named as for profile")
    calibrate.add_argument("--data", metavar="FOLDER", help="the pipeline's data folder; without one, images to use")
    calibrate.add_argument("--threads", type=_positive, default=None, help="threads (default: all processors)")
    profile = command("profile", _profile, "what each step of a pipeline costs per image")
    profile.add_argument("pipeline", help="a ready one (imagenet:train), path/to/file.py:name, or package.module:name")
    profile.add_argument("--data", metavar="FOLDER", help="the data folder, for a pipeline that takes one")
    profile.add_argument("--backend", default="auto", help="auto, tf, dali-cpu or pillow (default %(default)s)")
    profile.add_argument("--threads", type=_positive, default=None, help="threads that work on samples")
    profile.add_argument("--samples", type=_positive, default=512, help="samples to measure on (default %(default)s)")
    profile.add_argument("--rounds", type=_positive, default=5, help="rounds of windows a build (default %(default)s)")
    profile.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what to do about bad images")
    profile.add_argument("--html", metavar="FILE", help="write the report as a web page")
    report = command("report", _report, "show a saved report, or hold a second one against it")
    report.add_argument("report", metavar="A.json", help="a report that profile --json wrote")
    report.add_argument("other", metavar="B.json", nargs="?", help="another one: ratios are B / A")
    report.add_argument("--html", metavar="FILE", help="write it as a web page")
    return parser


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, not {text!r}")
    return value


def _doctor(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from greenload.doctor import examine

    _check_writable(options.json)
    _quiet_tensorflow()
    findings = examine()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("", "what", "found, or why not", "remedy"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        mark = Text("yes", style="green") if finding.usable else Text("no", style="red")
        cells = (f"{finding.kind} {finding.name}", finding.detail, finding.remedy)
        table.add_row(mark, *map(Text, cells))
    Console().print(table)
    _write_json(options.json, {"findings": [finding.to_dict() for finding in findings]})
    return _OK


def _sample(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from greenload.samples import make_samples

    _check_writable(options.json)
    with _progress("making photos") as update:
        made = make_samples(
            options.folder,
            options.images,
            options.seed,
            classes=min(8, options.images),
            progress=lambda done, total: update(done / total, f"making photos: {done} of {total}"),
        )
    print(
        f"{made.images} photos in {made.classes} classes below {made.folder}: "
        f"mean {made.mean_width:.0f}×{made.mean_height:.0f} pixels, {made.mean_bytes / 1e3:.0f} kB"
    )
    _write_json(options.json, asdict(made) | {"folder": str(made.folder)})
    return _OK


def _check(options: argparse.Namespace) -> int:
    from greenload.plan import processors
    from greenload.sources import open_all
    from greenload.verifying import verify

    _check_writable(options.json)
    source = open_all(options.data)
    total = len(source)
    _quiet_tensorflow()
    with _progress("checking") as update:
        found = verify(
            source,
            options.threads or processors(),
            lambda done, all_: update(done / all_, f"checking: {done} of {all_} images"),
            remember=False,
        )
    for error in found.bad:
        print(_printable(str(error)))
    print(f"{total - len(found.bad)} of {total} images decode" + (f", {len(found.bad)} do not" if found.bad else ""))
    bad = [{"path": error.path, "reason": error.reason} for error in found.bad]
    _write_json(options.json, {"samples": total, "bad": bad})
    return _FAILED if found.bad else _OK


def _pack(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from greenload.packing import pack
    from greenload.sources import open_folder

    _check_writable(options.json)
    _quiet_tensorflow()
    with _progress("packing") as update:
        packed = pack(
            open_folder(options.data),
            options.out,
            format=options.format,
            shard_mb=options.shard_mb,
            seed=options.seed,
            on_error=options.on_error,
            threads=options.threads,
            progress=update,
        )
    for error in packed.skipped:
        print(_printable(f"left out: {error}"))
    print(
        f"{packed.samples} images in {packed.shards} files below {_printable(packed.folder)}: "
        f"{packed.bytes / 1e6:.1f} MB, in {packed.seconds:.1f} s"
    )
    skipped = [{"path": error.path, "reason": error.reason} for error in packed.skipped]
    _write_json(options.json, asdict(packed) | {"skipped": skipped})
    return _OK


def _calibrate(options: argparse.Namespace) -> int:
    from rich.console import Console

    _check_writable(options.json)
    pipeline: Any = _resolved(options) if options.pipeline else None
    _quiet_tensorflow()
    from greenload.calibrating import calibrate, shown

    with _progress("starting") as update:
        data = None if pipeline else options.data  # else the pipeline's own
        table = calibrate(pipeline, data=data, threads=options.threads, progress=update)
    Console().print(shown(table))
    if pipeline is not None:
        print("\n".join(map(_printable, greenload.make_plan(pipeline).describe().splitlines())))
    _write_json(options.json, table.to_dict())
    return _OK


def _resolved(options: argparse.Namespace) -> Any:
    """The pipeline that a command names."""
    from greenload.resolving import resolve

    sys.path.insert(0, os.getcwd())  # package.module:name is looked for here too, as with python -m
    if _names_tensorflow(options.pipeline):
        _quiet_tensorflow()  # before the user's own import of it
    return resolve(options.pipeline, options.data)


def _profile(options: argparse.Namespace) -> int:
    from rich.console import Console

    _check_places(options)
    pipeline = _resolved(options)
    _quiet_tensorflow()
    from greenload.profiling import profile
    from greenload.report.terminal import render

    with _progress("starting") as update:
        report = profile(
            pipeline,
            options.backend,
            threads=options.threads,
            samples=options.samples,
            rounds=options.rounds,
            name=options.pipeline,
            on_error=options.on_error,
            progress=update,
        )
    Console().print(render(report))
    if options.json:
        report.save(options.json)
    if options.html:
        from greenload.report.html import html

        Path(options.html).write_text(html(report), encoding="utf-8")
    written = [file for file in (options.json, options.html) if file]
    if written:
        print(f"written: {', '.join(written)}")
    return _OK


def _report(options: argparse.Namespace) -> int:
    from rich.console import Console

    from greenload.report.comparison import compare
    from greenload.report.data import Report
    from greenload.report.html import html
    from greenload.report.terminal import render, render_comparison

    _check_places(options, options.report, *([options.other] if options.other else []))
    report, other = Report.load(options.report), Report.load(options.other) if options.other else None
    found = compare(report, other) if other else None
    Console().print(render_comparison(found) if found else render(report))
    _write_json(options.json, found.to_dict() if found else report.to_dict())
    if options.html:
        Path(options.html).write_text(html(report, other), encoding="utf-8")
    written = [file for file in (options.json, options.html) if file]
    if written:
        print(f"written: {', '.join(written)}")
    return _OK


@contextmanager
def _progress(text: str) -> Iterator[Callable[[float, str], None]]:
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


def _check_places(options: argparse.Namespace, *taken: str) -> None:
    """Refuse ``--json`` and ``--html`` before minutes of work, not after; ``taken`` are files that must stay."""
    for file in (options.json, options.html):
        _check_writable(file)
        if file and any(os.path.realpath(file) == os.path.realpath(one) for one in taken):
            raise UsageError(f"{file}: is what is read: name another file to write")
    if options.html:
        if options.json and os.path.abspath(options.json) == os.path.abspath(options.html):
            raise UsageError(f"{options.html}: --json and --html need a file each: name two")
        if importlib.util.find_spec("jinja2") is None:
            raise ReportError("--html needs jinja2: pip install 'greenload[report]'")


def _check_writable(file: str | None) -> None:
    """Refuse a place that can't be written before minutes of work are lost to it."""
    if not file:
        return
    folder = os.path.dirname(os.path.abspath(file))
    if not os.path.isdir(folder):
        raise UsageError(f"{file}: can't be written: its folder does not exist")
    if os.path.isdir(file):
        raise UsageError(f"{file}: can't be written: it is a folder")
    if not os.access(file if os.path.exists(file) else folder, os.W_OK):
        raise UsageError(f"{file}: can't be written: permission denied; name another place")


def _write_json(file: str | None, data: dict[str, Any]) -> None:
    if file:
        Path(file).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _names_tensorflow(pipeline: str) -> bool:
    """Whether a pipeline is in a file that may import TensorFlow."""
    file = pipeline.rpartition(":")[0]
    if not file.endswith(".py") or not os.path.isfile(file):
        return False
    text = Path(file).read_text(encoding="utf-8", errors="replace")
    return "tensorflow" in text or "keras" in text


def _quiet_tensorflow() -> None:
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
def _one_line_warnings() -> Iterator[None]:
    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"greenload: warning: {_printable(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


if __name__ == "__main__":
    sys.exit(main())
