"""Peaks of memory, each in a process of its own: ``python -m bench.reach_memory TASK.json``."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.by_hand import Workload
from bench.contest import Row, Spread
from bench.processes import Memory, output_of
from bench.worker import peak_bytes

PLAIN, CACHED, TUNED = "greenload", "greenload with a cache", "hand-tuned tf.data"
CONTESTANTS = (PLAIN, CACHED, TUNED)
REACH, CACHE_REACH_MB = 1.0, 200.0


def peaks(work: Workload, batches: int, times: int) -> list[Memory]:
    """Run every contestant that many times, in turns.

    Raises:
        ProcessFailed: one failed.
    """
    found = []
    for _ in range(times):
        for name in CONTESTANTS:
            with tempfile.TemporaryDirectory() as folder:
                task = Path(folder) / "task.json"
                task.write_text(json.dumps({"work": asdict(work), "contestant": name, "batches": batches}))
                output = output_of([sys.executable, "-m", "bench.reach_memory", str(task)])
            seen = json.loads(output.splitlines()[-1])
            found.append(Memory(name, "memory", batches, seen["peak_bytes"], seen["before_bytes"]))
    return found


def rows(found: Sequence[Memory], kept_bytes: int) -> list[Row]:
    """The peak against hand-tuned tf.data's, and what a cache takes beyond what it keeps.

    Args:
        found: runs of all contestants, in turns.
        kept_bytes: what the cache keeps.
    """
    peak = {name: [one.peak_bytes for one in found if one.contestant == name] for name in CONTESTANTS}
    ratios = [ours / theirs for ours, theirs in zip(peak[PLAIN], peak[TUNED], strict=True)]
    above = [(ours - kept_bytes - plain) / 1e6 for ours, plain in zip(peak[CACHED], peak[PLAIN], strict=True)]
    return [
        Row("peak memory: greenload over hand-tuned", "×", Spread.of(ratios), REACH),
        Row(
            "peak memory: a cache, beyond the pipeline without it and its bytes",
            "MB",
            Spread.of(above),
            CACHE_REACH_MB,
        ),
        *(
            Row(f"peak memory: {name}", "MB", Spread.of([value / 1e6 for value in values]))
            for name, values in peak.items()
        ),
        Row("peak memory: TensorFlow imported, no more", "MB", Spread.of([one.before_bytes / 1e6 for one in found])),
        Row("bytes kept by the cache", "MB", Spread.of([kept_bytes / 1e6])),
    ]


def main(task: str) -> None:
    """Run what a task file says, and print its peak."""
    wanted: dict[str, Any] = json.loads(Path(task).read_text())
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in wanted["work"].items()}
    work = Workload(**settings)
    import tensorflow as tf

    tf.constant(0)
    before = peak_bytes()
    if wanted["contestant"] == TUNED:
        from bench import by_hand

        batches = (images for images, _ in by_hand.tuned(work, "INTEGER_ACCURATE", antialias=False))
    else:
        import greenload as gl
        from bench.reach_subjects import images_of, pipeline  # which imports more than hand-tuned pipelines need

        batches = images_of(pipeline(work, cache=gl.Cache() if wanted["contestant"] == CACHED else None), work)
    for _ in range(wanted["batches"]):
        next(batches)
    print(json.dumps({"before_bytes": before, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main(sys.argv[1])
