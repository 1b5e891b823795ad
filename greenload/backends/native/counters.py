"""Own clocks: what the kernel's steps count of their work, under names that the whole process shares.

The kernel keeps one table of rows. All programs of a segment count in the same rows, in TensorFlow's operation as well
as in Python's calls, and other parts may have rows of their own (`NamedCounter`).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from greenload.backends.clocks import StepClock
from greenload.backends.native import op
from greenload.backends.native.abi import Counter, KernelStep
from greenload.backends.native.layout import Layout
from greenload.backends.native.library import Program, loaded
from greenload.backends.native.table import TABLE
from greenload.plans.plan import Segment
from greenload.system.work import Work

NAME_BYTES = 96
"""Of a row's name, its zero included: ``GL_NAME``."""
_NUMBERS = ctypes.c_int64 * 7
"""A ``gl_counter``."""


class NamedCounter:
    """The process's row of a name, which is there for as long as anything holds it. Safe in threads.

    Args:
        name: up to 95 bytes.

    Raises:
        ValueError: it has more, or none.

    Example:
        >>> NamedCounter("reading").add(images=32, nanoseconds=5_000_000, bytes_out=1 << 20)
        >>> named_counters()["reading"].images
        32
    """

    def __init__(self, name: str) -> None:
        self._handle = _library().gl_row_open(name.encode())
        if not self._handle:
            raise ValueError(f"a counter's name has 1 to {NAME_BYTES - 1} bytes, found {name!r}: give another")
        weakref.finalize(self, _library().gl_row_close, self._handle).atexit = False

    def add(
        self,
        images: int = 0,
        nanoseconds: int = 0,
        bytes_in: int = 0,
        bytes_out: int = 0,
        timed: int = 0,
        wall_nanoseconds: int = 0,
    ) -> None:
        """Add to what it counts.

        Args:
            images: or whatever is counted.
            nanoseconds: of CPU time of ``timed`` of them.
            bytes_in: that came.
            bytes_out: that went.
            timed: how many of them were timed.
            wall_nanoseconds: of ``timed`` of them.
        """
        counter = _NUMBERS(images, nanoseconds, bytes_in, bytes_out, timed, wall_nanoseconds, 0)
        _library().gl_row_add(self._handle, counter)

    def read(self) -> Work:
        """What has been counted so far."""
        counter = _NUMBERS()
        _library().gl_row_read(self._handle, counter)
        images, cpu_ns, _, _, timed, wall_ns, crossed = counter
        return Work(images, timed, cpu_ns / 1e9, wall_ns / 1e9, crossed)


def named_counters() -> dict[str, Counter]:
    """All rows of the process, by name."""
    count = 0
    while True:
        rows = (_Row * count)()
        found = _library().gl_rows(rows, count)
        if found <= count:
            return {row.name.decode(errors="replace"): Counter(*row.counter) for row in rows[:found]}
        count = found + 16  # others may come meanwhile


def counted_as(layout: Layout) -> str:
    """The name under which the programs of a segment count: that of whole images. A step's has its number behind it.

    It follows from what they do: so graphs of one pipeline are alike, in all processes.
    """
    return f"native/{hashlib.sha256(op.serialized(layout.chosen_steps(), layout.columns)).hexdigest()[:16]}"


def count(program: Program, name: str, steps: Sequence[KernelStep]) -> None:
    """Have a program count under a name, before its first image.

    Args:
        program: whose counters then tell what all programs of the name have done.
        name: as ``counted_as`` gives it.
        steps: of the program.
    """
    numbers = (ctypes.c_int32 * len(steps))(*(step.counter for step in steps))
    _library().gl_program_count(program.handle, name.encode(), numbers)


class OwnClocks:
    """Reads the CPU time that a segment's steps have counted so far, in all its programs.

    Where the kernel does a step in the same pass as another, all the time is that one's: a flip beside a resize has
    none. Maps of levels that follow one another are one look-up, whose time they share alike.

    Args:
        segment: on backend ``"native"``.
        name: under which its programs count; if not given, that of all pipelines with the same steps.
    """

    def __init__(self, segment: Segment, name: str = "") -> None:
        layout = Layout.of(TABLE, segment.steps)
        self._segment, self._whole = segment, name or counted_as(layout)
        name = self._whole
        self._names = {
            step.name: [f"{name}/{number}" for number in numbers]
            for step, numbers in zip(segment.steps, layout.counters(), strict=True)
        }
        rows = (row for own in self._names.values() for row in own)
        self._held = [NamedCounter(row) for row in (name, *rows)]

    def read(self) -> Mapping[str, Work]:
        """Work by the names of the plan's steps. A call is an image, and none of its waiting is known."""
        rows = named_counters()
        images = rows[self._whole].images
        return {
            name: Work(images, images, sum(rows[row].nanoseconds for row in own) / 1e9)
            for name, own in self._names.items()
        }

    def clocks(self) -> Sequence[StepClock]:
        """A clock of each step."""
        return [
            StepClock(
                step.name,
                step.backend,
                functools.partial(self._work, step.name),
                counter=f"{self._whole} {step.name}",
                estimates=True,
            )
            for step in self._segment.steps
        ]

    def _work(self, name: str) -> Work:
        return self.read()[name]


class _Row(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char * NAME_BYTES), ("counter", _NUMBERS))


@functools.cache
def _library() -> Any:
    """The kernel, with the types of the functions that are called here."""
    library, pointer, i64 = loaded(), ctypes.c_void_p, ctypes.c_int64
    library.gl_row_open.argtypes, library.gl_row_open.restype = [ctypes.c_char_p], pointer
    library.gl_row_add.argtypes, library.gl_row_add.restype = [pointer, pointer], None
    library.gl_row_read.argtypes, library.gl_row_read.restype = [pointer, pointer], None
    library.gl_row_close.argtypes, library.gl_row_close.restype = [pointer], None
    library.gl_rows.argtypes, library.gl_rows.restype = [pointer, i64], i64
    library.gl_program_count.argtypes = [pointer, ctypes.c_char_p, pointer]
    library.gl_program_count.restype = ctypes.c_int32
    return library
