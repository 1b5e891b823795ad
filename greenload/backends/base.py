"""A backend's table of the primitives that it does, and what its runners take and give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from greenload.backends.clocks import StepClock
from greenload.plans.steps import IN_TF_DATA, BackendTraits
from greenload.specs import DTYPES, ImageSpec
from greenload.stages.primitives import Choice, Primitive, WeightedSum


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
UNKNOWN = Tolerance(math.inf, math.inf)
"""Nothing is held: of a user's own primitive."""


@dataclass(frozen=True)
class TableRow:
    """One line of a backend's table: a primitive that it does, how, on which images, and how exactly.

    Example:
        >>> TableRow(p.Crop, crop, DTYPES)
        >>> TableRow(p.Affine, affine, DTYPES, to=DTYPES, tolerance=tolerances.affine)
    """

    primitive: type[Primitive]
    lowering: Any
    """How it is built, in the form that the backend's runner takes. It imports the framework when it is called."""
    dtypes: tuple[str, ...]
    """Of images that enter; ``("bytes",)`` for files."""
    to: tuple[str, ...] = DTYPES
    """Of images that leave, for a primitive that changes it: one with a ``dtype``."""
    tolerance: Tolerance | Mapping[str, Tolerance] | Callable[[Any, ImageSpec], Tolerance] = EXACT
    """What is held against the reference; where that depends on the dtype that enters, by dtype; where on more, a
    function of the primitive and the spec of what enters."""
    condition: Callable[[Any, ImageSpec], bool] | None = None
    """Which of its arguments and images are taken, where not all are: a function of the same."""

    def supports(self, primitive: Primitive, spec: ImageSpec) -> bool:
        """Whether images of ``spec`` are taken."""
        if spec.dtype not in self.dtypes or getattr(primitive, "dtype", self.to[0]) not in self.to:
            return False
        return self.condition is None or self.condition(primitive, spec)

    def tolerance_for(self, primitive: Primitive, spec: ImageSpec) -> Tolerance:
        """What is held on images of ``spec``."""
        if isinstance(self.tolerance, Mapping):
            return self.tolerance[spec.dtype]
        return self.tolerance if isinstance(self.tolerance, Tolerance) else self.tolerance(primitive, spec)


@dataclass(frozen=True)
class BackendTable:
    """All that is known of a backend before it is loaded: what a plan asks, and what `docs/backends.md` shows."""

    name: str
    """What a plan calls it."""
    rows: Mapping[type[Primitive], TableRow]
    """What it does, by primitive. ``Choice`` stands for what its parts' rows do, ``Primitive`` for users' own."""
    kinds: tuple[str, ...]
    """The kinds of files that it reads, keys of ``formats.KINDS``: all to the same pixels as other backends."""
    traits: BackendTraits = IN_TF_DATA
    fills_jpeg: bool = True
    """Whether it decodes a JPEG that was cut off and has been filled."""
    not_for_others: tuple[str, ...] = ()
    """Kinds that it doesn't decode for other backends, since it may turn out not to read them."""

    def row(self, primitive: Primitive) -> TableRow | None:
        """How it does a primitive; ``None`` where it doesn't."""
        own = self.name in primitive.lowerings
        return self.rows.get(Primitive if own else type(primitive))

    def lowering(self, primitive: Primitive) -> Any:
        """How a primitive that it supports is built."""
        row = self.row(primitive)
        assert row is not None  # seen to when it was planned
        return row.lowering

    def supports(self, primitive: Primitive, spec: ImageSpec) -> bool:
        """Whether it does a primitive on images of ``spec``."""
        row = self.row(primitive)
        parts = primitive.parts if isinstance(primitive, Choice) else ()
        able = all(self.supports(part.primitive, part.spec_in) for part in parts)
        return row is not None and able and row.supports(primitive, spec)

    def tolerance(self, primitive: Primitive, spec: ImageSpec) -> Tolerance | None:
        """What it holds for a primitive on images of ``spec``; ``None`` where it doesn't do it."""
        row = self.row(primitive)
        if row is None or not self.supports(primitive, spec):
            return None
        return self._of_choice(primitive) if isinstance(primitive, Choice) else row.tolerance_for(primitive, spec)

    def _of_choice(self, choice: Choice) -> Tolerance:
        """Of the parts that an image may go through, one after another; not how one enlarges what another left."""
        each = [
            _summed([self.tolerance(part.primitive, part.spec_in) or EXACT for part in parts])
            for parts in choice.alternatives
        ]
        if isinstance(choice, WeightedSum):
            return _weighed(each)
        if choice.turns > 1:
            return _summed(each)
        rim = max(_rim(tolerance) for tolerance in each)
        worst = max(tolerance.max for tolerance in each)
        return Tolerance(worst, max(tolerance.mean for tolerance in each), rim if rim > worst else None)


def _rim(tolerance: Tolerance) -> float:
    return tolerance.max if tolerance.rim is None else tolerance.rim


def _summed(stated: Sequence[Tolerance]) -> Tolerance:
    worst, rim = sum(tolerance.max for tolerance in stated), sum(map(_rim, stated))
    return Tolerance(worst, sum(tolerance.mean for tolerance in stated), rim if rim > worst else None)


