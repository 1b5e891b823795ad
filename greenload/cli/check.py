"""The command check: reads and decodes every image of a folder, and names the bad ones."""

from __future__ import annotations

import argparse
from functools import partial

from greenload.cli.arguments import AddCommand, add_decoding, check_writable
from greenload.cli.output import FAILED, OK, progress, quiet_tensorflow, say, write_json


def add_command(add: AddCommand) -> None:
    """Add the command to the parser."""
    check = add("check", _check, "read and decode every image of a folder, name the bad ones, say what decoding drops")
    check.add_argument("data", help="the folder of images or records, a CSV or Parquet table, or a pattern")
    add_decoding(check)
    check.add_argument(
        "--backend", default="auto", help="auto, tf, dali-cpu, dali or pillow, which is to decode (default %(default)s)"
    )


def _check(options: argparse.Namespace) -> int:
    import numpy as np

    from greenload.backends.registry import BACKENDS
    from greenload.errors import UsageError
    from greenload.loading.survey import Survey
    from greenload.loading.verify import verify
    from greenload.machine import processors
    from greenload.planning.choose import reading_backends
    from greenload.sources import open_all
    from greenload.sources.formats import FILL_ARGUMENT

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
        verified = judge(
            lambda done, all_: update(done / all_, f"checking: {done} of {all_} images"),
            look=survey.look,
            truncated=options.truncated,
        )
        if verified.bad and options.truncated == "error":
            update(1.0, f"checking which of {len(verified.bad)} bad images are cut off")
            suspects = np.array(verified.bad_indices, np.int64)
            fillable = len(suspects) - len(judge(indices=suspects, truncated="fill").bad)
    bad = [{"path": error.path, "reason": error.reason} for error in verified.bad]
    counted = {"turned": survey.turned, "low_bits": survey.low_bits}
    write_json(options.json, {"samples": total, "bad": bad, "fillable": fillable} | counted)
    say(*map(str, verified.bad))
    say(*survey.sentences("images that decode"))
    if fillable:
        say(f"{FILL_ARGUMENT} would take what is there of {fillable} of the {len(verified.bad)} bad")
    say(
        f"{total - len(verified.bad)} of {total} images decode"
        + (f", {len(verified.bad)} do not" if verified.bad else "")
    )
    return FAILED if verified.bad else OK
