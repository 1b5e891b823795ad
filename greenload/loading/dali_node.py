"""Runs DALI as the last node of a tf.data pipeline: its batches stay on the device where DALI made them.

tf.data reads, keeps the order, caches and computes params on the host. Everything about a batch goes into DALI as one
matrix of bytes, since NVIDIA's plugin pulls each input of a graph separately: with several inputs every record would be
read several times. It also takes batches of any size only as one tensor.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import Records
from greenload.backends.clocks import StepClock, intake_name, segment_name
from greenload.backends.dali.base import Target
from greenload.backends.dali.clocks import DaliClock
from greenload.backends.dali.graph import dtypes, lowered
from greenload.backends.dali.plugin import experimental, tensorflow_device
from greenload.backends.dali.runner import Intake, brief, first_failing, no_record
from greenload.backends.registry import readers_of
from greenload.backends.tf.backend import State
from greenload.errors import BackendUnavailable, GreenloadError, PipelineError, RecordError
from greenload.loading.dali_rows import Rows
from greenload.loading.elements import plain
from greenload.loading.host_calls import bad_record_error, host_call, split_images
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan
from greenload.sources import read_many
from greenload.system.frameworks import fn, tf, types
from greenload.system.work import Work, WorkClock

ROWS = "rows"
"""The name of the graph's only input."""
_NOTE = (
    "DALI's threads tell the CPU time of all its steps together, in all datasets with a node of DALI's; not what a GPU "
    "does"
)
_ANY_SIDE = 4096  # pixels: large enough for any window
_SIDES, _LABEL = "sides", "label"
_BY_DALI = re.compile("dali", re.IGNORECASE)  # in an error's text
_ITERATORS = 8  # of one dataset at a time: the last batches of so many are remembered


