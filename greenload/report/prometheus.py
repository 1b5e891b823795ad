"""What a profile or a training costs, at an HTTP endpoint that Prometheus scrapes.

Names follow *Metric and label naming* (prometheus.io/docs/practices/naming): base units (seconds, joules, bytes, watts,
ratios), ``_total`` for what only grows. A figure is three gauges, itself and the ends of its 95 % interval with
``_low`` and ``_high``, so that sums over one name mean something. What no meter gave is absent, never 0.

It is served on the loopback interface unless an address is given: who can reach it reads names of steps and of meters.
prometheus_client (``pip install 'greenload[prometheus]'``) is imported when serving starts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from greenload.energy.attribution.costs import Cost
from greenload.energy.figures import Figure
from greenload.energy.meters.base import MeterStatus
from greenload.energy.sampler import Sampler
from greenload.energy.totals import RunningTotals, Totals
from greenload.errors import UsageError
from greenload.report.cost_records import ReportStep
from greenload.report.data import Report
from greenload.system.endpoint import Answer, Endpoint, parse_address
from greenload.text import printable

if TYPE_CHECKING:
    from prometheus_client import Metric

PORT = 9464
"""Port if none is given: the one that OpenTelemetry's specification gives to Prometheus exporters."""
STATUS = "/status"
"""Where what is watched is told, for ``greenload top``."""
FamilyKind = Literal["gauge", "counter"]


@dataclass(frozen=True)
class Family:
    """One metric: its name, what it means, and a value for each set of labels.

    Raises:
        UsageError: a counter's name doesn't end in ``_total``, or a gauge's does; label names differ.
    """

    name: str
    """By Prometheus' rules."""
    help: str
    """What it means, in a sentence."""
    kind: FamilyKind
    """``"gauge"``, or ``"counter"`` for what only grows."""
    values: tuple[tuple[Mapping[str, str], float], ...]
    """A value for each set of labels. Empty: the metric is absent."""

    def __post_init__(self) -> None:
        if self.name.endswith("_total") != (self.kind == "counter"):
            raise UsageError(
                f"a counter's name ends in _total and a gauge's doesn't, found {self.kind} {self.name!r}: rename it"
            )
        if len({frozenset(labels) for labels, _ in self.values}) > 1:
            raise UsageError(
                f"all values of a metric have the same label names, but those of {self.name!r} differ: use one set"
            )


class Metrics:
    """What is served now. Safe in threads: what is shown is replaced as a whole, never changed.

    Example:
        >>> metrics = Metrics()
        >>> metrics.show("greenload_training_samples_total", "Samples seen.", [({}, 512.0)], "counter")
        >>> [family.name for family in metrics.families()]
        ['greenload_training_samples_total']
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: dict[str, Family] = {}
        self._live: _Live | None = None
        self._status: Callable[[], bytes] | None = None

    def show_status(self, read: Callable[[], bytes]) -> None:
        """Answer ``/status`` too, with a JSON document that is made at each request."""
        self._status = read

    def status(self) -> bytes | None:
        """The document; None where there is none."""
        return None if self._status is None else self._status()

    def show(
        self, name: str, help: str, values: Iterable[tuple[Mapping[str, str], float]], kind: FamilyKind = "gauge"
    ) -> None:
        """Show one metric; it replaces the one of that name.

        Args:
            name: by Prometheus' rules; a counter's ends in ``_total``.
            help: what it means, in a sentence.
            values: a value for each set of labels; all sets have the same label names. Empty: the metric is absent.
            kind: ``"gauge"``, or ``"counter"`` for what only grows.

        Raises:
            UsageError: a counter's name doesn't end in ``_total``, or a gauge's does; label names differ.
        """
        self._put([Family(name, help, kind, tuple((dict(labels), float(value)) for labels, value in values))])

    def show_figures(self, name: str, help: str, figures: Iterable[tuple[Mapping[str, str], Figure]]) -> None:
        """Show figures as three gauges: ``name``, ``name_low`` and ``name_high``. Missing ones are absent."""
        self._put(_gauges(name, help, figures))

    def show_report(self, report: Report) -> None:
        """Show a report's figures, labelled with its pipeline's name; they replace another report's."""
        self._put(_of_report(report))

    def _put(self, families: Iterable[Family]) -> None:
        new = {family.name: family for family in families}
        with self._lock:
            self._shown = self._shown | new

    def progress(self, share: float) -> None:
        """Show how far a profile is, 0 … 1."""
        self.show("greenload_profile_progress_ratio", "Share of the profile that is done.", [({}, share)])

    def attach(self, sampler: Sampler, statuses: Iterable[MeterStatus]) -> None:
        """Show a running sampler's counters, read at each scrape, and which meters can be used.

        A domain is in ``greenload_energy_joules_total`` from its first figure on. Joules that a reset or a failing
        meter lost are not: where ``greenload_energy_gaps_total`` grows, the total is a lower bound. What was counted by
        a sampler that was attached before stays in the totals, which never fall.
        """
        with self._lock:
            before = self._live
        live = _Live(sampler, tuple(statuses), before)
        with self._lock:
            self._live = live

    def detach(self) -> None:
        """Read the counters a last time, and keep showing that. Call it before the sampler stops."""
        if self._live is not None:
            self._live.freeze()

    def families(self) -> list[Family]:
        """Everything that is shown now, the counters read now."""
        with self._lock:
            shown, live = list(self._shown.values()), self._live
        return [family for family in (*shown, *(live.families() if live else ())) if family.values]


