"""Checks of the arguments that stages share: each gives the value in one form, or says the rule it breaks."""

from __future__ import annotations

import importlib
import math
import os
import re
from typing import Any

import numpy as np

from greenload import scalars
from greenload.errors import PipelineError
from greenload.specs import RANGES, ImageSpec

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no truth value."""
    return scalars.number(value) is not None


def folder(stage: str, name: str, value: Any) -> str:
    """The path of a folder of this machine, as text.

    Raises:
        PipelineError: it is no path, an address, or begins with ``~``, which only a shell knows.
    """
    try:
        path = os.fspath(value)
    except TypeError:
        path = b""
    if not isinstance(path, str) or not path or "\0" in path:
        raise PipelineError(f"{stage}: {name} must be the path of a folder, not {value!r}: name one, such as 'kept'")
    if "://" in path:
        raise PipelineError(
            f"{stage}: {name} must be a folder of this machine, not the address {path!r}: name a folder of a local disk"
        )
    if path.startswith("~"):
        raise PipelineError(
            f"{stage}: {name} must be a path in full, not {path!r}, since only a shell knows whose home that is: use "
            f"os.path.expanduser({path!r}), or ./{path} for a folder of that name"
        )
    return path


def pair(stage: str, name: str, value: Any) -> tuple[int, int]:
    """``size`` as ``(height, width)``, both at least 1.

    Raises:
        PipelineError: it is neither a positive integer nor two of them.
    """
    given = scalars.several(value)
    sides = [scalars.whole(n) for n in ((value, value) if given is None else given)]
    match sides:
        case [int(height), int(width)] if height >= 1 and width >= 1:
            return (height, width)
    raise PipelineError(f"{stage}: {name} must be a positive integer or two of them (height, width), not {value!r}")


def probability(stage: str, value: Any) -> float:
    """A number in [0, 1].

    Raises:
        PipelineError: it is not.
    """
    p = scalars.number(value)
    if p is None or not 0.0 <= p <= 1.0:
        raise PipelineError(f"{stage}: p must be a probability between 0 and 1, not {value!r}")
    return p


def flag(stage: str, name: str, value: Any) -> bool:
    """A switch.

    Raises:
        PipelineError: it is neither ``True`` nor ``False``: a text such as ``"no"`` would count as true.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise PipelineError(f"{stage}: {name} must be True or False, not {value!r}")
    return bool(value)


def interval(
    stage: str, name: str, value: Any, least: float = -math.inf, most: float = math.inf, *, strict: bool = False
) -> tuple[float, float]:
    """Two finite numbers ``(low, high)`` with ``least ≤ low ≤ high ≤ most``; ``strict``: both inside these bounds.

    Raises:
        PipelineError: they are not.
    """
    bounds = scalars.several(value)
    if bounds is not None and len(bounds) == 2 and all(map(is_number, bounds)):
        low, high = float(bounds[0]), float(bounds[1])
        inside = least < low <= high < most if strict else least <= low <= high <= most
        if inside:
            return (low, high)
    sign = "<" if strict else "≤"
    lower = "" if least == -math.inf else f"{least:g} {sign} "
    upper = "" if most == math.inf else f" {sign} {most:g}"
    raise PipelineError(f"{stage}: {name} must be (low, high) with {lower}low ≤ high{upper}, not {value!r}")


def around(
    stage: str, name: str, value: Any, centre: float, least: float = -math.inf, most: float = math.inf
) -> tuple[float, float]:
    """A number from 0 as the interval ``centre ± value`` (cut at ``least``), or an interval as it is.

    Raises:
        PipelineError: it is neither, or leaves ``least … most``.
    """
    reach = scalars.number(value)
    if reach is not None:
        if reach < 0:
            raise PipelineError(f"{stage}: {name} must be a number from 0, or (low, high), not {value!r}")
        value = (max(centre - reach, least), centre + reach)
    return interval(stage, name, value, least, most)


def finite(stage: str, name: str, value: Any) -> float:
    """A finite number.

    Raises:
        PipelineError: it is not.
    """
    number = scalars.number(value)
    if number is None:
        raise PipelineError(f"{stage}: {name} must be one finite number, not {value!r}")
    return number


