"""Commands on this machine: doctor, calibrate."""

from __future__ import annotations

import argparse
from typing import Any

import greenload
from greenload.cli.shared import (
    OK,
    AddCommand,
    check_writable,
    positive,
    progress,
    quiet_tensorflow,
    resolved,
    say,
    write_json,
)
from greenload.errors import UsageError
from greenload.text import printable

CALIBRATE = "calibrate"


def add(command: AddCommand) -> None:
    """Add the commands to the parser."""
    command("doctor", _doctor, "which meters and backends work here, why others don't, and what helps")
    calibrate = command(CALIBRATE, _calibrate, "measure what work costs on this machine: what backend auto goes by")
    calibrate.add_argument("pipeline", nargs="?", help="also measure the steps of this one; named as for profile")
    calibrate.add_argument("--data", metavar="FOLDER", help="the pipeline's data folder; without one, images to use")
    calibrate.add_argument("--threads", type=positive, default=None, help="threads (default: all processors)")


def _doctor(options: argparse.Namespace) -> int:
    from rich.text import Text

    from greenload.cli.doctor import examine
    from greenload.report.columns import Facts

    check_writable(options.json)
    quiet_tensorflow()
    findings = examine()
    rows: list[tuple[str | Text, ...]] = []
    for finding in findings:
        mark = Text("yes", style="green") if finding.usable else Text("no", style="red")
        cells = (f"{finding.kind} {finding.name}", finding.detail, finding.remedy)
        rows.append((mark, *map(printable, cells)))
    write_json(options.json, {"findings": [finding.to_dict() for finding in findings]})
    say(Facts(("", "what", "found, or why not", "remedy"), rows, named=2))
    return OK


def _calibrate(options: argparse.Namespace) -> int:
    check_writable(options.json)
    if options.script_arguments and not options.pipeline:
        raise UsageError("what stands behind -- are a script's arguments, and no pipeline is named: leave it out")
    pipeline: Any = resolved(options) if options.pipeline else None
    quiet_tensorflow()
    from greenload.profiling.calibration.calibrate import calibrate, shown

    with progress("starting") as update:
        data = None if pipeline else options.data  # else the pipeline's own
        table = calibrate(pipeline, data=data, threads=options.threads, progress=update)
    write_json(options.json, table.to_dict())
    say(shown(table))
    if pipeline is not None:
        say(*greenload.make_plan(pipeline).describe().splitlines())
    return OK
