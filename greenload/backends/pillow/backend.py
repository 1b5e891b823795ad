"""The Pillow backend: Pillow-SIMD, or plain Pillow, on the CPU. Neither is imported before it is asked for."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np

from greenload.backends.base import EXACT, Availability, Tolerance
from greenload.backends.pillow.runner import PillowRunner
from greenload.errors import BackendUnavailable
from greenload.plans import claims
from greenload.plans.plan import Plan, Segment
from greenload.specs import ImageSpec
from greenload.stages import primitives as p

INSTALL = "pip install 'greenload[pillow]'"
FASTER = 'pip uninstall pillow, then CC="cc -mavx2" pip install pillow-simd'


# Pillow rounds to levels after each axis, so a value may be a whole level off. Over photographs and noise, with sides
# from 1 to 1,000 pixels, 0.3 was the most of any image's mean difference, and 0.1 is usual. A pattern of hard edges
# repeats few values: 0.45 was seen, and 0.96 where it is a few pixels wide.
_RESIZED = Tolerance(1.0, 0.5)
_NARROW_PX = 10
_RESIZED_NARROW = Tolerance(1.0, 1.0)
# It sums floats in double precision: the most seen was the rounding of the result, 6e-8 of values in 0 … 1.
_RESIZED_FLOATS = Tolerance(1e-7, 3e-8)

# A float32 sum that falls to the other side of a half: up to 3e-3 of an image's values were seen, 4e-3 in one of a few
# hundred. Floats: the most seen was 2.4e-6, from a matrix of factors up to 27, as three strong jitters make.
_COLOR = {"uint8": Tolerance(1.0, 5e-3), "float32": Tolerance(3e-6, 2e-7)}

_LARGEST = {"uint8": 255.0, "int8": 128.0}
# The distance between neighbours around 1: of float32 two steps, of float16 one, where a value lies on a rounding
# boundary.
_STEPS = {"float32": 2 * float(np.finfo(np.float32).eps), "float16": 2.0**-10}


class PillowBackend:
    """Pillow on the CPU."""

    name = "pillow"

    def availability(self) -> Availability:
        """Whether Pillow imports with its C core, which Pillow it is, and what its kernels were compiled for."""
        return _probe()

    def tolerance(self, primitive: p.Primitive, spec: ImageSpec) -> Tolerance | None:
        """What is held for a primitive on images of ``spec``; ``None`` for one that isn't claimed."""
        if not claims.claimed(self.name, primitive, spec):
            return None
        match primitive:
            case p.Resize():
                return _resize_tolerance(primitive, spec)
            case p.Color():
                return _COLOR[spec.dtype]
            case p.Affine():
                return _affine_tolerance(primitive, spec)
        return EXACT

    def runner(self, plan: Plan, segment: Segment, batch_size: int) -> PillowRunner:
        """A segment on threads of its own.

        Raises:
            BackendUnavailable: Pillow can't be imported.
        """
        found = self.availability()
        if not found.usable:
            raise BackendUnavailable(f"backend {self.name!r} can't run here: {found.detail}; {found.remedy}")
        return PillowRunner(plan, segment)


def _resize_tolerance(primitive: p.Resize, spec: ImageSpec) -> Tolerance:
    if spec.dtype != "uint8":
        return _RESIZED_FLOATS
    narrow = any(side is not None and side < _NARROW_PX for side in (primitive.height, primitive.width))
    return _RESIZED_NARROW if narrow else _RESIZED


def _affine_tolerance(primitive: p.Affine, spec: ImageSpec) -> Tolerance:
    if primitive.dtype not in _STEPS:
        return Tolerance(1.0, 1e-3)  # a value within a float32 step of an integer is cut to either side
    reach = max(map(abs, primitive.scale)) * _LARGEST.get(spec.dtype, 1.0) + max(map(abs, primitive.offset))
    steps = _STEPS[primitive.dtype] * reach
    return Tolerance(steps, steps if primitive.dtype == "float32" else steps / 100)


@functools.cache
def _probe() -> Availability:
    try:
        from PIL import Image, _imaging
    except ImportError as error:
        return Availability("pillow", False, f"Pillow can't be imported: {error}", INSTALL)
    # Pillow-SIMD's versions are those of the Pillow that it comes from, with a post-release number.
    if ".post" not in Image.__version__:
        detail = f"Pillow {Image.__version__}, not Pillow-SIMD: resizing costs several times as much CPU"
        return Availability("pillow", True, detail, FASTER)
    return Availability("pillow", True, f"Pillow-SIMD {Image.__version__}, {kernels(Path(_imaging.__file__))}")


_PRODUCER = re.compile(rb"GNU C\d*[^\0]*")
_KERNELS = ((b" -mavx2", "AVX2 kernels"), (b" -msse4", "SSE4 kernels"))


def kernels(library: Path) -> str:
    """What Pillow-SIMD's kernels were compiled for. It doesn't say, but gcc leaves its arguments in the debug
    information, where there is some."""
    try:
        arguments = b" ".join(_PRODUCER.findall(library.read_bytes()))
    except OSError:
        arguments = b""
    return next((name for flag, name in _KERNELS if flag in arguments), "instruction set unknown")
