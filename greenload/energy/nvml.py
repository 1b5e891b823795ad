"""GPU energy from NVML's counter: millijoules since the driver was loaded, of the whole board (Volta and later).

NVML is asked through nvidia-ml-py (``pynvml``), which is imported only here. The counter is refreshed every 20–100 ms,
so short windows are coarse (``update_s``): a 1 s window is good to about ±20 %, one of 10 s to ±2 %. A GPU that is
partitioned (MIG) has one counter for all its partitions.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from greenload.energy.meter import Channel, MeterStatus, Reading

UPDATE_S = 0.1
"""The slowest refresh that was seen; many boards refresh every 20 ms."""
MAX_GPU_W = 3000.0
"""No board draws more: the largest of 2025 are rated at 1,400 W."""
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
        if text.isdigit() and int(text) < len(uuids):
            match = [int(text)]
        else:
            match = [index for index, uuid in enumerate(uuids) if text.startswith("GPU-") and uuid.startswith(text)]
        if len(match) != 1:
            break
        if match[0] not in chosen:
            chosen.append(match[0])
    return chosen


class NvmlMeter:
    """Reads the energy counters of some GPUs.

    Args:
        nvml: the ``pynvml`` module, initialised once for this meter, which shuts it down in :meth:`close`.
        handles: NVML device handles by domain.
        readers: for each domain, what reads its counter in millijoules.
    """

    name = "nvml"

    def __init__(self, nvml: Any, handles: Mapping[str, Any], readers: Mapping[str, Callable[[Any], float]]) -> None:
        self._nvml = nvml
        self._handles = dict(handles)
        self._readers = dict(readers)
        self._open = True
        self.channels: Sequence[Channel] = tuple(
            Channel(domain, "measured", resolution_j=1e-3, update_s=UPDATE_S, max_power_w=MAX_GPU_W)
            for domain in self._handles
        )

    def read(self) -> Reading:
        """All counters now; a GPU that is lost or being reset fails in this read, with NVML's reason."""
        counter_j: dict[str, float] = {}
        failed: dict[str, str] = {}
        for domain, handle in self._handles.items():
            try:
                counter_j[domain] = self._readers[domain](handle) / 1e3
            except self._nvml.NVMLError as error:
                failed[domain] = f"NVML couldn't read {domain}: {error}"
        return Reading(time.monotonic_ns(), counter_j, failed)

    def close(self) -> None:
        """Shut NVML down: it counts its users, so others are not disturbed."""
        if self._open:
            self._open = False
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
        return float(getattr(value.value, _VALUE_MEMBERS[value.valueType]))

    return read_field


def _find_reader(nvml: Any, handle: Any) -> Callable[[Any], float]:
    """The field query where it works, else the older call.

    Raises:
        NVMLError: neither gives a figure.
    """
    field = _field_reader(nvml)
    try:
        field(handle)
        return field
    except (nvml.NVMLError, AttributeError, IndexError):
        older: Callable[[Any], float] = nvml.nvmlDeviceGetTotalEnergyConsumption
        older(handle)
        return older


def _unusable(domain: str, reason: str, error: Exception | None = None, remedy: str = "") -> MeterStatus:
    return MeterStatus(
        domain, "measured", False, reason, remedy or _REMEDIES.get(type(error).__name__, ""), NvmlMeter.name
    )


def find_nvml(nvml: Any = None, environ: Mapping[str, str] | None = None) -> tuple[NvmlMeter | None, list[MeterStatus]]:
    """Find the GPUs whose energy can be read: those that CUDA_VISIBLE_DEVICES shows, named by NVML's index.

    Args:
        nvml: the ``pynvml`` module or what stands for it; imported if None.
        environ: environment variables; the process's own if None.

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
    handles: dict[str, Any] = {}
    readers: dict[str, Callable[[Any], float]] = {}
    try:
        statuses = _open_gpus(nvml, environ, handles, readers)
    except nvml.NVMLError as error:
        statuses = [_unusable("gpu", f"NVML can't list the GPUs: {error}", error)]
        handles.clear()
    if not handles:
        _shut_down(nvml)
        return None, statuses
    return NvmlMeter(nvml, handles, readers), statuses


def _open_gpus(
    nvml: Any, environ: Mapping[str, str], handles: dict[str, Any], readers: dict[str, Callable[[Any], float]]
) -> list[MeterStatus]:
    found: list[Any] = []
    statuses: list[MeterStatus] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            found.append(nvml.nvmlDeviceGetHandleByIndex(index))
        except nvml.NVMLError as error:
            # A lost GPU keeps its place, so that the others keep their index.
            found.append(None)
            statuses.append(_unusable(f"gpu:{index}", f"NVML can't open it: {error}", error))
    selection = environ.get("CUDA_VISIBLE_DEVICES")
    shown = _select(nvml, selection, found)
    if not found:
        return [_unusable("gpu", "NVML sees no GPU", remedy="in a container, run it with --gpus all")]
    if not shown:
        return [
            *statuses,
            _unusable(
                "gpu", f"CUDA_VISIBLE_DEVICES={selection} hides all of {len(found)} GPUs", remedy="change or unset it"
            ),
        ]
    note = _order_note(nvml, selection, environ, found)
    for index in shown:
        handle, domain = found[index], f"gpu:{index}"
        if handle is None:
            continue
        try:
            readers[domain] = _find_reader(nvml, handle)
            statuses.append(MeterStatus(domain, "measured", True, _describe(nvml, handle) + note, "", NvmlMeter.name))
            handles[domain] = handle
        except nvml.NVMLError as error:
            statuses.append(_unusable(domain, f"{_name(nvml, handle)} gives no energy: {error}", error))
    return statuses


def _select(nvml: Any, selection: str | None, found: Sequence[Any]) -> list[int]:
    uuids = [_text(nvml.nvmlDeviceGetUUID(handle)) if handle is not None else "" for handle in found]
    if selection is None or not selection.strip().startswith("MIG-"):
        return visible_gpus(selection, uuids)
    partition = nvml.nvmlDeviceGetHandleByUUID(selection.split(",")[0].strip())
    board = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(partition)
    return visible_gpus(_text(nvml.nvmlDeviceGetUUID(board)), uuids)


def _text(value: str | bytes) -> str:
    # Old releases of nvidia-ml-py give bytes.
    return value.decode() if isinstance(value, bytes) else value


def _name(nvml: Any, handle: Any) -> str:
    try:
        return _text(nvml.nvmlDeviceGetName(handle))
    except nvml.NVMLError:
        return "a GPU"


def _describe(nvml: Any, handle: Any) -> str:
    try:
        partitioned = bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except (nvml.NVMLError, AttributeError):
        partitioned = False
    whole = "; MIG is on: figures are the whole GPU's, all partitions together" if partitioned else ""
    return f"{_name(nvml, handle)}, counter of the whole board, refreshed every 20–100 ms{whole}"


def _order_note(nvml: Any, selection: str | None, environ: Mapping[str, str], found: Sequence[Any]) -> str:
    """CUDA numbers GPUs by speed unless told otherwise, NVML by PCI bus: it matters only for unlike GPUs."""
    by_number = selection is not None and selection.strip()[:1].isdigit()
    if not by_number or environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return ""
    names = {_name(nvml, handle) for handle in found if handle is not None}
    return (
        "" if len(names) < 2 else "; GPUs differ: CUDA may number them otherwise without CUDA_DEVICE_ORDER=PCI_BUS_ID"
    )
