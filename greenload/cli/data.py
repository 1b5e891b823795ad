"""Commands on data: sample, check, pack."""

from __future__ import annotations

import argparse
from functools import partial

from greenload.cli.shared import (
    FAILED,
    OK,
    AddCommand,
    check_writable,
    positive,
    progress,
    quiet_tensorflow,
    say,
    write_json,
)
from greenload.sources.formats import FILL_ARGUMENT
from greenload.specs import MAX_BYTES, TRUNCATED
from greenload.text import bytes_text


def add(command: AddCommand) -> None:
    """Add the commands to the parser."""
    sample = command("sample", _sample, "make a folder of sample photos: crops of two real photographs")
    sample.add_argument("folder", help="where to; must be new or empty")
    sample.add_argument("--images", type=positive, default=512, help="how many (default %(default)s)")
    sample.add_argument("--seed", type=int, default=0, help="the same seed gives the same files (default %(default)s)")
    check = command(
        "check", _check, "read and decode every image of a folder, name the bad ones, say what decoding drops"
    )
    check.add_argument("data", help="the folder of images or records, a CSV or Parquet table, or a pattern")
    check.add_argument("--threads", type=positive, default=None, help="threads that decode (default: all processors)")
    check.add_argument("--max-bytes", type=positive, default=MAX_BYTES, help=_MAX_BYTES)
    check.add_argument("--truncated", choices=TRUNCATED, default="error", help=_TRUNCATED)
    check.add_argument(
        "--backend", default="auto", help="auto, tf, dali-cpu, dali or pillow, which is to decode (default %(default)s)"
    )
    pack = command("pack", _pack, "write a folder's images into few large files that are read in large stretches")
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
    pack.add_argument("--threads", type=positive, default=None, help="threads (default: all processors)")
    pack.add_argument("--max-bytes", type=positive, default=MAX_BYTES, help=_MAX_BYTES)
    pack.add_argument("--truncated", choices=TRUNCATED, default="error", help=_TRUNCATED)


_MAX_BYTES = "the most bytes that decoding one image may take, as Decode(max_bytes=) (default %(default)s)"
_TRUNCATED = (
    "whether files that are cut off are bad, or good if Decode(truncated='fill') reads them (default %(default)s)"
)


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


def _check(options: argparse.Namespace) -> int:
    import numpy as np

    from greenload.backends import BACKENDS
    from greenload.errors import UsageError
    from greenload.loading.survey import Survey
    from greenload.loading.verify import verify
    from greenload.machine import processors
    from greenload.planning.choose import reading_backends
    from greenload.sources import open_all

    if options.backend not in ("auto", *BACKENDS):
        raise UsageError(f"--backend must be one of auto, {', '.join(BACKENDS)}, not {options.backend!r}")
    check_writable(options.json)
    source = open_all(options.data)
    total = len(source)
    quiet_tensorflow()
    decoder, readers = reading_backends() if options.backend == "auto" else (options.backend, None)
    survey, fillable = Survey(backend=decoder, readers=readers), 0
    judge = partial(
        verify, source, options.threads or processors(), remember=False, max_bytes=options.max_bytes, backend=decoder,
        readers=readers,
    )  # fmt: skip
    with progress("checking") as update:
        found = judge(
            lambda done, all_: update(done / all_, f"checking: {done} of {all_} images"),
            look=survey.look,
            truncated=options.truncated,
        )
        if found.bad and options.truncated == "error":
            update(1.0, f"checking which of {len(found.bad)} bad images are cut off")
            suspects = np.array(found.bad_indices, np.int64)
            fillable = len(suspects) - len(judge(indices=suspects, truncated="fill").bad)
    bad = [{"path": error.path, "reason": error.reason} for error in found.bad]
    counted = {"turned": survey.turned, "low_bits": survey.low_bits}
    write_json(options.json, {"samples": total, "bad": bad, "fillable": fillable} | counted)
    say(*map(str, found.bad))
    say(*survey.sentences("images that decode"))
    if fillable:
        say(f"{FILL_ARGUMENT} would take what is there of {fillable} of the {len(found.bad)} bad")
    say(f"{total - len(found.bad)} of {total} images decode" + (f", {len(found.bad)} do not" if found.bad else ""))
    return FAILED if found.bad else OK


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
