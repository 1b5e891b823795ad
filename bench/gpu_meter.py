"""The GPU's energy counter and what the machine is, for ``bench.gpu``."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from greenload.energy.meters.nvml import find_nvml

UPDATE_MAX_S = 0.5  # NVML refreshes its counter every 20–100 ms; a window doesn't wait longer for its edge


class Gpu:
    """The GPU's energy counter, or nothing where there is none."""

    def __init__(self, index: int, wanted: bool) -> None:
        self.meter, self.status = find_nvml() if wanted else (None, [])
        self.domain = f"gpu:{index}"
        self.handle: Any = None
        if self.meter is not None:
            import pynvml

            pynvml.nvmlInit()
            self.handle = pynvml.nvmlDeviceGetHandleByIndex(index)

    def energy_j(self) -> float | None:
        """The counter now."""
        return None if self.meter is None else self.meter.read().counter_j.get(self.domain)

    def jpeg_percent(self) -> float | None:
        """How busy the JPEG engine was of late."""
        with contextlib.suppress(Exception):  # not on every GPU, driver and release of nvidia-ml-py
            import pynvml

            return float(pynvml.nvmlDeviceGetJpgUtilization(self.handle)[0])
        return None

    def facts(self) -> dict[str, Any]:
        """Name, driver and limits."""
        if self.handle is None:
            return {"gpu": None, "meters": [status.reason for status in self.status]}
        import pynvml

        def ask(function: str, *more: Any) -> Any:
            with contextlib.suppress(Exception):
                value = getattr(pynvml, function)(*more)
                return value.decode() if isinstance(value, bytes) else value
            return None

        limit = ask("nvmlDeviceGetEnforcedPowerLimit", self.handle)
        return {
            "gpu": ask("nvmlDeviceGetName", self.handle),
            "driver": ask("nvmlSystemGetDriverVersion"),
            "cuda_driver": ask("nvmlSystemGetCudaDriverVersion_v2"),
            "power_limit_w": None if limit is None else limit / 1e3,
            "meters": [f"{status.domain}: {status.reason}" for status in self.status],
        }


def machine(gpu: Gpu) -> dict[str, Any]:
    """What the figures were taken on."""
    import nvidia.dali

    model = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model,
        "processors": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "dali": nvidia.dali.__version__,
        "dali_cuda": nvidia.dali.__cuda_version__,
    } | gpu.facts()


def to_update(gpu: Gpu, step: Callable[[], object]) -> float | None:
    """Go on with ``step`` until the energy counter changes; its new value."""
    before = now = gpu.energy_j()
    deadline = time.monotonic() + UPDATE_MAX_S
    while before is not None and now == before and time.monotonic() < deadline:
        step()
        now = gpu.energy_j()
    return now


def idle_w(gpu: Gpu, seconds: float) -> float | None:
    """The GPU's power while this process waits."""
    if gpu.energy_j() is None:
        return None
    first, begin = to_update(gpu, lambda: time.sleep(0.002)), time.monotonic()
    time.sleep(seconds)
    last = to_update(gpu, lambda: time.sleep(0.002))
    assert first is not None and last is not None
    return (last - first) / (time.monotonic() - begin)
