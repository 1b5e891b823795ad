"""GPU energy from NVML's counter: millijoules since the driver was loaded, of the whole board (Volta and later).

NVML is asked through nvidia-ml-py (``pynvml``), which is imported only here. The counter is refreshed every 20–100 ms,
so short windows are coarse (``update_s``) unless their edges are aligned to its refreshes (``Sampler.mark``). A
partitioned GPU (MIG) has one counter for all its partitions. Where a GPU has no counter, its power is summed up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from greenload.energy.domains import Domain
from greenload.energy.meters.base import Channel, MeterStatus, Reading
from greenload.energy.meters.power_check import PowerSum

GPU_UPDATE_S = 0.1
"""The slowest refresh that was seen; many boards refresh every 20 ms."""
MAX_GPU_W = 3000.0
"""No board draws more: the largest of 2025 are rated at 1,400 W."""
POWER_AVERAGE_S = 1.0
"""What a power reading is the mean of, at most: 1 s on Ampere (except GA100) and later, the moment before (NVML's
reference, ``nvmlDeviceGetPowerUsage``)."""
POWER_BAND = 0.05
"""Relative error of power readings that NVML's reference names: ±5 %, there for Fermi and Kepler."""
POWER_GAP_S = 1.0
"""Power is summed up over gaps between reads up to this; the sampler reads four times as often."""
_POWER_STEP_S = 0.1  # beside a counter, power is asked no more often than this
_FIELD_TOTAL_ENERGY = 83
_VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
_INSTALL = "pip install nvidia-ml-py"
_REMEDIES = {
    "NVMLError_LibraryNotFound": "install the NVIDIA driver; in a container, run it with --gpus all",
    "NVMLError_DriverNotLoaded": "load the NVIDIA driver (sudo modprobe nvidia)",
    "NVMLError_NoPermission": "give this user access to /dev/nvidiactl and /dev/nvidia*",
    "NVMLError_LibRmVersionMismatch": "reboot: the driver was updated under the running kernel module",
    "NVMLError_GpuIsLost": "reset the GPU or reboot; the kernel log has an Xid line",
    "NVMLError_NotSupported": "energy counters need a Volta or later GPU; windows on this one have CPU figures only",
}
_NO_SUCH_FIGURE = (
    "NVML_ERROR_NOT_SUPPORTED",
    "NVML_ERROR_FUNCTION_NOT_FOUND",
    "NVML_ERROR_INVALID_ARGUMENT",
    "NVML_ERROR_NOT_FOUND",
)


def visible_gpus(selection: str | None, uuids: Sequence[str]) -> list[int]:
    """Which GPUs a CUDA_VISIBLE_DEVICES selects, as indices, by CUDA's rules. Pure.

    A list of indices or (abbreviated) UUIDs; the first entry that matches nothing ends the list; unset means all.

    Args:
        selection: the variable's value; None if it isn't set.
        uuids: each GPU's UUID, in NVML's order.

    Example:
        >>> visible_gpus("GPU-b", ["GPU-a1", "GPU-b2"]), visible_gpus("1,-1,0", ["GPU-a1", "GPU-b2"])
        ([1], [1])
    """
    if selection is None:
        return list(range(len(uuids)))
    chosen: list[int] = []
    for entry in selection.split(","):
        text = entry.strip()
        if text.isascii() and text.isdigit() and len(text) < 10 and int(text) < len(uuids):
            match = [int(text)]
        else:
            match = [index for index, uuid in enumerate(uuids) if text.startswith("GPU-") and uuid.startswith(text)]
        if len(match) != 1:
            break
        if match[0] not in chosen:
            chosen.append(match[0])
    return chosen


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, and what it can be asked."""

    handle: Any
    """NVML's device handle."""
    energy_mj: Callable[[Any], float] | None
    """Reads its counter in millijoules; None if it has none, and power is summed up."""
    power_mw: Callable[[Any], float] | None
    """Reads its power in milliwatts; None if it gives none."""


