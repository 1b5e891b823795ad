"""Reads tables that list image files with their labels: CSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.errors import SourceError
from greenload.sources.class_order import stripped
from greenload.sources.listing import Paths
from greenload.sources.table_labels import labels_of
from greenload.system import file_input
from greenload.system.frameworks import imports_of_extra
from greenload.system.json_data import short
from greenload.system.notices import notify
from greenload.text import one_line


@dataclass(frozen=True)
class LabelledPaths:
    """The columns of paths and labels of a table."""

    images: Paths
    """Paths as they stand in the table."""
    labels: NDArray[np.int64]
    """int64 ``[n]``."""
    classes: tuple[str, ...]
    """The names that labels are indices into; empty where the table holds numbers."""


@dataclass(frozen=True)
class Naming:
    """How the names of classes are numbered."""

    classes: tuple[str, ...] = ()
    """All names in the order of their labels; empty to number those that the table holds."""
    order: str = "alphabetical"
    """How the table's names are sorted: ``"alphabetical"`` or ``"natural"``."""


def read_csv(path: str, image: str, label: str | None, naming: Naming) -> LabelledPaths:
    """The columns of paths and labels of a CSV table with a line of column names.

    Raises:
        SourceError: it can't be read, lacks a column, has no rows, or a row or a value that doesn't fit.
    """
    images: list[str] = []
    labels: list[str] = []
    try:
        with open(path, newline="", encoding="utf-8-sig", opener=file_input.regular) as file:
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
                    if not stripped(row[label_at]):  # would be a class without a name, and change all others' numbers
                        raise SourceError(f"{path}: line {rows.line_num} has no {label!r}: fill it or remove the line")
                    labels.append(row[label_at])
    except OSError as error:
        raise SourceError(f"{path}: the table can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: a CSV table is UTF-8 text, but byte {error.start} is not: convert it") from None
    except csv.Error as error:
        raise SourceError(f"{path}: line {rows.line_num} is no CSV: {error}") from None
    if (blank := next((image for image in images if image != image.strip()), None)) is not None:
        notify(f"{path}: paths are taken as they stand, with the blanks at their ends, as of {blank!r}: correct them")
    return _table(path, images, labels, label, naming)


def read_parquet(path: str, image: str, label: str | None, naming: Naming) -> LabelledPaths:
    """The columns of paths and labels of a Parquet table.

    Raises:
        SourceError: pyarrow is missing; or as ``read_csv`` raises it.
    """
    with imports_of_extra("tfds", f"{path}: reading Parquet needs pyarrow", SourceError):
        import pyarrow
        import pyarrow.parquet
    try:
        with open(path, "rb", opener=file_input.regular) as file:
            header = pyarrow.parquet.read_schema(file).names
            wanted = [header[_column(path, header, column)] for column in (image, label) if column is not None]
            columns = pyarrow.parquet.read_table(file, columns=wanted)
            values = {name: columns.column(name).to_pylist() for name in wanted}
    except OSError as error:
        raise SourceError(f"{path}: the table can't be read: {one_line(error.strerror or error)}") from None
    except (pyarrow.ArrowException, UnicodeDecodeError, MemoryError) as error:  # names and values are foreign bytes
        raise SourceError(f"{path}: this is no Parquet table: {one_line(error)}") from None
    for name, column in values.items():
        if None in column:
            raise SourceError(f"{path}: row {column.index(None) + 1} has no {name!r}: fill it or remove the row")
    odd = next((value for value in values[wanted[0]] if not isinstance(value, str)), None)
    if odd is not None:
        raise SourceError(f"{path}: column {image!r} must hold text, not {type(odd).__name__} {str(odd)[:40]!r}")
    return _table(path, values[wanted[0]], [] if label is None else values[wanted[1]], label, naming)


def _column(path: str, header: Sequence[str], name: str) -> int:
    if name not in header:  # "path, label" has a blank before its second name
        header = [stripped(column) for column in header]
    if name not in header:
        columns = short(", ".join(map(repr, header)) if header else "none", 300)
        raise SourceError(f"{path}: the table has no column {name!r}; its columns: {columns}: name another")
    if header.count(name) > 1:
        raise SourceError(f"{path}: the table has {header.count(name)} columns {name!r}: rename all but one")
    return list(header).index(name)


def _table(path: str, images: list[str], values: list[Any], column: str | None, naming: Naming) -> LabelledPaths:
    if not images:
        raise SourceError(f"{path}: the table has no rows below its column names: list at least one image")
    if column is None:
        return LabelledPaths(Paths(images), np.zeros(len(images), np.int64), ())
    labels, classes = labels_of(f"{path}: column {column!r}", values, naming.order, naming.classes)
    _warn_of_contradictions(path, images, labels, values)
    return LabelledPaths(Paths(images), labels, classes)


def _warn_of_contradictions(path: str, images: list[str], labels: NDArray[np.int64], values: list[Any]) -> None:
    """Warn of images that are in several rows with different labels, as where each has several tags."""
    first: dict[str, int] = {}
    different = [row for row, image in enumerate(images) if labels[first.setdefault(image, row)] != labels[row]]
    if different:
        row = different[0]
        notify(
            f"{path}: {len(different):,} rows list an image again with another label (first {images[row]!r}: "
            f"{values[first[images[row]]]!r}, then {values[row]!r}), and each is a sample: keep one row an image"
        )
