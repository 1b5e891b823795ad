r"""Pipelines whose steps burn a known CPU time and move known bytes, with watts of their own on an emulated machine.

    unshare -m python -m greenload.energy.emulators.powercap --power "$(python -m bench.burning --power)" \
        python -m bench.burning

Work is noted in the emulated machine's ledger (:mod:`greenload.energy.emulators.ledger`), so the machine can give each
kind of work its own watts, and knows the joules of each: what a profile of the pipeline has to find. On a machine with
the power model :data:`POWER`, each step is a kind of its own. Without a machine the pipelines run all the same, and
nothing is noted.

The steps burn 1 : 2 : 4 units of CPU time; the first two are of a kind that draws twice the watts of the third's, so
shares of CPU seconds are not shares of joules.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from greenload.energy.emulators.control import STATE_VARIABLE, EmulatedMachine
from greenload.energy.emulators.layout import UNEVEN, Power
from greenload.energy.emulators.ledger import Ledger

PARSING, VECTOR, NEIGHBOUR = "parsing", "vector", "neighbour"
NOTE_NS = 1_000_000
"""Work is noted about this often, in nanoseconds of CPU time."""
UNIT_VARIABLE = "GREENLOAD_BURN_S"
"""Environment variable with the CPU seconds of one unit of work."""
UNIT_S = 0.5e-3
FILE_BYTES = 256 * 1024
"""Bytes of each file that :func:`reading_pipeline` reads."""
_BLOCK = bytes(range(256)) * 256  # 64 KiB: some 0.1 ms of hashing
_VECTOR = np.linspace(0.0, 1.0, 1 << 15)  # 256 KiB: some 0.12 ms of sines
_scratch = threading.local()
_opening = threading.Lock()


@dataclass(frozen=True)
class Step:
    """What a step of the pipelines below does to each image."""

    name: str
    kind: str
    units: int


STEPS = (Step("light", VECTOR, 1), Step("middle", VECTOR, 2), Step("heavy", PARSING, 4))
"""In joules above idle, on a machine where vector work weighs 2 and parsing 1, they are near 1 : 2 : 2."""
READING = "read"
"""The step of :func:`reading_pipeline` that reads files; of the kind of parsing."""
POWER: Power = replace(
    UNEVEN,
    dram_j_per_byte=0.3e-9,
    weights={
        **UNEVEN.weights,
        **{step.name: UNEVEN.weights[step.kind] for step in STEPS},
        READING: UNEVEN.weights[PARSING],
    },
)
"""A power model in which each step is a kind of work of its own, with the watts of its kind: the truth by step."""


def _hash() -> int:
    hashlib.sha256(_BLOCK).digest()
    return len(_BLOCK)


def _sines() -> int:
    kept = getattr(_scratch, "kept", None)
    if kept is None:
        kept = _scratch.kept = np.empty_like(_VECTOR)
    # Bound by arithmetic: bytes a CPU second don't depend on what else uses the memory, so a sample's are known. And
    # long enough that two threads don't spend their time on the interpreter's lock.
    np.sin(_VECTOR, out=kept)
    return 2 * kept.nbytes


WORK: Mapping[str, Callable[[], int]] = {PARSING: _hash, VECTOR: _sines, NEIGHBOUR: _hash}
"""A short piece of each kind of work; it lets go of the interpreter's lock and returns the bytes that it moved."""


def burn(kind: str, cpu_s: float, ledger: Ledger | None = None, noted_as: str = "") -> float:
    """Use CPU time on this thread, however long that takes on a busy machine.

    Args:
        kind: what work to do, one of ``WORK``.
        cpu_s: seconds of this thread's CPU time.
        ledger: where to note it, about every millisecond.
        noted_as: the kind to note, where the ledger knows that one; ``kind`` otherwise.

    Returns:
        CPU seconds used: what was asked for to about half a piece (0.05 ms), on average that.
    """
    work = WORK[kind]
    if ledger is None or noted_as not in ledger.kinds:
        noted_as = kind
    start = noted = before = time.thread_time_ns()
    end = start + round(cpu_s * 1e9)
    moved = 0
    while True:
        now = time.thread_time_ns()
        # A piece that would end nearer to the end than this is one too many: so what is used beyond doesn't grow with
        # how long pieces take, which depends on what else runs.
        over = now + (now - before) // 2 >= end
        if ledger is not None and (over or now - noted >= NOTE_NS):
            ledger.add(noted_as, (now - noted) / 1e9, moved)
            noted, moved = now, 0
        if over:
            return (now - start) / 1e9
        before = now
        moved += work()


@lru_cache(maxsize=4)
def _open(path: str) -> Ledger:
    return Ledger(Path(path))


def seen_ledger() -> Ledger | None:
    """The ledger of the emulated machine that this process sees; None if it sees none."""
    state = os.environ.get(STATE_VARIABLE)
    if state is None:
        return None
    with _opening:
        return _open(str(Path(state) / "ledger.bin"))


def unit_s() -> float:
    """CPU seconds of one unit of work."""
    return float(os.environ.get(UNIT_VARIABLE, UNIT_S))


def _in_graph(work: Callable[[Any], Any], image: Any) -> Any:
    import tensorflow as tf

    # Stateful: work without an effect on its value may not be folded into one call.
    done = tf.numpy_function(work, [image], image.dtype, stateful=True)
    done.set_shape(image.shape)
    return done


def _burn_step(step: Step, image: Any) -> Any:
    def work(array: Any) -> Any:
        burn(step.kind, step.units * unit_s(), seen_ledger(), noted_as=step.name)
        return array

    return _in_graph(work, image)


def light(image: Any) -> Any:
    """One unit of vector work."""
    return _burn_step(STEPS[0], image)