class _Live:
    """A sampler's counters since they were attached, and which meters can be used."""

    def __init__(self, sampler: Sampler, statuses: tuple[MeterStatus, ...], before: _Live | None = None) -> None:
        self._statuses = statuses
        self._totals = RunningTotals(sampler, None if before is None else before.freeze())

    def freeze(self) -> Totals:
        return self._totals.freeze()

    def families(self) -> list[Family]:
        totals = self._totals.read()
        energy = [
            ({"domain": name, "provenance": source}, total.joules) for (name, source), total in totals.domains.items()
        ]
        counts: dict[str, int] = {}
        for (name, _), total in totals.domains.items():
            counts[name] = counts.get(name, 0) + total.gaps
        gaps = [({"domain": name}, float(count)) for name, count in counts.items()]
        return [
            Family("greenload_energy_joules_total", _JOULES, "counter", tuple(energy)),
            Family("greenload_energy_gaps_total", _GAPS, "counter", tuple(gaps)),
            Family("greenload_process_cpu_seconds_total", _CPU, "counter", (({}, totals.cpu_s),)),
            Family("greenload_meter_usable", _USABLE, "gauge", tuple(self._usable(totals.failing))),
            Family("greenload_meter_info", _INFO, "gauge", tuple(self._info(totals.failing))),
        ]

    def _usable(self, failing: Mapping[str, str]) -> Iterator[tuple[Mapping[str, str], float]]:
        for status in _one_each(self._statuses):
            yield (
                {"domain": status.domain, "meter": status.meter},
                float(status.usable and status.domain not in failing),
            )

    def _info(self, failing: Mapping[str, str]) -> Iterator[tuple[Mapping[str, str], float]]:
        for status in _one_each(self._statuses):
            reason = failing.get(status.domain, status.reason) if status.usable else status.reason
            labels = {"domain": status.domain, "meter": status.meter, "provenance": status.provenance}
            yield labels | {"reason": reason, "remedy": status.remedy}, 1.0


_CHECK = "1 for each budget and comparison with the baseline, its outcome in a label."
_JOULES = "Energy since serving began: of the whole domain where measured, of this process where modelled."
_GAPS = "Times that a counter was reset, or a model gave no figure: joules around each are not in the total."
_CPU = "CPU time of this process and its waited-for children since serving began."
_USABLE = "1 if the meter gives figures now."
_INFO = "Always 1; why a meter is usable or not, and what helps."


def _of_report(report: Report) -> Iterator[Family]:
    pipeline = {"pipeline": str(report.pipeline.get("name", ""))}
    steps = [
        (pipeline | {"step": step.name, "backend": step.backend, "branch": step.branch}, step)
        for step in _distinct(report.steps)
    ]
    yield from _costs("greenload_step", "of one step for a sample", steps)
    yield from _costs("greenload_unattributed", "in no step for a sample", [(pipeline, report.unattributed)])
    whole = "of the pipeline for a sample, idle floor included"
    yield from _costs("greenload_pipeline", whole, [(pipeline, report.total)])
    speed = [(pipeline, report.full.samples_per_s)]
    yield from _gauges("greenload_pipeline_samples_per_second", "Samples a second at full speed.", speed)
    idle = [(pipeline | _domain(name, figure), figure) for name, figure in report.idle.power_w.items()]
    yield from _gauges("greenload_idle_power_watts", "Power of the idle machine.", idle)
    created = ((pipeline, datetime.fromisoformat(report.created).timestamp()),)
    yield Family("greenload_profile_timestamp_seconds", "When the report was made.", "gauge", created)
    outcomes = sorted({(check.rule, check.outcome) for check in report.checks})
    checks = tuple((pipeline | {"rule": rule, "outcome": outcome}, 1.0) for rule, outcome in outcomes)
    yield Family("greenload_check", _CHECK, "gauge", checks)


