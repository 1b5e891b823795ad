"""What Prometheus is shown of a fit: the last epoch's figures, and what watched steps have done so far."""

from __future__ import annotations

from collections.abc import Mapping

from greenload.energy.figures import Figure
from greenload.profiling.in_place.watched import Watched
from greenload.report.prometheus import Metrics
from greenload.training.instants import Instant
from greenload.training.spent import EnergyPart, Spent

_Labels = Mapping[str, str]


def show_epoch(metrics: Metrics, spent: Spent, epochs: int, samples: int | None) -> None:
    """Show all figures of an epoch, empty where unknown: those of an earlier epoch aren't true of this one.

    Args:
        metrics: where.
        spent: of the epoch.
        epochs: trained so far.
        samples: trained on so far; None where that isn't known.
    """
    show, figures, waiting_s = metrics.show, metrics.show_figures, spent.passed.waiting_s

    def unlabelled(value: float | None) -> list[tuple[_Labels, float]]:
        return [] if value is None else [({}, value)]

    show("greenload_training_epochs_total", "Epochs trained.", unlabelled(epochs), "counter")
    show("greenload_training_samples_total", "Samples trained on.", unlabelled(samples), "counter")
    waited = "Time the step waited for data, last epoch."
    show("greenload_training_epoch_waiting_seconds", waited, unlabelled(waiting_s))

    def joules(energy_part: EnergyPart, **labels: str) -> list[tuple[_Labels, Figure]]:
        return [
            ({**labels, "domain": domain, "provenance": figure.provenance}, figure)
            for domain, figure in energy_part.energy_j.items()
        ]

    total = "greenload_training_epoch_total_energy_joules"
    figures(total, "Energy of the last epoch.", joules(spent.total))
    figures(
        "greenload_training_epoch_energy_joules",
        f"Energy of the last epoch by what it went into; the parts add up to {total}.",
        [value for part in spent.parts for value in joules(part, part=part.name)],
    )
    figures(
        "greenload_training_epoch_loader_energy_joules",
        "Energy of the last epoch's loading by step.",
        [value for step in spent.steps for value in joules(step, step=step.name)],
    )


Highest = dict[tuple[str, str, str], float]
"""What was shown last, by metric, dataset and step: where a part of the calls is timed, a later estimate may be less,
which Prometheus would take for a new beginning."""


def show_instant(metrics: Metrics, highest: Highest, instant: Instant) -> None:
    """Show what the steps of everything watched have done since they were made, and what is in buffers now."""

    def seconds(what: str, labels: _Labels, value: float) -> tuple[_Labels, float]:
        key = (what, labels["dataset"], labels["step"])
        highest[key] = max(value, highest.get(key, 0.0))
        return labels, highest[key]

    works = [
        ({"dataset": _name(watched), "step": name}, work)
        for watched, moment in instant.moments.items()
        for name, work in moment.steps.items()
        if work.calls
    ]
    show = metrics.show
    show(
        "greenload_training_step_calls_total",
        "Calls of a watched step's function.",
        [(labels, float(work.calls)) for labels, work in works],
        "counter",
    )
    show(
        "greenload_training_step_cpu_seconds_total",
        "CPU time of a watched step's function.",
        [seconds("cpu", labels, cpu_s) for labels, work in works if (cpu_s := work.total_cpu_s) is not None],
        "counter",
    )
    show(
        "greenload_training_step_waiting_seconds_total",
        "Time in which calls of a watched step had no processor, summed over calls beside each other.",
        [
            seconds("waiting", labels, each * work.calls)
            for labels, work in works
            if (each := work.waiting_s_per_call) is not None
        ],
        "counter",
    )
    if instant.waits is not None and not instant.waits.blind:
        waited = "Time that the training step has waited for data since the fit began."
        show("greenload_training_waiting_seconds", waited, [({}, instant.waits.seconds)])
    buffers = [({"node": f"{number} {buffer.name}"}, buffer) for number, buffer in enumerate(instant.buffers)]
    show(
        "greenload_training_buffered_bytes",
        "RAM in the loader's buffers by node of tf.data's runtime, the last first.",
        [(labels, buffer.bytes) for labels, buffer in buffers if buffer.bytes is not None],
    )
    show(
        "greenload_training_parallel_calls",
        "Calls that a node of tf.data's runtime may run beside each other now.",
        [(labels, buffer.parallelism) for labels, buffer in buffers if buffer.parallelism is not None],
    )


def _name(watched: Watched) -> str:
    """Unique in the process: two datasets may be watched at one place."""
    return f"{watched.number} {watched.name}".strip()
