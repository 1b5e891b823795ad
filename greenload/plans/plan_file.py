"""What a plan's file holds: JSON of the format `FORMAT`.

It names the pipeline, the backend of each step, threads, what is kept and where, and the versions and the machine that
the plan was made on. `greenload.planning.saved` reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from greenload.errors import ReportError
from greenload.machine import machine
from greenload.plans.steps import CacheSpec, Step
from greenload.stages import primitives as p
from greenload.system import file_output
from greenload.system.file_paths import check_path

FORMAT = "greenload.plan/1"
"""What a plan's file begins with; another number is another format."""


def document(pipeline: Mapping[str, Any], *, steps: Sequence[Mapping[str, Any]], **how: Any) -> dict[str, Any]:
    """A plan's file as JSON data.

    Args:
        pipeline: its ``to_dict()``.
        steps: of `step_data`, in order.
        how: what else the plan says.
    """
    return {
        "format": FORMAT,
        "machine": machine().to_dict(),
        "pipeline": dict(pipeline),
        **how,
        "steps": [dict(step) for step in steps],
    }


def step_data(step: Step) -> dict[str, Any]:
    """A step as JSON data: what it does follows from the pipeline, how it runs is here. ``parts`` says how many steps
    were fused into it because of its backend."""
    described: dict[str, Any] = {
        "name": step.name,
        "kind": step.kind,
        "backend": step.backend,
        "size_in": step.size_in,
        "size_out": step.size_out,
    }
    described |= {"parts": 2} if isinstance(step.primitive, p.FlipAffine) else {}
    return described | ({"keeps": _kept(step.keeps)} if step.keeps else {})


def _kept(keeps: CacheSpec) -> dict[str, Any]:
    return {
        "form": keeps.form,
        "budget": keeps.budget,
        "in_common": keeps.in_common,
        "set_bytes": keeps.set_bytes,
        "share": keeps.share,
    }


def write(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write a plan's file: all of it, or the file stays as it was.

    Raises:
        UsageError: ``path`` isn't one.
        ReportError: it can't be written.
    """
    check_path(path)
    try:
        file_output.write(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise ReportError(f"{path}: the plan can't be written: {file_output.why(error)}") from None
    except (TypeError, ValueError) as error:
        raise ReportError(f"{path}: a plan's file holds JSON data only: {error}; use other arguments") from None
