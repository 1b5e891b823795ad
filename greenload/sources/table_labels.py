"""Turns the label column of a table into labels: whole numbers as they are, or class names that are numbered."""

from __future__ import annotations

import decimal
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.errors import SourceError
from greenload.sources import class_order
from greenload.system.notices import notify

_INTEGER = re.compile(r"[+-]?\d+")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_INT64 = range(-(1 << 63), 1 << 63)
_EXACT = 1 << 53  # from here on floats are not every whole number
_MISSING = ("nan", "<na>", "#n/a", "n/a", "null")
_MISSING_NUMBERS = (*_MISSING, "na", "none", "-", "?", ".")
_TRUTHS = {"false": 0, "true": 1}
# What parts the tags of one label. A comma with a blank or its stand-in behind it is part of many a name ("tench, Tinca
# tinca", "Pepper,_bell___healthy").
_TAGS = re.compile(r"[|;\t]|(?<!\d),(?![ _])|,(?![ _\d])")
_GROUPED = re.compile(r"[+-]?[\d.]*\d,\d[\d.,]*")  # 1,000 or 1,5: which number that is depends on the country
_WEAK_TAGS = re.compile(r"\s*[|;,/+&\t]\s*")
_LIST = re.compile(r"\[.*[,'\"\d].*\]|\[\s*\]|\{.*\}|\(.*,.*\)|[+-]?[\d.]+(?:\s+[+-]?[\d.]+)+", re.DOTALL)


class _Wrong(Exception):
    """A value breaks a rule: the value, and a text with the rule, the value and the remedy."""

    def __init__(self, value: str, reason: str) -> None:
        super().__init__(reason)
        self.value = value


def labels_of(
    where: str, values: Sequence[Any], order: str, classes: tuple[str, ...] = ()
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The labels that a column's values stand for, and the names of classes; none where the values are numbers.

    Whole numbers (``7``, ``007``, ``2.0``, ``1e3``) are labels as they are; ``True`` and ``False`` are 1 and 0. Other
    values are names of classes: without blanks at their ends, in Unicode's composed form, sorted and numbered from 0.

    Args:
        where: the table and its column, for errors and warnings.
        values: the column's values: text, or Parquet's numbers and truth values.
        order: how names are sorted, ``"alphabetical"`` or ``"natural"``.
        classes: the names in the order of their labels, where they are given: others are refused.

    Returns:
        int64 ``[n]``, and the names.

    Raises:
        SourceError: a value is missing, is several labels, is no whole number where all are numbers, or is none of
            ``classes``.
    """
    # Most columns hold few different values: each is processed once.
    spelled = [value if isinstance(value, str) else _text(where, value) for value in values]
    counts = Counter(spelled)
    names = {value: class_order.stripped(value) for value in counts}
    try:
        distinct = Counter[str]()
        for value, count in counts.items():
            distinct[names[value]] += count
        codes, used = _codes(where, distinct, order, classes)
    except _Wrong as error:
        row = next(row for row, value in enumerate(spelled, 1) if names[value] == error.value)
        raise SourceError(f"{where}, row {row}: {error}") from None
    return np.array([codes[names[value]] for value in spelled], np.int64), used


def _codes(
    where: str, names: Counter[str], order: str, classes: tuple[str, ...]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """The label of each different value, and the classes' names."""
    numbers = {name: value for name in names if (value := _number(name)) is not None}
    if classes:
        return _among(where, names, numbers, classes), classes
    _need_values(names, _MISSING_NUMBERS if len(numbers) > len(names) / 2 else _MISSING)
    _need_one_label(names)
    if all(_GROUPED.fullmatch(name) for name in names):
        name = next(iter(names))
        raise _Wrong(name, f"labels that are numbers are written without commas, but here is {name[:40]!r}: write 1000")
    if len(numbers) == len(names):
        return {name: _whole(name, value) for name, value in numbers.items()}, ()
    if all(name.lower() in _TRUTHS for name in names):
        return {name: _TRUTHS[name.lower()] for name in names}, ("False", "True")
    if numbers:
        number, other = next(iter(numbers))[:40], next(name for name in names if name not in numbers)[:40]
        rows = sum(count for name, count in names.items() if name not in numbers)
        notify(
            f"{where}: holds numbers (as {number!r}) and names (as {other!r}, {rows:,} of {names.total():,} rows), so "
            "all are taken for names of classes and numbered anew: correct the names if labels are numbers"
        )
    ordered = class_order.numbered(where, names, order)
    class_order.warn_of_alike(where, ordered)
    return {name: label for label, name in enumerate(ordered)}, ordered


def _among(
    where: str, names: Iterable[str], numbers: Mapping[str, int | float], classes: tuple[str, ...]
) -> dict[str, int]:
    """The label of each name among given classes: ``"2.0"`` is the class named ``"2"``."""
    given = {class_order.stripped(name): label for label, name in enumerate(classes)}
    if len(given) < len(classes):
        raise SourceError(f"{where}: two names in classes differ in blanks alone: remove one")
    codes = {}
    for name in names:
        label = given.get(name)
        if label is None and name in numbers:
            label = given.get(str(_whole(name, numbers[name])))
        if label is None:
            raise _Wrong(name, f"labels must be among classes, but {name[:60]!r} is not: add it, or correct the table")
        codes[name] = label
    return codes


def _text(where: str, value: Any) -> str:
    """A value of Parquet's as CSV would hold it."""
    if isinstance(value, (bool, int, float, decimal.Decimal)):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    if isinstance(value, (list, tuple, dict)):
        raise SourceError(
            f"{where}: a sample has one label, but here is {type(value).__name__} {str(value)[:40]!r}: keep one of "
            "them, as in another column, or load several with a tf.data.Dataset of your own"
        )
    raise SourceError(
        f"{where}: labels must be whole numbers or class names, not {type(value).__name__} {str(value)[:40]!r}: "
        "write them as text"
    )


def _number(text: str) -> int | float | None:
    """The number that a text is, if it is one."""
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) < 30 else float("inf")
    return float(text) if _DECIMAL.fullmatch(text) or text.lower().lstrip("+-") in ("inf", "infinity") else None


