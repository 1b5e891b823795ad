"""What a backend is: a table from primitive to lowering, the tolerance it holds, and whether it can run here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from greenload.plans.plan import Plan, Segment
from greenload.specs import ImageSpec
from greenload.stages.primitives import Primitive


@dataclass(frozen=True)
class Tolerance:
    """How far a backend's result may lie from the float64 reference."""

    max: float
    """The largest difference of any value: in levels for uint8, else in units of the image's own range."""
    mean: float
    """The mean absolute difference."""
    rim: float | None = None
    """The largest difference within the outermost pixel on each side, where it is larger."""


EXACT = Tolerance(0.0, 0.0)
"""The same bits."""


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run on this machine."""

    name: str
    usable: bool
    detail: str
    """The version found, or why it isn't usable."""
    remedy: str = ""
    """What would make it usable; empty where it is."""


Images = Sequence[bytes] | Sequence[NDArray[np.generic]] | NDArray[np.generic]
"""A batch on its way: encoded bytes, pixels ``[H, W, C]`` each, or all of one size as ``[n, H, W, C]``."""


@dataclass(frozen=True)
class Records:
    """A batch of records as they come from the source, with the numbers that their stages' params derive from."""

    images: Images
    """Encoded bytes, or pixels ``[H, W, C]``."""
    numbers: NDArray[np.float64]
    """``[n, count]`` of ``Numbers.prepare``."""
    names: Sequence[str]
    """What names each record in an error."""


def empty(shape: Sequence[Any], dtype: str) -> NDArray[Any]:
    """Memory for a batch, beginning at a multiple of 64 bytes: such memory JAX and TensorFlow take without a copy."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNED, np.uint8)
    begin = -memory.ctypes.data % _ALIGNED
    return memory[begin : begin + size].view(dtype).reshape(shape)


_ALIGNED = 64


class Runner(Protocol):
    """One segment of a plan, ready to take batches, in any thread. ``close`` gives back what it holds."""

    def run(self, records: Records) -> Images:
        """A batch through all steps of the segment.

        Args:
            records: at most as many as it was made for; ``images`` as they enter the segment.

        Returns:
            The images as they leave, in order: ``[n, H, W, C]`` where they have one size, else one array each. They are
            the caller's for good: no later call writes to them.

        Raises:
            RecordError: a record is bad; names it. The runner stays usable.
            BackendUnavailable: the backend failed, but on no record alone.
        """
        ...

    def close(self) -> None:
        """Give back threads and buffers. Calling it twice is harmless."""
        ...


class Backend(Protocol):
    """Runs segments of plans on batches. Implementations: ``backends.tf``, ``backends.dali``, ``backends.pillow``."""

    @property
    def name(self) -> str:
        """What a plan calls it."""
        ...

    def availability(self) -> Availability:
        """Whether this backend can run here, found out by loading it."""
        ...

    def tolerance(self, primitive: Primitive, spec: ImageSpec) -> Tolerance | None:
        """What this backend holds for a primitive on images of ``spec``; ``None`` where it doesn't claim it."""
        ...

    def runner(self, plan: Plan, segment: Segment, batch_size: int) -> Runner:
        """Make a segment of a plan ready to run.

        Args:
            plan: whose threads it may use.
            segment: of this backend.
            batch_size: the most records of a call.

        Raises:
            BackendUnavailable: this backend can't run here; names the remedy.
        """
        ...
