"""What a process runs in: a container, a virtual machine, a share of the CPUs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_CONTAINER_FILES = {".dockerenv": "Docker", "run/.containerenv": "Podman"}
_CONTAINER_NAMES = ("run/systemd/container", "run/host/container-manager")
_MANAGERS = {
    "kubepods": "Kubernetes",
    "docker": "Docker",
    "libpod": "Podman",
    "/lxc": "LXC",
    "containerd": "containerd",
}
_DRIVERS = ("intel_rapl_msr", "intel_rapl_tpmi", "intel_rapl")
"""Kernel modules that make zones: by registers, by tables of newer Xeons, and of kernels before 5.3."""


@dataclass(frozen=True)
class Surroundings:
    """What decides whether counters can be seen, and what helps where they can't."""

    system: str
    """``"Linux"``, as ``platform.system()`` has it."""
    architecture: str
    """``"x86_64"``, as ``platform.machine()`` has it."""
    processor: str
    """The processor's name; empty where the system doesn't tell."""
    virtual: str
    """What the virtual machine's maker calls it, or that it isn't named; empty on bare metal."""
    container: str
    """``"Docker"``, ``"Podman"``, ``"Kubernetes"`` or another; empty outside one."""
    driver: bool
    """Whether a kernel module of RAPL is loaded."""

    def rapl_remedy(self, powercap: bool) -> str:
        """What helps where the powercap class has no RAPL zone.

        Args:
            powercap: whether the class's folder exists.

        Returns:
            One sentence: what is in the way, and what to do about it.
        """
        if self.system != "Linux":
            return f"RAPL counters are read from Linux' powercap class: {self.system} has none"
        if self.architecture not in ("x86_64", "AMD64", "i686", "i386"):
            return f"RAPL is Intel's and AMD's: a processor of the kind {self.architecture} has no such counter"
        if self.virtual:
            return (
                f"this is a virtual machine ({self.virtual}), and hypervisors pass no energy counter on: measure on "
                "bare metal, in clouds an instance whose type is named metal"
            )
        if self.container:
            return (
                f"in this container ({self.container}) the host's counters are hidden: start it with docker run "
                "--security-opt systempaths=unconfined, or podman run --security-opt "
                "unmask=/sys/devices/virtual/powercap; if the host has none either, run greenload doctor there"
            )
        if not powercap:
            return "this kernel is built without powercap: use one with CONFIG_POWERCAP and CONFIG_INTEL_RAPL"
        if not self.driver:
            return "the kernel's module isn't loaded: sudo modprobe intel_rapl_msr (AMD too)"
        name = f" ({self.processor})" if self.processor else ""
        return f"the kernel's RAPL module is loaded, but doesn't know this processor{name}: a newer kernel may"


def look(root: str | os.PathLike[str] = "/", environ: Mapping[str, str] | None = None) -> Surroundings:
    """Find out what this process runs in.

    Args:
        root: of the file system.
        environ: environment variables; the process's own if None.

    Example:
        >>> look().system
        'Linux'
    """
    base, variables = Path(root), os.environ if environ is None else environ
    cpuinfo = _text(base / "proc/cpuinfo")
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())}
    hypervisor = "hypervisor" in fields.get("flags", "").split()  # CPUID's bit for guests, set by all common ones
    return Surroundings(
        platform.system(),
        platform.machine(),
        fields.get("model name", ""),
        _hypervisor(base) if hypervisor else "",
        _container(base, variables),
        any((base / "sys/module" / name).exists() for name in _DRIVERS),
    )


def _hypervisor(base: Path) -> str:
    dmi = base / "sys/class/dmi/id"
    names = [_text(dmi / name).strip() for name in ("sys_vendor", "product_name")]
    names.append("" if any(names) else _text(base / "sys/hypervisor/type").strip())
    return " ".join(name for name in names if name) or "its maker isn't named"


def _container(base: Path, environ: Mapping[str, str]) -> str:
    """As systemd-detect-virt looks for one; besides by Kubernetes' variable, and the control groups of the first
    process, which bear the container manager's name where they aren't hidden."""
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "Kubernetes"
    for name, maker in _CONTAINER_FILES.items():
        if (base / name).exists():
            return maker
    said = (environ.get("container", ""), *(_text(base / name).strip() for name in _CONTAINER_NAMES))
    groups = _text(base / "proc/1/cgroup")
    return next((one for one in (*said, *(maker for name, maker in _MANAGERS.items() if name in groups)) if one), "")


def usable_cpus(root: str | os.PathLike[str] = "/") -> float:
    """CPUs that this process may use: by its affinity, and by the quota of its control groups, whichever is less.

    A quota may be a fraction: ``docker run --cpus 1.5`` sets one of 1.5 CPUs. Control groups nest, and the least quota
    on the way to the root counts (kernel documentation, ``cgroup-v2.rst``, ``cpu.max``; in version 1
    ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``).

    Args:
        root: of the file system.

    Example:
        >>> 0 < usable_cpus() <= os.cpu_count()
        True
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([float(allowed), *_quotas(Path(root))])


def _quotas(base: Path) -> Iterator[float]:
    """CPUs that control groups allow, one figure for each that has a limit."""
    mounted = base / "sys/fs/cgroup"
    for line in _text(base / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            for folder in _upwards(mounted, path):
                quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
                yield from _limit(quota, period)
        elif "cpu" in controllers.split(","):
            for name in dict.fromkeys((controllers, "cpu")):
                for folder in _upwards(mounted / name, path):
                    quota, period = (_text(folder / f"cpu.cfs_{one}_us").strip() for one in ("quota", "period"))
                    yield from _limit(quota, period)


def _upwards(mounted: Path, path: str) -> Iterator[Path]:
    """A control group's folder and those it is nested in, up to where the hierarchy is mounted.

    In a container the path is the host's, and not there: the container's own group is what is mounted.
    """
    folder = mounted / path.strip("/")
    while folder != mounted and mounted in folder.parents:
        yield folder
        folder = folder.parent
    yield mounted


def _limit(quota: str, period: str) -> Iterator[float]:
    """A quota in CPUs; none where it is ``max``, -1 or missing."""
    if quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0:
        yield int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
