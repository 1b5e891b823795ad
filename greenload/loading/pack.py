"""Packs many small files into few large ones, which are read in long contiguous reads."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from greenload import randomness, scalars
from greenload.backends import registry
from greenload.backends.native import abi, library
from greenload.errors import RecordError, SourceError, UsageError
from greenload.loading.pack_description import SPLIT, Format, describe, shard_names
from greenload.loading.verify import good_indices, verify
from greenload.machine import processors
from greenload.planning.choose import reading_backends
from greenload.plans.cache_steps import CACHE_BACKEND
from greenload.public import public
from greenload.sources import TFDS, Arrays, ImageFolder, RecordSource, Source, TFRecords, read_many
from greenload.sources.formats import tf_example, tfrecord
from greenload.sources.listing import is_remote
from greenload.specs import MAX_BYTES, Truncation
from greenload.system import file_output, limits
from greenload.system.frameworks import imports_of_extra
from greenload.system.scratch import ScratchFolder

_READ_TOGETHER = 256


@dataclass(frozen=True)
class Packed:
    """The result of ``pack``."""

    folder: str
    format: Format
    samples: int
    shards: int
    bytes: int
    """Bytes of the shards."""
    seconds: float
    """Wall seconds that it took, verifying included."""
    skipped: tuple[RecordError, ...]
    """Bad records that were left out."""


@public
def pack(
    source: Source,
    out: str | os.PathLike[str],
    *,
    format: Format = "tfrecord",
    shard_mb: float = 128,
    seed: int = 0,
    on_error: Literal["raise", "skip"] = "raise",
    threads: int | None = None,
    max_bytes: int = MAX_BYTES,
    truncated: Truncation = "error",
    transcode: bool = False,
    progress: Callable[[float, str], None] | None = None,
) -> Packed:
    """Write a source's images, undecoded, and labels into few large files, in random order.

    Records are in random order already, so ``Shuffle(block=...)`` can read them in long contiguous reads at no loss.
    Every record is verified first. The folder is complete or not there: it is written under another name, its records
    are counted and their labels compared with the source's, and then it is renamed. (A killed process leaves what it
    wrote as ``.NAME.partial-…``; the next pack to that name removes it.) The result is a prepared TFDS folder with
    class names: ``TFDS(out)`` and tensorflow-datasets read it, and so does ``TFRecords(out)`` where the format is
    ``"tfrecord"``.

    Args:
        source: what to pack; its images must be encoded.
        out: the folder to make; must be new or empty.
        format: ``"tfrecord"``, or ``"arrayrecord"`` (needs the array_record package).
        shard_mb: megabytes (10^6 bytes) after which a file is full.
        seed: decides the order.
        on_error: ``"raise"`` stops at the first bad record; ``"skip"`` leaves them out.
        threads: threads that verify and read; all processors of this process if not given.
        max_bytes: the most bytes that decoding one image may take where records are verified, as in ``Decode``; those
            that would take more are bad.
        truncated: whether files that are cut off are bad, ``"error"``, or packed as they are where
            ``Decode(truncated="fill")`` reads them, ``"fill"``.
        transcode: write JPEGs with the same coefficients in another order, from which backend ``"native"`` decodes a
            crop without the rest of the image, and DALI with little of it. Every reader of JPEG reads them, to the same
            pixels. They take about as many bytes, a progressive one some more; CMYK and other formats stay as they are.
            It takes 1 to 2 ms of CPU for a photograph of 500×375. A segment APP9 in each says where its parts begin;
            the others stay.
        progress: called with the share done, 0 … 1, and the current work as a text.

    Raises:
        UsageError: an argument is out of range, or ``out`` holds something or is an address (``s3://…``).
        OSError: the pack can't be written, as on a full disk.
        SourceError: the source can't be read; ``RecordError`` for a bad record.
        BackendUnavailable: TensorFlow, which verifies, or array_record is missing, or for ``transcode`` the kernel of
            backend ``"native"``.

    Example:
        >>> pack(ImageFolder("data/train"), "data/packed")
        >>> train = Pipeline(TFRecords("data/packed"), Shuffle(block=256), Decode(), ...)
    """
    begun, tell = time.monotonic(), progress or (lambda share, text: None)
    workers, limit, key, shard_bytes = _numbers(threads, max_bytes, seed, shard_mb)
    if is_remote(os.fspath(out)):
        raise UsageError(f"{out}: packs go into a folder of this machine, but this is an address: copy the pack there")
    folder = _check(source, os.fspath(out) and os.path.realpath(out), format, on_error)
    if transcode:
        registry.require([CACHE_BACKEND])
    good, bad = _good_records(source, on_error, workers, limit, truncated, tell)
    order = good[randomness.permute(np.arange(len(good)), len(good), key, 0)]

    def written(done: int) -> None:
        tell(0.5 + 0.5 * done / len(order), f"writing: {done} of {len(order)} images")

    with _partial(folder) as partial:
        kept = _spooled(source, partial) if isinstance(source, RecordSource) and source.sequential else source
        records = _read(kept, order, workers, _transcoded if transcode else _as_it_is)
        shards = _write(source.labels, records, partial, format, shard_bytes, written)
        if kept is not source:
            shutil.rmtree(partial / "spool")
        names = _rename(partial, len(shards), format)
        describe(partial, source, order, shards, format, key)
        size = sum((partial / name).stat().st_size for name in names)
        _compare(partial, source, order)
        _put_in_place(partial, folder)
    tell(1.0, "done")
    return Packed(str(out), format, len(order), len(shards), size, time.monotonic() - begun, bad)


def _numbers(threads: Any, max_bytes: Any, seed: Any, shard_mb: Any) -> tuple[int, int, int, float]:
    """Threads, the limit of memory, the seed and the bytes of a shard, of arguments in range.

    Raises:
        UsageError: one is out of range.
    """
    workers = scalars.whole(processors() if threads is None else threads)
    key, megabytes = scalars.whole(seed), scalars.number(shard_mb)
    if workers is None or workers < 1:
        raise UsageError(f"threads must be a positive whole number, not {threads!r}")
    limit = scalars.positive(UsageError, "max_bytes", max_bytes)
    if key is None:
        raise UsageError(f"seed must be a whole number, not {seed!r}")
    if megabytes is None or megabytes <= 0:
        raise UsageError(f"shard_mb must be a positive number, not {shard_mb!r}")
    return workers, limit, key, megabytes * 1e6


def _good_records(
    source: Source,
    on_error: str,
    threads: int,
    max_bytes: int,
    truncated: Truncation,
    tell: Callable[[float, str], None],
) -> tuple[NDArray[np.int64], tuple[RecordError, ...]]:
    """The indices of the records that decode, ascending, and the errors of the others.

    Raises:
        RecordError: the first bad record, where they aren't to be skipped.
        SourceError: none decodes.
    """
    decoder, readers = reading_backends()
    verified = verify(
        source,
        threads,
        lambda done, total: tell(0.5 * done / total, f"verifying: {done} of {total} images"),
        backend=decoder,
        max_bytes=max_bytes,
        truncated=truncated,
        readers=readers,
    )
    if verified.bad and on_error == "raise":
        raise verified.bad[0]
    return good_indices(verified), verified.bad


def _put_in_place(partial: Path, folder: Path) -> None:
    """Give a finished pack its name, once it is on the disk."""
    for file in partial.iterdir():
        file_output.to_disk(file)
    try:
        partial.rename(folder)  # takes the place of an empty folder
    except OSError as error:
        raise UsageError(
            f"{folder}: packs go into a new or empty folder, but meanwhile something else came there "
            f"({error.strerror}): name another"
        ) from None


def _check(source: Source, out: str, format: str, on_error: str) -> Path:
    if isinstance(source, Arrays) or not source.spec.encoded:
        raise UsageError(f"pack keeps encoded images, but those of {source} are pixels: save them as files first")
    scalars.one_of(UsageError, "format", format, ("tfrecord", "arrayrecord"))
    scalars.one_of(UsageError, "on_error", on_error, ("raise", "skip"))
    if not out:
        raise UsageError("packs go into a new or empty folder, but its name is empty: name one")
    folder = Path(out)
    if isinstance(source, ImageFolder) and folder.is_relative_to(os.path.realpath(source.root)):
        raise UsageError(f"{out}: lies in {source.root}, where it would count as a class: name a folder outside it")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "holds files already" if folder.is_dir() else "is a file"
        raise UsageError(f"{out}: packs go into a new or empty folder, but this {what}: name another")
    if folder.is_mount():  # it can't be replaced by the finished one
        raise UsageError(f"{out}: packs go into a new or empty folder, but this is a mount point: name a folder in it")
    if format == "arrayrecord":
        _array_records()
    return folder


@contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """A folder beside the final one; it is removed afterwards unless it was renamed."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with ScratchFolder(str(folder.parent), f".{folder.name[:50]}.partial-", 0o777) as partial:
            yield Path(partial)
    except OSError as error:
        raise OSError(f"{folder}: the pack can't be written: {file_output.why(error)}") from None


class _TFRecordWriter:
    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb")  # noqa: SIM115  # closed by close

    def write(self, records: list[bytes]) -> None:
        self._file.write(tfrecord.framed(records))

    def close(self) -> None:
        self._file.close()


class _ArrayRecordWriter:
    def __init__(self, path: Path) -> None:
        # A group a record, for random access, as TFDS does; images are compressed already.
        self._file = _array_records().ArrayRecordWriter(str(path), "group_size:1,uncompressed")

    def write(self, records: list[bytes]) -> None:
        for record in records:
            self._file.write(record)

    def close(self) -> None:
        self._file.close()


def _array_records() -> Any:
    with imports_of_extra("tfds", "format 'arrayrecord' needs array_record"):
        from array_record.python import array_record_module
    return array_record_module


def _spooled(source: RecordSource, folder: Path) -> TFRecords:
    """A plain copy of a source that can only be read in order."""
    (folder / "spool").mkdir()
    path = folder / "spool" / "all.tfrecord"
    writer, labels = _TFRecordWriter(path), source.labels
    for begin in range(0, len(source), _READ_TOGETHER):
        some = range(begin, min(begin + _READ_TOGETHER, len(source)))
        # Bad records have been found, and won't be asked for.
        images = [data or b"" for data in source.read_many(some)]
        writer.write([tf_example.serialize(image, int(labels[i])) for i, image in zip(some, images, strict=True)])
    writer.close()
    return TFRecords(path, "image", "label")


def _write(
    labels: NDArray[np.int64],
    read: Iterable[tuple[list[int], list[bytes]]],
    folder: Path,
    format: Format,
    shard_bytes: float,
    tell: Callable[[int], None],
) -> list[int]:
    """Write shards ``0``, ``1``, … into a folder; returns how many records each has.

    Args:
        labels: of the source's records.
        read: the records, some at a time: their indices and images.
        folder: to write into.
        format: of the shards.
        shard_bytes: after which a shard is full.
        tell: called with how many records are written.
    """
    make = _TFRecordWriter if format == "tfrecord" else _ArrayRecordWriter
    counts: list[int] = []
    writer: _TFRecordWriter | _ArrayRecordWriter | None = None
    room, done = 0.0, 0
    try:
        for indices, images in read:
            batch: list[bytes] = []
            for index, image in zip(indices, images, strict=True):
                record = tf_example.serialize(image, int(labels[index]))
                if writer is None or room <= 0:
                    if writer:
                        writer.write(batch)
                        writer.close()
                    writer, room, batch = make(folder / str(len(counts))), shard_bytes, []
                    counts.append(0)
                batch.append(record)
                room -= len(record) + tfrecord.HEADER + tfrecord.FOOTER
                counts[-1] += 1
            assert writer is not None
            writer.write(batch)
            done += len(indices)
            tell(done)
    finally:
        if writer:
            writer.close()
    return counts


def _read(
    source: Source, order: NDArray[np.int64], threads: int, change: Callable[[bytes], bytes]
) -> Iterator[tuple[list[int], list[bytes]]]:
    """Records in order, some at a time: their indices and images, changed. Several threads read files and change
    them."""

    def read(index: int) -> bytes:
        image: Any = source.read(index)  # encoded, as was seen
        return change(image)

    with ThreadPoolExecutor(threads, thread_name_prefix="greenload-pack") as pool:
        for begin in range(0, len(order), _READ_TOGETHER):
            indices = order[begin : begin + _READ_TOGETHER].tolist()
            if isinstance(source, RecordSource):
                tasks = [limits.submit(pool, change, image) for image in read_many(source, indices)]
            else:
                tasks = [limits.submit(pool, read, index) for index in indices]
            yield indices, [task.result() for task in tasks]


def _as_it_is(image: bytes) -> bytes:
    return image


def _transcoded(image: bytes) -> bytes:
    """A plain JPEG in the form that a crop is decoded from at the least cost; any other file as it is."""
    try:
        return library.transcode(image, abi.Form.TRANSCODED)
    except ValueError:
        return image


def _rename(folder: Path, count: int, format: Format) -> list[str]:
    """Give shards the names that TFDS's template makes, now that their number is known."""
    names = shard_names(format, count)
    for number, name in enumerate(names):
        (folder / str(number)).rename(folder / name)
    return names


def _compare(folder: Path, source: Source, order: NDArray[np.int64]) -> None:
    """Compare a pack with its source: the number of records and their labels. Leaves the shards' indices behind.

    Raises:
        SourceError: they differ.
    """
    written = TFDS(folder, SPLIT)
    try:
        same = np.array_equal(written.labels, source.labels[order]) and bool((written.table.index.lengths > 0).all())
        difference = "" if same else "labels or images are others"
    except SourceError as error:
        difference = str(error)
    if difference:
        raise SourceError(
            f"{folder}: what was written differs from its source: {difference}; free the disk and pack again"
        )
