"""Backends: what runs a plan's steps on batches. Each imports its framework only when used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

from greenload.backends.base import Backend, Records
from greenload.backends.chain import Chain
from greenload.backends.tables import TABLES
from greenload.errors import BackendUnavailable, PipelineError
from greenload.plans.plan import Plan, Segment

BACKENDS = tuple(TABLES)
"""The backends that a plan can name. ``"auto"`` chooses among them, for each step."""


def get(name: str) -> Backend:
    """The backend of a name.

    Raises:
        PipelineError: there is none of that name.
    """
    if name == "tf":
        from greenload.backends.tf.backend import TensorFlowBackend

        return TensorFlowBackend()
    if name in ("dali", "dali-cpu"):
        from greenload.backends.dali.backend import DaliBackend

        return DaliBackend(name)
    if name == "pillow":
        from greenload.backends.pillow.backend import PillowBackend

        return PillowBackend()
    raise PipelineError(f"backend must be one of {', '.join(BACKENDS)}, not {name!r}")


def require(names: Iterable[str]) -> None:
    """Make sure that backends can run here.

    Raises:
        BackendUnavailable: one can't; says why, and names the remedy, as ``greenload doctor`` does.
    """
    for name in names:
        availability = get(name).availability()
        if not availability.usable:
            raise BackendUnavailable(f"backend {name!r}: {availability.detail}; {availability.remedy}")


def chain(plan: Plan, batch_size: int, segments: Sequence[Segment] | None = None) -> Chain:
    """A plan's segments, ready to take batches of records; some of them, where they are given.

    Raises:
        BackendUnavailable: a backend that they need can't run here.
    """
    chosen = plan.segments if segments is None else segments
    return Chain(plan, chosen, batch_size, {segment.backend: get(segment.backend) for segment in chosen})


def run(plan: Plan, records: Records) -> NDArray[Any]:
    """A batch of records through all steps on pixels: what loading must give, and what conformance tests call.

    Returns:
        ``[n, height, width, channels]``, stacked as ``Batch`` stacks them.

    Raises:
        RecordError: a record is bad; names it.
        BackendUnavailable: a backend can't run here.
    """
    with chain(plan, max(1, len(records.images))) as made:
        return made.run(records)
