"""A meter that replays readings: the fake for whatever reads meters."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from greenload.energy.meters.base import Channel, Reading
from greenload.errors import MeterError


class ReplayMeter:
    """A meter that replays a list of readings: the fake for tests of whatever reads meters.

    Args:
        channels: its domains.
        readings: raw counters in joules, one mapping per read; the last one is repeated for ever. A domain that a
            mapping lacks, or holds as a text, fails in that read (the text is the reason).
        name: what it says it is.

    Example:
        >>> meter = ReplayMeter([Channel("cpu:package-0", "measured")], [{"cpu:package-0": 1.0}])
        >>> meter.read().counter_j["cpu:package-0"]
        1.0
    """

    def __init__(
        self, channels: Sequence[Channel], readings: Sequence[Mapping[str, float | str]], name: str = "replay"
    ) -> None:
        if not readings:
            raise MeterError("a replayed meter needs at least one reading, got none: give it a list of mappings")
        self.name = name
        self.channels: Sequence[Channel] = tuple(channels)
        self.closed = False
        self._readings = list(readings)
        self._next = 0

    def read(self) -> Reading:
        """The next reading of the list, at the present time."""
        values = self._readings[min(self._next, len(self._readings) - 1)]
        self._next += 1
        counter_j: dict[str, float] = {}
        failed: dict[str, str] = {}
        for channel in self.channels:
            value = values.get(channel.domain, "not in the replayed reading")
            if isinstance(value, str):
                failed[channel.domain] = value
            else:
                counter_j[channel.domain] = value
        return Reading(time.monotonic_ns(), counter_j, failed)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True
