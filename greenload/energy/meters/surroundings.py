"""What a process runs in: a container, a virtual machine, a kernel with or without RAPL's driver."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from greenload.system.kernel_files import kernel_text

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
    cpuinfo = kernel_text(base / "proc/cpuinfo")
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
    names = [kernel_text(dmi / name).strip() for name in ("sys_vendor", "product_name")]
    names.append("" if any(names) else kernel_text(base / "sys/hypervisor/type").strip())
    return " ".join(name for name in names if name) or "its maker isn't named"


def _container(base: Path, environ: Mapping[str, str]) -> str:
    """As systemd-detect-virt looks for one; besides by Kubernetes' variable, and the control groups of the first
    process, which bear the container manager's name where they aren't hidden."""
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "Kubernetes"
    for name, maker in _CONTAINER_FILES.items():
        if (base / name).exists():
            return maker
    said = (environ.get("container", ""), *(kernel_text(base / name).strip() for name in _CONTAINER_NAMES))
    groups = kernel_text(base / "proc/1/cgroup")
    managers = (maker for name, maker in _MANAGERS.items() if name in groups)
    return next((name for name in (*said, *managers) if name), "")
