"""Replays of DALI's steps: captured batches, with and without a step's work.

All work happens in DALI's threads; Python only feeds references and starts runs.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import Images, Records, empty
from greenload.backends.clocks import StepClock
from greenload.backends.dali.cut_outs import graph_inputs
from greenload.backends.dali.graph import arguments_of, feed, feeds_of, image_list, make_graph
from greenload.backends.dali.runner import Intake, target_of
from greenload.backends.image_sizes import decode_of, plain, sizes_of
from greenload.backends.interface import Replay
from greenload.backends.readers import Readers, Remembered
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Step
from greenload.stages import primitives as p


@dataclass(frozen=True)
class _Captured:
    """One batch as it reaches a step, and what the step's other inputs are fed."""

    images: Any
    arguments: dict[str, NDArray[np.generic]]
    records: Records


def pair(plan: Plan, segment: Segment, step: Step, parts: Sequence[Records], readers: Readers) -> tuple[Replay, Replay]:
    """A step with and without its work: both feed the captured images by reference and put out shapes.

    Shapes, because an output of images of different sizes would be copied together, which the full pipeline does not do
    between steps. The arguments are those of ``Replaying.pair``.
    """
    captured = _capture(plan, segment, step, parts, readers)
    size = len(parts[0].images)
    decodes = isinstance(step.primitive, p.Decoding)
    others = [readers.files(part.images, segment.backend, decode_of([step])) if decodes else [] for part in parts]

    def make(full: bool) -> Replay:
        graph = make_graph(
            [step] if full else (),
            step.spec_in,
            batch_size=size,
            threads=plan.threads,
            target=target_of(segment.backend),
            shapes=True,
        )
        held = list(captured)

        def once(i: int) -> None:
            if full:
                readers.as_pngs(others[i])
            feed(graph, held[i].images, held[i].arguments if full else {})
            graph.run()

        return Replay(len(held), size, once, held.clear)

    return make(True), make(False)


def _capture(plan: Plan, segment: Segment, step: Step, parts: Sequence[Records], readers: Readers) -> list[_Captured]:
    """Batches as they reach a step, with the step's params."""
    before = segment.steps[: segment.steps.index(step)]
    step_feeds, before_feeds, numbers = feeds_of([step]), feeds_of(before), DrawLayout.of(plan.pipeline)
    graph = None
    if before:
        graph = make_graph(
            before,
            segment.spec_in,
            batch_size=len(parts[0].images),
            threads=plan.threads,
            target=target_of(segment.backend),
        )
    captured = []
    for part in parts:
        sizes = sizes_of(part.images, part.names, segment.backend, readers, decode_of(segment.steps))
        arguments = arguments_of(numbers, step_feeds, part.numbers, sizes, segment.first)
        if graph is None:
            entering, arguments = graph_inputs([step], part.images, sizes, arguments)
        else:
            entering = plain(part.images, sizes)
        images = image_list(entering)
        if graph is not None:
            feed(graph, images, arguments_of(numbers, before_feeds, part.numbers, sizes, segment.first))
            (images,) = graph.run()
        # The records stay with the batch: the first step's images are their memory.
        captured.append(_Captured(images, arguments, replace(part, images=entering)))
    return captured


def idle_runner(
    plan: Plan,
    segment: Segment,
    batch_size: int,
    parts: Sequence[Records],
    done: Sequence[Records],
    readers: Readers,
) -> _IdleDaliRunner:
    """All that a runner does with a batch, except the work on pixels: headers, params, feeding, a run, taking a result.

    The arguments are those of ``Replaying.idle_runner``.
    """
    remembered = Remembered.after(readers, segment.backend, decode_of(segment.steps), parts)
    return _IdleDaliRunner(plan, segment, batch_size, done, remembered)


class _IdleDaliRunner:
    """A runner whose graph takes all inputs and works on none."""

    def __init__(
        self, plan: Plan, segment: Segment, batch_size: int, done: Sequence[Records], readers: Remembered
    ) -> None:
        self._intake = Intake.of(plan, segment, readers)
        self._graph: Any = make_graph(
            (),
            segment.spec_in,
            batch_size=batch_size,
            threads=plan.threads,
            target=target_of(segment.backend),
            shapes=True,
            idle=feeds_of(segment.steps),
        )
        self._lock = threading.Lock()
        self._done = {name: image for part in done for name, image in zip(part.names, part.images, strict=True)}
        self._whole: NDArray[Any] | None = None
        if isinstance(first := done[0].images, np.ndarray):
            # Aligned as DALI's memory is: TensorFlow copies what isn't.
            self._whole = empty((batch_size, *first.shape[1:]), str(first.dtype))
            self._whole[:] = first[np.arange(batch_size) % len(first)]

    @property
    def clocks(self) -> Sequence[StepClock]:
        """None."""
        return ()

    def run(self, records: Records) -> Images:
        """A batch, as ``DaliRunner.run``; the result has the right shape and is of other records."""
        records, arguments = self._intake.take(records)
        images = image_list(records.images)
        with self._lock:
            feed(self._graph, images, arguments)
            self._graph.schedule_run()
            result = self._graph.outputs()[0]
        if self._whole is not None:
            result.as_tensor()
            return self._whole[: len(records.images)]
        for i in range(len(result)):
            np.asarray(result[i])
        return [self._done[name] for name in records.names]

    def close(self) -> None:
        """Give back threads and stand-ins."""
        self._graph, self._done, self._whole = None, {}, None
        self._intake.readers.close()
