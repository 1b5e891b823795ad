"""A batch on its way through the kernel: where its images and results lie, and the programs that it runs in."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import Images, empty
from greenload.backends.native.calls import REASON, Compiled, addresses_of, lengths_of, reason_of
from greenload.backends.native.intake import Taken
from greenload.backends.native.program import Program
from greenload.backends.native.table import TABLE
from greenload.errors import BackendUnavailable
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Step, reads_params

TASKS_A_THREAD = 4
"""Images differ in cost: with one task for each thread, threads would wait for the last. Each task costs 30 µs."""
ALONE_VALUES = 1 << 19
"""A batch of pixels that has fewer values than this is worked on by the thread that asks: it takes less than a
millisecond, and tasks cost more than they save."""
_PROGRAMS = 256  # kept of a segment with a choice


@dataclass(frozen=True)
class Job:
    """Images that go through one program: of each where it lies, its row of params, and where its result goes."""

    program: Compiled
    positions: NDArray[np.int64]
    """In the batch."""
    images: NDArray[np.uint64]
    """Addresses."""
    sizes: NDArray[np.int64]
    """Bytes of files ``[n]``; or of pixels rows, columns and channels ``[n, 3]``."""
    params: NDArray[np.float64]
    outs: NDArray[np.uint64]
    """Addresses."""
    capacity: NDArray[np.int64]
    """Bytes of each result."""
    status: NDArray[np.int32]
    """Not 0 where the kernel failed."""
    reasons: NDArray[np.uint8]

    @classmethod
    def over(
        cls,
        program: Compiled,
        images: NDArray[np.uint64],
        sizes: NDArray[np.int64],
        params: NDArray[np.float64],
        done: Images,
    ) -> Job:
        """All images of a batch, whose results go to ``done``."""
        count = len(images)
        outcome = np.zeros(count, np.int32), np.empty((count, REASON), np.uint8)
        return cls(program, np.arange(count), images, sizes, params, *_places(done), *outcome)

    def run(self) -> None:
        """All images, one after another, in this thread."""
        columns = (self.images, self.sizes, self.params, self.outs, self.capacity, self.status, self.reasons)
        self.program.run(len(self.positions), *(column.ctypes.data for column in columns))

    def parts(self, size: int) -> Iterator[Job]:
        """The same in parts of so many images, whose outcome is also this one's."""
        for at in range(0, len(self.positions), size):
            yield self._of(slice(at, at + size))

    def among(self, positions: NDArray[np.int64]) -> Job:
        """Those at some positions of the batch."""
        return self._of(np.isin(self.positions, positions))

    def failures(self) -> dict[int, str]:
        """Why the kernel failed, by position in the batch."""
        failed = np.flatnonzero(self.status)
        return {int(self.positions[row]): reason_of(self.reasons[row]) for row in failed}

    def _of(self, rows: Any) -> Job:
        return Job(
            self.program,
            self.positions[rows],
            self.images[rows],
            self.sizes[rows],
            self.params[rows],
            self.outs[rows],
            self.capacity[rows],
            self.status[rows],
            self.reasons[rows],
        )