def _weighed(stated: Sequence[Tolerance]) -> Tolerance:
    """Of a sum of levels whose weights sum to 1: no value lies farther off than its farthest term, but rounding may
    carry any term's difference on."""
    worst, rim = max(tolerance.max for tolerance in stated), max(map(_rim, stated))
    return Tolerance(worst, sum(tolerance.mean for tolerance in stated), rim if rim > worst else None)


def rows(*parts: Iterable[TableRow]) -> Mapping[type[Primitive], TableRow]:
    """The rows of several parts by their primitives."""
    return {row.primitive: row for part in parts for row in part}


ENCODED = ("bytes",)
"""Of files' bytes."""
FILTERED = ("uint8", "float32")
"""The dtypes that values between pixels are computed in."""


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
    """``[n, count]`` of ``DrawLayout.prepare``."""
    names: Sequence[str]
    """What names each record in an error."""
    image_of: NDArray[np.int64] | None = None
    """Where echoes share an image until a stage works on each: the position of its image for each row of ``numbers``,
    ascending and without a gap. ``None`` where each has one of its own."""

    def through(self, run: Callable[[Records], Images], *, once: bool) -> Records:
        """The same with the images that a segment gives.

        Args:
            run: takes records with an image for each row of ``numbers``.
            once: whether echoes are to share an image behind it, if they do before it.
        """
        if self.image_of is None or not once:
            each = self.each()
            return replace(each, images=run(each))
        firsts = np.searchsorted(self.image_of, np.arange(len(self.images)))
        own = Records(self.images, self.numbers[firsts], [self.names[row] for row in firsts.tolist()])
        return replace(self, images=run(own))

    def each(self) -> Records:
        """The same with an image for each row of ``numbers``; echoes share its memory."""
        if self.image_of is None:
            return self
        images: Any = [self.images[row] for row in self.image_of.tolist()]
        return replace(self, images=images, image_of=None)

    def batches(self, size: int) -> Iterator[Records]:
        """The records in batches of a size; the last may hold fewer."""
        for begin in range(0, len(self.images), size):
            part = slice(begin, begin + size)
            yield Records(self.images[part], self.numbers[part], self.names[part])


def echoes_of(index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The samples that a batch is made of, each once, and ``Records.image_of`` for them.

    Args:
        index: the sample of each element ``[n]``; echoes follow each other.
    """
    begins = np.diff(index, prepend=-1) != 0
    return index[begins], np.cumsum(begins) - 1


def empty(shape: Sequence[Any], dtype: str) -> NDArray[Any]:
    """Memory for a batch, beginning at a multiple of 64 bytes: such memory JAX and TensorFlow take without a copy."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNED, np.uint8)
    begin = -memory.ctypes.data % _ALIGNED
    return memory[begin : begin + size].view(dtype).reshape(shape)


_ALIGNED = 64


@dataclass(frozen=True)
class BatchOutcome:
    """What became of a batch in TensorFlow's graph."""

    images: Any
    """``[n, height, width, channels]``."""
    large_enough: Any | None
    """Whether each image is large enough for every stage, boolean ``[n]``; ``None`` where no stage needs a size."""
    status: Any
    """Of each image int32 ``[n]``: 0, or 1 where the file is bad, or another number where the backend failed."""
    reasons: Any
    """Why, where it isn't 0: strings ``[n]``."""


class GraphSegment(Protocol):
    """A segment of a backend that takes batches, inside TensorFlow's graph. Its methods are called while graphs are
    made."""

    @property
    def at_once(self) -> int:
        """How many batches are best worked on at once, on the plan's threads."""

    def sample(self, file: Any) -> tuple[Any, Any]:
        """Of one file, a scalar string: a file as ``batch`` takes it, and int64 ``[3]``: rows and columns of its image
        as it is to be seen, and the EXIF orientation that is to be applied to it. Fails where it can't be decoded."""

    def read(self, paths: Any) -> Any:
        """Whole files, strings ``[n]``; empty where one can't be read, or is no regular file."""

    def recall(self, indices: Any, read: Callable[[Any], Any]) -> Any:
        """Files of samples, strings ``[n]``: what the plan's cache keeps, else those that are read, and kept then. They
        go no further than into ``files`` of the same graph.

        Args:
            indices: of the samples, int64 ``[n]``.
            read: from some of them to their files; empty where one can't be read.
        """

    def tell_trouble(self) -> None:
        """Warn of what went wrong with what the cache keeps, once."""

    def forget(self) -> None:
        """Forget what the cache keeps: for measuring how it is filled."""

    def files(self, files: Any) -> tuple[Any, Any]:
        """The same as ``sample`` for many files, strings ``[n]``: files, and int64 ``[n, 3]``. A file that can't be
        decoded becomes an empty one, which ``batch`` calls bad."""

    def batch(self, images: Any, sizes: Any, numbers: Any) -> BatchOutcome:
        """A batch through all steps.

        Args:
            images: files as ``sample`` gives them, strings ``[n]``; or the values of all images one after another.
            sizes: of each what ``sample`` says of it; of pixels rows, columns and channels; int64 ``[n, 3]``.
            numbers: prepared random values, float64 ``[n, count]``.
        """


class Runner(Protocol):
    """One segment of a plan, ready to take batches, in any thread. ``close`` gives back what it holds."""

    @property
    def clocks(self) -> Sequence[StepClock]:
        """What it knows of its steps' work, in the order of the data; they live on when it is closed."""

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

    def close(self) -> None:
        """Give back threads and buffers. Calling it twice is harmless."""
