"""The Pillow backend: Pillow-SIMD, or plain Pillow, on the CPU. Neither is imported before it is asked for."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import Availability
from greenload.backends.interface import Replaying
from greenload.backends.pillow.decode import decode
from greenload.backends.pillow.runner import PillowRunner
from greenload.backends.pillow.table import TABLE
from greenload.backends.readers import Readers
from greenload.errors import BackendUnavailable
from greenload.plans.plan import Plan, Segment
from greenload.sources.formats import FormatError

INSTALL = "pip install 'greenload[pillow]'"
FASTER = 'pip uninstall pillow, then CC="cc -mavx2" pip install pillow-simd'


class PillowBackend:
    """Pillow on the CPU."""

    name = TABLE.name
    table = TABLE

    def availability(self) -> Availability:
        """Whether Pillow imports with its C core, which Pillow it is, and what its kernels were compiled for."""
        return _probe()

    def presence(self) -> Availability:
        """The same: this doesn't import TensorFlow."""
        return self.availability()

    def runner(self, plan: Plan, segment: Segment, batch_size: int, readers: Readers) -> PillowRunner:
        """A segment on threads of its own.

        Raises:
            BackendUnavailable: Pillow can't be imported.
        """
        seen = self.availability()
        if not seen.usable:
            raise BackendUnavailable(f"backend {self.name!r} can't run here: {seen.detail}; {seen.remedy}")
        return PillowRunner(plan, segment, readers)

    def graph_segment(self, plan: Plan, segment: Segment, readers: Readers, counter: str = "") -> None:
        """``None``: Pillow is called from Python."""

    def own_clocks(self, segment: Segment, counter: str = "") -> None:
        """``None``: it has no clocks of its own."""
        return None

    def decoder(self) -> PillowDecoder:
        """A decoder, which holds nothing."""
        return PillowDecoder()

    def replays(self) -> Replaying:
        """Replays on images as the step before has left them."""
        from greenload.backends.pillow import replay

        return replay

    def refusal(self, data: bytes) -> str:
        """Why Pillow can't decode a file; empty if it can."""
        try:
            decode(data)
        except FormatError as error:
            return str(error)
        return ""


class PillowDecoder:
    """Decodes single files, each wholly."""

    def pixels(self, data: bytes, kind: str) -> NDArray[np.uint8]:
        """A file's pixels, uint8 ``[H, W, 3]``.

        Raises:
            FormatError: Pillow can't decode it wholly.
        """
        decoded: NDArray[np.uint8] = np.asarray(decode(data))
        return decoded

    def close(self) -> None:
        """Nothing is held."""


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
