"""Windows of the whole with clocks around its functions: a function's part of them, and which windows count."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from greenload.energy.attribution.observation import FIRST_EPOCH, IN_PLACE, WHOLE, Observation
from greenload.system.work import Work

CLOCKED = ("", IN_PLACE)
"""The windows with clocks, of epochs that fill no cache."""
UNCLOCKED = ("", WHOLE)
"""The windows beside them without clocks."""
CLOCKED_FIRST = (FIRST_EPOCH, IN_PLACE)
"""Those with clocks of first epochs."""
QUIET_CPUS = 0.1
"""Processors that others may keep busy beside those of the quietest window, in one that counts as undisturbed: what a
system does now and then. A choice."""
LEAST_QUIET = 6
"""Rounds that are kept however busy other processes were: fewer have a wide interval."""

_OF_THE_WHOLE = frozenset({"full", "with", WHOLE, IN_PLACE})
"""Kinds of its windows; in first epochs, "with" are the held out."""
_LEAST_ROUNDS = 2

ShareOf = Callable[[Observation, Collection[str]], float | None]
"""Gives which share of a window's quantity is that of steps, by their names; None where that isn't known."""


def cpu_share(window: Observation, names: Collection[str]) -> float | None:
    """Of a window's CPU seconds those of steps with clocks; None where a clock timed none of its step's calls.

    Modelled joules go with CPU seconds.
    """
    parts = [window.work.get(name, Work()).total_cpu_s for name in names]
    known = [part for part in parts if part is not None]
    return sum(known) / window.cpu_s if len(known) == len(parts) and window.cpu_s > 0 else None


def reading_share(reader: str) -> ShareOf:
    """All bytes are those of the one step that reads files, or of none that has a clock.

    Args:
        reader: its name; empty for none.
    """
    return lambda window, names: float(reader in names)


def waiting_s(window: Observation, name: str) -> float | None:
    """Seconds in which a step's calls had no processor; None where none was timed, or its clock tells only CPU time."""
    work = window.work.get(name, Work())
    if work.timed and not work.wall_s:
        return None
    each = work.waiting_s_per_call
    return each * work.calls if each is not None else (None if work.calls else 0.0)


def undisturbed(observations: Iterable[Observation]) -> list[Observation]:
    """The windows without those of the whole in which other processes were busier than in the others.

    CPU seconds grow where another process shares a core's caches or its other hyperthread. Windows are chosen by what
    the others did, never by what the whole itself took: a pipeline that costs more now and then, as with a new file,
    would seem to cost less. Those of one round stay or go together, as they are compared with each other; also where
    one of them is invalid. Where others are busy all the time, the quieter half is kept.

    Args:
        observations: all windows of a profile.
    """
    windows = list(observations)
    dropped: set[tuple[str, int, int]] = set()
    for step in ("", FIRST_EPOCH):
        rounds: dict[tuple[int, int], list[Observation]] = {}
        for window in windows:
            if window.step == step and window.kind in _OF_THE_WHOLE:
                rounds.setdefault((window.build, window.round), []).append(window)
        if not any(window.kind == IN_PLACE for group in rounds.values() for window in group):
            continue
        kinds = {window.kind for group in rounds.values() for window in group}
        whole = {key for key, group in rounds.items() if _complete(group, kinds)}
        if len(whole) < _LEAST_ROUNDS:
            whole = set(rounds)
        dropped |= {(step, *key) for key in rounds.keys() - whole}
        busy = {key: _busy_cpus(rounds[key]) for key in whole}
        ranked = sorted(busy, key=lambda key: busy[key])
        kept = max(LEAST_QUIET, len(ranked) // 2)
        limit = busy[ranked[0]] + QUIET_CPUS
        dropped |= {(step, *key) for key in ranked[kept:] if busy[key] > limit}
    return [
        window
        for window in windows
        if (window.step, window.build, window.round) not in dropped or window.kind not in _OF_THE_WHOLE
    ]


def _complete(windows: Sequence[Observation], kinds: Collection[str]) -> bool:
    """Whether a round has a valid window of each kind."""
    return {window.kind for window in windows if "cpu_s" not in window.void} == set(kinds)


def _busy_cpus(windows: Sequence[Observation]) -> float:
    """Processors that others kept busy, in the window in which they did most."""
    return max(window.other_cpu_s / (window.wall_ns / 1e9) for window in windows)
