"""Checks data against the JSON schema of a profile's report, a fit's or a comparison of strategies, and says where they
don't follow it."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from greenload.errors import ReportError
from greenload.system.json_data import DataError, Value, short

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

SCHEMA = "greenload.report/1"
"""The version of a profile's format that is read and written."""
FIT_SCHEMA = "greenload.fit/1"
"""The version of a fit's."""
COMPARE_SCHEMA = "greenload.compare/1"
"""The version of a comparison of strategies."""
OPTIMIZATION_SCHEMA = "greenload.optimization/1"
"""The version of what a search for a plan found."""


@dataclass(frozen=True)
class _Format:
    name: str
    file: str
    """The schema."""
    remedy: str
    wrote: str
    """What writes such files."""


_FORMATS = {
    SCHEMA: _Format("a report", "schema.json", "profile again", "greenload profile --json"),
    FIT_SCHEMA: _Format("a fit's report", "fit_schema.json", "save it again", "EnergyCallback's report.save"),
    COMPARE_SCHEMA: _Format("a comparison", "strategies_schema.json", "compare again", "gl.compare"),
    OPTIMIZATION_SCHEMA: _Format("an optimization", "optimization_schema.json", "search again", "gl.optimize"),
}


def validate(data: Any, version: str = SCHEMA) -> None:
    """Check JSON data against a report's schema, which types all that is shown, compared or judged.

    Args:
        data: the document.
        version: `SCHEMA`, `FIT_SCHEMA`, `COMPARE_SCHEMA` or `OPTIMIZATION_SCHEMA`.

    Raises:
        ReportError: with the place of the worst violation and what is wrong there, in one line.
    """
    format_ = _FORMATS[version]
    follows = f"{format_.name} follows {version}"
    try:
        Value(data).plain()  # else the schema's own comparisons and messages could end with the stack
    except DataError as error:
        raise ReportError(f"{follows}, but {error}; {format_.remedy}") from None
    found = version_of(data)
    if found != version and found.startswith(f"{version.partition('/')[0]}/"):
        raise ReportError(f"this greenload reads {version}, found {short(found)}: use the release that wrote it")
    if found != version and found.startswith("greenload."):
        raise ReportError(f"{follows}, found {short(found)}: give a file that {format_.wrote} wrote")
    from jsonschema.exceptions import best_match  # costs more to import than everything else here, and is rarely needed

    worst = best_match(_validator(version).iter_errors(data))
    if worst is not None:
        path, message = short(worst.json_path), short(worst.message)
        raise ReportError(f"{follows}, but {path}: {message}; {format_.remedy}")


def version_of(data: Any) -> str:
    """The format that a document says it has: ``"greenload.report/1"``; empty where it says none."""
    found = (data.get("schema") or data.get("format")) if isinstance(data, dict) else None
    return found if isinstance(found, str) else ""


def is_of(data: Any, version: str) -> bool:
    """Whether a document says that it is of a format, in whatever version."""
    return version_of(data).partition("/")[0] == version.partition("/")[0]


def schema(version: str = SCHEMA) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a profile's report, a fit's, a comparison's or an optimization's."""
    document = _read(version)
    return document | {"$defs": _read(SCHEMA)["$defs"] | document["$defs"]}


def _read(version: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        (resources.files("greenload.report") / _FORMATS[version].file).read_text("utf-8")
    )
    return document


@functools.cache
def _validator(version: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema(version))
