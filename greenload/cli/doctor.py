"""What works on this machine: every meter, backend and optional part, why not, and what helps."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from greenload import backends
from greenload.backends import BACKENDS
from greenload.backends.dali import plugin as dali_plugin
from greenload.backends.pillow.backend import FASTER
from greenload.energy.meters.discover import discover
from greenload.text import error_line


@dataclass(frozen=True)
class Finding:
    """One line of ``greenload doctor``."""

    kind: str
    """``"meter"``, ``"backend"`` or ``"part"``."""
    name: str
    usable: bool
    detail: str
    """What was found, or why it can't be used."""
    remedy: str = ""
    """What would make it usable; empty where nothing needs to be done, or nothing can."""

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON data."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything; takes a few seconds, since backends are loaded for real."""
    meters, statuses = discover()
    for meter in meters:
        meter.close()
    findings = [Finding("meter", f"{s.domain} ({s.provenance})", s.usable, s.reason, s.remedy) for s in statuses]
    for name in BACKENDS:
        found = backends.get(name).availability()
        findings.append(Finding("backend", name, found.usable, found.detail, found.remedy))
    plugin = dali_plugin.availability()
    datasets = functools.partial(_version, "tensorflow_datasets.public_api", "tensorflow-datasets")
    return [
        *findings,
        _part("Pillow-SIMD", _pillow, FASTER),
        Finding("part", plugin.name, plugin.usable, plugin.detail, plugin.remedy),
        _part("tensorflow-datasets", datasets, "pip install tensorflow-datasets"),
    ]


def _part(name: str, look: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding("part", name, True, look())
    except Exception as error:  # whatever a broken installation throws is the finding
        return Finding("part", name, False, error_line(error), remedy)


def _version(module: str, package: str) -> str:
    importlib.import_module(module)
    return f"loads, version {metadata.version(package)}"


def _pillow() -> str:
    found = backends.get("pillow").availability()
    if found.remedy:
        raise RuntimeError(found.detail)
    return found.detail
