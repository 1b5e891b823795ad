"""TensorFlow's door to the kernel: operations for its graphs, in a library of their own beside the kernel's.

Nothing of them needs the interpreter: not while they run, nor when it ends.
"""

from __future__ import annotations

import functools
import itertools
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from greenload.backends.native.abi import ABI, DTYPES
from greenload.backends.native.layout import ChosenStep
from greenload.backends.native.library import FOLDER, INSTALL
from greenload.backends.native.store import KEY_BYTES, Store
from greenload.errors import BackendUnavailable
from greenload.public import public
from greenload.specs import ImageSpec
from greenload.system.frameworks import tf

FILE = FOLDER / "_operations.native.so"
_STORE = struct.Struct(f"<iqq{KEY_BYTES}s")
"""What an attribute that names a store begins with, as ``kernel/op_files.cc`` reads it; the folder follows."""


@functools.cache
def operations() -> Any:
    """The module of the operations, once TensorFlow has loaded them.

    Raises:
        BackendUnavailable: they weren't built, or this TensorFlow can't load them.
    """
    if not FILE.exists():
        raise BackendUnavailable(f"the kernel's operations for TensorFlow aren't built: {INSTALL}")
    try:
        loaded = tf.load_op_library(str(FILE))
    except (OSError, tf.errors.OpError) as error:
        raise BackendUnavailable(f"TensorFlow can't load the kernel's operations: {error}") from None
    if not all(hasattr(loaded, name) for name in ("greenload_run", "greenload_keep", "greenload_arrays")):
        raise BackendUnavailable(f"TensorFlow {tf.__version__} lacks functions that the kernel's operations need")
    return loaded


@public
def register_operations() -> None:
    """Make the operations of backend ``"native"`` known to TensorFlow in this process.

    ``load`` and ``watch`` do so themselves. Another process that runs the graph of their dataset, such as a worker of
    tf.data service, calls this first. Otherwise TensorFlow says there that an op type such as ``GreenloadProbe`` or
    ``GreenloadEnter`` is not registered.

    Raises:
        BackendUnavailable: the operations aren't built, or this TensorFlow can't load them; says why.

    Example:
        >>> gl.register_operations()
        >>> tf.data.experimental.service.WorkerServer(config).join()
    """
    operations()


def usable() -> bool:
    """Whether TensorFlow has loaded the operations, or can."""
    try:
        operations()
    except BackendUnavailable:
        return False
    return True


def probe(files: Any, exif: bool, max_bytes: int, kept: bool = False) -> tuple[Any, Any]:
    """Which files the kernel decodes, boolean ``[…]``, and the rows and columns that these state, int64 ``[…, 2]``.

    Args:
        files: whole ones, of any kind: strings ``[…]``.
        exif: whether a file that states an orientation isn't decoded.
        max_bytes: the most that decoding one may take.
        kept: whether forms that only the kernel reads are decoded too, of any size: never of a user's files.
    """
    most = min(max_bytes, (1 << 63) - 1)
    plain, sizes = operations().greenload_probe(files=files, exif=exif, kept=kept, max_bytes=most)
    return plain, sizes


def read(paths: Any, helpers: int = 0) -> Any:
    """Whole files, strings of the shape of their paths; empty where one can't be read, or is no regular file.

    Args:
        paths: of the files.
        helpers: threads that help the one that runs the operation.
    """
    return operations().greenload_read(paths=paths, helpers=helpers)


def store_attribute(folder: Path | None, key: bytes, count: int, budget: int | None, in_common: bool = False) -> bytes:
    """A store (``store.Store``) as ``kernel/op_files.cc`` reads it: operations open it wherever they run."""
    path = b"" if folder is None else os.fsencode(folder.absolute())
    bound = budget or 0
    return _STORE.pack(ABI, count, -bound if in_common else bound, key) + path


def opened(attribute: bytes) -> Store:
    """The store that operations with such an attribute use in this process."""
    _, count, budget, key = _STORE.unpack_from(attribute)
    path = attribute[_STORE.size :]
    return Store(Path(os.fsdecode(path)) if path else None, key, count, abs(budget) or None, budget < 0)


def stores_in(graph: Any) -> set[bytes]:
    """The attributes of the stores that a graph recalls samples from, a ``GraphDef`` with its functions."""
    functions = (function.node_def for function in graph.library.function)
    nodes = itertools.chain(graph.node, *functions)
    return {node.attr["store"].s for node in nodes if node.op == "GreenloadRecall"}


