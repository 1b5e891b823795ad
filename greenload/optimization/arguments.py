"""The arguments of `optimize`, checked before minutes of work are spent on them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, cast

from greenload import scalars
from greenload.errors import UsageError
from greenload.machine import processors
from greenload.optimization.training import OBJECTIVES, RELAXATIONS, Objective, Relaxation, Settings, Training
from greenload.plans.pipeline import Pipeline
from greenload.profiling.tfdata.profile import is_dataset

_UNITS = {
    unit: base**power
    for power, names in enumerate((("B", ""), ("kB", "KiB"), ("MB", "MiB"), ("GB", "GiB"), ("TB", "TiB")))
    for unit, base in zip(names, (1000, 1024), strict=True)
    if unit
}
_SIZE = re.compile(r"\s*(?P<number>\d+\.?\d*|\.\d+)\s*(?P<unit>[A-Za-z]*)\s*")
_RATE = re.compile(r"\s*(?P<number>\d+\.?\d*|\.\d+)\s*(?:(?:samples|images)?\s*/\s*s)?\s*")
LEAST_SECONDS = 5.0
"""Wall seconds of a search, at least: a plan can't be built and run in less."""
_MOST = 1e9


def checked_training(
    pipeline: Pipeline,
    *,
    epochs: Any,
    ram: Any,
    disk: Any = None,
    folder: Any = None,
    demand: Any = None,
    allow: Any = (),
    objective: Any = "energy",
    threads: Any = None,
) -> Training:
    """The training that is to be fed, and its bounds; the arguments are those of `optimize`.

    Raises:
        UsageError: one is out of range; says the rule, the value found and the remedy.
        SourceError: the source can't be listed, or holds nothing.
    """
    kept_in, held = checked_folder(folder, disk)
    return Training(
        samples=len(pipeline.source) * pipeline.times,
        epochs=scalars.positive(UsageError, "epochs", epochs),
        ram=checked_bytes("ram", ram),
        disk=held,
        folder=kept_in,
        demand=checked_demand(demand),
        threads=checked_threads(threads),
        objective=checked_objective(objective),
        allow=checked_allow(allow),
    )


def checked_settings(*, seconds: Any = 180.0, records: Any = 512, seed: Any = 0) -> Settings:
    """How the search is done; the arguments are those of `optimize`.

    Raises:
        UsageError: one is out of range.
    """
    limit = scalars.number(seconds)
    if limit is None or not LEAST_SECONDS <= limit < _MOST:
        raise UsageError(f"seconds must be a number from {LEAST_SECONDS:g}, as 180, not {seconds!r}")
    number = scalars.whole(seed)
    if number is None or number < 0:
        raise UsageError(f"seed must be a whole number from 0, not {seed!r}")
    return Settings(seconds=limit, records=scalars.positive(UsageError, "records", records), seed=number)


def checked_dataset(given: Any, beside: Mapping[str, Any]) -> None:
    """Refuse what is neither a pipeline nor a dataset, and what only a pipeline's search takes.

    Args:
        given: no pipeline.
        beside: such arguments by name; None where one wasn't given.

    Raises:
        UsageError: it isn't a ``tf.data.Dataset``, or one of these was given.
    """
    if not is_dataset(given):
        raise UsageError(f"optimize takes a Pipeline or a tf.data.Dataset, not {type(given).__name__}: give one")
    for name, value in beside.items():
        if value is not None:
            raise UsageError(f"{name} is for a Pipeline, of a tf.data.Dataset elements stay as they are: leave it out")


def checked_bytes(name: str, given: Any) -> int:
    """A number of bytes: ``"8GiB"``, ``"500 MB"``, ``0``, ``2**33``.

    Raises:
        UsageError: it isn't one.

    Example:
        >>> checked_bytes("ram", "8GiB"), checked_bytes("ram", "1.5 GB"), checked_bytes("ram", 0)
        (8589934592, 1500000000, 0)
    """
    number = scalars.number(given)
    if isinstance(given, str) and (match := _SIZE.fullmatch(given)):
        unit = next((unit for unit in _UNITS if unit.lower() == match["unit"].lower()), None)
        if unit is not None:
            number = float(match["number"]) * _UNITS[unit]
        elif not match["unit"]:
            number = float(match["number"])
    if number is None or not 0 <= number < 1e18:
        raise UsageError(f"{name} is a number of bytes, as '8GiB', '500MB' or 0, not {given!r}: give one")
    return int(number)


