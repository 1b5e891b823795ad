"""What a backend is: a table from primitive to lowering, the tolerance it holds, and whether it can run here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from greenload.plan import Plan
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


@dataclass(frozen=True)
class Records:
    """A batch of records as they come from the source, with the numbers that their stages' params derive from."""

    images: Sequence[bytes] | Sequence[NDArray[np.generic]]
    """Encoded bytes, or pixels ``[H, W, C]``."""
    numbers: NDArray[np.float64]
    """``[n, count]`` of ``Numbers.prepare``."""
    names: Sequence[str]
    """What names each record in an error."""


class Backend(Protocol):
    """Runs steps on batches. Implementations: ``backends.tf``, ``backends.dali``."""

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

    def run(self, plan: Plan, records: Records) -> NDArray[Any]:
        """A batch of records through all steps of a plan: what loading must give, and what conformance tests call.

        Returns:
            ``[n, height, width, channels]``, stacked as ``Batch`` stacks them.

        Raises:
            RecordError: a record is bad; names it.
            BackendUnavailable: this backend can't run here.
        """
        ...