def _costs(prefix: str, what: str, costs: Sequence[tuple[Mapping[str, str], Cost]]) -> Iterator[Family]:
    cpu = [(labels, cost.cpu_s_per_sample) for labels, cost in costs]
    yield from _gauges(f"{prefix}_cpu_seconds_per_sample", f"CPU time {what}.", cpu)
    joules = [
        ({**labels, **_domain(name, figure)}, figure)
        for labels, cost in costs
        for name, figure in cost.energy_j_per_sample.items()
    ]
    yield from _gauges(f"{prefix}_energy_joules_per_sample", f"Energy {what}.", joules)
    read = [(labels, cost.device_bytes_per_sample) for labels, cost in costs]
    yield from _gauges(f"{prefix}_device_read_bytes_per_sample", f"Bytes read from storage devices {what}.", read)


def _gauges(name: str, help: str, figures: Iterable[tuple[Mapping[str, str], Figure]]) -> Iterator[Family]:
    known = [(dict(labels), figure) for labels, figure in figures if figure.value is not None]
    ends = (
        ("value", "", help),
        *((end, f"_{end}", f"95 % interval's {end} end of {name}.") for end in ("low", "high")),
    )
    for end, suffix, meaning in ends:
        yield Family(name + suffix, meaning, "gauge", tuple((labels, getattr(figure, end)) for labels, figure in known))


def _one_each(statuses: Iterable[MeterStatus]) -> Iterable[MeterStatus]:
    """One status for each domain and meter: the first, the usable ones before the others."""
    ranked = sorted(statuses, key=lambda status: not status.usable)
    return {(status.domain, status.meter): status for status in reversed(ranked)}.values()


def _distinct(steps: Iterable[ReportStep]) -> list[ReportStep]:
    """The steps, those whose labels would repeat with a number: a series that comes twice can't be scraped."""
    seen: dict[tuple[str, str, str], int] = {}
    distinct = []
    for step in steps:
        key = (step.name, step.backend, step.branch)
        seen[key] = seen.get(key, 0) + 1
        distinct.append(step if seen[key] == 1 else replace(step, name=f"{step.name} ({seen[key]})"))
    return distinct


def _domain(name: str, figure: Figure) -> dict[str, str]:
    return {"domain": name, "provenance": figure.provenance}


class Server(Endpoint):
    """A running endpoint. Close it, or use it as a context manager; its thread is a daemon."""

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        try:
            super().__init__(host, port, _answers(metrics))
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"{host}:{port} can't be served on: {error}; name another port, or 0 for any that is free"
            ) from None
        self.port = self.server_address[1]
        """The port, also where any was asked for."""
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.port}/metrics"
        """Where to scrape."""

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _answers(metrics: Metrics) -> Answer:
    """Metrics in the format that a scrape asks for, by prometheus_client."""
    from prometheus_client import make_wsgi_app
    from prometheus_client.registry import CollectorRegistry

    registry = CollectorRegistry()
    registry.register(_Collector(metrics))
    application = make_wsgi_app(registry)

    def answer(target: str, headers: Mapping[str, str]) -> tuple[Mapping[str, str], bytes]:
        path, _, query = target.partition("?")
        if path == STATUS and (status := metrics.status()) is not None:
            return {"Content-Type": "application/json"}, status
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query}
        environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
        answered: dict[str, str] = {}
        body = b"".join(application(environ, lambda status, fields: answered.update(fields)))
        return answered, body

    return answer


class _Collector:
    """Metrics as prometheus_client collects them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        from prometheus_client import Metric

        for family in self._metrics.families():
            metric = Metric(family.name.removesuffix("_total"), family.help, family.kind)
            for labels, value in family.values:
                metric.add_sample(family.name, {name: _label(text) for name, text in labels.items()}, value)
            yield metric


def _label(text: str) -> str:
    """A label as people may read it in a terminal; the format itself escapes line ends."""
    return "\n".join(map(printable, text.split("\n")))


def serve(metrics: Metrics, address: int | str = PORT) -> Server:
    """Serve metrics at ``/metrics`` until closed.

    Args:
        metrics: what to serve; may be empty still.
        address: a port (0: any that is free), or ``"HOST:PORT"``, as ``"0.0.0.0:9464"`` for every interface. Without a
            host only this machine can scrape.

    Raises:
        UsageError: it can't be served there, as where the port is taken; or prometheus_client isn't installed.

    Example:
        >>> with serve(Metrics(), 0) as server:
        ...     server.url
        'http://127.0.0.1:40213/metrics'
    """
    host, port = parse_address(address)
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise UsageError("serving needs prometheus_client: pip install 'greenload[prometheus]'") from None
    return Server(metrics, host, port)
