"""The DALI backends: ``"dali-cpu"``, and ``"dali"`` on a GPU. Neither imports TensorFlow.

Tolerances on the CPU were measured against the float64 references over photographs and noise, with sides from 1 to
1,000 pixels. ``nvJPEG`` is not bit-equal to libjpeg, and its kernels round on their own: on a GPU they are wider.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import EXACT, Availability, Records, Tolerance
from greenload.backends.dali_lowerings import LOWERINGS
from greenload.backends.dali_replay import Replay, hand_over, replay
from greenload.backends.dali_runner import INSTALL, DaliRunner, brief
from greenload.backends.dali_stream import stream
from greenload.errors import BackendUnavailable
from greenload.plan import Plan
from greenload.specs import ImageSpec
from greenload.stages import primitives as p

__all__ = ["DALI", "DALI_CPU", "DaliBackend", "DaliRunner", "Replay", "backend", "hand_over", "replay", "stream"]

_FLOAT_STEPS = 8 * float(np.finfo(np.float32).eps)
# A driver that hangs must not hang its caller; the first start on a machine of eight GPUs takes about 10 s.
_PROBE_S = 20.0

# DALI repeats the border where the reference renormalises. Shrinking, at most 1/8 of an antialiasing kernel's weight
# lies outside along an axis, hence 1 − (7/8)² in a corner; on photographs 17 levels were seen.
_RIM = 1.0 - (7.0 / 8.0) ** 2

# DALI's weights are float32, so halves fall to either side, where the reference rounds them up. Halves are frequent at
# simple scales: half of all pixels are, where one axis is halved, and half of those fall down.
_TIES = 0.25


@dataclass(frozen=True)
class DaliBackend:
    """One of DALI's two backends, as ``backends.base.Backend`` wants it."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in ("dali-cpu", "dali"):
            raise BackendUnavailable(f"DALI's backends are dali-cpu and dali, not {self.name!r}")

    @property
    def gpu(self) -> bool:
        """Whether it works on a GPU."""
        return self.name == "dali"

    def availability(self) -> Availability:
        """Whether DALI is installed and, for ``"dali"``, runs a graph on a GPU. Asked once, and never hangs."""
        return _probe(self.name, self.gpu)

    def tolerance(self, primitive: p.Primitive, spec: ImageSpec) -> Tolerance | None:
        """What DALI holds for a primitive on images of ``spec``; ``None`` for one it has no operator for.

        For ``"dali"`` they were measured on an H100. A GPU's JPEG decoder isn't bit-equal to libjpeg.
        """
        if type(primitive) not in LOWERINGS:
            return None
        match primitive:
            case p.Decode() | p.DecodeCrop():
                # Measured on an H100: at most 3 levels, 0.08 in the mean; but up to 28 in images a few pixels wide
                # whose chroma is subsampled.
                return Tolerance(3.0, 0.1) if self.gpu else EXACT
            case p.Resize():
                return _resize_tolerance(primitive, spec, self.gpu)
            case p.Affine():
                return _affine_tolerance(primitive, spec)
        return EXACT

    def run(self, plan: Plan, records: Records) -> NDArray[Any]:
        """A batch through all pixel steps of a plan, by a runner made for it.

        Raises:
            RecordError: a record is bad; names it.
            BackendUnavailable: DALI can't run here.
        """
        found = self.availability()
        if not found.usable:
            raise BackendUnavailable(f"backend {self.name!r} can't run here: {found.detail}; {found.remedy}")
        with DaliRunner(plan, batch_size=max(1, len(records.images)), threads=plan.threads) as runner:
            return runner.run(records)


def _resize_tolerance(primitive: p.Resize, spec: ImageSpec, gpu: bool) -> Tolerance:
    if spec.dtype == "uint8":
        return Tolerance(1.0, _TIES, rim=255.0 * _RIM if primitive.antialias else None)
    # Measured 2e-5 of the range: positions are float32 in DALI.
    return Tolerance(2e-4 if gpu else 5e-5, 5e-6, rim=_RIM if primitive.antialias else None)


def _affine_tolerance(primitive: p.Affine, spec: ImageSpec) -> Tolerance:
    if primitive.dtype == "uint8":
        return Tolerance(1.0, 1e-3)  # a value within 3e-5 below an integer becomes that integer
    largest = 255.0 if spec.dtype == "uint8" else 1.0
    reach = max(map(abs, primitive.scale)) * largest + max(map(abs, primitive.offset))
    return Tolerance(_FLOAT_STEPS * reach, _FLOAT_STEPS * reach)


DALI_CPU = DaliBackend("dali-cpu")
"""DALI's CPU operators."""
DALI = DaliBackend("dali")
"""DALI on a GPU."""


def backend(name: str) -> DaliBackend:
    """The backend of a name: ``"dali-cpu"`` or ``"dali"``.

    Raises:
        BackendUnavailable: it is neither.
    """
    return DaliBackend(name)


@functools.cache
def _probe(name: str, gpu: bool) -> Availability:
    try:
        import nvidia.dali as dali
    except ImportError as error:
        return Availability(name, False, f"DALI is not installed ({error})", INSTALL)
    version = f"DALI {dali.__version__} for CUDA {dali.__cuda_version__ // 1000}"
    if not gpu:
        return Availability(name, True, version)
    why = _no_driver()
    if why:
        return Availability(name, False, why, "install NVIDIA's driver; in a container, run it with --gpus all")
    found: list[str] = []
    prober = threading.Thread(target=lambda: found.append(_run_on_gpu()), daemon=True)
    prober.start()
    prober.join(_PROBE_S)
    if not found:
        return Availability(name, False, f"the GPU gave no answer within {_PROBE_S:.0f} s", "see dmesg for Xid errors")
    if found[0]:
        return Availability(name, False, f"{version} fails on the GPU: {found[0]}", "update NVIDIA's driver")
    return Availability(name, True, version)


def _no_driver() -> str:
    """Why CUDA's driver can't be loaded; empty if it can."""
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1 is not found)"
    count = ctypes.c_int()
    if (status := driver.cuInit(0)) or (status := driver.cuDeviceGetCount(ctypes.byref(count))):
        return f"the NVIDIA driver finds no usable GPU (CUDA error {status})"
    return "" if count.value else "the NVIDIA driver finds no GPU"


def _run_on_gpu() -> str:
    """Why the smallest graph doesn't run on the GPU; empty if it does."""
    from nvidia.dali import Pipeline, fn

    try:
        graph = Pipeline(batch_size=1, num_threads=1, device_id=0)
        with graph:
            graph.set_outputs(fn.random.coin_flip().gpu())
        graph.build()
        graph.run()
    except RuntimeError as error:
        return brief(error)
    return ""
