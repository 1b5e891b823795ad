"""The command profile: measures what each step of a pipeline costs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from greenload.cli.arguments import AddCommand, check_outputs, named_pipeline, positive_int, share_argument
from greenload.cli.carbon_options import add_carbon, check_carbon, with_carbon
from greenload.cli.gate_options import add_gates, gates, status
from greenload.cli.output import present, progress, quiet_tensorflow, tell
from greenload.cli.serve_options import Serving, add_serve, serving
from greenload.errors import UsageError

if TYPE_CHECKING:
    from greenload.report.data import Report


PROFILE = "profile"
_PIPELINE = (
    "a ready one (imagenet:train), path/to/file.py:name, package.module:name, or a plan's file (plan.json); "
    "what stands behind -- are the file's own arguments"
)


def add_command(add: AddCommand) -> None:
    """Add the command to the parser."""
    profile = add(PROFILE, _profile, "what each step of a pipeline costs per image")
    profile.add_argument("pipeline", help=_PIPELINE)
    profile.add_argument("--data", metavar="FOLDER", help="the data folder, for a pipeline that takes one")
    profile.add_argument("--backend", default="auto", help="auto, tf, dali-cpu, pillow or native (default %(default)s)")
    profile.add_argument("--threads", type=positive_int, default=None, help="threads that work on samples")
    profile.add_argument(
        "--samples", type=positive_int, default=512, help="samples to measure on (default %(default)s)"
    )
    profile.add_argument(
        "--rounds",
        type=positive_int,
        default=5,
        help="rounds of windows a build; in place two fifths (default %(default)s)",
    )
    profile.add_argument(
        "--precision",
        type=share_argument,
        metavar="5%",
        help="measure until each step is known this well, or to a fifth of it as a share of the whole",
    )
    profile.add_argument(
        "--samples-per-element",
        type=_per_element,
        metavar="N",
        help="samples in each element of a tf.data.Dataset whose graph can't tell, or 'rows' to count each one's rows",
    )
    profile.add_argument("--cold", action="store_true", help="read from the device: drop the files' pages first")
    add_carbon(profile)
    add_gates(profile)
    add_serve(profile)
    profile.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what to do about bad images")
    profile.add_argument("--html", metavar="FILE", help="write the report as a web page")


def _per_element(text: str) -> float | str:
    """A positive number, or ``rows``."""
    from greenload.profiling.options import COUNT_ROWS, checked_samples_per_element

    try:
        per_element = checked_samples_per_element(text if text == COUNT_ROWS else float(text))
    except (ValueError, UsageError):
        per_element = None
    if per_element is None:
        raise argparse.ArgumentTypeError(f"must be a positive number, or 'rows', not {text!r}")
    return per_element


def _profile(options: argparse.Namespace) -> int:
    check_outputs(options)
    check_carbon(options)
    asked = gates(options)
    with serving(options.serve) as served:
        report = asked.judged(with_carbon(_measured(options, served), options))
        _show(report, options)
        ended = status(report.checks, options.strict)
        if served is not None:
            served.metrics.show_report(report)
            served.until_interrupted()
    return ended


def _measured(options: argparse.Namespace, served: Serving | None) -> Report:
    pipeline = named_pipeline(options, plans=True)
    _check_plan(pipeline, options)
    quiet_tensorflow()
    from greenload.profiling.profile import profile

    with progress("starting") as update:

        def show(done: float, text: str) -> None:
            update(done, text)
            if served is not None:
                served.metrics.progress(done)

        return profile(
            pipeline,
            options.backend,
            threads=options.threads,
            samples=options.samples,
            rounds=options.rounds,
            name=options.pipeline,
            on_error=options.on_error,
            precision=options.precision,
            cold=options.cold,
            samples_per_element=options.samples_per_element,
            progress=show,
            announce=tell,
            watch=served.watch if served is not None else None,
        )


def _check_plan(pipeline: Any, options: argparse.Namespace) -> None:
    """Refuse what a plan says itself."""
    from greenload.plans.plan import Plan

    if isinstance(pipeline, Plan) and (options.backend != "auto" or options.threads is not None):
        given = "--backend" if options.backend != "auto" else "--threads"
        raise UsageError(f"{options.pipeline} is a plan, which says backends and threads: leave {given} out")


def _show(report: Report, options: argparse.Namespace) -> None:
    from greenload.report.html import html
    from greenload.report.terminal import render_report

    present(options, report.save, lambda: html(report), render_report(report))
