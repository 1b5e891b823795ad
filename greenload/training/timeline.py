"""What a fit drew over time, step by step: spans from one instant to the next, each split as an epoch is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from greenload.energy.figures import Figure, sum_figures
from greenload.errors import UsageError
from greenload.profiling.in_place.model import count
from greenload.report.record import Record
from greenload.training.spent import EnergyPart, Spent

_NEGLIGIBLE = 0.01
"""Share of all joules below which a domain's band isn't that of the whole."""


@dataclass(frozen=True, slots=True)
class TimelineRow(Record):
    """One layer of the stack."""

    name: str
    """A watched step's, ``"hand-over"`` where a profile tells it, or what the rest of the power went into: ``"model"``,
    ``"validation"``, ``"others"``, ``"idle"``."""
    kind: str
    """``"step"``, or the name of such a rest."""
    watts: tuple[float | None, ...]
    """In each span, of all domains; None where a meter gave no figure."""
    cpus: tuple[float, ...]
    """Processors busy with it in each span."""


@dataclass(frozen=True, slots=True)
class Timeline(Record):
    """Watts by step in the spans of a fit, one after the other."""

    start_s: tuple[float, ...]
    """When each span began, in seconds since the fit did."""
    end_s: tuple[float, ...]
    rows: tuple[TimelineRow, ...]
    """Layers that add up to all watts, the lowest first."""
    waiting: tuple[float | None, ...]
    """Share of each span in which the training step waited for a batch; None in validation and where unknown."""
    buffered_bytes: tuple[float | None, ...]
    """RAM in the loader's buffers; None where the runtime tells nothing, or counts wrongly (below zero)."""
    testing: tuple[bool, ...] = ()
    """Whether each span was part of a validation."""
    provenance: str = "modelled"
    """Of the watts of all layers together."""
    systematic: float = 0.0
    """The band of their model."""

    def __post_init__(self) -> None:
        spans = len(self.start_s)
        columns: list[Sequence[object]] = [self.end_s, self.waiting, self.buffered_bytes, self.testing or self.start_s]
        columns += [values for row in self.rows for values in (row.watts, row.cpus)]
        if wrong := [len(values) for values in columns if len(values) != spans]:
            raise UsageError(f"a timeline has a value for each of its {spans} spans, found {wrong[0]}: give as many")
        object.__setattr__(self, "buffered_bytes", tuple(map(count, self.buffered_bytes)))

    def watts(self, number: int) -> float | None:
        """Watts of all layers in a span; None where one isn't known."""
        values = [row.watts[number] for row in self.rows]
        return None if None in values else math.fsum(value for value in values if value is not None)


@dataclass(frozen=True)
class SpanSpent:
    """What was spent in a short span of a fit."""

    start_s: float
    """Since the fit began."""
    testing: bool
    """Whether it was part of a validation."""
    spent: Spent


def timeline(spans: Sequence[SpanSpent], total: EnergyPart) -> Timeline | None:
    """The spans of a fit as layers; None where there are none.

    Args:
        spans: one after the other.
        total: joules of the whole fit, for their provenance.
    """
    spans = [span for span in spans if span.spent.wall_s > 0]
    if not spans:
        return None
    layers = [_layers(span) for span in spans]
    drawn = sum_figures(weighty(total))
    steps = dict.fromkeys(name for of_span in layers for name, kind in of_span if kind == "step")
    rests = [name for name in ("model", "validation", "others") if any((name, name) in one for one in layers)]
    rows = [
        TimelineRow(
            name,
            kind,
            tuple(_rate(one.get((name, kind), _NOTHING)[0], span) for one, span in zip(layers, spans, strict=True)),
            tuple(
                max(0.0, one.get((name, kind), _NOTHING)[1] / span.spent.wall_s)
                for one, span in zip(layers, spans, strict=True)
            ),
        )
        for name, kind in [("idle", "idle"), *((name, "step") for name in steps), *((name, name) for name in rests)]
    ]
    return Timeline(
        start_s=tuple(round(span.start_s, 3) for span in spans),
        end_s=tuple(round(span.start_s + span.spent.wall_s, 3) for span in spans),
        rows=tuple(row for row in rows if any(row.watts) or any(row.cpus)),
        waiting=tuple(None if span.testing else _share(span.spent.waiting_share) for span in spans),
        buffered_bytes=tuple(span.spent.buffered_bytes for span in spans),
        testing=tuple(span.testing for span in spans),
        provenance=drawn.provenance,
        systematic=drawn.systematic,
    )


def weighty(part: EnergyPart) -> list[Figure]:
    """A part's joules by domain, without the domains that have next to none: their bands aren't the whole's."""
    known = [figure for figure in part.energy_j.values() if figure.value is not None]
    least = _NEGLIGIBLE * sum(figure.value or 0.0 for figure in known)
    return [figure for figure in known if (figure.value or 0.0) >= least]


_Layer = tuple[float | None, float]
"""Joules and CPU seconds."""
_NOTHING: _Layer = (0.0, 0.0)


def _layers(span: SpanSpent) -> dict[tuple[str, str], _Layer]:
    spent = span.spent
    idle = sum_figures([spent.idle.total_j, spent.waiting.total_j], common=True).value
    found: dict[tuple[str, str], _Layer] = {("idle", "idle"): (idle, 0.0)}
    if span.testing:
        found["validation", "validation"] = _layer(spent.work)
        return found | _others(spent)
    for step in spent.steps:  # the hand-over among them, where it is told
        found[step.name, "step"] = _layer(step)
    found["model", "model"] = _layer(spent.model if spent.is_watched else spent.work)
    return found | _others(spent)


def _others(spent: Spent) -> dict[tuple[str, str], _Layer]:
    """The rest of the machine, where a counter sees it; its CPU seconds aren't this process's."""
    joules = spent.others.total_j.value
    return {} if joules is None else {("others", "others"): (joules, 0.0)}


def _layer(part: EnergyPart) -> _Layer:
    cpu_s = part.cpu_s.value if part.cpu_s is not None else None
    return part.total_j.value, cpu_s or 0.0


def _rate(joules: float | None, span: SpanSpent) -> float | None:
    """Watts: below zero there is nothing to be drawn, where errors exceed a small part."""
    return None if joules is None else round(max(0.0, joules / span.spent.wall_s), 4)


def _share(value: float | None) -> float | None:
    return None if value is None else round(min(1.0, max(0.0, value)), 4)