def sides(stage: str, name: str, value: Any) -> tuple[int, int, int, int]:
    """What comes on each side as ``(left, top, right, bottom)``: one whole number for all, two (left and right, top
    and bottom), or four.

    Raises:
        PipelineError: it is none of these, or one is below 0.
    """
    pads = [scalars.whole(n) for n in scalars.several(value) or (value,)]
    numbers = [n for n in pads if n is not None and n >= 0]
    if len(numbers) != len(pads) or len(pads) not in (1, 2, 4):
        raise PipelineError(
            f"{stage}: {name} must be one whole number from 0, two (left and right, top and bottom) or four "
            f"(left, top, right, bottom), not {value!r}"
        )
    left, top, right, bottom = tuple(numbers) * (4 // len(numbers))
    return (left, top, right, bottom)


def need_decoded(stage: object, spec: ImageSpec) -> None:
    """Refuse encoded bytes.

    Raises:
        PipelineError: ``spec`` is encoded.
    """
    if spec.encoded:
        raise PipelineError(f"{stage} works on pixels, but here images are still encoded: put Decode() before it")


def need_single(stage: object, spec: ImageSpec) -> None:
    """Refuse encoded bytes and batches.

    Raises:
        PipelineError: ``spec`` is encoded or batched.
    """
    need_decoded(stage, spec)
    if spec.batched:
        raise PipelineError(f"{stage} works on one image at a time, but here images are batched: put it before Batch")


def need_filterable(stage: object, spec: ImageSpec) -> None:
    """Refuse dtypes that values between pixels aren't computed in.

    Raises:
        PipelineError: ``spec`` is of another dtype than uint8 and float32.
    """
    if spec.dtype not in ("uint8", "float32"):
        raise PipelineError(
            f"{stage} works on uint8 or float32 images, but here they are {spec.dtype}: "
            f"put it before ToDtype({spec.dtype!r})"
        )


def need_levels(stage: object, spec: ImageSpec) -> None:
    """Refuse encoded bytes, and dtypes other than uint8.

    Raises:
        PipelineError: ``spec`` is encoded, or of another dtype.
    """
    need_decoded(stage, spec)
    if spec.dtype != "uint8":
        raise PipelineError(
            f"{stage} works on uint8 images, but here they are {spec.dtype}: put it before ToDtype({spec.dtype!r})"
        )


def need_level(stage: object, name: str, value: tuple[float, ...], spec: ImageSpec) -> None:
    """Refuse values that images of a dtype can't have.

    Raises:
        PipelineError: ``spec`` is of integers, and one of the values is no whole number in their range.
    """
    low, high = RANGES.get(spec.dtype, (-math.inf, math.inf))
    wrong = [v for v in value if not low <= v <= high or (spec.dtype in RANGES and v != int(v))]
    if wrong:
        raise PipelineError(
            f"{stage}: {name} is in the images' own range, for {spec.dtype} a whole number from {low} to {high}, "
            f"not {wrong[0]:g}: change it, or put ToDtype('float32', scale=True) before it"
        )


def imported(name: str) -> Any:
    """What ``"package.module:name"`` names, imported; ``None`` if it names nothing.

    What an import runs is the module's own: only pass names that you trust.
    """
    if not _NAME.fullmatch(name):
        return None
    module, _, path = name.partition(":")
    try:
        value: Any = importlib.import_module(module)
    except ImportError:
        return None
    for part in path.split("."):
        value = getattr(value, part, None)
    return value


def importable_name(stage: str, value: Any) -> str:
    """The name ``"package.module:name"`` by which a stage's function, or its class, is imported again.

    Raises:
        PipelineError: it has none.
    """
    name = f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', '')}"
    if imported(name) is not value:
        what, word = ("class", "class") if isinstance(value, type) else ("function", "def")
        raise PipelineError(
            f"{stage} can't be described, as its {what} can't be imported by a name: "
            f"define it with {word} at the top of a module"
        )
    return name
