"""The report's JSON schema, and what it says of data that don't follow it."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import TYPE_CHECKING, Any, NoReturn

from greenload.errors import ReportError

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

SCHEMA = "greenload.report/1"
"""The version of the format that is read and written."""


def validate(data: Any) -> None:
    """Check JSON data against the report's schema.

    Raises:
        ReportError: with the place of the worst violation and what is wrong there, in one line.
    """
    version = data.get("schema") if isinstance(data, dict) else None
    if isinstance(version, str) and version.startswith("greenload.report/") and version != SCHEMA:
        raise ReportError(f"this greenload reads {SCHEMA}, found {short(version)}: use the release that wrote it")
    from jsonschema.exceptions import best_match  # costs more to import than everything else here, and is rarely needed

    worst = best_match(_validator().iter_errors(data))
    if worst is not None:
        refuse(worst.json_path, worst.message)


def schema() -> dict[str, Any]:
    """The report's JSON schema (draft 2020-12)."""
    found: dict[str, Any] = json.loads((resources.files("greenload.report") / "schema.json").read_text("utf-8"))
    return found


@functools.cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema())


def refuse(place: str, message: str) -> NoReturn:
    """Raise what names the place in the data and what is wrong there."""
    raise ReportError(f"a report follows {SCHEMA}, but {place}: {short(message)}; profile again")


def no_constant(name: str) -> NoReturn:
    """For ``json.loads``: NaN and infinities aren't JSON."""
    raise ValueError(f"it holds {name}")


def short(text: str, limit: int = 160) -> str:
    """One line of printable characters: the text may quote anything that was in a file."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= limit else f"{line[: limit // 2]} … {line[-limit // 2 :]}"
