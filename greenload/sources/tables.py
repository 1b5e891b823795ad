"""Tables that list image files with their labels: CSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.errors import SourceError
from greenload.listing import Paths


@dataclass(frozen=True)
class Table:
    """Two columns of a table."""

    images: Paths
    """Paths as they stand in it."""
    labels: NDArray[np.int64]
    """int64 ``[n]``."""
    classes: tuple[str, ...]
    """The names that labels are places in; empty where the table holds numbers."""


def read_csv(path: str, image: str, label: str | None) -> Table:
    """The columns of paths and labels of a CSV table with a line of column names.

    Raises:
        SourceError: it can't be read, lacks a column, has no rows, or a row or a value that doesn't fit.
    """
    images: list[str] = []
    labels: list[str] = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            at, label_at = _column(path, header, image), None if label is None else _column(path, header, label)
            for row in rows:
                if not row:
                    continue  # a blank line, as at the end of many tables
                if len(row) != len(header):
                    raise SourceError(
                        f"{path}: line {rows.line_num} has {len(row)} values, but there are {len(header)} columns: "
                        "put values with commas in double quotes"
                    )
                if not row[at]:
                    raise SourceError(f"{path}: line {rows.line_num} has no {image!r}: fill it or remove the line")
                images.append(row[at])
                if label_at is not None:
                    if not row[label_at]:  # would be a class named nothing, and move all others' numbers
                        raise SourceError(f"{path}: line {rows.line_num} has no {label!r}: fill it or remove the line")
                    labels.append(row[label_at])
    except OSError as error:
        raise SourceError(f"{path}: the table can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: a CSV table is UTF-8 text, but byte {error.start} is not: convert it") from None
    except csv.Error as error:
        raise SourceError(f"{path}: line {rows.line_num} is no CSV: {error}") from None
    return _table(path, images, None if label is None else labels, label)


def read_parquet(path: str, image: str, label: str | None) -> Table:
    """The columns of paths and labels of a Parquet table. Errors are those of ``read_csv``, and pyarrow missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SourceError(f"{path}: reading Parquet needs pyarrow ({error}): pip install 'greenload[tfds]'") from None
    try:
        with open(path, "rb") as file:
            header = pyarrow.parquet.read_schema(file).names
            wanted = [header[_column(path, header, column)] for column in (image, label) if column is not None]
            columns = pyarrow.parquet.read_table(file, columns=wanted)
    except OSError as error:
        raise SourceError(f"{path}: the table can't be read: {error.strerror or error}") from None
    except pyarrow.ArrowException as error:
        text = " ".join(str(error).split())
        raise SourceError(f"{path}: this is no Parquet table: {text[:200]}") from None
    values = {name: columns.column(name).to_pylist() for name in wanted}
    for name, column in values.items():
        if None in column:
            raise SourceError(f"{path}: row {column.index(None) + 1} has no {name!r}: fill it or remove the row")
    odd = next((value for value in values[image] if not isinstance(value, str)), None)
    if odd is not None:
        raise SourceError(f"{path}: column {image!r} must hold text, not {type(odd).__name__} {str(odd)[:40]!r}")
    return _table(path, values[image], None if label is None else values[label], label)


def _column(path: str, header: Sequence[str], name: str) -> int:
    if name not in header:
        found = ", ".join(map(repr, header)) if header else "none"
        raise SourceError(f"{path}: the table has no column {name!r}; its columns: {found}: name another")
    if header.count(name) > 1:
        raise SourceError(f"{path}: the table has {header.count(name)} columns {name!r}: rename all but one")
    return list(header).index(name)


def _table(path: str, images: list[str], values: list[Any] | None, column: str | None) -> Table:
    if not images:
        raise SourceError(f"{path}: the table has no rows below its column names: list at least one image")
    if values is None:
        return Table(Paths(images), np.zeros(len(images), np.int64), ())
    try:
        if any(isinstance(value, (bool, float)) for value in values):
            raise SourceError(
                f"{path}: labels in column {column!r} must be whole numbers or class names, "
                f"not {next(v for v in values if isinstance(v, (bool, float)))!r}"
            )
        return Table(Paths(images), np.array([int(value) for value in values], np.int64), ())
    except (ValueError, TypeError, OverflowError):
        pass
    classes = tuple(sorted(set(map(str, values))))
    place = {name: i for i, name in enumerate(classes)}
    return Table(Paths(images), np.array([place[str(value)] for value in values], np.int64), classes)
