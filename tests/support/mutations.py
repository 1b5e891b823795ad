"""Damage to JSON documents: every place of one, with whatever a file may hold there instead."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Mutation:
    """A document with one thing wrong, or odd."""

    what: str
    """Where and what, for a test's message."""
    data: Any
    """As plain data, as ``from_dict`` takes it."""


def nested(depth: int) -> Any:
    """Lists in lists. Never compared or shown: that would recurse."""
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


REPLACEMENTS: dict[str, Callable[[], Any]] = {
    "null": lambda: None,
    "true": lambda: True,
    "zero": lambda: 0,
    "minus one": lambda: -1,
    "a half": lambda: 0.5,
    "the smallest number": lambda: 5e-324,
    "a large number": lambda: 1e308,
    "minus a large number": lambda: -1e308,
    "2 to the 63": lambda: 2**63,
    "an integer of 400 digits": lambda: 10**400,
    "an integer of 5000 digits": lambda: -(10**5000),
    "infinity": lambda: float("inf"),
    "NaN": lambda: float("nan"),
    "no text": lambda: "",
    "a word": lambda: "surprise",
    "control characters": lambda: "a\x1b[2J\x00\nb",
    "a lone surrogate": lambda: "a\ud800b",
    "a long text": lambda: "x" * 100_000,
    "an empty list": lambda: [],
    "a list": lambda: [1, "two", None],
    "an empty object": lambda: {},
    "an object": lambda: {"a": 1},
    "deep nesting": lambda: nested(3_000),
}


def places(data: Any, at: Path = ()) -> Iterator[Path]:
    """Every place of a document, the whole first."""
    yield at
    if isinstance(data, dict):
        for key, value in data.items():
            yield from places(value, (*at, key))
    elif isinstance(data, list):
        for k, value in enumerate(data):
            yield from places(value, (*at, k))


def changed(data: Any, at: Path, change: Callable[[Any, Any], None]) -> Any:
    """A copy in which the list or object around a place was changed, given it and the place's key in it."""
    whole = json.loads(json.dumps([data]))
    inner, path = whole, (0, *at)
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return whole[0]


def mutations(data: Any, keep: Callable[[str], bool] = lambda what: True) -> Iterator[Mutation]:
    """All single changes that are to be kept: another value at each place, and entries left out, added and repeated."""
    for what, at, change in _changes(data):
        if keep(what):
            yield Mutation(what, changed(data, at, change))


def some(data: Any, count: int, seed: int = 0, keep: Callable[[str], bool] = lambda what: True) -> list[Mutation]:
    """So many of them, the same for a seed."""
    found = [one for one in _changes(data) if keep(one[0])]
    picked = random.Random(seed).sample(found, min(count, len(found)))
    return [Mutation(what, changed(data, at, change)) for what, at, change in picked]


def _changes(data: Any) -> Iterator[tuple[str, Path, Callable[[Any, Any], Any]]]:
    for at in places(data):
        shown = "".join(f"[{part!r}]" for part in at) or "the whole"
        for what, make in REPLACEMENTS.items():
            yield f"{shown}: {what}", at, partial(_put, make)
        if at:
            yield f"{shown}: left out", at, lambda inner, key: inner.pop(key)
            yield f"{shown}: something added", at, _add


def _put(make: Callable[[], Any], inner: Any, key: Any) -> None:
    inner[key] = make()


def _add(inner: Any, key: Any) -> None:
    if isinstance(inner, list):
        inner.append(inner[key])
    else:
        inner["surprise"] = inner[key]


def text_of(mutation: Mutation) -> bytes:
    """As a file holds it: with NaN and Infinity where there are any, as Python's own writer puts them."""
    return _written(mutation.data).encode("utf-8", "surrogatepass")


def _written(data: Any) -> str:
    """JSON text without recursion into what is nested deeply."""
    if isinstance(data, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_written(value)}" for key, value in data.items()) + "}"
    if isinstance(data, list):
        depth, inner = 0, data
        while isinstance(inner, list) and len(inner) == 1:
            depth, inner = depth + 1, inner[0]
        if depth > 100:
            return "[" * depth + "[]" + "]" * depth
        return "[" + ", ".join(map(_written, data)) + "]"
    if isinstance(data, int) and not isinstance(data, bool) and abs(data) > 1 << 64:
        digits = int(data.bit_length() * 0.30103)
        return "-" * (data < 0) + "1" + "0" * digits
    return json.dumps(data)


TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b" \n",
    "half an object": b'{"a": 1',
    "two documents": b"{} {}",
    "no UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "zeros": bytes(64),
    "a key twice": b'{"a": 1, "a": 2}',
    "a hundred thousand lists": b"[" * 100_000 + b"]" * 100_000,
    "a hundred thousand objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "an integer of a million digits": b"1" * 1_000_000,
    "a number beyond floats": b"1e999",
    "NaN": b"NaN",
    "minus infinity": b"[-Infinity]",
    "a raw control character": b'"a\x1b[2J"',
    "a cut escape": b'"\\ud8',
}
"""Texts that are no document at all, whatever is looked for."""


def faults(
    cases: Iterable[Mutation],
    read: Callable[[Mutation], Any],
    use: Callable[[Any], object],
    refusals: tuple[type[Exception], ...],
) -> list[str]:
    """What went wrong: nothing, where each case is refused in one short printable line, or is read and then works."""
    found = []
    for case in cases:
        try:
            use(read(case))
        except refusals as error:
            text = str(error)
            if not text.isprintable() or len(text) > 1500:
                found.append(f"{case.what}: refused with {text[:200]!r}")
        except Exception as error:
            found.append(f"{case.what}: {type(error).__name__}: {str(error)[:200]}")
    return found
