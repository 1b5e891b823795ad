"""Find every meter of this machine, and say of each whether it can be used, why, and what helps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from greenload.energy.meter import Meter, MeterStatus
from greenload.energy.model import ModelMeter
from greenload.energy.nvml import find_nvml
from greenload.energy.process import ProcessMeter, physical_disks
from greenload.energy.rapl import POWERCAP_ROOT, ReadText, find_rapl, read_text


def discover(
    powercap_root: str | Path = POWERCAP_ROOT,
    nvml: Any = None,
    *,
    environ: Mapping[str, str] | None = None,
    read: ReadText = read_text,
    block_root: str | Path = "/sys/block",
) -> tuple[list[Meter], list[MeterStatus]]:
    """Find counters, and model what has none. There is always a figure for the CPU and for memory.

    Args:
        powercap_root: the powercap class folder.
        nvml: stands for the ``pynvml`` module; imported if None.
        environ: environment variables (CUDA_VISIBLE_DEVICES); the process's own if None.
        read: reads a powercap file's text.
        block_root: folder of block devices.

    Returns:
        Meters that can be used, to be given to one :class:`greenload.energy.sampler.Sampler`, which closes them; and
        a status for everything that was found or is missing, for ``greenload doctor`` and a report's ``meters``.

    Example:
        >>> meters, statuses = discover()
        >>> {"cpu", "dram"} <= {status.domain.split(":")[0] for status in statuses if status.usable}
        True
    """
    meters: list[Meter] = []
    statuses: list[MeterStatus] = []
    rapl, found = find_rapl(Path(powercap_root), read)
    statuses += found
    if rapl is not None:
        meters.append(rapl)
    gpus, found = find_nvml(nvml, environ)
    statuses += found
    if gpus is not None:
        meters.append(gpus)
    measured = {channel.domain.split(":")[0] for meter in meters for channel in meter.channels}
    disks = physical_disks(Path(block_root))
    model = ModelMeter(
        [kind for kind in ("cpu", "dram", "storage") if kind not in measured], cpus=os.cpu_count() or 1, disks=disks
    )
    if model.channels:
        meters.append(model)
    statuses += model.statuses()
    statuses.append(_storage_status(ProcessMeter(), disks))
    return meters, statuses


def _storage_status(process: ProcessMeter, disks: Mapping[str, bool]) -> MeterStatus:
    """How device bytes are counted: what the storage model, or its absence, rests on."""
    if process.bytes_source is None:
        reason, remedy = "device bytes can't be read: neither /proc/self/io nor a physical disk's counters", ""
    elif not disks:
        reason, remedy = "no physical disk is known (network or memory file system): bytes are counted, joules not", ""
    elif process.bytes_source == "machine":
        reason = "/proc/self/io can't be read: device bytes are the whole machine's"
        remedy = "run where a process may read its own /proc/self/io"
    else:
        return MeterStatus("storage", "measured", True, "device bytes of this process, /proc/self/io", "", "process")
    return MeterStatus("storage", "measured", process.bytes_source is not None, reason, remedy, "process")
