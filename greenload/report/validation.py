"""Checks data against the report's JSON schema, and says where they don't follow it."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from greenload.errors import ReportError
from greenload.system.json_data import DataError, Value, short

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

SCHEMA = "greenload.report/1"
"""The version of the format that is read and written."""


def validate(data: Any) -> None:
    """Check JSON data against the report's schema, which types all that is shown, compared or judged.

    Raises:
        ReportError: with the place of the worst violation and what is wrong there, in one line.
    """
    try:
        Value(data).plain()  # else the schema's own comparisons and messages could end with the stack
    except DataError as error:
        raise ReportError(f"a report follows {SCHEMA}, but {error}; profile again") from None
    version = data.get("schema") if isinstance(data, dict) else None
    if isinstance(version, str) and version.startswith("greenload.report/") and version != SCHEMA:
        raise ReportError(f"this greenload reads {SCHEMA}, found {short(version)}: use the release that wrote it")
    from jsonschema.exceptions import best_match  # costs more to import than everything else here, and is rarely needed

    worst = best_match(_validator().iter_errors(data))
    if worst is not None:
        path, message = short(worst.json_path), short(worst.message)
        raise ReportError(f"a report follows {SCHEMA}, but {path}: {message}; profile again")


def schema() -> dict[str, Any]:
    """The report's JSON schema (draft 2020-12)."""
    document: dict[str, Any] = json.loads((resources.files("greenload.report") / "schema.json").read_text("utf-8"))
    return document


@functools.cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema())