class NvmlMeter:
    """Reads the energy counters of some GPUs, and their power to hold them against or, without a counter, to sum up.

    Args:
        nvml: the ``pynvml`` module, initialised once for this meter, which shuts it down in :meth:`close`.
        gpus: by domain; each has a counter, or gives its power.
        clock_ns: CLOCK_MONOTONIC in nanoseconds.
    """

    name = "nvml"

    def __init__(self, nvml: Any, gpus: Mapping[str, Gpu], clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._nvml = nvml
        self._gpus = dict(gpus)
        self._clock_ns = clock_ns
        self._open = True
        self._pid = os.getpid()
        self._power_due_ns = 0
        self._sums: dict[str, PowerSum] = {}
        self.channels: Sequence[Channel] = tuple(
            Channel(domain, "measured", resolution_j=1e-3, update_s=GPU_UPDATE_S, max_power_w=MAX_GPU_W)
            if gpu.energy_mj is not None
            else Channel(
                domain,
                "measured",
                systematic=POWER_BAND,
                update_s=POWER_AVERAGE_S,
                max_power_w=MAX_GPU_W,
                sum_gap_s=POWER_GAP_S,
            )
            for domain, gpu in self._gpus.items()
        )

    def read(self) -> Reading:
        """All counters now; a GPU that is lost or being reset fails in this read, with NVML's reason."""
        counter_j: dict[str, float] = {}
        failed: dict[str, str] = {}
        power_w: dict[str, float] = {}
        if os.getpid() != self._pid:
            # NVML's state doesn't survive a fork.
            what = (
                f"NVML was started by process {self._pid}, not by its fork {os.getpid()}: find the meters again there"
            )
            return Reading(self._clock_ns(), {}, dict.fromkeys(self._gpus, what))
        power_due = self._clock_ns() >= self._power_due_ns
        for domain, gpu in self._gpus.items():
            try:
                if gpu.energy_mj is not None:
                    counter_j[domain] = gpu.energy_mj(gpu.handle) / 1e3
                    if power_due:
                        power_w |= self._power_w(domain, gpu)
                elif gpu.power_mw is not None:
                    power_w[domain] = gpu.power_mw(gpu.handle) / 1e3
                    counter_j[domain] = self._sum_j(domain, power_w[domain])
            except (self._nvml.NVMLError, LookupError, AttributeError) as error:
                failed[domain] = f"NVML couldn't read {domain}: {error}"
        now_ns = self._clock_ns()
        if power_due:
            self._power_due_ns = now_ns + round(_POWER_STEP_S * 1e9)
        return Reading(now_ns, counter_j, failed, power_w=power_w)

    def _power_w(self, domain: str, gpu: Gpu) -> dict[str, float]:
        """Power beside a counter, which is good without it."""
        try:
            return {} if gpu.power_mw is None else {domain: gpu.power_mw(gpu.handle) / 1e3}
        except self._nvml.NVMLError:
            return {}

    def _sum_j(self, domain: str, watts: float) -> float:
        """Joules since the first read, by the trapezoidal rule. Unwrapping finds pauses that are too long."""
        self._sums[domain] = self._sums.get(domain, PowerSum()).add(self._clock_ns(), watts)
        return self._sums[domain].joules

    def close(self) -> None:
        """Shut NVML down: it counts its users, so others are not disturbed."""
        if self._open:
            self._open = False
            if os.getpid() == self._pid:
                _shut_down(self._nvml)


def _shut_down(nvml: Any) -> None:
    try:
        nvml.nvmlShutdown()
    except nvml.NVMLError:
        # A lost GPU or an unloaded driver makes the shutdown fail too, and nothing is left to give back.
        return


def _field_reader(nvml: Any) -> Callable[[Any], float]:
    field_id = getattr(nvml, "NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION", _FIELD_TOTAL_ENERGY)

    def read_field(handle: Any) -> float:
        value = nvml.nvmlDeviceGetFieldValues(handle, [field_id])[0]
        if value.nvmlReturn != nvml.NVML_SUCCESS:
            raise nvml.NVMLError(value.nvmlReturn)
        # The value is a C union: the type says which member is the one that was written.
        if not 0 <= value.valueType < len(_VALUE_MEMBERS):
            raise nvml.NVMLError(nvml.NVML_ERROR_UNKNOWN)
        return float(getattr(value.value, _VALUE_MEMBERS[value.valueType]))

    return read_field


def _open_gpu(nvml: Any, handle: Any) -> Gpu:
    """What a GPU can be asked: the field query where it works, else the older call, else its power.

    Raises:
        NVMLError: nothing gives a figure.
    """
    power: Callable[[Any], float] | None = nvml.nvmlDeviceGetPowerUsage
    try:
        nvml.nvmlDeviceGetPowerUsage(handle)
    except nvml.NVMLError:
        power = None
    field = _field_reader(nvml)
    try:
        field(handle)
        return Gpu(handle, field, power)
    except (nvml.NVMLError, AttributeError, IndexError):
        older: Callable[[Any], float] = nvml.nvmlDeviceGetTotalEnergyConsumption
    try:
        older(handle)
        return Gpu(handle, older, power)
    except nvml.NVMLError as error:
        if power is None or error.value not in [getattr(nvml, name) for name in _NO_SUCH_FIGURE]:
            raise
        return Gpu(handle, None, power)


def _unusable(domain: str, reason: str, error: Exception | None = None, remedy: str = "") -> MeterStatus:
    return MeterStatus(
        domain, "measured", False, reason, remedy or _REMEDIES.get(type(error).__name__, ""), NvmlMeter.name
    )


def find_nvml(
    nvml: Any = None, environ: Mapping[str, str] | None = None, clock_ns: Callable[[], int] = time.monotonic_ns
) -> tuple[NvmlMeter | None, list[MeterStatus]]:
    """Find the GPUs whose energy can be read: those that CUDA_VISIBLE_DEVICES shows, named by NVML's index.

    Args:
        nvml: the ``pynvml`` module or what stands for it; imported if None.
        environ: environment variables; the process's own if None.
        clock_ns: CLOCK_MONOTONIC in nanoseconds.

    Returns:
        A meter, or None if no GPU can be read; and a status for every GPU, or one for NVML itself.
    """
    environ = os.environ if environ is None else environ
    if nvml is None:
        try:
            import pynvml
        except ImportError:
            return None, [_unusable("gpu", "nvidia-ml-py isn't installed", remedy=_INSTALL)]
        nvml = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return None, [_unusable("gpu", f"NVML doesn't start: {error}", error)]
    gpus: dict[str, Gpu] = {}
    try:
        statuses = _open_gpus(nvml, environ, gpus)
    except nvml.NVMLError as error:
        statuses = [_unusable("gpu", f"NVML can't list the GPUs: {error}", error)]
        gpus.clear()
    if not gpus:
        _shut_down(nvml)
        return None, statuses
    return NvmlMeter(nvml, gpus, clock_ns), statuses


def _domain(index: int) -> str:
    return str(Domain("gpu", str(index)))


def _open_gpus(nvml: Any, environ: Mapping[str, str], gpus: dict[str, Gpu]) -> list[MeterStatus]:
    handles: list[Any] = []
    statuses: list[MeterStatus] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handles.append(nvml.nvmlDeviceGetHandleByIndex(index))
        except nvml.NVMLError as error:
            # A lost GPU keeps its place, so that the others keep their index.
            handles.append(None)
            statuses.append(_unusable(_domain(index), f"NVML can't open it: {error}", error))
    selection = environ.get("CUDA_VISIBLE_DEVICES")
    shown = _select(nvml, selection, handles)
    if not handles:
        return [_unusable("gpu", "NVML sees no GPU", remedy="in a container, run it with --gpus all")]
    if not shown:
        return [
            *statuses,
            _unusable(
                "gpu",
                f"CUDA_VISIBLE_DEVICES={selection} selects none of {len(handles)} GPUs",
                remedy="change or unset it",
            ),
        ]
    note = _order_note(nvml, selection, environ, handles)
    for index in shown:
        handle, domain = handles[index], _domain(index)
        if handle is None:
            continue
        try:
            gpu = _open_gpu(nvml, handle)
            statuses.append(MeterStatus(domain, "measured", True, _describe(nvml, gpu) + note, "", NvmlMeter.name))
            gpus[domain] = gpu
        except nvml.NVMLError as error:
            statuses.append(_unusable(domain, f"{_name(nvml, handle)} gives no energy: {error}", error))
    return statuses


def _select(nvml: Any, selection: str | None, handles: Sequence[Any]) -> list[int]:
    uuids = [_uuid(nvml, handle) for handle in handles]
    first = (selection or "").split(",")[0].strip()
    if not first.startswith("MIG-"):
        return visible_gpus(selection, uuids)
    # CUDA shows one partition only. Drivers before R470 name it MIG-GPU-<the board's UUID>/<instance>/<instance>.
    if first.startswith("MIG-GPU-"):
        return visible_gpus(first.removeprefix("MIG-").split("/")[0], uuids)
    try:
        partition = nvml.nvmlDeviceGetHandleByUUID(first)
        board = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(partition)
        return visible_gpus(_text(nvml.nvmlDeviceGetUUID(board)), uuids)
    except nvml.NVMLError:
        return []


def _uuid(nvml: Any, handle: Any) -> str:
    """A GPU's UUID; nothing if it is lost, which no selection matches."""
    try:
        return "" if handle is None else _text(nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError:
        return ""


def _text(value: str | bytes) -> str:
    # Old releases of nvidia-ml-py give bytes.
    return value.decode() if isinstance(value, bytes) else value


def _name(nvml: Any, handle: Any) -> str:
    try:
        return _text(nvml.nvmlDeviceGetName(handle))
    except nvml.NVMLError:
        return "a GPU"


def _describe(nvml: Any, gpu: Gpu) -> str:
    try:
        partitioned = bool(nvml.nvmlDeviceGetMigMode(gpu.handle)[0])
    except (nvml.NVMLError, AttributeError):
        partitioned = False
    whole = "; MIG is on: figures are the whole GPU's, all partitions together" if partitioned else ""
    if gpu.energy_mj is None:
        return f"{_name(nvml, gpu.handle)} has no energy counter: its power, a mean of up to 1 s, is summed up{whole}"
    return f"{_name(nvml, gpu.handle)}, counter of the whole board, refreshed every 20–100 ms{whole}"


def _order_note(nvml: Any, selection: str | None, environ: Mapping[str, str], handles: Sequence[Any]) -> str:
    """A remark where CUDA, which numbers GPUs by speed unless told otherwise, and NVML, by PCI bus, may disagree."""
    by_number = selection is not None and selection.strip()[:1].isdigit()
    if not by_number or environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return ""
    names = {_name(nvml, handle) for handle in handles if handle is not None}
    return (
        "" if len(names) < 2 else "; GPUs differ: CUDA may number them otherwise without CUDA_DEVICE_ORDER=PCI_BUS_ID"
    )
