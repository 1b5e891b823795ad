"""The machine's facts, for reports, cost tables and benchmarks, and how many CPUs this process may use."""

from __future__ import annotations

import email.parser  # noqa: F401 - importlib.metadata imports it once it is asked: see forking
import functools
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from greenload.system.kernel_files import kernel_text

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

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON data."""
        facts = asdict(self)
        return {**facts.pop("extra"), **facts}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Machine:
        """The inverse of `to_dict`."""
        known = {fact.name for fact in fields(Machine)} - {"extra"}
        extra = {name: value for name, value in data.items() if name not in known}
        return cls(**{name: data[name] for name in known}, extra=extra)


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
    """How many processors this process may run on, by its affinity: as many threads can run at once.

    Control groups may give it less time than that: see `usable_cpus`.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cpus(root: str | os.PathLike[str] = "/") -> float:
    """CPU seconds a second that this process may use: its `processors`, or the quota of its control groups if less.

    A quota may be a fraction: ``docker run --cpus 1.5`` sets one of 1.5 CPUs. Control groups nest, and the least quota
    on the way to the root counts (kernel documentation, ``cgroup-v2.rst``, ``cpu.max``; in version 1
    ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``).

    Args:
        root: of the file system.

    Example:
        >>> 0 < usable_cpus() <= processors()
        True
    """
    return min([float(processors()), *_quotas(Path(root))])


def available_memory(root: str | os.PathLike[str] = "/") -> int:
    """Bytes of memory that this process may still take without others being swapped out: what the machine has
    available, or what its control groups leave of their limits, if less.

    What is cached of files counts as available (kernel documentation, ``proc.rst``, ``MemAvailable``;
    ``cgroup-v2.rst``, ``memory.max``; in version 1 ``memory.limit_in_bytes``).

    Args:
        root: of the file system.

    Example:
        >>> available_memory() > 0
        True
    """
    base = Path(root)
    lines = kernel_text(base / "proc/meminfo").splitlines()
    free = (int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(0, min([next(free, pages // 2), *_memory_left(base)]))


def _memory_left(base: Path) -> Iterator[int]:
    """Bytes that control groups leave, one figure for each that has a limit."""
    names = (
        ("memory.max", "memory.current", "inactive_file"),
        (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    )
    for folder, version in _groups(base, "memory"):
        limit, usage, cached = names[version == 1]
        most, used = (kernel_text(folder / name).strip() for name in (limit, usage))
        if most.isdigit() and used.isdigit():
            counts = (line.split() for line in kernel_text(folder / "memory.stat").splitlines())
            files = next((int(count[1]) for count in counts if len(count) == 2 and count[0] == cached), 0)
            yield int(most) - int(used) + files


def _quotas(base: Path) -> Iterator[float]:
    """CPUs that control groups allow, one figure for each that has a limit."""
    for folder, version in _groups(base, "cpu"):
        if version == 2:
            quota, _, period = kernel_text(folder / "cpu.max").strip().partition(" ")
        else:
            quota, period = (kernel_text(folder / f"cpu.cfs_{part}_us").strip() for part in ("quota", "period"))
        yield from _limit(quota, period)


def _groups(base: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """The folders of the control groups that this process is in, and their version, 1 or 2."""
    mounted = base / "sys/fs/cgroup"
    for line in kernel_text(base / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield from ((folder, 2) for folder in _upwards(mounted, path))
        elif controller in controllers.split(","):
            for name in dict.fromkeys((controllers, controller)):
                yield from ((folder, 1) for folder in _upwards(mounted / name, path))


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
    lines = kernel_text(Path("/proc/cpuinfo")).splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine() or "unknown"
