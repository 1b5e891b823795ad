"""Numbers the names of classes, and warns of names that are likely a mistake."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np

from greenload import scalars
from greenload.errors import SourceError
from greenload.system.notices import notify

ClassOrder = Literal["alphabetical", "natural"]
_INVISIBLE = "\ufeff\u200b\u2060\u200e\u200f"  # byte order mark, zero-width space and joiner, marks of direction
_NUMBERS = re.compile(r"[0-9]+")
_WHOLE = re.compile(r"[+-]?[0-9]{1,255}")


def stripped(name: str) -> str:
    """A name without blanks and invisible marks at its ends, in Unicode's composed form (NFC)."""
    while name != (name := name.strip().strip(_INVISIBLE)):
        pass
    return unicodedata.normalize("NFC", name)


def naturally(names: Collection[str]) -> tuple[str, ...]:
    """Names sorted so that a number within one counts as such: ``"2"`` stands before ``"10"``.

    Example:
        >>> naturally(["b10", "b9", "a"])
        ('a', 'b9', 'b10')
    """
    if all(_WHOLE.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))

    def by_value(name: str) -> tuple[str, str]:
        return _NUMBERS.sub(_in_order, name), name

    return tuple(sorted(names, key=by_value))


def _in_order(run: re.Match[str]) -> str:
    """Digits rewritten so that texts of them are sorted by value: a number of more digits is greater."""
    digits = run[0].lstrip("0")
    return f"0{len(digits):09}{digits}"


def check_order(classes: Sequence[str] | None, order: str) -> tuple[str, ...]:
    """The names in ``classes``, or none, after both arguments have been checked.

    Raises:
        SourceError: ``order`` is unknown, ``classes`` is no list of different names, or both are given.
    """
    scalars.one_of(SourceError, "order", order, ("alphabetical", "natural"))
    if classes is None:
        return ()
    names = class_names(classes)
    if not names:
        raise SourceError(f"classes must be a list of names in the order of labels, not {classes!r}")
    if len(set(names)) < len(names):
        twice, _ = Counter(names).most_common(1)[0]
        raise SourceError(f"classes must be different names, but {twice!r} is there twice: remove one")
    if order != "alphabetical":
        raise SourceError(f"classes are in the order of labels, so order={order!r} can't hold too: leave one out")
    return names


def class_names(classes: Any) -> tuple[str, ...]:
    """The names in a list of classes, in the order of labels.

    Raises:
        SourceError: it isn't a list of text. A set or a dictionary has no order that labels could follow.
    """
    ordered = isinstance(classes, (Sequence, np.ndarray)) and not isinstance(classes, (str, bytes))
    names = tuple(classes) if ordered else ()
    odd = next((name for name in names if not isinstance(name, str)), None)
    if not ordered or odd is not None:
        given = repr(classes) if odd is None else f"{type(odd).__name__} {odd!r} in it"
        raise SourceError(f"classes must be a list of names in the order of labels, not {given}")
    return tuple(map(str, names))


def numbered(where: str, names: Collection[str], order: str) -> tuple[str, ...]:
    """Names in the order of their labels. Warns where numbers in them are sorted as text.

    Args:
        where: the folder or table of the names, for the warning.
        names: different names.
        order: ``"alphabetical"`` or ``"natural"``.
    """
    by_number = naturally(names)
    if order == "natural":
        return by_number
    as_text = tuple(sorted(names))
    if _against_numbers(as_text, by_number):
        label = next(label for label, name in enumerate(as_text) if name != by_number[label])
        name = as_text[label]
        notify(
            f"{where}: names of classes are sorted as text, as Keras sorts them, so class {name!r} has label {label}, "
            f"not {by_number.index(name)}: pass order='natural' to sort numbers by value, or classes=[...] in the "
            "order of labels"
        )
    return as_text


def _against_numbers(as_text: Sequence[str], by_number: Sequence[str]) -> bool:
    """Whether two names that differ in their numbers alone stand in another order as text."""
    rank = {name: i for i, name in enumerate(by_number)}
    last: dict[str, int] = {}
    for name in as_text:
        shape = "0" if _WHOLE.fullmatch(name) else _NUMBERS.sub("0", name)
        if rank[name] < last.get(shape, -1):
            return True
        last[shape] = rank[name]
    return False


def warn_of_alike(where: str, names: Sequence[str]) -> None:
    """Warn where two names look the same: they differ in blanks, invisible marks or Unicode's forms alone."""
    seen: dict[str, str] = {}
    for name in names:
        look = " ".join("".join(c for c in unicodedata.normalize("NFKC", name) if c not in _INVISIBLE).split())
        if look in seen:
            notify(
                f"{where}: {seen[look]!a} and {name!a} look alike, but are two classes: give both one name "
                "if they are one"
            )
            return
        seen[look] = name
