"""What tf.data's runtime said of its buffers in a window: one reading after the other, on average."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from greenload.profiling.in_place.model import Buffer


def mean_buffers(seen: Iterable[Sequence[Buffer]]) -> tuple[Buffer, ...]:
    """For each step what was chosen last, and what it held on average; None where a reading's count was wrong. A step
    that a reading lacks held nothing."""
    readings = [_numbered(reading) for reading in seen if reading]
    latest = {key: buffer for reading in readings for key, buffer in reading.items()}
    longest = max(readings, key=len, default={})
    return tuple(
        replace(
            latest[key],
            elements=_mean([reading[key].elements for reading in readings if key in reading], len(readings)),
            bytes=_mean([reading[key].bytes for reading in readings if key in reading], len(readings)),
        )
        for key in longest
    )


def _mean(counts: Sequence[float | None], readings: int) -> float | None:
    known = [count for count in counts if count is not None]
    return sum(known) / readings if len(known) == len(counts) else None


def _numbered(reading: Sequence[Buffer]) -> dict[tuple[str, int], Buffer]:
    """By name and how many of that name came before: names aren't unique."""
    names = [buffer.name for buffer in reading]
    return {(buffer.name, names[:k].count(buffer.name)): buffer for k, buffer in enumerate(reading)}
