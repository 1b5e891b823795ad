"""What tf.data's runtime says of the buffers and the parallelism of an iterator that a model trains on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from greenload.system.frameworks import tf
from greenload.training.spent import Buffer

_DEEP = 100
"""Nodes in a row that are looked at."""


def read_buffers(iterator: Any) -> tuple[Buffer, ...]:
    """The steps of a tf.data iterator that work ahead, the last first; none where its runtime tells nothing.

    It may be called from any thread while the iterator runs, and takes some 20 µs.
    """
    resource = getattr(iterator, "_iterator_resource", None)
    if resource is None:
        return ()
    from tensorflow.core.framework.model_pb2 import ModelProto

    try:
        proto = tf.raw_ops.IteratorGetModelProto(iterator=resource)
    except tf.errors.OpError:  # autotune is off
        return ()
    model = ModelProto.FromString(proto.numpy())
    return tuple(filter(None, map(_buffer, _nodes(model))))


def _nodes(model: Any) -> Iterator[Any]:
    number = model.output
    for _ in range(_DEEP):
        if number not in model.nodes:
            return
        node = model.nodes[number]
        yield node
        if not node.inputs:
            return
        number = node.inputs[0]


def _buffer(node: Any) -> Buffer | None:
    by_name = {parameter.name: parameter for parameter in node.parameters}
    parallelism, size = by_name.get("parallelism"), by_name.get("buffer_size") or by_name.get("max_buffered_elements")
    if parallelism is None and size is None and not node.buffered_elements:
        return None
    return Buffer(
        name=node.name,
        parallelism=None if parallelism is None else parallelism.value,
        size=None if size is None else size.value,
        elements=float(node.buffered_elements),
        buffered_bytes=float(node.buffered_bytes),
        chosen=any(parameter.tunable for parameter in node.parameters),
    )


def mean_buffers(seen: Iterable[Sequence[Buffer]]) -> tuple[Buffer, ...]:
    """For each step what was chosen last, and what it held on average. A step that a reading lacks held nothing."""
    readings = [_numbered(reading) for reading in seen if reading]
    latest = {key: buffer for reading in readings for key, buffer in reading.items()}
    longest = max(readings, key=len, default={})
    return tuple(
        replace(
            latest[key],
            elements=sum(reading[key].elements for reading in readings if key in reading) / len(readings),
            buffered_bytes=sum(reading[key].buffered_bytes for reading in readings if key in reading) / len(readings),
        )
        for key in longest
    )


def _numbered(reading: Sequence[Buffer]) -> dict[tuple[str, int], Buffer]:
    """By name and how many of that name came before: names aren't unique."""
    names = [buffer.name for buffer in reading]
    return {(buffer.name, names[:k].count(buffer.name)): buffer for k, buffer in enumerate(reading)}
