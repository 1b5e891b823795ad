"""All datasets of a process, watched while its program runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from greenload.backends.native.library import loaded
from greenload.energy.measure import measure
from greenload.loading.graph_clocks import clock_all
from greenload.profiling.in_place.all_functions import AllFunctions
from greenload.profiling.in_place.iterated import Iterated
from greenload.profiling.in_place.live import Live, live
from greenload.profiling.in_place.watched import Moment, Watched

FORMAT = "greenload.watch/1"
_MACHINE = "of the whole machine, idle power included"


@dataclass(frozen=True)
class ProcessSpan:
    """What a process did from the moment when it imported TensorFlow."""

    live: Live
    notes: Sequence[str]
    """What couldn't be watched, and why, a sentence each."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {"format": FORMAT, **self.live.to_dict(), "notes": list(self.notes)}


class ProcessWatch:
    """Watches the datasets that this process makes from now on.

    Args:
        datasets: TensorFlow's module ``dataset_ops``, which may be all of TensorFlow that is imported yet.

    Raises:
        BackendUnavailable: there is no kernel.
        AttributeError: this TensorFlow has no such classes.
    """

    def __init__(self, datasets: Any) -> None:
        loaded()
        self._functions = AllFunctions()
        self._iterated = Iterated(self._functions)
        clock_all()
        self._functions.patch(datasets.structured_function.StructuredFunctionWrapper)
        self._iterated.patch(datasets.DatasetV2)
        self._energy = measure()
        self._window = self._energy.__enter__()
        self._begun = _now()

    def end(self) -> ProcessSpan:
        """What was done until now."""
        span = _now() - self._begun
        self._energy.__exit__(None, None, None)
        watched = self._iterated.watched()
        moments = [(one, _since_begin(one, span)) for one in watched]
        joules = {domain: figure.value for domain, figure in self._window.energy_j.items() if figure.value is not None}
        told = live(moments, joules, self._provenance())
        whole = Live(span.time_s, span.cpu_s, told.datasets, told.energy_j, told.provenance)
        return ProcessSpan(whole, self._notes(bool(watched)))

    def _provenance(self) -> Mapping[str, str]:
        return {
            domain: f"{provenance}, {_MACHINE}" if provenance == "measured" else provenance
            for domain, provenance in self._window.provenance.items()
        }

    def _notes(self, any_watched: bool) -> Sequence[str]:
        notes = [] if any_watched else ["the script iterates no dataset whose steps can be watched"]
        by_reason: dict[str, list[str]] = {}
        for name, reason in {**self._functions.failures, **self._iterated.unwatched()}.items():
            by_reason.setdefault(reason, []).append(name)
        return [*notes, *(f"not watched: {', '.join(names)}: {reason}" for reason, names in by_reason.items())]


def _now() -> Moment:
    return Moment(time.monotonic(), time.process_time(), {})


def _since_begin(watched: Watched, span: Moment) -> Moment:
    now = watched.read()
    return Moment(span.time_s, span.cpu_s, now.steps, now.samples)
