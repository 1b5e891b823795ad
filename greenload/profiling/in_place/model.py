"""What tf.data's runtime says of the buffers of iterators that run: who waits for whom.

Its own model of an iterator has, for each step that works ahead, what it holds, what it may hold, and the parallelism
that autotune chose. Asking takes some 20 µs, from any thread.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from greenload.system.frameworks import tf
from greenload.system.json_data import Value

FULL, EMPTY = 0.75, 0.25
"""A last buffer that is as full in the mean waits for who takes from it; one that is as empty keeps them waiting.

Of two who are equally quick a buffer is half full in the mean, whatever its size, as neither is favoured. So the two
lie half-way from there to either end."""
SATURATED, BALANCED, STARVED = "saturated", "balanced", "starved"
"""Who waits for whom: the loader for who takes its batches; neither much; who takes them for the loader."""
_DEEP = 100
"""Nodes in a row that are looked at."""
_MOST = 4
"""Iterators of a dataset that are looked at: Keras makes some that it never uses."""
_STILL = 10
"""Looks after which an iterator that gave nothing meanwhile counts as exhausted."""


@dataclass(frozen=True)
class Buffer:
    """A step that works ahead. A count below zero, as TensorFlow's own of the bytes of strings that are batched where
    they are mapped, becomes None."""

    name: str
    """As the runtime calls it, after its optimisations: ``"Prefetch"``, ``"ParallelMapV2"``, ``"MapAndBatch"``."""
    elements: float | None = 0.0
    """That it holds; None where the runtime's count is wrong."""
    bytes: float | None = 0.0
    """That it holds; None where the runtime's count is wrong."""
    size: float | None = None
    """Elements that it may hold; None where the runtime doesn't say."""
    parallelism: float | None = None
    """Calls that it may run beside each other; None where it runs one."""
    chosen: bool = False
    """Whether the runtime chose size or parallelism."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "elements", count(self.elements))
        object.__setattr__(self, "bytes", count(self.bytes))

    @property
    def full(self) -> float | None:
        """The share of what it may hold that it holds; None where the runtime doesn't say."""
        return None if not self.size or self.elements is None else min(1.0, self.elements / self.size)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)

    @classmethod
    def from_value(cls, value: Value) -> Buffer:
        """The inverse of `to_dict`.

        Raises:
            DataError: it is of another shape.
        """
        numbers = {name: value.given(name) for name in ("elements", "bytes", "size", "parallelism")}
        return cls(
            name=value.field("name").text(),
            **{name: None if given is None else given.number() for name, given in numbers.items()},
            chosen=value.field("chosen").data is True,
        )


def count(value: float | None) -> float | None:
    """What the runtime counts; None where it counts below zero, which nothing holds."""
    return None if value is None or value < 0 else value


def read_buffers(iterator: Any) -> tuple[Buffer, ...]:
    """The steps of an iterator that work ahead, the last first; none where its runtime tells nothing."""
    model = _model(iterator)
    return () if model is None else _buffers(model)


class BufferWatch:
    """How full the last buffer of a dataset's running iterators is, by one look after the other."""

    def __init__(self) -> None:
        self._given: weakref.WeakKeyDictionary[Any, tuple[float, int]] = weakref.WeakKeyDictionary()
        self._buffers: tuple[Buffer, ...] = ()
        self._full = 0.0
        self._looks = 0

    def look(self, iterators: Iterable[Any]) -> None:
        """Look at the iterators that are alive."""
        for iterator in list(iterators)[:_MOST]:
            model = _model(iterator)
            if model is None or model.output not in model.nodes:
                continue
            given = float(model.nodes[model.output].num_elements)
            before, still = self._given.get(iterator, (-1.0, 0))
            still = still + 1 if given == before else 0
            self._given[iterator] = (given, still)
            if not given or still >= _STILL:
                continue
            self._buffers = _buffers(model)
            last = next((buffer for buffer in self._buffers if buffer.size), None)
            if last is not None and last.full is not None:
                self._full += last.full
                self._looks += 1

    def to_dict(self) -> dict[str, Any]:
        """What was seen, as JSON data: the buffers as they were last, the last step first; and how full the last one
        was, summed over so many looks. Empty where nothing was seen."""
        if not self._buffers:
            return {}
        return {"buffers": [buffer.to_dict() for buffer in self._buffers], "full": self._full, "looks": self._looks}


def pace_of(full: float) -> str:
    """Who waits for whom, by how full the last buffer was in the mean: `SATURATED`, `BALANCED` or `STARVED`."""
    if full >= FULL:
        return SATURATED
    return STARVED if full <= EMPTY else BALANCED


_SAID = {
    SATURATED: "saturated: it waits for who takes its batches",
    BALANCED: "balanced with who takes its batches",
    STARVED: "starved: who takes its batches waits for it",
}


def verdict(before: Mapping[str, Any], after: Mapping[str, Any], seconds: float) -> str:
    """Who waits for whom between two statuses, as a sentence; empty where that isn't known.

    Args:
        before: as `BufferWatch.to_dict` gave it.
        after: as it gave it later.
        seconds: between the two.
    """
    looks = after.get("looks", 0) - before.get("looks", 0)
    if looks <= 0:
        return ""
    full = (after["full"] - before.get("full", 0.0)) / looks
    return f"{_SAID[pace_of(full)]} (its last buffer was {min(1.0, max(0.0, full)):.0%} full in {seconds:,.0f} s)"


def _model(iterator: Any) -> Any:
    """The runtime's model; None where it keeps none, as without autotuning."""
    from tensorflow.core.framework.model_pb2 import ModelProto  # which TensorFlow has imported itself

    resource = getattr(iterator, "_iterator_resource", None)
    if resource is None:
        return None
    try:
        return ModelProto.FromString(tf.raw_ops.IteratorGetModelProto(iterator=resource).numpy())
    except tf.errors.OpError:
        return None


def _nodes(model: Any) -> Iterator[Any]:
    number = model.output
    for _ in range(_DEEP):
        if number not in model.nodes:
            return
        yield model.nodes[number]
        if not model.nodes[number].inputs:
            return
        number = model.nodes[number].inputs[0]


def _buffers(model: Any) -> tuple[Buffer, ...]:
    return tuple(filter(None, map(_buffer, _nodes(model))))


def _buffer(node: Any) -> Buffer | None:
    by_name = {parameter.name: parameter for parameter in node.parameters}
    parallelism, size = by_name.get("parallelism"), by_name.get("buffer_size") or by_name.get("max_buffered_elements")
    if parallelism is None and size is None and not node.buffered_elements:
        return None
    return Buffer(
        name=node.name,
        elements=float(node.buffered_elements),
        bytes=float(node.buffered_bytes),
        size=None if size is None else float(size.value),
        parallelism=None if parallelism is None else float(parallelism.value),
        chosen=any(parameter.tunable for parameter in node.parameters),
    )
