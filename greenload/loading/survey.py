"""Warns of what decoding drops without an error: orientations that aren't applied, and 16-bit pixels of low values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from greenload.backends.image_sizes import decode_of
from greenload.backends.registry import make_readers
from greenload.backends.tables import support
from greenload.errors import SourceError
from greenload.planning.sizes import some_records
from greenload.plans.plan import Plan
from greenload.sources import formats
from greenload.specs import MAX_BYTES
from greenload.stages import primitives as p
from greenload.system.notices import notify

LOW = 4240
"""16-bit values up to this are rounded to the lowest 17 of 256 levels: those of 12 bits (4,095) among them."""
_LOW_LEVEL = 16  # what the greatest of them is rounded to


@dataclass
class Survey:
    """Counts files as they are looked at."""

    exif: bool = False
    """Whether they are to be decoded with ``Decode(exif=True)``."""
    backend: str = "tf"
    """The backend that decodes them."""
    readers: Mapping[str, str] | None = None
    """The backends that decode files for ``backend``, by kind of file, as ``Plan.readers``."""
    records: int = 0
    """Files that were counted."""
    turned: int = 0
    """Files that state an orientation which isn't applied: none with ``exif``."""
    unsupported: Counter[str] = field(default_factory=Counter)
    """Files of kinds that no backend here reads, by kind; not counted where a user named the backend."""
    low_bits: int = 0
    """16-bit PNGs that hold no value above ``LOW``, as 12-bit cameras and scanners write them."""

    def look(self, data: bytes) -> None:
        """Count a file; one that can't be decoded counts as looked at.

        Args:
            data: the whole file.
        """
        self.records += 1
        self.turned += not self.exif and formats.orientation(data) > 1
        if formats.sniff(data) != "PNG" and self.readers is None:
            return
        try:
            head = formats.header(data, support(self.backend, self.readers), MAX_BYTES)
        except formats.FormatError as error:
            if self.readers is not None and error.unsupported:
                self.unsupported[error.unsupported] += 1
            return
        if head.kind == "16-bit PNG":
            level = _highest_level(data, head, (self.readers or {}).get(head.kind, self.backend))
            self.low_bits += level is not None and level <= _LOW_LEVEL

    def sentences(self, of: str) -> list[str]:
        """The warnings, each with its remedy; none where nothing was dropped.

        Args:
            of: what was looked at: "images", or "records looked at".
        """
        said = []
        counted = f"of the {self.records:,} {of}"
        if self.unsupported:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.unsupported.most_common())
            said.append(
                f"{self.unsupported.total():,} {counted} are of kinds that no backend here reads: {kinds}; convert "
                "them to JPEG or PNG, or leave them out with on_error='skip' (greenload check names them all)"
            )
        if self.turned:
            said.append(
                f"{self.turned:,} {counted} have an EXIF orientation, which Decode() doesn't apply: "
                "Decode(exif=True) turns them upright"
            )
        if self.low_bits:
            said.append(
                f"{self.low_bits:,} {counted} are 16-bit PNGs without a value above {LOW:,}, as of 12-bit data, of "
                f"which decoding leaves {_LOW_LEVEL + 1} levels at most: multiply 12-bit values by 16, or save them in "
                "8 bits"
            )
        return said


def warn_of_losses(plan: Plan, *, skipped: bool = False) -> None:
    """Look at the records by whose headers a plan's sizes are estimated, and warn of what decoding them drops, and of
    those that no backend here reads.

    Args:
        plan: what is about to be loaded.
        skipped: whether what isn't read was left out, and said.

    Raises:
        SourceError: all records are such as no backend here reads.
    """
    source = plan.pipeline.source
    if not any(isinstance(step.primitive, p.Decoding) for step in plan.steps):
        return
    survey = Survey(decode_of(plan.steps).exif, plan.decoder, plan.readers)
    try:
        for _, data, _ in some_records(source):
            survey.look(data)
    except Exception:  # a source that can't be read: loading says why
        return
    if skipped:
        survey.unsupported.clear()
    if survey.unsupported.total() == len(source):
        kinds = ", ".join(survey.unsupported)
        raise SourceError(f"all {len(source)} records are of kinds that no backend here reads: {kinds}; convert them")
    for sentence in survey.sentences("records looked at"):
        notify(sentence)


def _highest_level(data: bytes, head: formats.Header, backend: str) -> int | None:
    """The greatest value of a file's pixels, 0 … 255; ``None`` where they can't be decoded."""
    decoding = make_readers({head.kind: backend}, threads=1)
    try:
        return int(decoding.pixels(data, head).max())
    except (formats.FormatError, MemoryError):
        return None
    finally:
        decoding.close()
