"""``measure``: joules and CPU seconds of any code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from greenload.energy.discover import discover
from greenload.energy.figures import Figure
from greenload.energy.meter import Channel, Meter, MeterStatus
from greenload.energy.sampler import PERIOD_S, Sampler, Window
from greenload.errors import MeterError


class Energies(dict[str, Figure]):
    """Figures by domain. Asking for a domain that has none says why, and which there are."""

    def __init__(self, figures: Mapping[str, Figure], void: Mapping[str, str]) -> None:
        super().__init__(figures)
        self._void = dict(void)

    def __missing__(self, domain: str) -> Figure:
        if domain in self._void:
            raise MeterError(f"{domain} has no figure in this window: {self._void[domain]}")
        raise MeterError(
            f"there is no meter for {domain!r}, only for {', '.join(sorted({*self, *self._void})) or 'nothing'}: "
            "greenload doctor says why and what helps"
        )


class MeasuredWindow:
    """What :func:`measure` gives. Its figures are there once the ``with`` block has ended, whether or not it raised."""

    def __init__(self, statuses: Sequence[MeterStatus], channels: Mapping[str, Channel]) -> None:
        self.statuses: Sequence[MeterStatus] = tuple(statuses)
        """Every meter found or missing, with reason and remedy."""
        self._channels = dict(channels)
        self._window: Window | None = None

    def _finish(self, window: Window) -> None:
        self._window = window

    @property
    def window(self) -> Window:
        """The plain numbers.

        Raises:
            MeterError: the block is still running.
        """
        if self._window is None:
            raise MeterError("a window has figures only after its block ended: read them after the with statement")
        return self._window

    @property
    def energy_j(self) -> Energies:
        """Joules by domain: of the whole package or GPU where measured, of this process where modelled.

        One window has no sampling error to estimate: ``low`` and ``high`` are how far a measured figure may be off
        because its counter is refreshed only so often, and equal ``value`` for a model, whose error is ``systematic``.
        """
        window = self.window
        return Energies(
            {domain: _figure(self._channels[domain], window, joules) for domain, joules in window.energy_j.items()},
            window.void,
        )

    @property
    def void(self) -> Mapping[str, str]:
        """Domains that have a meter but no figure in this window, and why."""
        return self.window.void

    @property
    def provenance(self) -> Mapping[str, str]:
        """``measured``, ``vendor-declared`` or ``modelled`` for each metered domain."""
        return {domain: channel.provenance for domain, channel in self._channels.items()}

    @property
    def wall_s(self) -> float:
        """Length in seconds of monotonic time."""
        return self.window.wall_ns / 1e9

    @property
    def cpu_s(self) -> float:
        """CPU seconds of this process and of its waited-for children."""
        return self.window.cpu_s

    @property
    def other_cpu_s(self) -> float:
        """Busy CPU seconds of the rest of the machine, which a measured figure contains."""
        return self.window.other_cpu_s

    @property
    def rss_bytes(self) -> int:
        """Mean resident memory, in bytes."""
        return self.window.rss_bytes

    @property
    def device_read_bytes(self) -> int | None:
        """Bytes fetched from storage devices; None where the system doesn't tell."""
        return self.window.device_read_bytes

    @property
    def device_written_bytes(self) -> int | None:
        """Bytes sent to storage devices; None where the system doesn't tell."""
        return self.window.device_written_bytes

    def __repr__(self) -> str:
        if self._window is None:
            return "MeasuredWindow(running)"
        joules = ", ".join(
            f"{domain}={value:.3g} J {self._channels[domain].provenance}"
            for domain, value in self._window.energy_j.items()
        )
        return f"MeasuredWindow({self.wall_s:.3f} s, cpu {self.cpu_s:.3f} s, {joules})"


def _figure(channel: Channel, window: Window, joules: float) -> Figure:
    off_j = window.resolution_j.get(channel.domain, 0.0)
    return Figure(
        joules,
        max(0.0, joules - off_j),
        joules + off_j,
        channel.provenance,
        channel.systematic,
        unresolved=off_j >= joules > 0,
    )


@contextmanager
def measure(
    meters: tuple[Sequence[Meter], Sequence[MeterStatus]] | None = None,
    *,
    period_s: float = PERIOD_S,
    **discovery: Any,
) -> Iterator[MeasuredWindow]:
    """Measure a block of code with every meter of this machine.

    Args:
        meters: meters and their statuses, as from :func:`greenload.energy.discover.discover`, which is asked if None.
            They are closed at the end.
        period_s: seconds between polls.
        discovery: passed to ``discover``, as ``powercap_root=…``.

    Yields:
        A window whose figures are there after the block, also if the block raised.

    Example:
        >>> with measure() as window:
        ...     total = sum(range(1_000_000))
        >>> window.cpu_s > 0 and window.wall_s > 0
        True
    """
    found, statuses = meters if meters is not None else discover(**discovery)
    with Sampler(found, period_s=period_s) as sampler:
        measured = MeasuredWindow(statuses, sampler.channels)
        start = sampler.mark()
        try:
            yield measured
        finally:
            measured._finish(sampler.window(start, sampler.mark()))
