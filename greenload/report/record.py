"""`Record`: frozen data of a report that stands in its JSON field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Self

from greenload.energy.figures import Figure


class Record:
    """Base of frozen dataclasses whose fields are the members of a JSON object, in the same order."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        return json_fields(self, type(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`, of data whose fields are JSON's own values."""
        return cls(**{fact.name: data[fact.name] for fact in fields(cls) if fact.name in data})  # type: ignore[arg-type]


def json_fields(data: Any, kind: type) -> dict[str, Any]:
    """The fields of frozen data as JSON: all, or those that it has of a base class.

    Args:
        data: a dataclass.
        kind: its own class, or the base.
    """
    return {fact.name: _json(getattr(data, fact.name)) for fact in fields(kind)}


def _json(value: Any) -> Any:
    if isinstance(value, Figure):
        return value.to_dict()
    if is_dataclass(value):
        return json_fields(value, type(value))
    if isinstance(value, Mapping):
        return {name: _json(member) for name, member in value.items()}
    return [_json(member) for member in value] if isinstance(value, tuple | list) else value
