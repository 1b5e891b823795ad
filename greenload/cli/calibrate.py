"""The command calibrate: measures what work costs on this machine, for ``backend="auto"``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import greenload
from greenload.cli.arguments import AddCommand, check_writable, named_pipeline, positive_int
from greenload.cli.output import OK, progress, quiet_tensorflow, say, write_json
from greenload.errors import UsageError
from greenload.text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from greenload.planning.cost_table import CostTable

CALIBRATE = "calibrate"


def add_command(add: AddCommand) -> None:
    """Add the command to the parser."""
    calibrate = add(CALIBRATE, _calibrate, "measure what work costs on this machine: what backend auto goes by")
    calibrate.add_argument("pipeline", nargs="?", help="also measure the steps of this one; named as for profile")
    calibrate.add_argument("--data", metavar="FOLDER", help="the pipeline's data folder; without one, images to use")
    calibrate.add_argument("--threads", type=positive_int, default=None, help="threads (default: all processors)")


def _calibrate(options: argparse.Namespace) -> int:
    check_writable(options.json)
    if options.script_arguments and not options.pipeline:
        raise UsageError("what stands behind -- are a script's arguments, and no pipeline is named: leave it out")
    pipeline: Any = named_pipeline(options) if options.pipeline else None
    quiet_tensorflow()
    from greenload.profiling.calibration.calibrate import calibrate

    with progress("starting") as update:
        data = None if pipeline else options.data  # else the pipeline's own
        table = calibrate(pipeline, data=data, threads=options.threads, progress=update)
    write_json(options.json, table.to_dict())
    say(cost_text(table))
    if pipeline is not None:
        say(*greenload.make_plan(pipeline).describe().splitlines())
    return OK


def cost_text(table: CostTable) -> RenderableType:
    """A table of costs for a rich console: milliseconds of CPU time for a photograph made small, in batches of 32."""
    from rich.console import Group

    from greenload.planning.cost_table import typical
    from greenload.report.columns import FigureTable, Line, Sentence

    backends = list(dict.fromkeys(entry.backend for entry in table.entries))
    lines = []
    for what in dict.fromkeys(entry.what for entry in table.entries):
        entries = [table.get(backend, what) for backend in backends]
        cells = [f"{typical(what).at(entry.cpu_s) * 1e3:.3f}" if entry else "" for entry in entries]
        lines.append(Line((what, *cells)))
    size = "for a photograph of 500×375 and 82 kB made 224×224, in batches of 32"
    kept = f"{size}; measured in {table.seconds:.0f} s on {printable(table.samples)}, kept for backend auto"
    return Group(FigureTable("ms of CPU an image", backends, lines), Sentence(kept, "dim"))
