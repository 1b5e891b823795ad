"""The machine that figures were found on: what a report, a cost table and a benchmark carry."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

_PACKAGES = ("greenload", "tensorflow", "nvidia-dali-cuda130", "nvidia-dali-cuda120", "numpy", "pyRAPL", "psutil")


@dataclass(frozen=True)
class Machine:
    """What the figures were found on."""

    cpu_model: str
    cpus: int
    """Processors that the process could use."""
    memory_bytes: int
    os: str
    python: str
    packages: Mapping[str, str]
    """Versions by package."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Anything else that was known, such as GPUs; beside the other fields in JSON."""


def machine() -> Machine:
    """The facts of this machine, as far as the system tells."""
    import psutil

    return Machine(
        cpu_model=cpu_model(),
        cpus=processors(),
        memory_bytes=psutil.virtual_memory().total,
        os=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        python=platform.python_version(),
        packages=package_versions(_PACKAGES),
    )


def processors() -> int:
    """How many processors this process may use, by its affinity."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def package_versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    return {name: version for name in packages if (version := _version(name))}


@functools.cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def cpu_model() -> str:
    """The processor's name, as far as the system tells."""
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine() or "unknown"
