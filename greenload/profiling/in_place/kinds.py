"""Datasets that a process iterates, put together by their structure and by the functions that they have in common."""

from __future__ import annotations

import itertools
import os
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from greenload.profiling.in_place.all_functions import ClockedFunction
from greenload.profiling.in_place.flow import SampleCount
from greenload.profiling.in_place.watched import Watched, WatchedStep, new_number
from greenload.profiling.tfdata.names import numbered_names
from greenload.system.work import Work

TENSORFLOW = f"{os.sep}tensorflow{os.sep}"
"""In the path of a function that TensorFlow itself adds."""
Step = tuple[str, str, str, str]
"""A step's name, kind, place and branch."""


@dataclass
class Kind:
    """Datasets of one structure that were iterated at one place in the program."""

    place: str
    caller: str
    """The line that called the function in which they were iterated; empty for none."""
    steps: dict[Step, list[ClockedFunction]]
    """The functions of all of them: one that comes later adds its own."""
    unwatched: dict[str, str]
    samples: SampleCount | None = None
    sample_unit: str = "element"
    datasets: int = 0
    iterations: int = 0
    number: int = field(default_factory=new_number)
    """That others follow it by."""
    includes: tuple[Watched, ...] = ()
    """What the script itself watches in them."""
    iterators: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet)
    """Those that are alive, for what tf.data's own model says of them."""

    def functions(self) -> set[ClockedFunction]:
        """Those with clocks, of all its steps."""
        return {function for functions in self.steps.values() for function in functions}


def watched_kinds(kinds: Sequence[Kind], own: Iterable[Watched] = (), final: bool = False) -> list[Watched]:
    """The datasets with steps, those that have functions in common together.

    Args:
        kinds: all.
        own: what the script itself watches, and iterates as it is.
        final: with how many there were, and of steps that TensorFlow adds only those that were called.
    """
    besides = frozenset(clock for watched in own for step in watched.steps for clock in step.clocks)
    groups = _groups([kind for kind in kinds if kind.steps])
    groups = [[_without_idle(kind) for kind in kinds] if final else kinds for kinds in groups]
    places = Counter(_places(kinds) for kinds in groups)
    return [_watched(kinds, places[_places(kinds)] > 1, besides, final) for kinds in groups]


def _without_idle(kind: Kind) -> Kind:
    """Without steps that TensorFlow itself added, and never ran."""
    steps = {
        step: functions
        for step, functions in kind.steps.items()
        if any(TENSORFLOW not in one.file or one.counter.read().calls for one in functions)
    }
    return replace(kind, steps=steps)


def _groups(kinds: Sequence[Kind]) -> list[list[Kind]]:
    """Those that have functions in common together, in the order of the first."""
    groups: list[tuple[set[ClockedFunction], list[Kind]]] = []
    for kind in kinds:
        functions, together = kind.functions(), [kind]
        for group in [group for group in groups if group[0] & functions]:
            groups.remove(group)
            functions, together = functions | group[0], [*group[1], *together]
        groups.append((functions, together))
    return [together for _, together in groups]


def _places(kinds: Sequence[Kind]) -> str:
    return ", ".join(dict.fromkeys(kind.place for kind in kinds))


def _watched(kinds: Sequence[Kind], called_from: bool, besides: frozenset[int], counts: bool) -> Watched:
    datasets, iterations = sum(kind.datasets for kind in kinds), sum(kind.iterations for kind in kinds)
    name = _places(kinds)
    if called_from and (callers := dict.fromkeys(kind.caller for kind in kinds if kind.caller)):
        name += f" from {', '.join(callers)}"
    counted = [(datasets, "datasets"), (iterations, "iterators")]
    told = ", ".join(f"{count} {what}" for count, what in counted if counts and count > 1)
    name += f" ({told})" if told else ""
    unwatched = {name: reason for kind in kinds for name, reason in kind.unwatched.items()}
    samples = kinds[0].samples
    if not all(kind.samples is samples and _tells(kind, besides) for kind in kinds):
        samples = None  # some leave one dataset, some another
    steps, number = steps_together([kind.steps for kind in kinds]), min(kind.number for kind in kinds)
    includes = tuple(dict.fromkeys(part for kind in kinds for part in kind.includes))
    unit, iterators = kinds[0].sample_unit, _Iterators([kind.iterators for kind in kinds])
    return Watched(name, steps, unwatched, samples, unit, iterators, includes, number)


@dataclass(frozen=True)
class _Iterators:
    """The iterators of several kinds, those to come included."""

    parts: Sequence[Iterable[Any]]

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(self.parts)


def _tells(kind: Kind, besides: frozenset[int]) -> bool:
    """Whether the calls that tell its samples are those of one step of its datasets, and of no others."""
    telling = kind.samples.times if kind.samples is not None else ()
    functions = {one for step, functions in kind.steps.items() if step[0] in telling for one in functions}
    places = Counter(one for functions in kind.steps.values() for one in functions)
    return all(places[one] == 1 for one in functions) and not own_clocks(functions) & besides


def own_clocks(functions: Iterable[ClockedFunction]) -> frozenset[int]:
    """The clocks of functions that others have, too: of what the script watches itself, or ``load`` made."""
    return frozenset(clock for one in functions if isinstance(one.counter, WatchedStep) for clock in one.counter.clocks)


def steps_together(parts: Iterable[Mapping[Step, list[ClockedFunction]]]) -> tuple[WatchedStep, ...]:
    """Steps of datasets that may have functions in common: what has one in common is one step, the first of them."""
    rows: dict[Step, list[list[ClockedFunction]]] = {}
    known: dict[ClockedFunction | Step, Step] = {}
    for part in parts:
        for step, functions in part.items():
            same = list(dict.fromkeys(known[one] for one in (step, *functions) if one in known))
            first = next((row for row in rows if row in same), step)
            others = [row for row in same if row != first]
            rows.setdefault(first, []).extend([functions, *(taken for row in others for taken in rows.pop(row))])
            known |= {one: first for one, row in known.items() if row in others}
            known |= dict.fromkeys((step, *functions), first)
    names = numbered_names([name for name, *_ in rows])
    return tuple(_step((name, *step[1:]), lists) for name, (step, lists) in zip(names, rows.items(), strict=True))


def _step(step: Step, parts: Sequence[list[ClockedFunction]]) -> WatchedStep:
    name, kind, where, branch = step
    functions = {function for part in parts for function in part}
    counters = {function.counter for function in functions}
    if len(counters) == 1 and isinstance(own := counters.pop(), WatchedStep):  # which others may have, too
        return replace(own, name=name, branch=branch)
    note = next((function.note for part in parts for function in part if function.note), "")
    made = WatchedStep(name, kind, _reader(parts), where, branch, note)
    return replace(made, clocks=made.clocks | own_clocks(functions))


def _reader(parts: Sequence[list[ClockedFunction]]) -> Callable[[], Work]:
    def read() -> Work:
        functions = {function for part in parts for function in list(part)}
        return sum((function.counter.read() for function in functions), Work())

    return read
