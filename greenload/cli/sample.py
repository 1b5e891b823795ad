"""The command sample: makes a folder of sample photos."""

from __future__ import annotations

import argparse

from greenload.cli.arguments import AddCommand, check_writable, positive_int
from greenload.cli.output import OK, progress, say, write_json
from greenload.text import bytes_text


def add_command(add: AddCommand) -> None:
    """Add the command to the parser."""
    sample = add("sample", _sample, "make a folder of sample photos: crops of two real photographs")
    sample.add_argument("folder", help="where to; must be new or empty")
    sample.add_argument("--images", type=positive_int, default=512, help="how many (default %(default)s)")
    sample.add_argument("--seed", type=int, default=0, help="the same seed gives the same files (default %(default)s)")


def _sample(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from greenload.sources.samples import make_samples

    check_writable(options.json)
    with progress("making photos") as update:
        made = make_samples(
            options.folder,
            options.images,
            options.seed,
            classes=min(8, options.images),
            progress=lambda done, total: update(done / total, f"making photos: {done} of {total}"),
        )
    write_json(options.json, asdict(made) | {"folder": str(made.folder)})
    say(
        f"{made.images} photos in {made.classes} classes below {made.folder}: "
        f"mean {made.mean_width:.0f}×{made.mean_height:.0f} pixels, {bytes_text(made.mean_bytes)}"
    )
    return OK
