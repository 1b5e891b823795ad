"""The Pillow backend: to be written."""

from __future__ import annotations

from greenload.backends.base import Availability, Runner, Tolerance
from greenload.errors import BackendUnavailable
from greenload.plan import Plan, Segment
from greenload.specs import ImageSpec
from greenload.stages import primitives as p


class PillowBackend:
    """Pillow."""

    name = "pillow"

    def availability(self) -> Availability:
        """Not yet."""
        return Availability(self.name, False, "not built", "")

    def tolerance(self, primitive: p.Primitive, spec: ImageSpec) -> Tolerance | None:
        """None yet."""
        return None

    def runner(self, plan: Plan, segment: Segment, batch_size: int) -> Runner:
        """None yet."""
        raise BackendUnavailable("not built")