def checked_folder(folder: Any, disk: Any) -> tuple[str | None, int]:
    """The folder in which images may be kept, and how many bytes; neither is given, or both.

    Raises:
        UsageError: only one is given, or the folder isn't one that can be written.
    """
    held = 0 if disk is None else checked_bytes("disk", disk)
    if folder is None:
        if held:
            raise UsageError(f"disk is kept in a folder, but disk={disk!r} comes without one: add folder=")
        return None, 0
    if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
        raise UsageError(f"folder is the path of a folder, not {folder!r}: give one")
    path = os.fspath(folder)
    if not isinstance(path, str):
        raise UsageError(f"folder is the path of a folder as text, not {path!r}: decode it")
    if disk is None:
        raise UsageError(f"folder {path!r} comes without the bytes that may be kept there: add disk=, as '50GiB'")
    if not held:
        return None, 0
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise UsageError(f"folder {path!r} can't be used: {error.strerror}: name one that can be written") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"folder {path!r} can't be written: name another, or change its permissions")
    return os.path.abspath(path), held


def checked_demand(given: Any) -> float | None:
    """Samples a second that a trainer takes: ``"2000/s"``, a number, or what ``gl.demand`` measured; None stays.

    Raises:
        UsageError: it isn't one.

    Example:
        >>> checked_demand("2000/s"), checked_demand(1500), checked_demand(None)
        (2000.0, 1500.0, None)
    """
    if given is None:
        return None
    measured = getattr(given, "samples_per_s", None)
    number = scalars.number(given if measured is None else getattr(measured, "value", measured))
    if isinstance(given, str) and (match := _RATE.fullmatch(given)):
        number = float(match["number"])
    if number is None or not 0 < number < _MOST:
        raise UsageError(f"demand is a rate, as '2000/s', 2000 or gl.demand(model, 64), not {given!r}: give one")
    return number


def checked_threads(given: Any) -> int:
    """Threads that the loader may use: as many as there are processors where none are given.

    Raises:
        UsageError: it isn't a positive integer.
    """
    return processors() if given is None else scalars.positive(UsageError, "threads", given)


def checked_objective(given: Any) -> Objective:
    """What the plan is to spend least of.

    Raises:
        UsageError: it is none of `OBJECTIVES`.
    """
    scalars.one_of(UsageError, "objective", given, OBJECTIVES)
    return cast(Objective, given)


def checked_allow(given: Any) -> tuple[Relaxation, ...]:
    """The changes of pixels that are allowed: their names, one text with commas, or ``{"pixels": names}``.

    Raises:
        UsageError: one is none of `RELAXATIONS`.

    Example:
        >>> checked_allow({"pixels": ["float16"]}), checked_allow("antialias,float16"), checked_allow(())
        (('float16',), ('antialias', 'float16'), ())
    """
    if isinstance(given, Mapping):
        unknown = [key for key in given if key != "pixels"]
        if unknown:
            raise UsageError(f"allow says what may change of 'pixels', not of {unknown[0]!r}: leave it out")
        given = given.get("pixels", ())
    names = given.split(",") if isinstance(given, str) else given
    if not isinstance(names, tuple | list | set | frozenset):
        raise UsageError(f"allow is several of {', '.join(RELAXATIONS)}, not {given!r}: give their names")
    stripped = [name.strip() if isinstance(name, str) else name for name in names]
    for name in stripped:
        if name != "":
            scalars.one_of(UsageError, "allow", name, RELAXATIONS)
    return tuple(name for name in RELAXATIONS if name in stripped)
