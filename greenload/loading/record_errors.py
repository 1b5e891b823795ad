"""Names the record that an error of TensorFlow's is about, in place of TensorFlow's own text."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from greenload.backends.image_sizes import sides_of
from greenload.errors import BackendUnavailable, GreenloadError, RecordError, SourceError
from greenload.loading.bad_records import MARK, REFUSED, REMEDY
from greenload.loading.verdicts import DECODES, Judge
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.sources import Arrays, formats
from greenload.stages import Decode
from greenload.system import forking, heap, limits, shutdown
from greenload.system.frameworks import tf
from greenload.text import printable

_MISSING = re.compile(rf"{re.escape(MARK)}\] \[(.*)\] \[(\d+)\] \[{re.escape(REMEDY)}", re.DOTALL)
_UNAVAILABLE = re.compile(r"\bBackendUnavailable: (.*)")
_REFUSED = re.compile(rf"{re.escape(REFUSED)} \[(\d+)\] (.*)", re.DOTALL)


def record_error(message: str, plan: Plan) -> GreenloadError | None:
    """The error that a text of TensorFlow's stands for; ``None`` for one that isn't greenload's.

    Returns:
        A ``RecordError`` of the bad record that the text names; a ``SourceError`` where that record is good, and a
        resource was lacking; a ``BackendUnavailable`` that a backend raised.
    """
    missing = _MISSING.search(message)
    try:
        if missing:
            return _failed(plan, int(missing[2]))
        refused = _REFUSED.search(message)
        if refused:
            return _refused(plan, int(refused[1]), refused[2])
    except SourceError as error:
        return error
    unavailable = _UNAVAILABLE.search(message)
    return BackendUnavailable(unavailable[1].removesuffix("]")) if unavailable else None


def _failed(plan: Plan, index: int) -> SourceError:
    """The error for a record that is missing from its batch."""
    source = plan.pipeline.source
    why = _reason(plan, index)
    if why != DECODES:
        return RecordError(source.name(index), why)
    if why := _too_small(plan.pipeline, index):
        return RecordError(source.name(index), why)
    return SourceError(
        f"{source.name(index)}: couldn't be read or decoded, but can be now: open files or memory ran out meanwhile "
        "(ulimit -n; fewer threads or smaller batches take less), or the file has changed; start again"
    )


def _refused(plan: Plan, index: int, text: str) -> RecordError:
    """The error for a record that a backend refused, by the backend's text."""
    name = plan.pipeline.source.name(index)
    for shown in (printable(name), name.encode(errors="backslashreplace").decode()):
        if text.startswith(f"{shown}: "):
            return RecordError(name, text.removeprefix(f"{shown}: ").split("\n", 1)[0])
    return RecordError(name, _reason(plan, index))


def _reason(plan: Plan, index: int) -> str:
    """Why a plan's backends can't decode a record, or that they can."""
    pipeline = plan.pipeline
    judge = Judge(plan.decoder, pipeline.max_bytes, pipeline.truncated, plan.readers)
    return judge.reason(pipeline.source, index)


def _too_small(pipeline: Pipeline, index: int) -> str:
    """Why a record that decodes is too small for a pipeline's stages; empty if it isn't."""
    data = pipeline.source.read(index)
    if not isinstance(data, bytes):
        return ""
    exif = any(isinstance(stage, Decode) and stage.exif for stage in pipeline.stages)
    data, header = formats.opened(data, truncated=pipeline.truncated)
    height, width = sides_of(data, header, exif)
    too_small = DrawLayout.of(pipeline).first_too_small(np.array([height]), np.array([width]))
    return too_small[1] if too_small else ""


def naming(dataset: tf.data.Dataset, plan: Plan, tell_trouble: Callable[[], None]) -> tf.data.Dataset:
    """The same dataset, whose iterators raise ``RecordError`` in Python where TensorFlow's error is about a bad record.

    Inside a ``tf.function`` (Keras ``fit``) TensorFlow raises its own error, whose text names the record as well.

    The first iterator gives back the memory that building left free, once it is made and once it has a batch: until
    then TensorFlow optimizes the graph, and makes its functions ready.

    Args:
        dataset: of batches.
        plan: whose batches they are.
        tell_trouble: warns of what is no error; called where a stream begins, and where it has ended.
    """
    made_in, source = os.getpid(), plan.pipeline.source
    reads = not isinstance(source, Arrays)
    unmade = {"iterator", "batch"}

    def made(what: str) -> None:
        if what in unmade:
            unmade.remove(what)
            heap.give_back()

    def translated(iterator: Any) -> Any:
        class NamingIterator(type(iterator)):  # type: ignore[misc]  # of whatever class this TensorFlow makes
            stopped_by: GreenloadError | None = None

            def __next__(self) -> Any:
                forking.check(made_in, "an iterator of a dataset")
                if self.stopped_by:
                    raise self.stopped_by  # the batches behind it would be out of order
                if reads:
                    limits.check_files()
                try:
                    with shutdown.request:
                        batch = super().__next__()
                except StopIteration:
                    tell_trouble()
                    raise
                except tf.errors.OpError as error:
                    self.stopped_by = record_error(str(error.message), plan)
                    if self.stopped_by is None:
                        raise
                    raise self.stopped_by from None
                made("batch")
                return batch

        iterator.__class__ = NamingIterator
        return iterator

    class NamingDataset(type(dataset)):  # type: ignore[misc]
        def __iter__(self) -> Any:
            forking.check(made_in, "a dataset")
            if reads:
                limits.check_files()
            tell_trouble()
            iterator = translated(super().__iter__())
            made("iterator")
            return iterator

    dataset.__class__ = NamingDataset
    return dataset
