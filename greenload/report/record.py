"""`Record`: frozen data of a report that stands in its JSON field by field."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Self, TypeVar, get_args, get_origin, get_type_hints

from greenload.errors import ReportError
from greenload.system import file_input, file_output, json_data
from greenload.system.file_paths import check_path
from greenload.system.json_data import DataError

_Read = TypeVar("_Read")


class Record:
    """Base of frozen dataclasses whose fields are the members of a JSON object, in the same order."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        return json_fields(self, type(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Members that no field is named by are left out."""
        return cls(**typed_fields(cls, data))


def json_fields(record: Any, kind: type) -> dict[str, Any]:
    """The fields of a dataclass as JSON: all, or those of a base class.

    Args:
        record: of the dataclass.
        kind: its own class, or the base.
    """
    return {fact.name: _to_json(getattr(record, fact.name)) for fact in fields(kind)}


def save_json(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write a report's data: all of it, or the file stays as it was.

    Raises:
        UsageError: ``path`` isn't one.
        ReportError: the file can't be written, or the data hold what JSON can't.
    """
    check_path(path)
    try:
        file_output.write(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise ReportError(f"{path}: the report can't be written: {file_output.why(error)}") from None
    except (TypeError, ValueError) as error:
        raise ReportError(f"{path}: a report holds JSON data only: {error}; leave the value out") from None


def save_page(path: str | os.PathLike[str], page: str) -> None:
    """Write a report's page: all of it, or the file stays as it was.

    Raises:
        UsageError: ``path`` isn't one.
        ReportError: the file can't be written.
    """
    check_path(path)
    try:
        file_output.write(path, page)
    except OSError as error:
        raise ReportError(f"{path}: the page can't be written: {file_output.why(error)}") from None


def load_record(path: str | os.PathLike[str], read: Callable[[Any], _Read]) -> _Read:
    """Read what `save_json` wrote, from a file, or from a pipe, as a shell's ``<(…)`` is.

    Args:
        path: of the file.
        read: makes the record of the document; its `ReportError` gets the path in front.

    Raises:
        UsageError: ``path`` isn't one.
        ReportError: the file can't be read, isn't JSON, or isn't such a record; names the file.
    """
    check_path(path)
    try:
        data = json_data.parse(file_input.read_any(path, json_data.LARGEST_BYTES)).data
    except OSError as error:
        raise ReportError(f"{path}: the report can't be read: {error.strerror}; check the path") from None
    except DataError as error:
        raise ReportError(f"{path}: a report is JSON, but {error}; write it again") from None
    try:
        return read(data)
    except ReportError as error:
        raise ReportError(f"{path}: {error}") from None


def typed_fields(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a dataclass, of JSON as `json_fields` gives: by the types that its fields are declared with."""
    return {name: _of_json(declared, data[name]) for name, declared in _declared(kind).items() if name in data}


@functools.cache
def _declared(kind: type) -> dict[str, Any]:
    types = get_type_hints(kind)
    return {fact.name: types[fact.name] for fact in fields(kind)}


def _to_json(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value):
        return json_fields(value, type(value))
    if isinstance(value, Mapping):
        return {name: _to_json(member) for name, member in value.items()}
    return [_to_json(member) for member in value] if isinstance(value, tuple | list) else value


def _of_json(declared: Any, data: Any) -> Any:
    if isinstance(declared, UnionType):
        return None if data is None else _of_json(get_args(declared)[0], data)
    if hasattr(declared, "from_dict"):
        return declared.from_dict(data)
    if isinstance(declared, type) and is_dataclass(declared):
        return declared(**typed_fields(declared, data))
    if get_origin(declared) is Mapping:
        return {name: _of_json(get_args(declared)[1], member) for name, member in data.items()}
    if get_origin(declared) is tuple:
        return tuple(_of_json(get_args(declared)[0], member) for member in data)
    return data
