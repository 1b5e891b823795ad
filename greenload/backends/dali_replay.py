"""Replays of single steps, for the profiler: the same captured input, with and without the step.

All work happens in DALI's threads; Python only feeds references and starts runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import Images, Records
from greenload.backends.dali_graph import (
    applies_exif,
    arguments_of,
    feed,
    feeds_of,
    image_list,
    make_graph,
    pixel_steps,
    sizes_of,
    without_exif,
)
from greenload.backends.dali_runner import DaliRunner, target_of
from greenload.errors import UsageError
from greenload.plan import Plan
from greenload.prepared import Numbers


@dataclass(frozen=True)
class Replay:
    """Something that can be done to the same samples over and over."""

    batches: int
    """How many captured batches are taken in turn."""
    batch_size: int
    once: Callable[[int], None]
    """Process captured batch ``i``."""
    release: Callable[[], None]

    def run(self, samples: int) -> int:
        """Process at least ``samples`` samples, in whole batches, from the first captured batch on.

        Returns:
            How many were processed.
        """
        count = -(-samples // self.batch_size)
        for i in range(count):
            self.once(i % self.batches)
        return count * self.batch_size

    def close(self) -> None:
        """Give back threads and captured inputs."""
        self.release()


@dataclass(frozen=True)
class _Captured:
    """One batch as it reaches a step, and what the step's other inputs are fed."""

    images: Any
    arguments: dict[str, NDArray[np.generic]]
    records: Records


def replay(plan: Plan, step_index: int, records: Records, batch_size: int, threads: int) -> tuple[Replay, Replay]:
    """A step with and without its work, on captured input: the difference of their CPU time is what the step costs.

    A pixel step: both feed the captured images by reference and put out shapes; ``with_run`` runs the step between, its
    params fed along. Shapes, because an output of images of different sizes would be copied together, which the full
    pipeline does not do between steps.

    A ``Batch`` step: DALI stacks as its last operator writes, so what is left is the hand-over, once a batch: headers,
    params, feeding, starting a run and taking its result. ``with_run`` does that for the plan's input; ``without_run``
    does nothing. In a plan that reads pixels and does nothing to them, it is the stacking itself.

    Args:
        plan: of backend ``"dali-cpu"`` or ``"dali"``.
        step_index: place in ``plan.steps`` of a pixel or batch step.
        records: what enters the plan's first DALI step; all full batches of it are captured and held in memory.
        batch_size: samples of one run.
        threads: DALI's threads.

    Returns:
        ``(with_run, without_run)``; close both.

    Raises:
        UsageError: the step isn't DALI's, or there are fewer records than one batch.
        RecordError: a record is bad.
    """
    if not 0 <= step_index < len(plan.steps) or plan.steps[step_index].kind not in ("pixels", "batch"):
        raise UsageError(f"only pixel and batch steps can be replayed, not step {step_index} of {len(plan.steps)}")
    parts = [
        Records(
            records.images[at : at + batch_size],
            records.numbers[at : at + batch_size],
            records.names[at : at + batch_size],
        )
        for at in range(0, len(records.images) - batch_size + 1, batch_size)
    ]
    if not parts:
        raise UsageError(f"a replay needs one batch of {batch_size} or more, not {len(records.images)} records")
    if plan.steps[step_index].kind == "batch":
        return _hand_over(plan, parts, batch_size, threads)
    captured = _capture(plan, step_index, parts, threads)
    target = target_of(plan.backend)
    step = pixel_steps([plan.steps[step_index]])

    def make(full: bool) -> Replay:
        graph = make_graph(
            step if full else (),
            plan.steps[step_index].spec_in,
            batch_size=batch_size,
            threads=threads,
            target=target,
            shapes=True,
        )
        held = list(captured)

        def once(i: int) -> None:
            feed(graph, held[i].images, held[i].arguments if full else {})
            graph.run()

        return Replay(len(held), batch_size, once, held.clear)

    return make(True), make(False)


def _capture(plan: Plan, step_index: int, parts: Sequence[Records], threads: int) -> list[_Captured]:
    """Batches as they reach a step, with the step's params."""
    before = pixel_steps(plan.steps[:step_index])
    step_feeds = feeds_of(pixel_steps([plan.steps[step_index]]))
    before_feeds, numbers = feeds_of(before), Numbers.of(plan.pipeline)
    graph = None
    if before:
        graph = make_graph(
            before,
            before[0].spec_in,
            batch_size=len(parts[0].images),
            threads=threads,
            target=target_of(plan.backend),
        )
    captured = []
    for part in parts:
        sizes = sizes_of(part.images, part.names, plan.backend, applies_exif(plan.steps))
        part = replace(part, images=without_exif(part.images, sizes))
        images = image_list(part.images)
        if graph is not None:
            feed(graph, images, arguments_of(numbers, before_feeds, part.numbers, sizes))
            (images,) = graph.run()
        # The records stay with the batch: the first step's images are their memory.
        captured.append(_Captured(images, arguments_of(numbers, step_feeds, part.numbers, sizes), part))
    return captured


def hand_over(plan: Plan, batch_size: int, threads: int) -> Callable[[Records], Images]:
    """All that a runner does with a batch, save the work on pixels: headers, params, feeding, a run, taking a result.

    Args:
        plan: of backend ``"dali-cpu"``.
        batch_size: the most records of a call.
        threads: DALI's threads.

    Returns:
        A function like ``DaliRunner.run``, whose result has the right shape and meaningless pixels. In a plan without
        work on pixels it is that runner's ``run``.
    """
    runner = DaliRunner(plan, batch_size=batch_size, threads=threads)
    steps = pixel_steps(plan.steps)
    if not steps:
        return runner.run
    graph = make_graph(
        (),
        steps[0].spec_in,
        batch_size=batch_size,
        threads=threads,
        target=target_of(plan.backend),
        shapes=True,
        idle=feeds_of(steps),
    )
    result = np.zeros((batch_size, *(n or 0 for n in plan.out_spec.image_shape)), plan.out_spec.dtype)

    def run(records: Records) -> NDArray[Any]:
        job = runner.prepare(records)
        feed(graph, job.images, job.arguments)
        graph.schedule_run()
        graph.outputs()[0].as_tensor()
        return result[: len(records.images)]

    return run


def _hand_over(plan: Plan, parts: Sequence[Records], batch_size: int, threads: int) -> tuple[Replay, Replay]:
    run = hand_over(plan, batch_size, threads)

    def once(i: int) -> None:
        run(parts[i])

    without = Replay(len(parts), batch_size, lambda i: None, lambda: None)
    return Replay(len(parts), batch_size, once, lambda: None), without