def middle(image: Any) -> Any:
    """Two units of vector work."""
    return _burn_step(STEPS[1], image)


def heavy(image: Any) -> Any:
    """Four units of parsing work."""
    return _burn_step(STEPS[2], image)


def _images(samples: int) -> Any:
    return np.arange(samples * 48, dtype=np.int64).reshape(samples, 4, 4, 3).astype(np.uint8)


def pipeline(samples: int = 256, batch: int = 16) -> Any:
    """A pipeline of the three burning steps over tiny images in memory: 7 units of CPU time a sample.

    The unit is in the environment variable ``GREENLOAD_BURN_S`` (0.5 ms if not set), the ledger that of the machine
    named by ``GREENLOAD_EMULATOR``.
    """
    import greenload as gl

    return gl.Pipeline(gl.Arrays(_images(samples)), gl.Apply(light), gl.Apply(middle), gl.Apply(heavy), gl.Batch(batch))


def dataset(samples: int = 256, batch: int = 16, threads: int = 2) -> Any:
    """The same steps as a hand-written ``tf.data.Dataset``."""
    import tensorflow as tf

    made = tf.data.Dataset.from_tensor_slices(_images(samples))
    for step in (light, middle, heavy):
        made = made.map(step, num_parallel_calls=threads, name=step.__name__)
    return made.batch(batch, name="batch")


def write_files(folder: Path, count: int = 64, size: int = FILE_BYTES) -> list[Path]:
    """Write files of a known size, of bytes that don't compress."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:04d}.bin" for index in range(count)]
    content = np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()
    for path in paths:
        path.write_bytes(content)
    return paths


def reading_pipeline(folder: Path, samples: int = 256, batch: int = 16, units: int = 1) -> Any:
    """A pipeline whose first step reads one whole file a sample, and whose second is :func:`heavy`.

    Args:
        folder: with files, as of :func:`write_files`.
        samples: how many images, which choose the files in turn.
        batch: images of a batch.
        units: CPU units that reading burns on top, as parsing would.
    """
    import greenload as gl

    paths = sorted(str(path) for path in folder.glob("*.bin"))

    def read(image: Any) -> Any:
        def work(array: Any) -> Any:
            path = paths[int.from_bytes(array[0, 0, :2].tobytes(), "little") % len(paths)]
            start = time.thread_time_ns()
            with open(path, "rb", buffering=0) as file:
                size = len(file.read())
            ledger = seen_ledger()
            if ledger is not None:
                noted_as = READING if READING in ledger.kinds else PARSING
                ledger.add(noted_as, (time.thread_time_ns() - start) / 1e9, 2 * size)  # into the page cache, out of it
            burn(PARSING, units * unit_s(), ledger, noted_as=READING)
            return array

        return _in_graph(work, image)

    images = _images(samples)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(samples) % 256, np.arange(samples) // 256
    return gl.Pipeline(gl.Arrays(images), gl.Apply(read), gl.Apply(heavy), gl.Batch(batch))


class Neighbour:
    """A process that takes a share of the machine, on and off at irregular times. A context manager.

    Args:
        machine: the emulated machine, to which its CPU seconds are of a kind of their own; None for none.
        share: of all processors, in (0, 1), on average.
        mean_s: mean length of a time of work, in seconds; they are exponentially distributed, as are the rests.
        seed: of those times.
    """

    def __init__(
        self, machine: EmulatedMachine | None = None, share: float = 1 / 3, mean_s: float = 0.2, seed: int = 0
    ) -> None:
        self._machine = machine
        self._arguments = [str(share), str(mean_s), str(seed)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "it runs only in its with statement"
        return self._process.pid

    def __enter__(self) -> Neighbour:
        command = [sys.executable, "-m", "bench.burning", "--neighbour", *self._arguments]
        root = str(Path(__file__).parents[1])
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
        self._process = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        if self._machine is not None:
            self._machine.watch(self._process.pid, NEIGHBOUR)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.communicate()


def disturb(share: float, mean_s: float, seed: int) -> None:
    """Be the neighbour, until standard input ends."""
    cores = share * len(os.sched_getaffinity(0))
    threads = math.ceil(cores)
    duty = cores / threads
    over = threading.Event()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while not over.is_set():
            burn(NEIGHBOUR, chance.expovariate(1 / mean_s))
            over.wait(chance.expovariate(duty / (mean_s * (1 - duty))) if duty < 1 else 0.0)

    workers = [threading.Thread(target=work, args=(seed + index,), daemon=True) for index in range(threads)]
    for worker in workers:
        worker.start()
    print("ready", flush=True)
    sys.stdin.buffer.read()
    over.set()


def main(arguments: list[str]) -> None:
    """With ``--neighbour``, disturb; with ``--power``, print the power model; else the watts on the machine seen."""
    if arguments == ["--power"]:
        print(json.dumps({**asdict(POWER), "weights": dict(POWER.weights)}))
        return
    if arguments and arguments[0] == "--neighbour":
        share, mean_s, seed = arguments[1:]
        disturb(float(share), float(mean_s), int(seed))
        return
    from greenload.energy.emulators.control import attach

    machine = attach()
    for step in STEPS:
        start_ns, cpu_s = time.monotonic_ns(), 0.0
        while cpu_s < 1.0:
            cpu_s += burn(step.kind, step.units * unit_s(), machine.ledger, noted_as=step.name)
        noted_as = step.name if step.name in machine.kinds else step.kind
        joules = machine.true_between(start_ns, time.monotonic_ns(), machine.domains[0], noted_as)
        print(f"{step.name}: {step.kind}, {joules / cpu_s:.2f} J per CPU second above idle, alone on one core")


if __name__ == "__main__":
    main(sys.argv[1:])