def _whole(text: str, value: int | float) -> int:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, int) and value in _INT64:
        return value
    if isinstance(value, float) and abs(value) < _EXACT:
        raise _Wrong(
            text,
            f"labels must be whole numbers or class names, not {text[:40]}: round them, or write ranges of them as "
            "names ('low', 'high')",
        )
    raise _Wrong(
        text,
        f"labels that are numbers must be below 2^63 (with a decimal point below 2^53), but here is {text[:40]}: "
        "write them as names, with a letter before them",
    )


def _need_values(names: Iterable[str], missing: tuple[str, ...]) -> None:
    for name in names:
        if not name or name.lower() in missing:
            raise _Wrong(name, f"there is no label but {name!r}: fill it or remove the row")


def _need_one_label(names: Iterable[str]) -> None:
    """Refuse labels that look like several tags each."""
    combined: dict[tuple[str, ...], str] = {}
    stands: dict[str, set[int]] = {}  # where each part stands in the names: alone is -1
    commas: list[tuple[str, list[str]]] = []
    for name in names:
        if _LIST.fullmatch(name if len(name) < 400 else name[:200] + name[-200:]) or _TAGS.search(name):
            raise _several(name)
        weak = [part for part in _WEAK_TAGS.split(name) if part]
        if len(weak) > 1 and not all(map(_DECIMAL.fullmatch, weak)):  # 16/9 and 9/16 are two
            same = tuple(sorted(weak))
            if same in combined:
                raise _several(combined[same], name)
            combined[same] = name
        if ", " in name:
            listed = [part for part in name.split(", ") if part.strip()]
            commas.append((name, listed))
            for position, part in enumerate(listed):
                stands.setdefault(part, set()).add(position)
        else:
            stands.setdefault(name, set()).add(-1)
    # A part of a name ("Smith, John", "Smith, Jane", "apple, green") keeps its place; a tag stands anywhere.
    shared = [name for name, listed in commas if any(len(stands[part]) > 1 for part in listed)]
    if len(shared) > len(commas) / 2:
        raise _several(shared[0])


def _several(name: str, same: str = "") -> _Wrong:
    problem = f"{name[:60]!r} and {same[:60]!r} hold the same tags" if same else f"{name[:60]!r} looks like several"
    return _Wrong(
        name,
        f"a sample has one label, but {problem}: keep one of them, as in another column; write a name without "
        "'|', ';', brackets and bare commas, or pass classes=[...] if these are names; or load several labels with a "
        "tf.data.Dataset of your own",
    )
