"""Find every meter of this machine, and say of each whether it can be used, why, and what helps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from greenload.energy.domains import Domain
from greenload.energy.meters.base import Meter, MeterStatus
from greenload.energy.meters.model import ModelMeter
from greenload.energy.meters.nvme import Ioctl, find_drive
from greenload.energy.meters.nvml import find_nvml
from greenload.energy.meters.process import ProcessMeter
from greenload.energy.meters.rapl import find_rapl
from greenload.energy.meters.storage import DataLocation, System, data_location, physical_disks
from greenload.energy.meters.surroundings import look
from greenload.energy.meters.zones import POWERCAP_ROOT, ReadText, read_text
from greenload.machine import usable_cpus


def discover(
    powercap_root: str | Path = POWERCAP_ROOT,
    nvml: Any = None,
    *,
    environ: Mapping[str, str] | None = None,
    read: ReadText = read_text,
    block_root: str | Path = "/sys/block",
    data: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    dev_root: str | Path = "/dev",
    ioctl: Ioctl | None = None,
    root: str | Path = "/",
) -> tuple[list[Meter], list[MeterStatus]]:
    """Find counters, and model what has none. There is always a figure for the CPU and for memory.

    Args:
        powercap_root: the powercap class folder.
        nvml: stands for the ``pynvml`` module; imported if None.
        environ: environment variables (CUDA_VISIBLE_DEVICES); the process's own if None.
        read: reads a powercap file's text.
        block_root: folder of block devices.
        data: the folder or file that will be read, or some files, one for each folder or mount: ``storage:DEVICE`` is
            then the device that holds them, and the machine's other disks don't widen its range. All if not given.
        dev_root: folder of device files.
        ioctl: asks NVMe drives in the system's place.
        root: of the file system, where control groups and traces of containers are looked for.

    Returns:
        Meters that can be used, to be given to one :class:`greenload.energy.sampler.Sampler`, which closes them; and
        a status for everything that was found or is missing, for ``greenload doctor`` and a report's ``meters``.

    Example:
        >>> meters, statuses = discover()
        >>> {"cpu", "dram"} <= {Domain.parse(status.domain).kind for status in statuses if status.usable}
        True
    """
    rapl, statuses = find_rapl(Path(powercap_root), read, surroundings=look(root, environ))
    gpus, gpu_statuses = find_nvml(nvml, environ)
    files = [data] if isinstance(data, str | os.PathLike) else list(data)
    location, note = _location(files, Path(block_root))
    drive, drive_status = None, None
    if len(location.disks) == 1:
        folders = {"sys_root": Path(block_root).parent, "dev_root": Path(dev_root)}
        drive, drive_status = find_drive(location.disks[0], **folders, ioctl=ioctl)
    meters: list[Meter] = [meter for meter in (rapl, gpus, drive) if meter is not None]
    measured = {Domain.parse(channel.domain).kind for meter in meters for channel in meter.channels}
    model = ModelMeter(
        [kind for kind in ("cpu", "dram", "storage") if kind not in measured],
        cpus=usable_cpus(root),
        disks=location.disks,
    )
    if model.channels:
        meters.append(model)
    statuses = [*statuses, *gpu_statuses, *([drive_status] if drive_status else []), *model.statuses()]
    return meters, statuses + _storage_statuses(ProcessMeter(), location, note)


def discover_cpu(
    powercap_root: str | Path = POWERCAP_ROOT,
    *,
    environ: Mapping[str, str] | None = None,
    read: ReadText = read_text,
    root: str | Path = "/",
) -> tuple[list[Meter], list[MeterStatus]]:
    """The meters of processor and memory alone, which cost next to nothing: no driver is asked, no drive opened.

    Args:
        powercap_root: the powercap class folder.
        environ: environment variables; the process's own if None.
        read: reads a powercap file's text.
        root: of the file system.

    Returns:
        As of `discover`.
    """
    rapl, statuses = find_rapl(Path(powercap_root), read, surroundings=look(root, environ))
    measured = {Domain.parse(channel.domain).kind for channel in rapl.channels} if rapl else set()
    model = ModelMeter([kind for kind in ("cpu", "dram") if kind not in measured], cpus=usable_cpus(root), disks=())
    meters: list[Meter] = [*([rapl] if rapl else []), *([model] if model.channels else [])]
    return meters, [*statuses, *model.statuses()]


def _location(data: list[str | os.PathLike[str]], block_root: Path) -> tuple[DataLocation, str]:
    """What holds the data, and a remark: all disks where that isn't known."""
    disks = physical_disks(block_root)
    whole = DataLocation(disks, "" if disks else "no physical disk is known", known=bool(disks))
    if not data:
        return whole, ""
    location = data_location(data, System(sys=block_root.parent))
    return (location, "") if location.known else (whole, f"{location.why}: taken for any of this machine's disks")


def _storage_statuses(process: ProcessMeter, location: DataLocation, note: str) -> list[MeterStatus]:
    """How device bytes are counted, and why they have no joules: what the storage model, or its absence, rests on."""

    def status(usable: bool, reason: str, remedy: str = "") -> MeterStatus:
        return MeterStatus("storage", "measured", usable, reason, remedy, "process")

    statuses = []
    why = location.why or ", ".join(
        f"{disk.name} is reached over a network" for disk in location.disks if disk.storage is None
    )
    if why:
        statuses.append(status(False, f"no joules of storage: {why}"))
    if process.bytes_source is None:
        reason = "device bytes can't be read: neither /proc/self/io nor a physical disk's counters"
        return [*statuses, status(False, reason)]
    suffix = f"; {note}" if note else ""
    if process.bytes_source == "machine":
        remedy = "run where a process may read its own /proc/self/io"
        return [*statuses, status(True, f"/proc/self/io can't be read: device bytes are the machine's{suffix}", remedy)]
    return [*statuses, status(True, f"device bytes of this process, /proc/self/io{suffix}")]
