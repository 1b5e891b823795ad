"""A segment on the kernel as a part of TensorFlow's graph: batches go through it without a call into Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenload.backends.base import BatchOutcome
from greenload.backends.image_sizes import decode_of
from greenload.backends.native.abi import Status
from greenload.backends.native.cache import planned_cache
from greenload.backends.native.cached_reader_graph import CachedReaderGraph
from greenload.backends.native.counters import counted_as
from greenload.backends.native.graph_files import GraphFiles, replaced
from greenload.backends.native.graph_inputs import Inputs
from greenload.backends.native.op import Operation, read
from greenload.backends.readers import Readers
from greenload.plans.plan import Plan, Segment
from greenload.system.frameworks import tf

_AT_ONCE_BYTES = 64 << 20
"""Of batches that are worked on at once, about; two in any case, so that no thread waits while a batch ends."""


def fits(segment: Segment) -> bool:
    """Whether a segment can be one operation: its images leave with one size."""
    return segment.spec_out.static


class NativeGraphSegment:
    """A segment inside TensorFlow's graph.

    Args:
        plan: that the segment belongs to.
        segment: on backend ``"native"``, one that ``fits``.
        readers: of the plan.
        counter: the name under which its steps count; if not given, that of all pipelines with the same steps.
    """

    def __init__(self, plan: Plan, segment: Segment, readers: Readers, counter: str = "") -> None:
        self._segment = segment
        self._inputs = Inputs(plan, segment)
        self.at_once = _at_once(plan, segment)
        self._helpers = plan.threads - self.at_once
        layout = self._inputs.layout
        self._operation = Operation(
            layout.chosen_steps(), layout.columns, segment.spec_out, counter or counted_as(layout), self._helpers
        )
        keeps = planned_cache(plan) is not None and segment == plan.segments[0]
        self._kept = CachedReaderGraph(plan, readers, self._helpers) if keeps else None
        own_forms = self._kept is not None and self._kept.own_forms
        self._files = GraphFiles(decode_of(segment.steps), readers, own_forms)

    def sample(self, file: Any) -> tuple[Any, Any]:
        """A file as the kernel reads it, and its size, as ``GraphSegment`` says."""
        return self._files.one(file)

    def read(self, paths: Any) -> Any:
        """Files, as ``GraphSegment`` says."""
        return read(paths, self._helpers)

    def recall(self, indices: Any, read: Callable[[Any], Any]) -> Any:
        """Files of samples, as ``GraphSegment`` says."""
        return read(indices) if self._kept is None else self._kept.read(indices, read)

    def tell_trouble(self) -> None:
        """Warn of what went wrong with what is kept, as ``GraphSegment`` says."""
        if self._kept is not None:
            self._kept.tell_trouble()

    def forget(self) -> None:
        """Forget what is kept, as ``GraphSegment`` says."""
        if self._kept is not None:
            self._kept.forget()

    def files(self, files: Any) -> tuple[Any, Any]:
        """Many files as the kernel reads them, as ``GraphSegment`` says."""
        return self._files.many(files)

    def batch(self, images: Any, sizes: Any, numbers: Any) -> BatchOutcome:
        """A batch through the segment, as ``GraphSegment`` says."""
        inputs = self._inputs.of(sizes, numbers)
        done = self._operation.run(images, sizes, inputs.rows, inputs.choices)
        if self._segment.spec_in.encoded:
            bad = done[1] == Status.BAD_FILE

            def again() -> tuple[Any, ...]:
                which = tf.where(bad)
                files, upright = self._files.pixels(tf.gather_nd(images, which))
                # By the sizes that were looked at: an image that can't be decoded here either has one pixel.
                looked_at = tf.concat([tf.gather_nd(sizes, which)[:, :2], upright[:, 2:]], 1)
                own = self._inputs.of(looked_at, tf.gather(numbers, which[:, 0]))  # maybe of no columns
                return replaced(done, which, self._operation.run(files, upright, own.rows, own.choices))

            done = tf.cond(tf.reduce_any(bad), again, lambda: done)
        images, status, reasons = done
        images.set_shape((None, *self._segment.spec_out.image_shape))
        return BatchOutcome(images, inputs.enough, status, reasons)


def _at_once(plan: Plan, segment: Segment) -> int:
    """How many batches are worked on at once. Where they are large it is few, each by several threads: in a batch for
    each thread, they would take memory for as many."""
    batch, image = plan.pipeline.batch, segment.spec_out.image_bytes()
    size = (batch.size if batch else 1) * (image or 0)
    return min(plan.threads, max(2, _AT_ONCE_BYTES // max(1, size)))
