"""The command profile."""

from __future__ import annotations

import argparse
from pathlib import Path

from greenload.cli.shared import OK, AddCommand, check_places, positive, progress, quiet_tensorflow, resolved


def add(command: AddCommand) -> None:
    """Add the command to the parser."""
    profile = command("profile", _profile, "what each step of a pipeline costs per image")
    profile.add_argument("pipeline", help="a ready one (imagenet:train), path/to/file.py:name, or package.module:name")
    profile.add_argument("--data", metavar="FOLDER", help="the data folder, for a pipeline that takes one")
    profile.add_argument("--backend", default="auto", help="auto, tf, dali-cpu or pillow (default %(default)s)")
    profile.add_argument("--threads", type=positive, default=None, help="threads that work on samples")
    profile.add_argument("--samples", type=positive, default=512, help="samples to measure on (default %(default)s)")
    profile.add_argument("--rounds", type=positive, default=5, help="rounds of windows a build (default %(default)s)")
    profile.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what to do about bad images")
    profile.add_argument("--html", metavar="FILE", help="write the report as a web page")


def _profile(options: argparse.Namespace) -> int:
    from rich.console import Console

    check_places(options)
    pipeline = resolved(options)
    quiet_tensorflow()
    from greenload.profiling import profile
    from greenload.report.terminal import render

    with progress("starting") as update:
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
    return OK
