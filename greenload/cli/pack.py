"""The command pack: writes a folder's images into few large files."""

from __future__ import annotations

import argparse

from greenload.cli.arguments import AddCommand, add_decoding, check_writable
from greenload.cli.output import OK, progress, quiet_tensorflow, say, write_json
from greenload.text import bytes_text


def add_command(add: AddCommand) -> None:
    """Add the command to the parser."""
    pack = add("pack", _pack, "write a folder's images into few large files that are read in large stretches")
    pack.add_argument("data", help="the folder of images or records, a CSV or Parquet table, or a pattern")
    pack.add_argument("out", help="where to; must be new or empty")
    pack.add_argument(
        "--order",
        choices=("alphabetical", "natural"),
        default="alphabetical",
        help="how names of classes are sorted: 10 before 2, or 2 before 10 (default %(default)s)",
    )
    pack.add_argument("--format", choices=("tfrecord", "arrayrecord"), default="tfrecord", help="(default %(default)s)")
    pack.add_argument("--shard-mb", type=float, default=128, help="megabytes in a file (default %(default)s)")
    pack.add_argument("--seed", type=int, default=0, help="of the records' order (default %(default)s)")
    pack.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what to do about bad images")
    pack.add_argument(
        "--transcode",
        action="store_true",
        help="write JPEGs so that backend native decodes a crop without the rest; every reader reads them alike",
    )
    add_decoding(pack)


def _pack(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from greenload.loading.pack import pack
    from greenload.sources import open_folder

    check_writable(options.json)
    quiet_tensorflow()
    with progress("packing") as update:
        packed = pack(
            open_folder(options.data, order=options.order),
            options.out,
            format=options.format,
            shard_mb=options.shard_mb,
            seed=options.seed,
            on_error=options.on_error,
            threads=options.threads,
            max_bytes=options.max_bytes,
            truncated=options.truncated,
            transcode=options.transcode,
            progress=update,
        )
    skipped = [{"path": error.path, "reason": error.reason} for error in packed.skipped]
    write_json(options.json, asdict(packed) | {"skipped": skipped})
    say(*(f"left out: {error}" for error in packed.skipped))
    say(
        f"{packed.samples} images in {packed.shards} files below {packed.folder}: "
        f"{bytes_text(packed.bytes)}, in {packed.seconds:.1f} s"
    )
    return OK
