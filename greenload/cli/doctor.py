"""The command doctor: what works on this machine, every meter, backend and optional part, why not, and what helps."""

from __future__ import annotations

import argparse
import functools
import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata

from greenload.cli.arguments import AddCommand, check_writable
from greenload.cli.output import OK, quiet_tensorflow, say, write_json
from greenload.text import error_line, printable


@dataclass(frozen=True)
class Finding:
    """One line of ``greenload doctor``."""

    kind: str
    """``"meter"``, ``"backend"`` or ``"part"``."""
    name: str
    usable: bool
    detail: str
    """Its version or device, or why it can't be used."""
    remedy: str = ""
    """What would make it usable; empty where nothing needs to be done, or nothing can."""


def add_command(add: AddCommand) -> None:
    """Add the command to the parser."""
    add("doctor", _doctor, "which meters and backends work here, why others don't, and what helps")


def _doctor(options: argparse.Namespace) -> int:
    from rich.text import Text

    from greenload.report.columns import Facts

    check_writable(options.json)
    quiet_tensorflow()
    findings = examine()
    rows: list[tuple[str | Text, ...]] = []
    for finding in findings:
        mark = Text("yes", style="green") if finding.usable else Text("no", style="red")
        cells = (f"{finding.kind} {finding.name}", finding.detail, finding.remedy)
        rows.append((mark, *map(printable, cells)))
    write_json(options.json, {"findings": [asdict(finding) for finding in findings]})
    say(Facts(("", "what", "found, or why not", "remedy"), rows, named=2))
    return OK


def examine() -> list[Finding]:
    """Look at everything; takes a few seconds, since backends are loaded for real."""
    from greenload.backends import registry
    from greenload.backends.dali import plugin as dali_plugin
    from greenload.backends.pillow.backend import FASTER
    from greenload.energy.meters.discover import discover

    meters, statuses = discover()
    for meter in meters:
        meter.close()
    findings = [Finding("meter", f"{s.domain} ({s.provenance})", s.usable, s.reason, s.remedy) for s in statuses]
    for name in registry.BACKENDS:
        known = registry.get(name).availability()
        findings.append(Finding("backend", name, known.usable, known.detail, known.remedy))
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
    except Exception as error:  # any error of a broken installation is the finding
        return Finding("part", name, False, error_line(error), remedy)


def _version(module: str, package: str) -> str:
    importlib.import_module(module)
    return f"loads, version {metadata.version(package)}"


def _pillow() -> str:
    from greenload.backends import registry

    backend = registry.get("pillow").availability()
    if backend.remedy:
        raise RuntimeError(backend.detail)
    return backend.detail
