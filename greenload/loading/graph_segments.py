"""Segments of backends that have operations of their own for TensorFlow: batches go through them inside its graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenload.backends.base import GraphSegment
from greenload.backends.tf.backend import Element, State
from greenload.loading.bad_records import refuse
from greenload.loading.tf_reading import RecordReading
from greenload.plans.plan import Segment
from greenload.specs import ImageSpec
from greenload.system.frameworks import tf

SIZE = "size"
"""In the state of a sample that enters such a segment as a file: what ``GraphSegment.sample`` says of its size."""
FAILED = "BackendUnavailable: "
"""What the text of an error begins with where a backend failed, but no record is bad."""


def on_sample(operation: GraphSegment) -> Element:
    """What a sample needs before it goes into a batch for a segment that files enter."""

    def element(state: State) -> State:
        file, size = operation.sample(state["image"])
        return state | {"image": file, SIZE: size}

    return element


def on_files(operation: GraphSegment) -> Element:
    """The same for a batch of files. One that can't be decoded stays in it, empty, for ``on_batch`` to name."""

    def element(state: State) -> State:
        files, sizes = operation.files(state["image"])
        return state | {"image": files, SIZE: sizes}

    return element


def reading(operation: GraphSegment, records: RecordReading, recalls: bool = True) -> Element:
    """Puts the ``"image"`` of each record into a batch's state: what a cache keeps, or else what is read; an empty one
    where it can't be read.

    Args:
        operation: of the segment that the batch goes into.
        records: how the source is read.
        recalls: whether a cache is asked first, if there is one.
    """

    def element(state: State) -> State:
        def read(indices: Any) -> Any:
            if records.path is not None:
                return operation.read(records.path(indices))
            return records.batch(state | {"index": indices})["image"]

        indices = state["index"]
        return state | {"image": operation.recall(indices, read) if recalls else read(indices)}

    return element


def on_batch(operation: GraphSegment, segment: Segment, name: Callable[[Any], Any]) -> Element:
    """A segment as a function of a batch's state. It fails with a text that names the first bad record.

    Args:
        operation: what works.
        segment: that it is of.
        name: from an index to the record's name, as ``RecordReading.name``.
    """

    def element(state: State) -> State:
        state = dict(state)
        images, index = state["image"], state["index"]
        numbers = state.get("numbers", tf.zeros([tf.size(index), 0], tf.float64))
        outcome = operation.batch(_values(images), _sizes(state, segment.spec_in), numbers)
        refused = outcome.status == 1
        if outcome.large_enough is not None:
            refused |= ~outcome.large_enough

        def failure(row: Any) -> Any:
            front = f"{FAILED}the kernel of backend {segment.backend} failed on "
            text = tf.strings.join([front, name(index[row]), ": ", outcome.reasons[row]])
            return tf.raw_ops.Assert(condition=False, data=[text])

        named = _check(refused, lambda row: refuse(name, index[row]))
        with tf.control_dependencies([named]):  # sizes that are too small are what the backend fails on, too
            checked = _check(outcome.status > 1, failure)
        with tf.control_dependencies([checked]):
            image = tf.identity(outcome.images)
        return {key: value for key, value in state.items() if key not in ("sides", SIZE)} | {"image": image}

    return element


def _values(images: Any) -> Any:
    return images.flat_values if isinstance(images, tf.RaggedTensor) else images


def _sizes(state: State, spec: ImageSpec) -> Any:
    """The sizes of a batch's images, as ``GraphSegment.batch`` takes them."""
    if spec.encoded:
        return state[SIZE]
    if "sides" in state:
        return tf.cast(state["sides"], tf.int64)
    return tf.ones([tf.size(state["index"]), 1], tf.int64) * tf.constant([spec.image_shape], tf.int64)


def _check(wrong: Any, fail: Callable[[Any], Any]) -> Any:
    """An operation that fails where something is wrong with an image of a batch.

    Args:
        wrong: boolean ``[n]``.
        fail: what is done with the position of the first such image.
    """
    return tf.cond(tf.reduce_any(wrong), lambda: fail(tf.argmax(wrong)), tf.no_op)
