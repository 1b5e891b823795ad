"""Reads foreign JSON within limits, and checks the type of each value that is used.

A file can hold anything: text of another encoding, lists in lists until Python's stack ends, integers of a thousand
digits, infinities, an object where a number was meant. Every fault is one `DataError`, whose message names the place,
the rule and the value, in one printable line. Each reader turns it into an error of its own; a reader of a cache makes
the content anew.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from greenload.system import file_input

LARGEST_BYTES = 256 << 20
"""Bytes of a document that are read: a report of a hundred thousand windows has some 50 MB."""
DEEPEST = 64
"""Lists and objects within each other that `Value.plain` lets through; what greenload writes has about ten."""
LARGEST = 2**63 - 1
"""The largest integer that is taken, unless a reader says otherwise: the largest int64."""
_DIGITS = 308  # an integer with more is larger than any float
_WORDS = ((None, "null"), (True, "true"), (False, "false"))
_LONGEST_NAME, _LONGEST_PATH = 255, 4096  # bytes, on Linux


class DataError(ValueError):
    """A document breaks a rule. Its reader turns this into an error with a remedy."""


def load(path: str | os.PathLike[str]) -> Value:
    """A file's JSON document.

    Raises:
        OSError: it can't be read, isn't a regular file, or is larger than `LARGEST_BYTES`.
        DataError: it is no JSON.
    """
    return parse(file_input.read(path, LARGEST_BYTES))


def parse(content: bytes | str) -> Value:
    """A JSON document.

    Python's own parser takes more than JSON is: NaN and infinities, a key that comes twice (the last counts), and
    integers of any length, which then fit no float. These are refused.

    Raises:
        DataError: it is too large, not UTF-8, or no JSON; it holds a number that no float can; it nests too deeply.

    Example:
        >>> parse(b'{"steps": [{"cpu_s": 0.5}]}').field("steps").list()[0].field("cpu_s").number()
        0.5
    """
    if len(content) > LARGEST_BYTES:
        raise DataError(f"it has more than {LARGEST_BYTES >> 20} MiB")
    try:
        text = content if isinstance(content, str) else content.decode(json.detect_encoding(content))
        data = json.loads(
            text.removeprefix("\ufeff"),
            parse_constant=_no_constant,
            parse_float=_float,
            parse_int=_int,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError as error:
        raise DataError(f"it is not UTF-8 text: byte {error.start}") from None
    except RecursionError:
        raise DataError("it holds lists or objects nested too deeply") from None
    except MemoryError:
        raise DataError("it doesn't fit into memory") from None
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"it is no JSON: {short(str(error))}") from None
    return Value(data)


def _no_constant(name: str) -> NoReturn:
    raise DataError(f"it holds {name}, which JSON has not")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise DataError(f"it holds the number {short(text, 40)}, larger than any float")
    return value


def _int(text: str) -> int:
    if len(text) > _DIGITS:
        raise DataError(f"it holds an integer of {len(text)} digits, larger than any float")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise DataError(f"it holds {shown(twice)} twice in one object")
    return values


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One value of a document, with its place in the document.

    Each method checks it for one type. Lists and objects give values again; nothing is checked before it is used.
    Python data from elsewhere is read the same way: ``Value(data)``.

    Raises:
        DataError: each method, where the value is of another type, or out of range.

    Example:
        >>> Value({"rates": [1, "two"]}).field("rates").list()[1].number()
        Traceback (most recent call last):
        greenload.system.json_data.DataError: rates[1] must be a finite number, not 'two'
    """

    data: Any
    place: str = ""
    """``"steps[3].cpu_s"``; empty for the whole document."""

    def refuse(self, rule: str) -> NoReturn:
        """Raise what names the place, the rule that the value breaks, and the value."""
        raise DataError(f"{self.place or 'it'} must be {rule}, not {shown(self.data)}")

    def mapping(self) -> dict[str, Value]:
        """An object's values by name."""
        if not isinstance(self.data, Mapping) or not all(isinstance(name, str) for name in self.data):
            self.refuse("an object")
        return {name: Value(value, self._below(name)) for name, value in self.data.items()}

    def _below(self, name: str) -> str:
        name = short(name, 60)
        return f"{self.place}.{name}" if self.place else name

    def field(self, name: str) -> Value:
        """A value of an object."""
        value = self.get(name)
        if value is None:
            raise DataError(f"{self.place or 'it'} lacks {name!r}")
        return value

    def get(self, name: str) -> Value | None:
        """A value of an object; ``None`` where the object lacks it."""
        if not isinstance(self.data, Mapping):
            self.refuse("an object")
        return Value(self.data[name], self._below(name)) if name in self.data else None

    def given(self, name: str) -> Value | None:
        """A value of an object; ``None`` where the object lacks it, or holds null."""
        value = self.get(name)
        return None if value is None or value.data is None else value

    def list(self) -> list[Value]:
        """A list's values."""
        if not isinstance(self.data, (list, tuple)):
            self.refuse("a list")
        return [Value(value, f"{self.place}[{k}]") for k, value in enumerate(self.data)]

    def text(self, among: Collection[str] = ()) -> str:
        """A text, of a few where they are given."""
        if not isinstance(self.data, str) or (among and self.data not in among):
            self.refuse(f"one of {', '.join(map(repr, among))}" if among else "a text")
        return self.data

    def name(self) -> str:
        """A text that can be shown as it is, and be part of a file's name."""
        text = self.text()
        if not text or not text.isprintable() or len(text) > _LONGEST_NAME:
            self.refuse(f"a text of 1 to {_LONGEST_NAME} printable characters")
        return text

    def path(self) -> str:
        """A text that can be a file's path."""
        text = self.text()
        try:
            encoded = os.fsencode(text)
            fits = b"\0" not in encoded and len(encoded) <= _LONGEST_PATH
        except UnicodeEncodeError:
            fits = False
        if not fits:
            self.refuse("a path")
        return text

    def integer(self, low: int = -LARGEST - 1, high: int = LARGEST) -> int:
        """An integer within bounds, both included."""
        if isinstance(self.data, bool) or not isinstance(self.data, int) or not low <= self.data <= high:
            self.refuse(f"an integer{_range(low, high, (-LARGEST - 1, LARGEST))}")
        return self.data

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number within bounds, both included."""
        try:
            value = math.nan if isinstance(self.data, bool) else float(self.data)
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if not isinstance(self.data, (int, float)) or not math.isfinite(value) or not low <= value <= high:
            self.refuse(f"a finite number{_range(low, high, (-math.inf, math.inf))}")
        return value

    def plain(self) -> Any:
        """Any JSON value as Python data: finite numbers, names that are texts, not nested too deeply.

        Such data can be shown, compared, copied and written within the limits of stack and memory.
        """
        if not _is_scalar(self.data) and not isinstance(self.data, (list, tuple, Mapping)):
            self.refuse("JSON data")
        pending = [(self, 1)] if isinstance(self.data, (list, tuple, Mapping)) else []
        while pending:  # no recursion: it would end with the stack
            value, depth = pending.pop()
            if depth > DEEPEST:
                raise DataError(f"{short(self.place, 60) or 'it'} holds more than {DEEPEST} lists or objects nested")
            named = isinstance(value.data, Mapping)
            for key, inner in value.data.items() if named else enumerate(value.data):
                if named and not isinstance(key, str):
                    value.refuse("an object whose names are texts")
                if isinstance(inner, (list, tuple, Mapping)):
                    pending.append((value._at(key), depth + 1))
                elif not _is_scalar(inner):
                    value._at(key).refuse("JSON data, with finite numbers")
        return self.data

    def _at(self, key: str | int) -> Value:
        return Value(self.data[key], self._below(key) if isinstance(key, str) else f"{self.place}[{key}]")


def _is_scalar(data: Any) -> bool:
    if isinstance(data, float):
        return math.isfinite(data)
    return data is None or isinstance(data, (str, bool)) or (isinstance(data, int) and data.bit_length() < 1024)


def _range(low: float, high: float, widest: tuple[float, float]) -> str:
    if (low, high) == widest:
        return ""
    return f" from {low:g}" if high == widest[1] else f" from {low:g} to {high:g}"


def shown(data: Any) -> str:
    """Any value in a few printable characters.

    Example:
        >>> shown([1, 2]), shown("a\\x1b[2J"), shown(10**400)
        ('a list of 2', "'a\\x1b[2J'", 'an integer of 401 digits')
    """
    if isinstance(data, str):
        return repr(data) if len(data) <= 60 else f"a text of {len(data)} characters"
    if isinstance(data, (list, tuple)):
        return f"a list of {len(data)}"
    if isinstance(data, Mapping):
        return f"an object of {len(data)}"
    if isinstance(data, int) and not isinstance(data, bool) and data.bit_length() > 128:
        return f"an integer of {1 + int(data.bit_length() * math.log10(2))} digits"
    word = next((word for constant, word in _WORDS if data is constant), "")
    return word or short(repr(data), 60)


def short(text: str, limit: int = 160) -> str:
    """A text as one line of printable characters, cut in its middle; it may quote anything from a file."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= limit else f"{line[: limit // 2]} … {line[-limit // 2 :]}"