class DaliNode:
    """The last segment of a plan, run by DALI on a device, with its input and output.

    Args:
        plan: whose last segment is on backend ``"dali"``.
        target: where it runs: a GPU; or the CPU, to rehearse the same there.

    Raises:
        PipelineError: the plan can't be loaded that way.
    """

    def __init__(self, plan: Plan, target: Target) -> None:
        self.plan = plan
        self.target = target
        *before, last = plan.segments
        if not last.traits.on_gpu or any(segment.batched for segment in before):
            others = ", ".join(dict.fromkeys(repr(s.backend) for s in before if s.batched)) or repr(last.backend)
            raise PipelineError(
                f"into backend 'dali' tf.data hands single samples, but here batches come from {others}: put these "
                "steps on 'dali' too, or before Batch on 'tf'"
            )
        if plan.label.dtype not in dtypes():
            raise PipelineError(
                f"DALI has no {plan.label.dtype}, but labels are {plan.label}: "
                f"use another dtype in {' or '.join(type(stage).__name__ for stage in plan.pipeline.label_stages)}"
            )
        self._layout = DrawLayout.of(plan.pipeline)
        self._steps, self._spec = last.steps, last.spec_in
        self._intake = Intake.of(plan, last, readers_of(plan))
        # The shapes of all that is fed are those that it has for any one image.
        shape = (None, None, 3) if last.spec_in.encoded else last.spec_in.image_shape
        image = np.broadcast_to(np.uint8(0), [n or _ANY_SIDE for n in shape])
        drawn = np.zeros((1, self._layout.count))
        like = self._values(self._intake.like(*image.shape[:2]), np.zeros(1, np.int64), drawn, [image])
        # Besides DALI's own batches, one is being packed, one is held ready, one is being transferred.
        in_flight = _ITERATORS * (plan.prefetch + 3)
        self._rows = Rows(like, in_flight)
        self._packing, self._clock = WorkClock(), DaliClock()
        self._recent: deque[tuple[NDArray[np.int64], NDArray[np.float64]]] = deque(maxlen=in_flight)

    def _values(
        self,
        arguments: Mapping[str, NDArray[np.generic]],
        index: NDArray[np.int64],
        numbers: NDArray[np.float64],
        images: Sequence[Any],
    ) -> dict[str, NDArray[np.generic]]:
        """All that rows hold before the images, by name."""
        given = self.plan.pipeline.source.labels[index]
        sides = {} if self._spec.encoded else {_SIDES: np.array([image.shape for image in images], np.int32)}
        return {**sides, **arguments, _LABEL: self._layout.labels(given, numbers)}

    @property
    def clocks(self) -> Sequence[StepClock]:
        """Thread time of what packs batches, and the CPU time of DALI's threads."""
        backend = self.plan.segments[-1].backend

        def read() -> Work:
            self._clock.follow()
            return self._clock.read()

        packing = StepClock(intake_name(backend), backend, self._packing.read)
        return [packing, StepClock(segment_name(self.plan.segments[-1]), backend, read, _NOTE)]

    def pack(self, images: Any, sides: Any, numbers: Any, index: Any) -> NDArray[np.uint8]:
        """A batch's rows."""
        with self._packing.timing(len(index)):
            rows = self._packed(images, sides, numbers, index)
        self._clock.follow()
        with self._clock.calling.timing(len(index)):
            return rows  # DALI is given them: they count

    def _packed(self, images: Any, sides: Any, numbers: Any, index: Any) -> NDArray[np.uint8]:
        source = self.plan.pipeline.source
        names = [source.name(int(i)) for i in index]
        separate = split_images(images, sides) if len(sides) else list(images)
        try:
            records, arguments = self._intake.take(Records(separate, numbers, names))
        except RecordError as error:
            raise bad_record_error(error, names, index) from None
        self._recent.append((index, numbers))
        entering: Any = records.images
        return self._rows.pack(self._values(arguments, index, numbers, entering), entering)

    def rows(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Batches of states, as ``tf_graph`` makes them, to batches of rows."""
        on_host = host_call(self, DaliNode.pack, tf.uint8)

        def packed(state: State) -> Any:
            rows = on_host(state)
            rows.set_shape((None, None))
            return rows

        return batches.map(plain(packed))

    def graph(self, depth: int) -> Any:
        """The ``nvidia.dali.Pipeline`` from rows to ``(images, labels)``, built, of ``depth`` batches at once.

        Raises:
            BackendUnavailable: the device can't run it.
        """
        from nvidia.dali import Pipeline

        batch = self.plan.pipeline.batch
        assert batch is not None  # make_plan sees to it
        made = Pipeline(
            batch_size=batch.size,
            num_threads=self.plan.threads,
            device_id=self.target.gpu,
            prefetch_queue_depth=depth,
            exec_dynamic=True,
        )
        with made:
            fields, image = self._rows.unpacked(fn.external_source(name=ROWS, ndim=1, dtype=types.UINT8))
            if not self._spec.encoded:
                image = fn.reinterpret(image, dtype=dtypes()[self._spec.dtype], shape=fields[_SIDES], layout="HWC")
            on_gpu = self.target.gpu is not None
            node = image.gpu() if on_gpu and not self._spec.encoded else image
            node = lowered(self._steps, node, fields, self.target)
            made.set_outputs(node, fields[_LABEL].gpu() if on_gpu else fields[_LABEL])
        try:
            made.build()
        except RuntimeError as error:
            raise BackendUnavailable(f"backend 'dali' can't run here: {brief(error)}; see greenload doctor") from None
        return made

    def dataset(
        self,
        rows: tf.data.Dataset,
        batches: int,
        bad: Callable[[str], GreenloadError | None],
        advance: Callable[[], Any] | None = None,
    ) -> tf.data.Dataset:
        """``(images, labels)`` on the device, from all rows there are.

        Args:
            rows: of every epoch in turn; each iterator begins anew.
            batches: how many there are: the plugin itself can't say.
            bad: gives the error for the record that the text of an error of tf.data's names, if it names one.
            advance: gives an operation that is run once in each iterator that is asked for a batch.
        """
        depth = min(self.plan.prefetch, batches)
        kept = rows.prefetch(1)
        if advance:
            kept = _when_asked(kept, batches, depth, advance)
        device = "/cpu:0"
        if self.target.gpu is not None:
            device = tensorflow_device(self.target.gpu)
            kept = kept.apply(tf.data.experimental.copy_to_device(device))
        batch, label = self.plan.pipeline.batch, self.plan.label
        assert batch is not None
        with tf.device(device):
            made = experimental().DALIDatasetWithInputs(
                self.graph(depth),
                input_datasets={ROWS: experimental().Input(kept, batch=True)},
                output_dtypes=(tf.as_dtype(self.plan.out_spec.dtype), tf.as_dtype(label.dtype)),
                output_shapes=((None, *self.plan.out_spec.image_shape), (None, *label.shape)),
                batch_size=batch.size,
                num_threads=self.plan.threads,
                device_id=self.target.gpu,
                prefetch_queue_depth=depth,
                exec_dynamic=True,
            )
        return _known(made, self, batches, bad)

    def blame(self, error: Exception) -> Exception:
        """What to raise for an error of DALI's: the first record of the batches it last took that fails alone."""
        source = self.plan.pipeline.source
        # Where tf.data works on pixels before, what DALI was given can't be had again from the source.
        for index, numbers in list(self._recent) if len(self.plan.segments) == 1 else ():
            names = [source.name(int(i)) for i in index]
            try:
                records, arguments = self._intake.take(Records(read_many(source, index.tolist()), numbers, names))
            except RecordError as bad:
                return bad
            failing = first_failing(self._steps, self.target, records, arguments)
            if failing is not None:
                return failing
        return BackendUnavailable(no_record(error))


def _when_asked(rows: tf.data.Dataset, batches: int, depth: int, advance: Callable[[], Any]) -> tf.data.Dataset:
    """The same rows; ``advance`` runs once DALI takes more than the ``depth`` batches that it takes before it is asked.

    Keras makes an iterator before each epoch that it doesn't use. tf.data does nothing then, but DALI begins to work.
    """

    def is_row(number: Any, _: Any) -> Any:
        with tf.control_dependencies([tf.cond(number == depth, advance, tf.no_op)]):
            return number < batches

    end = tf.data.Dataset.from_tensors(tf.zeros([0, 0], tf.uint8))
    numbered = tf.data.Dataset.zip(tf.data.Dataset.range(batches + 1), rows.concatenate(end))
    return numbered.filter(plain(is_row)).map(plain(lambda _, row: row))


def _known(
    dataset: tf.data.Dataset, node: DaliNode, batches: int, bad: Callable[[str], GreenloadError | None]
) -> tf.data.Dataset:
    """The same dataset with its length, whose iterators name the record that caused an error, and end with the error.

    The plugin's own iterators fail again at every call after an error, without end.
    """

    def named(error: Any) -> Exception:
        text = str(error.message)
        return bad(text) or (node.blame(RuntimeError(text)) if _BY_DALI.search(text) else error)

    def ending(iterator: Any) -> Any:
        class EndingIterator(type(iterator)):  # type: ignore[misc]  # of whatever class this TensorFlow makes
            stopped_by: Exception | None = None

            def __next__(self) -> Any:
                if self.stopped_by:
                    raise self.stopped_by
                try:
                    return super().__next__()
                except tf.errors.OpError as error:
                    self.stopped_by = named(error)
                    raise self.stopped_by from None

        iterator.__class__ = EndingIterator
        return iterator

    class Known(type(dataset)):  # type: ignore[misc]
        def __iter__(self) -> Any:
            try:
                return ending(super().__iter__())  # DALI takes the first batches already
            except tf.errors.OpError as error:
                raise named(error) from None

        def cardinality(self) -> Any:
            return tf.constant(batches, tf.int64)

    dataset.__class__ = Known
    return dataset
