"""What the figures were found on: the facts of a machine that a report and a benchmark carry."""

from __future__ import annotations

import platform
from importlib import metadata

import psutil

from greenload.plans.plan import processors
from greenload.report.data import Machine

_PACKAGES = ("greenload", "tensorflow", "nvidia-dali-cuda130", "nvidia-dali-cuda120", "numpy", "pyRAPL", "psutil")


def machine() -> Machine:
    """The facts of this machine, as far as the system tells."""
    return Machine(
        cpu_model=_cpu_model(),
        cpus=processors(),
        memory_bytes=psutil.virtual_memory().total,
        os=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        python=platform.python_version(),
        packages={name: version for name in _PACKAGES if (version := _version(name))},
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine() or "unknown"
