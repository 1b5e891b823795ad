"""Backends: what runs a plan's steps on batches. Each imports its framework only when used."""

from __future__ import annotations

from greenload.backends.base import Availability, Backend, Records, Tolerance
from greenload.errors import PipelineError


def get(name: str) -> Backend:
    """The backend of a name.

    Raises:
        PipelineError: there is none of that name.
    """
    if name == "tf":
        from greenload.backends.tf import TensorFlowBackend

        return TensorFlowBackend()
    if name in ("dali", "dali-cpu"):
        from greenload.backends.dali import DaliBackend

        return DaliBackend(name)
    raise PipelineError(f"backend must be one of tf, dali-cpu, dali, not {name!r}")


__all__ = ["Availability", "Backend", "Records", "Tolerance", "get"]