@dataclass(frozen=True)
class Work:
    """A whole batch."""

    jobs: Sequence[Job]
    done: Images
    """Memory for the results, in order."""
    values: int
    """Of all images as they enter, once they are decoded."""
    images: Any = field(repr=False)
    """What the jobs' addresses are of."""

    def shared(self, encoded: bool) -> bool:
        """Whether several threads are worth their tasks; ``encoded`` says whether images enter as files."""
        return encoded or self.values >= ALONE_VALUES

    def parts(self, threads: int, encoded: bool) -> list[Job]:
        """The jobs in parts, one a task, for so many threads."""
        if not self.shared(encoded):
            return list(self.jobs)
        size = max(1, sum(len(job.positions) for job in self.jobs) // (threads * TASKS_A_THREAD))
        return [part for job in self.jobs for part in job.parts(size)]

    def failures(self) -> dict[int, str]:
        """Why the kernel failed, by position in the batch, ascending."""
        return dict(sorted(item for job in self.jobs for item in job.failures().items()))


class KernelSteps:
    """Neighbouring steps of a segment in the kernel.

    Args:
        plan: that the segment belongs to.
        segment: on backend ``"native"``.
        steps: of the segment; at least one.
    """

    def __init__(self, plan: Plan, segment: Segment, steps: Sequence[Step]) -> None:
        self._layout = DrawLayout.of(plan.pipeline)
        self._first = segment.first
        self._spec_in, self._spec_out = steps[0].spec_in, steps[-1].spec_out
        self._stages = tuple({step.stage for step in steps if step.stage is not None and reads_params(step)})
        self._program = Program.of(TABLE, steps)
        self._compiled = functools.lru_cache(_PROGRAMS)(functools.partial(Compiled, columns=self._program.columns))
        if self._program.straight is not None:
            self._compiled(self._program.straight)  # what the kernel doesn't take is found before the first batch
        if "bfloat16" in (self._spec_in.dtype, self._spec_out.dtype):
            _know_bfloat16()

    def work(
        self, taken: Taken, numbers: NDArray[np.float64], images: Images | None = None, done: Images | None = None
    ) -> Work:
        """A batch, ready to be worked on.

        Args:
            taken: the batch as it enters the segment.
            numbers: its prepared random values.
            images: the images as they reach these steps, where these aren't the segment's first.
            done: memory for the results; made if not given.
        """
        params = self._layout.params(numbers, taken.height, taken.width, self._stages, first=self._first)
        further = taken.further()
        held: Any = taken.images if images is None else images
        if self._spec_in.encoded:
            addresses, sizes = addresses_of(held), lengths_of(held)
            entering = np.stack([taken.height, taken.width, np.full(len(held), 3)], axis=1)
        else:
            held, addresses, entering = _laid_out(held)
            sizes = entering
        if done is None:
            done = self._memory(*self._program.sides(params, further, entering[:, 0], entering[:, 1]), entering[:, 2])
        count = len(addresses)
        rows = self._program.rows(params, further)
        rows = np.empty((count, 0)) if rows is None else np.ascontiguousarray(rows)
        jobs = []
        for steps, positions in self._program.groups(params, count):
            job = Job.over(self._compiled(steps), addresses, sizes, rows, done)
            jobs.append(job if len(positions) == count else job.among(positions))
        return Work(jobs, done, int(entering.prod(axis=1).sum()), held)

    def _memory(self, height: NDArray[np.int64], width: NDArray[np.int64], channels: NDArray[np.int64]) -> Images:
        """Memory for results of these sizes."""
        dtype = self._spec_out.dtype
        if self._spec_out.static:
            return empty((len(height), *self._spec_out.image_shape), dtype)
        sides = np.stack([height, width, channels], axis=1).tolist()
        return [np.empty(shape, np.dtype(dtype)) for shape in sides]


def _know_bfloat16() -> None:
    """Have NumPy know the dtype.

    Raises:
        BackendUnavailable: the package that has it isn't installed.
    """
    try:
        import ml_dtypes  # noqa: F401
    except ImportError as error:
        raise BackendUnavailable(f"NumPy has bfloat16 from ml_dtypes: {error}; pip install ml_dtypes") from None


def _laid_out(images: Any) -> tuple[Any, NDArray[np.uint64], NDArray[np.int64]]:
    """Pixels without gaps, where each image lies, and its rows, columns and channels."""
    if isinstance(images, np.ndarray):
        whole = np.ascontiguousarray(images)
        return whole, _rows_of(whole), np.tile(np.array(whole.shape[1:], np.int64), (len(whole), 1))
    each = [np.ascontiguousarray(image) for image in images]
    return each, _addresses(each), np.array([image.shape for image in each], np.int64).reshape(-1, 3)


def _places(done: Any) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Where each result goes, and its bytes."""
    if isinstance(done, np.ndarray):
        return _rows_of(done), np.full(len(done), done[:1].nbytes)
    return _addresses(done), np.fromiter((image.nbytes for image in done), np.int64, len(done))


def _rows_of(whole: NDArray[Any]) -> NDArray[np.uint64]:
    """Where each image of a batch lies."""
    offsets = np.arange(len(whole), dtype=np.uint64) * np.uint64(whole.strides[0])
    addresses: NDArray[np.uint64] = offsets + np.uint64(whole.ctypes.data)
    return addresses


def _addresses(images: Sequence[NDArray[Any]]) -> NDArray[np.uint64]:
    return np.fromiter((image.ctypes.data for image in images), np.uint64, len(images))