def recall(indices: Any, store: bytes) -> Any:
    """What a store keeps of samples, strings of the shape of ``indices``; empty where it keeps nothing. They are valid
    as long as the store is open, so they must not leave the graph."""
    return operations().greenload_recall(indices=indices, store=store)


def keep(indices: Any, files: Any, forms: Any, store: bytes, helpers: int = 0) -> Any:
    """Keep samples' files, unless they are kept already, and give what is kept, as ``recall`` does.

    Args:
        indices: int64 ``[n]``.
        files: strings ``[n]``. Of an empty one nothing is kept, and nothing given.
        forms: int32 ``[n]``, of ``abi.Form``.
        store: as ``store_attribute`` gives it. Where it has no room, the file itself is given.
        helpers: threads that help the one that runs the operation.
    """
    return operations().greenload_keep(indices=indices, files=files, forms=forms, store=store, helpers=helpers)


def make(
    files: Any, params: Any, sides: Any, steps: Sequence[ChosenStep], columns: int, helpers: int = 0
) -> tuple[Any, Any]:
    """Files through a program whose images are uint8 RGB, each of a size of its own.

    Args:
        files: strings ``[n]`` that the kernel decodes.
        params: float64 ``[n, columns]``.
        sides: rows and columns of each image that leaves, int64 ``[n, 2]``.
        steps: the program; the first decodes.
        columns: of a row of params.
        helpers: threads that help the one that runs the operation.

    Returns:
        Binary PPMs, empty where that failed, and ``gl_status`` of each.
    """
    program = serialized(steps, columns)
    images, status = operations().greenload_make(
        files=files, params=params, sides=sides, program=program, helpers=helpers
    )
    return images, status


class Operation:
    """A program of the kernel as an operation that works on whole batches.

    Args:
        steps: with their columns; at least one that all images go through.
        columns: of a row of params.
        spec: of the images that leave, which have one size.
        counter: the name under which its work is counted; not, if empty.
        helpers: threads that help the one that runs the operation.
    """

    def __init__(
        self, steps: Sequence[ChosenStep], columns: int, spec: ImageSpec, counter: str = "", helpers: int = 0
    ) -> None:
        self._helpers = helpers
        self._program = serialized(steps, columns)
        self._counter = counter
        self._columns = columns
        self._spec = spec

    def run(self, images: Any, sizes: Any, params: Any, choices: Any) -> tuple[Any, Any, Any]:
        """A batch, one image after another in each thread.

        Args:
            images: files, strings ``[n]``; or the values of all images one after another, in any shape.
            sizes: rows, columns and channels of each image, int64 ``[n, 3]``; of files it is not looked at.
            params: float64 ``[n, columns]``.
            choices: int64 ``[n, k]``, whose columns the steps name.

        Returns:
            The images ``[n, height, width, channels]``; ``gl_status`` of each, int32 ``[n]``; and the reason of each
            that isn't zero, a string.
        """
        height, width, channels = self._spec.image_shape
        batch, status, reasons = operations().greenload_run(
            images=images,
            sizes=sizes,
            params=params,
            choices=choices,
            dtype=tf.as_dtype(self._spec.dtype),
            program=self._program,
            counter=self._counter,
            height=height,
            width=width,
            channels=channels,
            helpers=self._helpers,
        )
        count = params.shape[0]
        batch.set_shape((count, height, width, channels))
        status.set_shape((count,))
        reasons.set_shape((count,))
        return batch, status, reasons


def serialized(steps: Sequence[ChosenStep], columns: int) -> bytes:
    """A program as ``kernel/chosen_programs.h`` reads it."""
    return struct.pack("<3i", ABI, len(steps), columns) + b"".join(map(_step, steps))


def _step(chosen: ChosenStep) -> bytes:
    step = chosen.step
    dtypes = DTYPES[step.dtype_in], DTYPES[step.dtype_out]
    fields = (step.op, step.flags, step.column, step.height, step.width, *dtypes, len(step.numbers), bool(step.table))
    choices = [number for choice in chosen.choices for number in choice]
    head = struct.pack(f"<11i{len(choices)}i", *fields, step.counter, len(chosen.choices), *choices)
    return head + struct.pack(f"<{len(step.numbers)}d", *step.numbers) + step.table
