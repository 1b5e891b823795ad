"""Runs one contestant for some batches and prints its peak memory: ``python -m bench.worker TASK.json``."""

from __future__ import annotations

import importlib
import json
import resource
import sys
from pathlib import Path
from typing import Any

from bench.by_hand import Workload


def peak_bytes() -> int:
    """The most memory that this process had resident at once."""
    try:
        # Linux: ru_maxrss outlives exec, and so would show the parent's peak.
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def main(task: str) -> None:
    """Run what a task file says."""
    wanted = json.loads(Path(task).read_text())
    settings: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in wanted["work"].items()
    }
    group, contestant = wanted["group"], wanted["contestant"]
    import tensorflow as tf

    from bench.subjects import DALI, groups

    tf.constant(0)
    if group == DALI:
        importlib.import_module("nvidia.dali.fn")
    before = peak_bytes()
    batches = groups(Workload(**settings), dali=group == DALI)[group][contestant]()
    for _ in range(wanted["batches"]):
        next(batches)
    print(json.dumps({"before_bytes": before, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main(sys.argv[1])
