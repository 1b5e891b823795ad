"""The native backend: greenload's own kernel, compiled with the package. Its library is loaded when it is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import Availability
from greenload.backends.interface import Replaying
from greenload.backends.native import abi, library, op
from greenload.backends.native.counters import OwnClocks
from greenload.backends.native.graph import NativeGraphSegment, fits
from greenload.backends.native.runner import NativeRunner
from greenload.backends.native.table import TABLE
from greenload.backends.readers import Readers
from greenload.errors import BackendUnavailable
from greenload.plans.plan import Plan, Segment
from greenload.sources.formats import FormatError
from greenload.specs import MAX_BYTES


class NativeBackend:
    """The kernel on the CPU."""

    name = TABLE.name
    table = TABLE

    def availability(self) -> Availability:
        """Whether the kernel's library was built and loads, and what it was built with."""
        why = library.why_missing()
        if why:
            detail, _, remedy = why.rpartition("; ")
            return Availability(self.name, False, detail, remedy)
        lacking = "" if op.FILE.exists() else "; without operations for TensorFlow, which calls it through Python"
        return Availability(self.name, True, library.version() + lacking)

    def presence(self) -> Availability:
        """The same: this doesn't import TensorFlow."""
        return self.availability()

    def runner(self, plan: Plan, segment: Segment, batch_size: int, readers: Readers) -> NativeRunner:
        """A segment on threads of its own.

        Raises:
            BackendUnavailable: the kernel can't be loaded.
        """
        seen = self.availability()
        if not seen.usable:
            raise BackendUnavailable(f"backend {self.name!r} can't run here: {seen.detail}; {seen.remedy}")
        return NativeRunner(plan, segment, readers)

    def graph_segment(
        self, plan: Plan, segment: Segment, readers: Readers, counter: str = ""
    ) -> NativeGraphSegment | None:
        """One operation, where it was built and TensorFlow can load it, and images leave the segment with one size."""
        return NativeGraphSegment(plan, segment, readers, counter) if fits(segment) and op.usable() else None

    def own_clocks(self, segment: Segment, counter: str = "") -> OwnClocks:
        """The kernel's."""
        return OwnClocks(segment, counter)

    def decoder(self) -> NativeDecoder:
        """A decoder of plain JPEGs."""
        return NativeDecoder()

    def replays(self) -> Replaying:
        """Replays on images as the step before has left them."""
        from greenload.backends.native import replay

        return replay

    def refusal(self, data: bytes) -> str | None:
        """``None``: what the kernel doesn't decode another backend does, or says why not."""
        return None


class NativeDecoder:
    """Decodes single plain JPEGs, each wholly."""

    def __init__(self) -> None:
        self._program = library.Program([abi.KernelStep(abi.Op.DECODE)], 0)

    def pixels(self, data: bytes, kind: str) -> NDArray[np.uint8]:
        """A file's pixels, uint8 ``[H, W, 3]``.

        Raises:
            FormatError: the kernel can't decode it wholly.
        """
        ((plain, height, width),) = library.probe([data], False, MAX_BYTES).tolist()
        if not plain:
            raise FormatError("can't be decoded: the kernel doesn't take it for a plain JPEG")
        done = np.empty((height, width, 3), np.uint8)
        for _, reason in self._program.run([data], np.empty((1, 0)), [done]).values():
            raise FormatError(f"can't be decoded: {reason}")
        return done

    def close(self) -> None:
        """Nothing is held."""
