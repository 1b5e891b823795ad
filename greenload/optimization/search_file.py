"""The file of a search: kept after every lot of builds, refused where it is of another search, and gone on from."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from greenload.energy.attribution.observation import Observation
from greenload.errors import GreenloadError, PipelineError, ReportError
from greenload.machine import machine
from greenload.optimization.builds import Build
from greenload.optimization.training import Settings, Training
from greenload.plans.pipeline import Pipeline
from greenload.report.record import Record, load_record, save_json
from greenload.report.validation import OPTIMIZATION_SCHEMA, is_of

SCHEMA = "greenload.search/1"
_EXPLAINED = {
    "pipeline": "of another pipeline, or its files have changed since",
    "training": "of another training",
    "seed": "with another seed",
    "records": "on another number of records",
    "machine": "on another machine",
    "packages": "with other versions of packages",
}


@dataclass(frozen=True, kw_only=True)
class Kept(Record):
    """What a search has measured so far."""

    schema: str = SCHEMA
    same: Mapping[str, Any] = field(default_factory=dict)
    """What it is of: an `identity`."""
    samples: int
    """How many samples were drawn."""
    builds: tuple[Build, ...] = ()
    idle: tuple[Observation, ...] = ()
    """Windows of the idle machine."""


def identity(pipeline: Pipeline, training: Training, settings: Settings) -> dict[str, Any]:
    """What makes two searches the same, as JSON data: builds of one may stand for builds of the other.

    How long a search may take isn't part of it: one that was too short goes on with more time.
    """
    facts = machine()
    return {
        "pipeline": _digest(_of_pipeline(pipeline)),
        "training": training.to_dict(),
        "seed": settings.seed,
        "records": settings.records,
        "machine": f"{facts.cpu_model}, {facts.cpus} CPUs",
        "packages": dict(facts.packages),
    }


def key_of(same: Mapping[str, Any]) -> str:
    """The fingerprint of an `identity`."""
    return _digest(same)


def resume(path: str | os.PathLike[str] | None, same: Mapping[str, Any]) -> Kept | None:
    """What a file holds of this search; None where there is no such file yet, or the search has ended.

    Args:
        path: of the file; None where nothing is kept.
        same: the search's `identity`.

    Raises:
        ReportError: the file is damaged, can't be read, or is of another search; says how they differ.
    """
    if path is None or not os.path.exists(path):
        return None
    kept = load_record(path, lambda data: _kept(data, key_of(same)))
    if kept is None:
        return None
    for name, explained in _EXPLAINED.items():
        if kept.same.get(name) != same[name]:
            raise ReportError(f"{os.fspath(path)}: its search was {explained}: name another file, or remove this one")
    return kept


def keep(path: str | os.PathLike[str] | None, kept: Kept) -> None:
    """Write what was measured: all of it, or the file stays as it was.

    Raises:
        ReportError: the file can't be written.
    """
    if path is not None:
        save_json(path, kept.to_dict())


def _kept(data: Any, key: str) -> Kept | None:
    """What a search's file holds; None of one that has ended, and whose result stands there."""
    if is_of(data, OPTIMIZATION_SCHEMA) and data.get("key") == key:
        return None
    if is_of(data, OPTIMIZATION_SCHEMA):
        raise ReportError("it holds what another search found: name another file, or remove this one")
    if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
        raise ReportError(f"a search's file is of schema {SCHEMA!r}, this one isn't: name another for this search")
    try:
        return Kept.from_dict(data)
    except (GreenloadError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ReportError(f"a search's file is damaged ({type(error).__name__}: {error}): remove it") from None


def _of_pipeline(pipeline: Pipeline) -> dict[str, Any]:
    stages: list[Any] = []
    for stage in pipeline.stages:
        try:
            stages.append(stage.to_dict())
        except PipelineError:  # a function without a name, which can't be described
            stages.append(str(stage))
        stages.append(_source_text(getattr(stage, "fn", None)))
    return {"source": pipeline.source.fingerprint(), "stages": stages, "seed": pipeline.seed}


def _source_text(function: Any) -> str:
    """The text of a user's function, so that an edited one is another."""
    try:
        return inspect.getsource(function) if callable(function) else ""
    except (OSError, TypeError):
        return ""


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:32]
