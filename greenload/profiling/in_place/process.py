"""All datasets and batches of a process, watched while its program runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from greenload.backends.native.library import loaded
from greenload.energy.measure import measure
from greenload.errors import BackendUnavailable
from greenload.loading.graph_clocks import clock_all
from greenload.loading.iterate import tell_batches
from greenload.profiling.in_place.all_functions import AllFunctions
from greenload.profiling.in_place.iterated import Iterated
from greenload.profiling.in_place.live import Live, live
from greenload.profiling.in_place.process_span import ProcessSpan
from greenload.profiling.in_place.watched import Moment, Watched

_MACHINE = "of the whole machine, idle power included"


class ProcessWatch:
    """Watches the batches that ``iterate`` makes in this process from now on, and datasets from `watch_datasets` on."""

    def __init__(self) -> None:
        self._functions = AllFunctions()
        self._iterated = Iterated(self._functions)
        tell_batches(self._iterated.note_batches)
        self._failures: list[str] = []
        self._energy = measure()
        self._window = self._energy.__enter__()
        self._begun = _now()

    def watch_datasets(self, datasets: Any) -> None:
        """Watch the datasets that are made from now on. Where they can't be, `end` tells why.

        Args:
            datasets: TensorFlow's module ``dataset_ops``, which may be all of TensorFlow that is imported yet.
        """
        try:
            loaded()
            clock_all()
            self._functions.patch(datasets.structured_function.StructuredFunctionWrapper)
            self._iterated.patch(datasets.DatasetV2)
        except (BackendUnavailable, AttributeError) as error:  # there is no kernel, or TensorFlow has other classes
            self._failures.append(f"no dataset can be watched: {error}")

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
        notes = [*self._failures]
        if not (any_watched or notes):
            notes.append("the script iterates no dataset whose steps can be watched")
        by_reason: dict[str, list[str]] = {}
        for name, reason in {**self._functions.failures, **self._iterated.unwatched()}.items():
            by_reason.setdefault(reason, []).append(name)
        return [*notes, *(f"not watched: {', '.join(names)}: {reason}" for reason, names in by_reason.items())]


def _now() -> Moment:
    return Moment(time.monotonic(), time.process_time(), {})


def _since_begin(watched: Watched, span: Moment) -> Moment:
    now = watched.read()
    return Moment(span.time_s, span.cpu_s, now.steps, now.samples)
