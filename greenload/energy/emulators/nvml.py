"""An NVML emulator: stands for the ``pynvml`` module, with its calls, structures, error classes and a GPU's behaviour.

It needs no GPU. Each board draws power that is known at any time, and shows it as NVML does: a counter of millijoules
that moves only when it is refreshed (every 20–100 ms, by default irregularly), power as a mean of the last second,
error codes for each call and each field. Names that it doesn't emulate are ``pynvml``'s own, functions excepted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_uint
from typing import Any, NoReturn, TypeVar

from greenload.energy.emulators.nvml_boards import Board, BoardState, Handle
from greenload.errors import MeterError, UsageError

T = TypeVar("T")
_TICK_S = 0.002  # how late a refresh may come in real time, where joules are those of the present only


class NvmlEmulator:
    """Emulated GPUs behind ``pynvml``'s calls. Give it to ``find_nvml`` or ``discover`` as ``nvml``.

    In real time as it is; with a :class:`ManualClock` time passes only when something waits. Used in a ``with``
    statement it refreshes by itself, which boards under :class:`CpuWork` need.

    Args:
        boards: the GPUs, in NVML's order.
        clock: monotonic time in seconds.
        sleep: what a call that takes ``latency_s`` waits with.
        latency_s: how long a query of a field or of power takes, in seconds.
        seed: of the refreshes' times.

    Raises:
        MeterError: nvidia-ml-py isn't installed, whose structures and error classes it uses.

    Example:
        >>> clock = ManualClock()
        >>> nvml = NvmlEmulator([Board(Trace([(0.0, 250.0)]))], clock=clock.now_s)
        >>> nvml.nvmlInit()
        >>> clock.sleep(10.0)
        >>> 2475_000 <= nvml.nvmlDeviceGetTotalEnergyConsumption(nvml.nvmlDeviceGetHandleByIndex(0)) <= 2500_000
        True
        >>> nvml.true_energy_j(0)
        2500.0
    """

    def __init__(
        self,
        boards: Sequence[Board] = (Board(),),
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        latency_s: float = 0.0,
        seed: int = 0,
    ) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise MeterError("the NVML emulator needs nvidia-ml-py: pip install nvidia-ml-py") from error
        self._real: Any = pynvml
        self._clock = clock
        self._sleep = sleep
        self._latency_s = latency_s
        self._start_s = clock()
        self._lock = threading.Lock()
        self._states = [BoardState(board, index, seed * 1000 + index) for index, board in enumerate(boards)]
        self._ticking = threading.Event()
        self._thread: threading.Thread | None = None
        self.users = 0
        """How many times NVML was initialised and not shut down."""
        self.init_error = 0
        """What ``nvmlInit`` fails with, as ``NVML_ERROR_DRIVER_NOT_LOADED``; 0 if it works."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("nvml", "_")):
            raise AttributeError(f"the NVML emulator has no {name}")
        return getattr(self._real, name)

    # The truth, and faults.

    def true_energy_j(self, index: int, at_s: float | None = None) -> float:
        """True joules of a board since the emulator was made, up to a time of its clock or now.

        Raises:
            UsageError: a past time of a board whose load is known for the present only.
        """
        load = self._states[index].board.load
        if at_s is not None and load.present_only:
            raise UsageError(f"a load that follows CPU time is known only now, found at_s={at_s}: leave it out")
        return load.energy_j((self._clock() if at_s is None else at_s) - self._start_s)

    def lose(self, index: int, error: int | None = None) -> None:
        """From now on, everything about this GPU fails: as lost, or with another error code."""
        self._states[index].error = self._real.NVML_ERROR_GPU_IS_LOST if error is None else error

    def find(self, index: int) -> None:
        """The GPU answers again, and its counter goes on."""
        self._states[index].error = 0

    def reset(self, index: int) -> None:
        """The counter starts at 0 again, as after a GPU reset or a reload of the driver."""
        with self._lock:
            self._states[index].reset(self._clock() - self._start_s)

    def stall(self, index: int, stalled: bool = True) -> None:
        """The counter stands still, and power is shown as ever; or it goes on, with the joules that it missed."""
        self._states[index].stalled = stalled

    @contextmanager
    def installed(self) -> Iterator[NvmlEmulator]:
        """Put this emulator's calls in place of those of the ``pynvml`` module, for other programs in this process."""
        names = [name for name in dir(type(self)) if name.startswith("nvml")]
        kept = {name: getattr(self._real, name) for name in names}
        try:
            for name in names:
                setattr(self._real, name, getattr(self, name))
            yield self
        finally:
            for name, function in kept.items():
                setattr(self._real, name, function)

    def __enter__(self) -> NvmlEmulator:
        self._thread = threading.Thread(target=self._tick, name="greenload-nvml-emulator", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ticking.set()
        if self._thread is not None:
            self._thread.join()

    def _tick(self) -> None:
        while not self._ticking.wait(_TICK_S):
            with self._lock:
                for state in self._states:
                    state.refresh(self._clock() - self._start_s)

    # NVML's calls.

    def nvmlInit(self) -> None:
        """Count one user more, or fail with ``init_error``."""
        if self.init_error:
            raise self._real.NVMLError(self.init_error)
        self.users += 1

    def nvmlShutdown(self) -> None:
        """Count one user less; fails where there is none."""
        if not self.users:
            raise self._real.NVMLError(self._real.NVML_ERROR_UNINITIALIZED)
        self.users -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        """A version of the driver."""
        return "580.65.06"

    def nvmlDeviceGetCount(self) -> int:
        """How many boards there are, lost ones included."""
        self._check_initialised()
        return len(self._states)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        """The handle of a board; fails if it is lost."""
        self._check_initialised()
        if not 0 <= index < len(self._states):
            self._fail("INVALID_ARGUMENT")
        return self._state(self._states[index].handle).handle

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:
        """The handle of a board, or of a MIG partition."""
        self._check_initialised()
        for state in self._states:
            for handle in (state.handle, *state.partitions):
                if state.uuid(handle) == uuid:
                    return handle
        self._fail("NOT_FOUND")

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        """``GPU-…``, or ``MIG-…`` of a partition."""
        return self._state(handle).uuid(handle)

    def nvmlDeviceGetIndex(self, handle: Any) -> int:
        """A board's place in NVML's order."""
        return self._states.index(self._whole(handle))

    def nvmlDeviceGetName(self, handle: Any) -> str:
        """The product's name."""
        state = self._state(handle)
        return state.board.name if handle.partition is None else f"{state.board.name} MIG 1g.10gb"

    def nvmlDeviceGetArchitecture(self, device: Any) -> int:
        """Hopper if it counts energy, Pascal if it doesn't."""
        state = self._state(device)
        volta = state.board.energy_field or state.board.energy_call
        return int(self._real.NVML_DEVICE_ARCH_HOPPER if volta else self._real.NVML_DEVICE_ARCH_PASCAL)

    def nvmlDeviceGetMigMode(self, device: Any) -> list[int]:
        """Present and pending mode, on; not supported without partitions."""
        if not self._whole(device).partitions:
            self._fail("NOT_SUPPORTED")
        return [1, 1]

    def nvmlDeviceIsMigDeviceHandle(self, device: Any) -> Any:
        """Whether a handle is a partition's, as ``c_uint``."""
        self._state(device)
        return c_uint(device.partition is not None)

    def nvmlDeviceGetMaxMigDeviceCount(self, device: Any) -> int:
        """How many partitions a board may have."""
        return 7 if self._whole(device).partitions else 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: Any, index: int) -> Any:
        """The handle of one of a board's partitions."""
        partitions = self._whole(device).partitions
        if index >= len(partitions):
            self._fail("NOT_FOUND")
        return partitions[index]

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, migDevice: Any) -> Any:
        """The board's handle of a partition's."""
        state = self._state(migDevice)
        if migDevice.partition is None:
            self._fail("INVALID_ARGUMENT")
        return state.handle

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> int:
        """Millijoules, as of the last refresh."""
        state = self._whole(handle)
        if not state.board.energy_call:
            self._fail("NOT_SUPPORTED")
        return self._ask(state, lambda board: board.shown_mj)

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:
        """Milliwatts, the mean of ``average_s`` up to the last refresh."""
        state = self._whole(handle)
        if not state.board.power:
            self._fail("NOT_SUPPORTED")
        return self._ask(state, BoardState.power_mw)

    def nvmlDeviceGetFieldValues(self, handle: Any, fieldIds: Sequence[Any]) -> Any:
        """Fields with a code and a time each; only the total energy is known."""
        self._check_initialised()
        values = (self._real.c_nvmlFieldValue_t * len(fieldIds))()
        for value, field_id in zip(values, fieldIds, strict=True):
            value.fieldId, value.scopeId = field_id if isinstance(field_id, tuple) else (field_id, 0)
            try:
                state = self._whole(handle)
                known = value.fieldId == self._real.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION and state.board.energy_field
                if not known:
                    self._fail("NOT_SUPPORTED")
            except self._real.NVMLError as error:
                value.nvmlReturn = error.value
                continue
            value.nvmlReturn = self._real.NVML_SUCCESS
            value.valueType = self._real.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
            value.value.ullVal, age_s = self._ask(
                state, lambda board: (board.shown_mj, self._clock() - self._start_s - board.shown_at_s)
            )
            value.timestamp = int((time.time() - age_s) * 1e6)
        return values

    # What they share.

    def _fail(self, code: str) -> NoReturn:
        raise self._real.NVMLError(getattr(self._real, f"NVML_ERROR_{code}"))

    def _check_initialised(self) -> None:
        if not self.users:
            self._fail("UNINITIALIZED")

    def _state(self, handle: Any) -> BoardState:
        self._check_initialised()
        if not isinstance(handle, Handle):
            self._fail("INVALID_ARGUMENT")
        state: BoardState = self._states[handle.index]
        if state.error:
            raise self._real.NVMLError(state.error)
        return state

    def _whole(self, handle: Any) -> BoardState:
        """The board, of a handle that isn't a partition's: those have no power, energy or mode of their own."""
        state = self._state(handle)
        if handle.partition is not None:
            self._fail("NOT_SUPPORTED")
        return state

    def _ask(self, state: BoardState, what: Callable[[BoardState], T]) -> T:
        """What a board shows now, with half of the query's time before it and half after."""
        if self._latency_s:
            self._sleep(self._latency_s / 2)
        with self._lock:
            state.refresh(self._clock() - self._start_s)
            shown = what(state)
        if self._latency_s:
            self._sleep(self._latency_s / 2)
        return shown
