"""The command optimize: the plan that spends least on a whole training, found by measuring."""

from __future__ import annotations

import argparse
import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from greenload.cli import interrupt
from greenload.cli.arguments import AddCommand, check_outputs, check_writable, named_pipeline, positive_int
from greenload.cli.output import FAILED, OK, fail, present, progress, quiet_tensorflow, say, write_json
from greenload.errors import UsageError
from greenload.text import printable, shortened

if TYPE_CHECKING:
    from greenload.optimization.data import Optimization

OPTIMIZE = "optimize"
_PIPELINE = "as profile names one: imagenet:train, train.py:make; what stands behind -- are the file's own arguments"
_ALLOW = (
    "changes of pixels that may be made, of antialias (resize without a low-pass filter), float16 (batches of "
    "float16 in place of float32) and shrunk-cache (keep images made smaller); by default none"
)
_TEXT = 40
"""Characters of what runs now: beside it bar, share and time stand on 80 columns. The bar itself says what is left."""
_SEARCH = ".search"
"""Behind the name of the file that is to be written: what keeps the measurements until then."""


def add_command(add: AddCommand) -> None:
    """Add the command to the parser."""
    optimize = add(OPTIMIZE, _optimize, "the plan that spends least on a whole training, found by measuring")
    optimize.add_argument("pipeline", help=_PIPELINE)
    optimize.add_argument("--data", metavar="FOLDER", help="the data folder, for a pipeline that takes one")
    optimize.add_argument("--epochs", type=positive_int, metavar="N", help="how long the training is")
    optimize.add_argument(
        "--ram", metavar="SIZE", help="memory that may hold images between epochs, as 8GiB; 0 for none"
    )
    optimize.add_argument("--disk", metavar="SIZE", help="disk that may hold them, in --folder, as 50GiB")
    optimize.add_argument("--folder", metavar="DIR", help="where")
    optimize.add_argument(
        "--demand", metavar="N/s", help="images per second that the model takes (default: as many as it gets)"
    )
    optimize.add_argument("--allow", metavar="CHANGES", default="", help=_ALLOW)
    optimize.add_argument(
        "--objective", choices=("energy", "cpu"), default="energy", help="joules or CPU seconds (default %(default)s)"
    )
    optimize.add_argument("--threads", type=positive_int, metavar="N", help="processors to use (default: all)")
    optimize.add_argument(
        "--seconds", type=float, default=180.0, metavar="S", help="that the search may take (default %(default)g)"
    )
    optimize.add_argument("--html", metavar="FILE", help="write what was found as a web page")
    optimize.add_argument("--plan", metavar="FILE", help="write the plan, for gl.load_plan and greenload profile")


def _optimize(options: argparse.Namespace) -> int:
    from greenload.optimization.data import Optimization

    _check_files(options)
    _check_training(options)
    found = _found(options)
    if isinstance(found, Optimization):
        return _show_plan(found, options)
    present(options, lambda file: write_json(file, found.to_dict()), str, found.render())
    return OK


def _show_plan(found: Optimization, options: argparse.Namespace) -> int:
    found = _named(found, options.pipeline)
    try:
        if options.plan:
            found.plan.save(options.plan)
    finally:
        present(options, found.save, found.html, found.render())
    _forget(options)
    if options.plan:
        say(f"the plan: {options.plan}, for gl.load(gl.load_plan({options.plan!r})) and greenload profile")
    if found.unmet:
        return fail(f"no plan meets the demand of {options.demand}; nearest is {found.winner}: {found.unmet}", FAILED)
    return OK


def _check_files(options: argparse.Namespace) -> None:
    """Refuse files that can't be written before minutes of work."""
    check_outputs(options)
    check_writable(options.plan)
    for option in ("json", "html"):
        other = getattr(options, option)
        if options.plan and other and os.path.abspath(options.plan) == os.path.abspath(other):
            raise UsageError(f"{options.plan}: --plan and --{option} need a file each: name two")


def _check_training(options: argparse.Namespace) -> None:
    """Refuse what can't be a training before the user's file is imported."""
    from greenload.optimization.arguments import (
        checked_allow,
        checked_bytes,
        checked_demand,
        checked_folder,
        checked_settings,
    )

    for option, example in (("epochs", "90"), ("ram", "8GiB")):
        if getattr(options, option) is None:
            raise UsageError(f"--{option} belongs to the training that is to be fed: add it, as --{option} {example}")
    checked_bytes("ram", options.ram)
    if options.disk is None or options.folder is None:  # else the search makes the folder, once it begins
        checked_folder(options.folder, options.disk)
    else:
        checked_bytes("disk", options.disk)
    checked_demand(options.demand)
    checked_allow(options.allow)
    checked_settings(seconds=options.seconds)


def _found(options: argparse.Namespace) -> Any:
    """An `Optimization` of a pipeline; an improvement of a ``tf.data.Dataset``, which has no plan."""
    from greenload.profiling.tfdata.profile import is_dataset

    pipeline = named_pipeline(options)
    more = _of_dataset(options) if is_dataset(pipeline) else _of_pipeline(options)
    quiet_tensorflow()
    from greenload.optimization.optimize import optimize

    interrupt.left = _left(more.get("out"))
    with progress("starting") as update:
        found = optimize(
            pipeline,
            epochs=options.epochs,
            ram=options.ram,
            demand=options.demand,
            threads=options.threads,
            seconds=options.seconds,
            progress=lambda share, text: update(share, shortened(text.partition("; ")[0], _TEXT)),
            **more,
        )
    interrupt.left = ""
    return found


def _of_pipeline(options: argparse.Namespace) -> dict[str, Any]:
    """What a pipeline's search is asked for beside what a dataset's is."""
    named = ("disk", "folder", "allow", "objective")
    return {name: getattr(options, name) for name in named} | {"out": _kept_in(options)}


def _of_dataset(options: argparse.Namespace) -> dict[str, Any]:
    """Nothing more: the elements of a dataset stay as they are, and so does the dataset, which has no plan."""
    given = [name for name in ("disk", "folder", "allow", "html", "plan") if getattr(options, name)]
    given += ["objective"] if options.objective != "energy" else []
    if given:
        raise UsageError(f"{options.pipeline}: is a tf.data.Dataset, whose steps stay: leave --{given[0]} out")
    return {}


def _named(found: Optimization, pipeline: str) -> Optimization:
    """The result with the name that the pipeline has on the command line."""
    details = {**found.settings.details, "pipeline": pipeline}
    return replace(found, settings=replace(found.settings, details=details))


def _kept_in(options: argparse.Namespace) -> str | None:
    """The file that keeps measurements while the search runs: beside the one that is to be written, if one is."""
    named = options.json or options.plan
    return f"{named}{_SEARCH}" if named else None


def _forget(options: argparse.Namespace) -> None:
    """Remove the measurements of a search that has ended and is written."""
    if kept := _kept_in(options):
        with contextlib.suppress(OSError):
            os.remove(kept)


def _left(file: str | None) -> str:
    """What an interrupt leaves."""
    if file is None:
        return "nothing was kept: with --json or --plan FILE the same command would go on from it"
    return f"what was measured is kept in {printable(file)}: the same command goes on from it"
