"""A batch on its way through the kernel: the programs that its images run in, their params, and where results go."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import Images, empty
from greenload.backends.native.abi import KernelStep, Status
from greenload.backends.native.counters import count, counted_as
from greenload.backends.native.intake import Taken
from greenload.backends.native.layout import Layout
from greenload.backends.native.library import Program
from greenload.backends.native.table import TABLE
from greenload.errors import BackendUnavailable
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Step, reads_params
from greenload.stages import primitives as p

TASKS_A_THREAD = 4
"""Images differ in cost: with one task for each thread, threads would wait for the last. Each task costs 30 µs."""
ALONE_VALUES = 1 << 19
"""A batch of pixels that has fewer values than this is worked on by the thread that asks: it takes less than a
millisecond, and tasks cost more than they save."""
_PROGRAMS = 256  # kept of a segment with a choice

Failures = dict[int, tuple[Status, str]]
"""What went wrong with images, and why, by their positions in the batch."""


@dataclass(frozen=True)
class Job:
    """Images of a batch that go through one program, one after another in one thread."""

    program: Program
    positions: Sequence[int]
    """In the batch."""
    images: Any
    params: NDArray[np.float64]
    """``[n, columns]``."""
    outs: Any
    """Memory for the results."""

    def run(self) -> Failures:
        """All images through the program."""
        failed = self.program.run(self.images, self.params, self.outs)
        return {self.positions[index]: why for index, why in failed.items()}

    def skip(self) -> Failures:
        """What a replay does in place of ``run``."""
        return {}


@dataclass(frozen=True)
class Work:
    """A whole batch, ready to be worked on."""

    images: Any
    """As they reach the kernel."""
    params: NDArray[np.float64]
    """A row an image."""
    done: Images
    """Memory for the results, in order."""
    programs: Sequence[tuple[Program, NDArray[np.int64]]]
    """Each with the positions of the images that go through it, ascending."""
    shared: bool
    """Whether several threads are worth their tasks."""

    def jobs(self, threads: int, only: Sequence[int] | None = None) -> Iterator[Job]:
        """The batch in parts, one a task, for so many threads; ``only`` some positions of it, if given."""
        size = max(1, len(self.params) // (threads * TASKS_A_THREAD)) if self.shared else len(self.params)
        for program, positions in self.programs:
            own = positions if only is None else positions[np.isin(positions, only)]
            for begin in range(0, len(own), size):
                yield self._job(program, own[begin : begin + size])

    def _job(self, program: Program, positions: NDArray[np.int64]) -> Job:
        rows, first = positions.tolist(), int(positions[0])
        if rows[-1] - first + 1 == len(rows):  # neighbours
            part = slice(first, first + len(rows))
            return Job(program, rows, self.images[part], self.params[part], self.done[part])
        images, outs = ([values[row] for row in rows] for values in (self.images, self.done))
        return Job(program, rows, images, self.params[positions], outs)


class KernelSteps:
    """Neighbouring steps of a segment in the kernel.

    Args:
        plan: that the segment belongs to.
        segment: on backend ``"native"``.
        steps: of the segment; at least one.

    Raises:
        BackendUnavailable: the kernel doesn't take them.
    """

    def __init__(self, plan: Plan, segment: Segment, steps: Sequence[Step]) -> None:
        self._draws = DrawLayout.of(plan.pipeline)
        self._first = segment.first
        self._spec_in, self._spec_out = steps[0].spec_in, steps[-1].spec_out
        self._stages = tuple({step.stage for step in steps if step.stage is not None and reads_params(step)})
        self._layout = Layout.of(TABLE, steps)
        self._mixes = isinstance(steps[0].primitive, p.Mix)
        self._program = _programs(self._layout.columns, counted_as(self._layout))
        if self._layout.straight is not None:
            self._program(self._layout.straight)  # what the kernel doesn't take is found before the first batch
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
        params = self._draws.params(numbers, taken.height, taken.width, self._stages, first=self._first)
        further = taken.further()
        entering: Any = taken.images if images is None else images
        if self._mixes:  # the kernel reads others of the batch than the one that it is told of
            entering = np.ascontiguousarray(entering)
        count = len(entering)
        sides = _sides(taken) if self._spec_in.encoded else np.array([image.shape for image in entering], np.int64)
        if done is None:
            done = self._memory(*self._layout.sides(params, further, sides[:, 0], sides[:, 1]), sides[:, 2])
        rows = self._layout.rows(params, further)
        return Work(
            entering,
            np.empty((count, 0)) if rows is None else rows,
            done,
            [(self._program(steps), positions) for steps, positions in self._layout.groups(params, count)],
            self._spec_in.encoded or int(sides.prod(axis=1).sum()) >= ALONE_VALUES,
        )

    def _memory(self, height: NDArray[np.int64], width: NDArray[np.int64], channels: NDArray[np.int64]) -> Images:
        """Memory for results of these sizes."""
        dtype = self._spec_out.dtype
        if self._spec_out.static:
            return empty((len(height), *self._spec_out.image_shape), dtype)
        return [np.empty(shape, np.dtype(dtype)) for shape in np.stack([height, width, channels], axis=1).tolist()]


def _sides(taken: Taken) -> NDArray[np.int64]:
    """Rows, columns and channels of files, decoded."""
    return np.stack([taken.height, taken.width, np.full(len(taken.height), 3)], axis=1)


def _programs(columns: int, name: str) -> Callable[[tuple[KernelStep, ...]], Program]:
    """Makes programs of steps whose params are among so many, which count under a name, and keeps those of late."""

    @functools.lru_cache(_PROGRAMS)
    def program(steps: tuple[KernelStep, ...]) -> Program:
        try:
            made = Program(steps, columns)
        except ValueError as error:
            raise BackendUnavailable(f"the kernel of backend 'native' doesn't take these steps: {error}") from None
        count(made, name, steps)
        return made

    return program


def _know_bfloat16() -> None:
    """Have NumPy know the dtype.

    Raises:
        BackendUnavailable: the package that has it isn't installed.
    """
    try:
        importlib.import_module("ml_dtypes")
    except ImportError as error:
        raise BackendUnavailable(f"NumPy has bfloat16 from ml_dtypes: {error}; pip install ml_dtypes") from None
