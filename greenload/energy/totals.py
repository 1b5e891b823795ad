"""Joules and CPU seconds from a moment on, over one sampler after another."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from greenload.energy.sampler import Mark, Sampler, Window
from greenload.errors import MeterError

_SHORT_NS = 10**9
"""A window may be shorter than a counter's refreshes, and yet its joules are counted."""


@dataclass(frozen=True)
class DomainTotal:
    """What was counted of one domain so far."""

    joules: float
    """Without those that a reset or a failing meter lost."""
    gaps: int
    """Times that some were lost."""
    seconds: float
    """In which they were counted, gaps left out."""


@dataclass(frozen=True)
class Totals:
    """What was counted so far."""

    domains: Mapping[tuple[str, str], DomainTotal] = field(default_factory=dict)
    """By domain and provenance; those that ever gave a figure, since no figure isn't 0 J."""
    cpu_s: float = 0.0
    """Of this process."""
    other_cpu_s: float = 0.0
    """Of the machine's other processes."""
    failing: Mapping[str, str] = field(default_factory=dict)
    """Domains whose meter gives no figure now, and why."""


class RunningTotals:
    """A sampler's counters since they were attached, added to those of the sampler before. Safe in threads.

    Args:
        sampler: runs.
        before: what was counted by the sampler before, if any; the totals never fall.

    Raises:
        MeterError: the sampler doesn't run.
    """

    def __init__(self, sampler: Sampler, before: Totals | None = None) -> None:
        self.sampler = sampler
        """Whose counters they are."""
        self._lock = threading.Lock()
        self._first = self._last = sampler.mark()
        self._joules = dict.fromkeys(sampler.channels, 0.0)
        self._gaps = dict.fromkeys(sampler.channels, 0)
        self._seconds = dict.fromkeys(sampler.channels, 0.0)
        self._other_cpu_s = 0.0
        self._invalid: dict[str, str] = {}
        self._known: set[str] = set()
        self._frozen = False
        self._base = before or Totals()

    def freeze(self) -> Totals:
        """Read a last time. Call it before the sampler stops."""
        with self._lock:
            if not self._frozen:
                self._update()
            self._frozen = True
            return self._totals()

    def read(self) -> Totals:
        """What was counted up to now; up to the last time if the sampler has stopped."""
        with self._lock:
            if not self._frozen:
                self._update()
            return self._totals()

    def _totals(self) -> Totals:
        domains = dict(self._base.domains)
        for name in sorted(self._known):
            key = (name, self.sampler.channels[name].provenance)
            base = domains.get(key, DomainTotal(0.0, 0, 0.0))
            domains[key] = DomainTotal(
                base.joules + self._joules[name], base.gaps + self._gaps[name], base.seconds + self._seconds[name]
            )
        edges = self._last.edges
        return Totals(
            domains,
            self._base.cpu_s + self._last.process.cpu_s - self._first.process.cpu_s,
            self._base.other_cpu_s + self._other_cpu_s,
            self._invalid | {name: edge.failure for name, edge in edges.items() if edge.failure},
        )

    def _update(self) -> None:
        """Add what was used since the last time."""
        try:
            mark = self.sampler.mark()
        except MeterError:  # the sampler was stopped without a word: what was seen last stays
            self._frozen = True
            return
        window = self.sampler.window(self._last, mark)
        self._invalid = {name: why for name, why in window.void.items() if name not in mark.edges}
        self._other_cpu_s += window.other_cpu_s
        for name in self._joules:
            if name in mark.edges:
                # The sampler's own unwrapped totals: exact however close two marks are.
                self._joules[name] = mark.edges[name].total_j - self._first.edges[name].total_j
                self._gaps[name] = mark.edges[name].resets - self._first.edges[name].resets
            else:
                self._joules[name] += window.energy_j.get(name, 0.0)
                self._gaps[name] += name in window.void
            self._seconds[name] += window.wall_ns / 1e9 if self._counted(name, mark, window) else 0.0
        self._known |= {name for name, joules in self._joules.items() if joules or name in window.energy_j}
        if self._known != self._joules.keys():
            # Two marks may be closer than a counter's refreshes: then its figure is that of all the time.
            self._known |= self.sampler.window(self._first, mark).energy_j.keys()
        self._last = mark

    def _counted(self, name: str, mark: Mark, window: Window) -> bool:
        """Whether a domain's joules since the last time are in its total."""
        if name not in mark.edges:
            return name in window.energy_j
        edge, before = mark.edges[name], self._last.edges[name]
        sound = not edge.failure and edge.resets == before.resets
        return sound and (name in window.energy_j or window.wall_ns < _SHORT_NS)
