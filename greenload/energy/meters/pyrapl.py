"""Reads RAPL through the part of pyRAPL that is right.

pyRAPL assumes the layout of a plain machine: ``/sys/class/powercap/intel-rapl/intel-rapl:0``, ``:1`` … without a gap,
one zone named ``package-N`` for each socket, and ``dram`` either in all of them or in none. :func:`fits` decides that
from our own enumeration, before pyRAPL is asked. Its ``Sensor`` then reads the counters, with four repairs: a lock (it
seeks and reads one handle), new handles after a fork (a child shares the offset of its parent's), its -1 for a missing
value taken as missing, and its microjoules named so (its docstring says joules). Its ``Measurement``, which ignores
wraparound, and its global ``setup`` are never used.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from greenload.energy.domains import Domain

_SOCKET = re.compile(r"package-(\d+)$")


def fits(zone_ids: Mapping[str, str]) -> bool:
    """Whether pyRAPL's layout assumptions hold for these zones. Pure.

    Args:
        zone_ids: zone id by domain, as ``{"cpu:package-0": "intel-rapl:0"}``.

    Example:
        >>> fits({"cpu:package-0": "intel-rapl:0", "dram:package-0": "intel-rapl:0:1"})
        True
        >>> fits({"cpu:package-0-die-1": "intel-rapl:1"})
        False
    """
    sockets: dict[str, set[int]] = {"cpu": set(), "dram": set()}
    for domain, zone_id in zone_ids.items():
        kind, socket = _kind_and_socket(domain)
        # A hexadecimal digit ends pyRAPL's decimal count; mmio zones are outside its path.
        if kind not in sockets or socket is None or not re.match(r"intel-rapl(:\d)+$", zone_id):
            return False
        sockets[kind].add(socket)
    return bool(sockets["cpu"]) and sockets["dram"] in (set(), sockets["cpu"])


def _import_quietly() -> Any:
    """Import pyRAPL without its side effects: a handler on the root logger, and an invalid-escape warning."""
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pyRAPL
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        for handler in [h for h in root.handlers if h not in handlers]:
            root.removeHandler(handler)
    return pyRAPL


class PyRapl:
    """A private pyRAPL sensor: locked, and rebuilt after a fork. Call it for microjoules by domain."""

    def __init__(self, domains: Iterable[str]) -> None:
        self._pyrapl = _import_quietly()
        self._slots = {domain: _slot(domain) for domain in domains}
        self._open()

    def _open(self) -> None:
        device = self._pyrapl.Device
        devices = [device.PKG] + ([device.DRAM] if any(slot % 2 for slot in self._slots.values()) else [])
        self._sensor = self._pyrapl.Sensor(devices=devices)
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def __call__(self) -> dict[str, float]:
        """Microjoules by domain; a domain that pyRAPL has no value for is left out."""
        if os.getpid() != self._pid:
            self._open()
        with self._lock:
            values = self._sensor.energy()
        return {domain: float(values[slot]) for domain, slot in self._slots.items() if values[slot] >= 0}


def _slot(domain: str) -> int:
    """Where pyRAPL's flat list (package 0, dram 0, package 1, …) holds a domain."""
    kind, socket = _kind_and_socket(domain)
    assert socket is not None, "fits() was asked first"
    return 2 * socket + (kind == "dram")


def _kind_and_socket(text: str) -> tuple[str, int | None]:
    """A domain's kind, and the number of its package; None of one that isn't called by its number."""
    domain = Domain.parse(text)
    match = _SOCKET.match(domain.part)
    return domain.kind, None if match is None else int(match[1])


def open_pyrapl(zone_ids: Mapping[str, str]) -> Callable[[], Mapping[str, float]] | None:
    """pyRAPL as a reader of these zones, or None where it isn't installed, doesn't fit, or doesn't read them all.

    Args:
        zone_ids: zone id by domain.
    """
    if not fits(zone_ids):
        return None
    try:
        reader = PyRapl(zone_ids)
        complete = reader().keys() == zone_ids.keys()
    except Exception:  # its own exception class, OSError for an offline CPU: the files serve just as well
        return None
    return reader if complete else None
