"""What plans really spend: whole trainings' loading, each run in a fresh process, by turns with the others."""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import greenload as gl
from bench.by_hand import Workload
from bench.processes import ProcessFailed, output_of

ALL_ROUNDS = 2
"""Rounds in which every plan runs."""
NEAR = 1.25
"""A plan above this multiple of the cheapest one's median after `ALL_ROUNDS` isn't the best: it runs no further."""


@dataclass(frozen=True)
class Subject:
    """A plan that is run: of which pipeline, and how many epochs."""

    of: str
    """The pipeline, of `bench.optimize_subjects.SUBJECTS`."""
    epochs: int
    name: str
    """Of the plan, among those of its pipeline."""
    plan: gl.Plan


@dataclass(frozen=True)
class Run:
    """One whole training's loading, in a process of its own."""

    of: str
    name: str
    round: int
    images: int
    cpu_s: float
    """User and system seconds of the process, from ``gl.load`` to the end."""
    wall_s: float
    first_batch_cpu_s: float
    """Until the first batch was there."""
    epoch_ends_cpu_s: tuple[float, ...]
    """Until each epoch's last batch was there."""
    energy_j: Mapping[str, float]
    """Joules by domain, of counters alone: the whole machine's, idle power included."""
    load_average: float


@dataclass(frozen=True)
class Coefficients:
    """What turns a run into joules. Zero where a counter has that part, or nobody knows."""

    busy_cpu_w: float = 0.0
    idle_w: float = 0.0
    held_w_per_gb: float = 0.0

    @classmethod
    def of(cls, found: gl.Optimization) -> Coefficients:
        """Those that a search has used."""
        given = found.coefficients
        values = [0.0 if one is None else one.value for one in (given.busy_cpu, given.idle, given.held)]
        # Counters contain idle power: a trainer that takes what it gets waits all the time.
        return cls(values[0], values[1] if given.busy_cpu is not None else 0.0, values[2])


def joules(run: Run, held_bytes: float, by: Coefficients) -> float:
    """What a run spent: counters' joules, else CPU seconds and wall seconds times a model's watts; and memory held.

    Args:
        run: one.
        held_bytes: that its plan keeps in memory.
        by: the model's watts.
    """
    counted = sum(value for domain, value in run.energy_j.items() if not domain.startswith("storage"))
    return counted + by.busy_cpu_w * run.cpu_s + (by.idle_w + by.held_w_per_gb * held_bytes / 1e9) * run.wall_s


def once(work: Workload, subject: Subject, number: int, meters: bool) -> Run:
    """Run a plan in a fresh process.

    Args:
        work: the photographs.
        subject: the plan.
        number: of the round.
        meters: whether energy is measured.

    Raises:
        ProcessFailed: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        plan, task = Path(folder) / "plan.json", Path(folder) / "task.json"
        subject.plan.save(plan)
        wanted = {"work": asdict(work), "subject": subject.of, "plan": str(plan), "epochs": subject.epochs}
        task.write_text(json.dumps(wanted | {"meters": meters}))
        output = output_of([sys.executable, "-m", "bench.optimize_worker", str(task)])
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    found["epoch_ends_cpu_s"] = tuple(found["epoch_ends_cpu_s"])
    return Run(of=subject.of, name=subject.name, round=number, **found)


def exhaustively(
    work: Workload,
    subjects: Sequence[Subject],
    *,
    rounds: int,
    stays: Sequence[str] = (),
    meters: bool = False,
    cost: Callable[[Run], float] = lambda run: run.cpu_s,
    seed: int = 0,
    note: Callable[[str], None] = lambda text: None,
) -> list[Run]:
    """Run every plan of a pipeline in rounds, in shuffled order; plans far from the best in the first rounds only.

    Args:
        work: the photographs.
        subjects: the plans.
        rounds: of those that are near the best.
        stays: names of plans that run in all of them.
        meters: whether energy is measured.
        cost: what the best has least of.
        seed: of the order.
        note: told what runs, and what fails.

    Returns:
        The runs; those of a plan that failed aren't among them.

    Raises:
        ProcessFailed: a plan failed that runs in all rounds.
    """
    order = random.Random(seed)
    runs: list[Run] = []
    alive = list(subjects)
    for number in range(rounds):
        if number == ALL_ROUNDS:
            medians = {subject.name: median_cost(runs, subject.name, cost) for subject in alive}
            least = min(medians.values())
            alive = [one for one in alive if medians[one.name] <= NEAR * least or one.name in stays]
        note(f"{subjects[0].of}: round {number + 1} of {rounds}, {len(alive)} plans")
        for subject in order.sample(alive, len(alive)):
            try:
                runs.append(once(work, subject, number, meters))
            except ProcessFailed as error:
                if subject.name in stays:
                    raise
                note(f"left out: {subject.name}: {error}")
                alive.remove(subject)
                runs = [run for run in runs if run.name != subject.name]
    return runs


def median_cost(runs: Sequence[Run], name: str, cost: Callable[[Run], float]) -> float:
    """The median of a plan's runs."""
    return statistics.median(cost(run) for run in runs if run.name == name)
