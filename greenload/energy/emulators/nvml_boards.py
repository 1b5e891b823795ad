"""What the NVML emulator's boards draw and show, and the clock for emulating without waiting."""

from __future__ import annotations

import random
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Protocol

from greenload.energy.meters.process import Clocks
from greenload.errors import UsageError


class Load(Protocol):
    """What a board draws."""

    @property
    def present_only(self) -> bool:
        """Whether ``energy_j`` is known for the present time only."""

    @property
    def start_w(self) -> float:
        """Watts at the emulator's start and before."""

    def energy_j(self, at_s: float) -> float:
        """True joules from the emulator's start up to ``at_s`` seconds after it."""


@dataclass(frozen=True)
class Trace:
    """Power as steps in time.

    Example:
        >>> Trace([(0.0, 70.0), (2.0, 300.0)]).energy_j(3.0)
        440.0
    """

    steps: Sequence[tuple[float, float]]
    """Seconds after the emulator's start, and the watts from then on; the first at 0."""
    present_only: bool = field(default=False, init=False)
    """Its joules are known for any time."""

    def __post_init__(self) -> None:
        times = [start_s for start_s, _ in self.steps]
        if times != sorted(set(times)) or times[:1] != [0.0]:
            raise UsageError(f"a trace starts at 0 s and goes up, found {times[:4]}: sort its steps")
        joules = ((after - before) * watts for (before, watts), (after, _) in pairwise(self.steps))
        object.__setattr__(self, "_starts", (times, list(accumulate(joules, initial=0.0))))

    @property
    def start_w(self) -> float:
        """Watts of the first step."""
        return self.steps[0][1]

    def energy_j(self, at_s: float) -> float:
        """True joules from the emulator's start up to ``at_s`` seconds after it."""
        times, joules = self.__dict__["_starts"]
        last = max(0, bisect_right(times, at_s) - 1)
        return float(joules[last] + (at_s - times[last]) * self.steps[last][1])


class CpuWork:
    """Watts that follow this process's CPU time, as a stand-in for work on a GPU.

    Args:
        idle_w: watts drawn always.
        busy_w: watts that one busy core adds.
    """

    present_only = True

    def __init__(self, idle_w: float = 70.0, busy_w: float = 300.0) -> None:
        self.idle_w = idle_w
        self.busy_w = busy_w
        self._start_s = time.process_time()

    @property
    def start_w(self) -> float:
        """Watts without any work."""
        return self.idle_w

    def energy_j(self, at_s: float) -> float:
        """True joules from the emulator's start up to now, which is ``at_s`` seconds after it."""
        return self.idle_w * at_s + self.busy_w * (time.process_time() - self._start_s)


@dataclass(frozen=True)
class Board:
    """One emulated GPU."""

    load: Load = Trace(((0.0, 70.0),))
    """What it draws."""
    name: str = "NVIDIA H100 80GB HBM3"
    """Its product name."""
    uuid: str = ""
    """``GPU-…``; made of its index if empty."""
    refresh_s: tuple[float, float] = (0.02, 0.1)
    """Shortest and longest time from one refresh to the next, in seconds; each is drawn evenly between them."""
    average_s: float = 1.0
    """What its power reading is the mean of, in seconds."""
    energy_field: bool = True
    """Whether ``nvmlDeviceGetFieldValues`` gives its energy."""
    energy_call: bool = True
    """Whether ``nvmlDeviceGetTotalEnergyConsumption`` does."""
    power: bool = True
    """Whether ``nvmlDeviceGetPowerUsage`` works."""
    power_scale: float = 1.0
    """What the power reading is multiplied by, to disagree with the counter."""
    partitions: Sequence[str] = ()
    """UUIDs (``MIG-…``) of its MIG partitions; MIG is on if there are any."""
    start_mj: int = 0
    """The counter when the emulator starts, in millijoules."""


@dataclass(frozen=True, eq=False)
class Handle:
    """What NVML's handle of a device is: opaque to who uses it."""

    index: int
    partition: int | None = None


class BoardState:
    """What one board shows. Not safe in threads.

    Args:
        board: what it is.
        index: its place in NVML's order.
        seed: of its refreshes' times.
    """

    def __init__(self, board: Board, index: int, seed: int) -> None:
        self.board = board
        self.handle = Handle(index)
        self.partitions = [Handle(index, number) for number in range(len(board.partitions))]
        self.shown_mj = board.start_mj
        """The counter, as of its last refresh."""
        self.shown_at_s = 0.0
        """When that was, in seconds after the emulator's start."""
        self.stalled = False
        """Whether the counter stands still."""
        self.error = 0
        """The code with which everything about it fails; 0 if nothing does."""
        self._random = random.Random(seed)
        self._next_s = self._random.uniform(0, board.refresh_s[1])
        self._base_j = -board.start_mj / 1e3
        before_s = board.average_s or 1.0
        self._past = deque([(-before_s, -before_s * board.load.start_w), (0.0, 0.0)])

    def uuid(self, handle: Handle) -> str:
        """The UUID of the board, or of one of its partitions."""
        if handle.partition is not None:
            return self.board.partitions[handle.partition]
        index = handle.index
        return self.board.uuid or f"GPU-{index:x}e1a5c0d-4b7f-4e0a-9d53-0c6f1b2a7e8{index:x}"

    def refresh(self, now_s: float) -> None:
        """Do all refreshes that were due by now."""
        while self._next_s <= now_s:
            joules = self.board.load.energy_j(self._next_s)
            self._past.append((self._next_s, joules))
            while len(self._past) > 2 and self._past[1][0] <= self._next_s - self.board.average_s:
                self._past.popleft()
            if not self.stalled:
                self.shown_mj, self.shown_at_s = int((joules - self._base_j) * 1e3), self._next_s
            self._next_s += self._random.uniform(*self.board.refresh_s)

    def reset(self, now_s: float) -> None:
        """Count from 0 again."""
        self.refresh(now_s)
        self._base_j = self.board.load.energy_j(now_s)
        self.shown_mj = 0

    def power_mw(self) -> int:
        """The mean of the last ``average_s`` up to the last refresh, in milliwatts."""
        (first_s, first_j), (last_s, last_j) = self._past[0], self._past[-1]
        return int(1e3 * self.board.power_scale * (last_j - first_j) / (last_s - first_s))


class ManualClock:
    """Time that passes only when someone sleeps, for a sampler, a meter and an emulator together. Safe in threads.

    Example:
        >>> clock = ManualClock()
        >>> clock.sleep(1.5)
        >>> clock.now_s(), clock.clocks().monotonic_ns
        (1.5, 1500000000)
    """

    def __init__(self) -> None:
        self._now_ns = 0
        self._asleep_ns = 0
        self._lock = threading.Lock()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._now_ns += round(seconds * 1e9)

    def suspend(self, seconds: float) -> None:
        """Suspend the machine: CLOCK_BOOTTIME goes on, CLOCK_MONOTONIC doesn't."""
        with self._lock:
            self._asleep_ns += round(seconds * 1e9)

    def now_ns(self) -> int:
        """Monotonic nanoseconds."""
        return self._now_ns

    def now_s(self) -> float:
        """Monotonic seconds."""
        return self._now_ns / 1e9

    def clocks(self) -> Clocks:
        """What a sampler reads."""
        return Clocks(self._now_ns, self._asleep_ns, self._asleep_ns)
