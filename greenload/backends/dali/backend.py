"""The DALI backends: ``"dali-cpu"``, and ``"dali"`` on a GPU. Neither imports TensorFlow.

Tolerances on the CPU were measured against the float64 references over photographs and noise, with sides from 1 to
1,000 pixels. ``nvJPEG`` is not bit-equal to libjpeg, and its kernels round on their own: on a GPU they are wider.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass

import numpy as np

from greenload.backends.base import EXACT, Availability, Tolerance
from greenload.backends.dali.runner import INSTALL, DaliRunner, brief
from greenload.errors import BackendUnavailable
from greenload.plans.claims import claimed
from greenload.plans.plan import Plan, Segment
from greenload.specs import ImageSpec
from greenload.stages import primitives as p
from greenload.system import limits

_FLOAT_STEPS = 8 * float(np.finfo(np.float32).eps)
# A driver that hangs must not hang its caller; the first start on a machine of eight GPUs takes about 10 s.
_PROBE_S = 20.0

# DALI repeats the border where the reference renormalises. Shrinking, at most 1/8 of an antialiasing kernel's weight
# lies outside along an axis, hence 1 − (7/8)² in a corner; on photographs 17 levels were seen.
_RIM = 1.0 - (7.0 / 8.0) ** 2

# DALI's weights are float32, so halves fall to either side, where the reference rounds them up. Halves are frequent at
# simple scales: half of all pixels are, where one axis is halved, and half of those fall down.
_TIES = 0.25

# DALI's CPU operator steps along a row by adding the map's slope to a float32 position, whose error grows with each
# step by up to half a float32 step of the position: 5.7e-8 of a pixel times width and longer side was the most of 400
# random maps for each of 8 sides from 32 to 4,000; over noise a sixth of it in the mean. A GPU multiplies per pixel.
_DRIFT_PX = 7e-8
# The side that is reckoned with where a spec names none.
_LARGE = 1000


@dataclass(frozen=True)
class _Stated:
    """A tolerance on both devices."""

    cpu: Tolerance
    gpu: Tolerance


# By primitive and dtype. CPU: the most seen was a level for uint8, where a float32 sum falls to the other side of a
# half; for floats, of values in 0 … 1, 4e-7 for Color and 3e-7 for Blur. GPU: not yet measured; from analysis, the
# same float32 formula in another order. The means leave room for one pixel of a few hundred, in the smallest images.
_FILTERS: dict[type[p.Primitive], dict[str, _Stated]] = {
    p.Color: {
        "uint8": _Stated(Tolerance(1.0, 5e-3), Tolerance(1.0, 5e-3)),
        "float32": _Stated(Tolerance(2e-6, 5e-7), Tolerance(5e-6, 1e-6)),
    },
    p.Blur: {
        "uint8": _Stated(Tolerance(1.0, 5e-3), Tolerance(1.0, 5e-3)),
        "float32": _Stated(Tolerance(1e-6, 3e-7), Tolerance(5e-6, 1e-6)),
    },
}


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

        For ``"dali"`` decoding, resizing and ``Affine`` to float32 were measured on an H100. A GPU's JPEG decoder isn't
        bit-equal to libjpeg.
        """
        if not claimed(self.name, primitive, spec):
            return None
        match primitive:
            case p.Decode() | p.DecodeCrop():
                # Measured on an H100: at most 3 levels, 0.08 in the mean; but up to 28 in images a few pixels wide
                # whose chroma is subsampled.
                return Tolerance(3.0, 0.1) if self.gpu else EXACT
            case p.Resize():
                return _resize_tolerance(primitive, spec, self.gpu)
            case p.Warp():
                return _warp_tolerance(spec, self.gpu)
            case p.Color() | p.Blur():
                stated = _FILTERS[type(primitive)][spec.dtype]
                return stated.gpu if self.gpu else stated.cpu
            case p.Pad():
                return _constant_tolerance((primitive.fill,), spec)
            case p.Erase():
                return _constant_tolerance(primitive.value, spec)
            case p.Affine():
                return _affine_tolerance(primitive, spec)
        return EXACT

    def runner(self, plan: Plan, segment: Segment, batch_size: int) -> DaliRunner:
        """A segment as one DALI graph.

        Raises:
            BackendUnavailable: DALI can't run here.
        """
        found = self.availability()
        if not found.usable:
            raise BackendUnavailable(f"backend {self.name!r} can't run here: {found.detail}; {found.remedy}")
        return DaliRunner(plan, segment, batch_size=batch_size, threads=plan.threads)


def measured_on_gpu(primitive: p.Primitive, spec: ImageSpec) -> bool:
    """Whether what ``"dali"`` states for a primitive on images of ``spec`` was measured on a GPU (an H100); the rest
    comes from analysis."""
    match primitive:
        case p.Decode() | p.DecodeCrop():
            return True
        case p.Crop() | p.Pad() | p.Resize() | p.Flip(vertical=False):
            return spec.dtype == "uint8"
        case p.Affine():
            return spec.dtype == "uint8" and primitive.dtype == "float32"
    return False


def _resize_tolerance(primitive: p.Resize, spec: ImageSpec, gpu: bool) -> Tolerance:
    if spec.dtype == "uint8":
        return Tolerance(1.0, _TIES, rim=255.0 * _RIM if primitive.antialias else None)
    # Measured 2e-5 of the range: positions are float32 in DALI.
    return Tolerance(2e-4 if gpu else 5e-5, 5e-6, rim=_RIM if primitive.antialias else None)


def _warp_tolerance(spec: ImageSpec, gpu: bool) -> Tolerance:
    height, width, _ = (n or _LARGE for n in spec.image_shape)
    longer = max(height, width)
    # Between neighbours a value changes by at most its range, along both axes.
    error = 2e-6 + (4e-7 * longer if gpu else _DRIFT_PX * width * longer)
    if spec.dtype == "uint8":
        # Two values less than a level apart are rounded to one level or to neighbours.
        return Tolerance(float(np.ceil(255.0 * error)), _TIES + 255.0 * error / 6.0)
    return Tolerance(error, error / 6.0)


def _constant_tolerance(values: tuple[float, ...], spec: ImageSpec) -> Tolerance:
    """Exact, but that float32 images take the float32 nearest to each value."""
    if spec.dtype != "float32":
        return EXACT
    gap = float(max(abs(value - float(np.float32(value))) for value in values))
    return Tolerance(gap, gap)


def _affine_tolerance(primitive: p.Affine, spec: ImageSpec) -> Tolerance:
    if primitive.dtype in ("uint8", "int8"):
        return Tolerance(1.0, 1e-3)  # a value within 3e-5 of an integer, on the side of 0, becomes that integer
    largest = {"uint8": 255.0, "int8": 128.0}.get(spec.dtype, 1.0)
    reach = max(map(abs, primitive.scale)) * largest + max(map(abs, primitive.offset))
    step = _FLOAT_STEPS + (float(np.finfo(np.float16).eps) / 2.0 if primitive.dtype == "float16" else 0.0)
    return Tolerance(step * reach, step * reach)


DALI_CPU = DaliBackend("dali-cpu")
"""DALI's CPU operators."""
DALI = DaliBackend("dali")
"""DALI on a GPU."""


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
    try:
        limits.start(prober)
    except BackendUnavailable as error:
        return Availability(name, False, "no thread can be started", str(error))
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
