"""greenload beside other loaders of images, each in an environment and a process of its own: ``make bench-peers``.

    python -m bench.peers [--photos FOLDER] [--only GROUPS] [--contestants TEXT] [--builds 2] [--rounds 3] [--out FILE]

All load the same photographs into uint8 batches by two threads or two worker processes. Windows are interleaved, ratios
taken within a round, and shown as medians with quartiles. Who does other work than greenload is labelled. The JSON
holds every window; ``python -m bench.peers.chart`` draws it. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench.contest import IMAGES
from bench.peers import results, roster, running
from bench.peers.chart import FORMAT
from bench.peers.roster import CONTESTANTS, GROUPS, OURS
from bench.photographs import photos, workload
from greenload.machine import machine
from greenload.system import file_output

WINDOW = 2048
"""Images of a window, so that even the cheapest takes some tenths of a second."""
HOW = (
    "CPU time is that of the process and its worker processes, from rest to rest.",
    "Images per second are wall time, once the batches that were held ready are used up.",
)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", help="a folder of class folders with JPEGs; sample photographs if not given")
    parser.add_argument("--only", default=",".join(GROUPS), help=f"groups to run: {','.join(GROUPS)}")
    parser.add_argument(
        "--contestants", default="", help="only those with one of these texts, by commas, in their name"
    )
    parser.add_argument("--builds", type=int, default=2, help="how often every process is started")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of windows on each build")
    parser.add_argument("--images", type=int, default=IMAGES, help="photographs in the set, at most")
    parser.add_argument("--window", type=int, default=WINDOW, help="images in a window")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2, help="or worker processes, where a peer has those")
    parser.add_argument("--out", type=Path, default=Path("bench-peers.json"), help="the JSON file to write")
    options = parser.parse_args(argv)
    options.only = tuple(part.strip() for part in options.only.split(","))
    if unknown := sorted(set(options.only) - set(GROUPS)):
        parser.error(f"--only takes groups of {', '.join(GROUPS)}, not {', '.join(unknown)}")
    return options


def chosen(texts: str) -> list[roster.Contestant]:
    """The contestants that take part: greenload, and those with one of the texts in their name; all if it is empty."""
    wanted = [text.strip() for text in texts.split(",") if text.strip()]
    return [one for one in CONTESTANTS if one.name == OURS or not wanted or any(text in one.name for text in wanted)]


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run it; 1 where greenload isn't below a peer that does the same work, or can't run."""
    options = arguments(argv)
    begin, load = time.perf_counter(), os.getloadavg()
    with photos(options.photos, options.images) as folder, tempfile.TemporaryDirectory() as scratch:
        work = workload(folder, options.batch, options.threads, options.images)
        sizes = [os.path.getsize(path) for path in work.paths]
        found = running.contest(
            options.only,
            chosen(options.contestants),
            work,
            Path(scratch),
            builds=options.builds,
            rounds=options.rounds,
            images=options.window,
            note=_note,
        )
    rows = results.results(found.windows)
    left_out = found.left_out | results.restless(found.windows, rows)
    result = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine()),
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()},
        "photos": {"images": len(sizes), "mean_bytes": sum(sizes) / len(sizes)},
        "how": HOW,
        "load_average": {"before": load, "after": os.getloadavg()},
        "wall_s": time.perf_counter() - begin,
        "results": [row.to_dict() for row in rows],
        "left_out": left_out,
        "versions": found.versions,
        "looks": found.looks,
        "windows": [asdict(one) for one in found.windows],
    }
    file_output.write(options.out, json.dumps(result, indent=1) + "\n")
    print(results.table(rows), *HOW, sep="\n")
    for name, why in left_out.items():
        print(f"not measured: {name}: {why}")
    print(f"{options.out}: every window, in {result['wall_s']:.0f} s")
    return 1 if OURS in found.left_out or any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
