"""Runs one plan for some epochs and prints what that took: ``python -m bench.optimize_worker TASK.json``.

The plan is loaded by ``gl.load`` and iterated epoch by epoch, as ``model.fit`` does. TensorFlow is loaded before, as
that is the same for all plans.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported, which else reports what it lacks

import greenload as gl
from bench.by_hand import Workload
from bench.optimize_subjects import pipeline
from greenload.energy.settle import settle


def main(path: str) -> None:
    """Run what a task file says."""
    task: dict[str, Any] = json.loads(Path(path).read_text())
    import tensorflow as tf

    for _ in tf.data.Dataset.range(2).map(lambda number: number + 1):
        pass
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in task["work"].items()
    }
    source = pipeline(Workload(**given), task["subject"]).source
    plan = gl.load_plan(task["plan"], source=source)
    settle()
    print(json.dumps(run(plan, task["epochs"], meters=task["meters"])))


def run(plan: gl.Plan, epochs: int, *, meters: bool) -> dict[str, Any]:
    """CPU seconds of this process and wall seconds of a training's loading, building included; as JSON data.

    Args:
        plan: what runs.
        epochs: how many.
        meters: whether energy is measured too, which takes a thread of its own.
    """
    with gl.measure() if meters else nullcontext() as window:
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        dataset, images, ends_s, starts_s = gl.load(plan), 0, [], 0.0
        for _ in range(epochs):
            for batch in dataset:
                starts_s = starts_s or time.process_time() - cpu_s
                images += int(batch[0].shape[0])
            ends_s.append(time.process_time() - cpu_s)
        wall_s = time.perf_counter() - wall_s
        settle(4.0)  # what is being kept is written
        cpu_s = time.process_time() - cpu_s
    figures = {} if window is None else window.energy_j
    return {
        "images": images,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "first_batch_cpu_s": starts_s,
        "epoch_ends_cpu_s": ends_s,
        "energy_j": {domain: one.value for domain, one in figures.items() if one.provenance == "measured"},
        "load_average": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main(sys.argv[1])
