"""Finding bad records: all of a set before training, or the one that stopped it."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.backends.image_sizes import sides_of
from greenload.backends.pillow import decode
from greenload.backends.tables import TABLES
from greenload.backends.tf.backend import TensorFlowBackend
from greenload.backends.tf.truncation import decode_whole
from greenload.errors import BackendUnavailable, GreenloadError, RecordError, SourceError, UsageError
from greenload.loading.tf_graph import REFUSED, plain
from greenload.loading.tf_reading import reader
from greenload.loading.verdicts import DECODES, Judge, reason
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.public import public
from greenload.sources import UNREADABLE, Arrays, RecordSource, Source, formats
from greenload.specs import MAX_BYTES, TRUNCATED, Truncation
from greenload.stages import Decode
from greenload.system import cache_folder, forking, json_data, limits, shutdown
from greenload.system.json_data import DataError
from greenload.system.notices import notify
from greenload.text import printable

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Verified:
    """What a verification found."""

    samples: int
    """Records looked at."""
    bad: tuple[RecordError, ...]
    """The bad ones, in the source's order; each names its file and the reason."""
    bad_indices: tuple[int, ...]
    """Their indices."""


@public
def verify(
    source: Source,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
    *,
    remember: bool = True,
    backend: str = "tf",
    indices: NDArray[np.int64] | None = None,
    look: Callable[[bytes], None] | None = None,
    max_bytes: int = MAX_BYTES,
    truncated: Truncation = "error",
    readers: Mapping[str, str] | None = None,
) -> Verified:
    """Read and wholly decode every record once, in parallel.

    A full decode is what finds a truncated file whatever window is cropped from it later. In files of records the
    checksums of the records' bytes are tested too. The result is remembered in
    the user's cache folder by the source's fingerprint (every file's path, size and time of change).

    Args:
        source: what to verify.
        threads: threads that decode.
        progress: called with the records done and their total.
        remember: whether to use and keep the remembered result.
        backend: the backend that is to load the records: one may read a format that another refuses.
        indices: the records to verify, ascending, int64 ``[n]``; all if not given. Of some nothing is remembered.
        look: called with each file that decodes, unless the result was remembered.
        max_bytes: the most bytes that decoding one may take, as in ``Decode``.
        truncated: whether files that are cut off are bad, ``"error"``, or good where ``Decode(truncated="fill")`` reads
            them, ``"fill"``.
        readers: the backends that decode, by kind, what ``backend`` doesn't read, as ``Plan.readers``.

    Raises:
        SourceError: the source itself can't be listed, or nothing can be read now: a limit of the process is reached.
        BackendUnavailable: TensorFlow, which decodes, is missing.
        UsageError: ``threads`` is no positive integer, or ``truncated`` another text.
    """
    scalars.one_of(UsageError, "truncated", truncated, TRUNCATED)
    total = len(source)
    if isinstance(source, Arrays):
        return Verified(total, (), ())
    found = TensorFlowBackend().availability()
    if not found.usable:
        raise BackendUnavailable(f"verifying decodes with TensorFlow: {found.detail}; {found.remedy}")
    wanted = np.arange(total, dtype=np.int64) if indices is None else indices
    threads = scalars.positive(UsageError, "threads", threads)
    remember = remember and indices is None
    # Named by the files as they are now: what changes while they are decoded must not be taken for verified.
    kept = _file(source, backend, max_bytes, truncated, readers) if remember else None
    remembered = _remembered(kept, total) if kept else None
    if remembered is None:
        limits.check_files()
        judge = Judge(backend, max_bytes, truncated, readers, threads)
        failed = _undecodable(source, wanted, threads, progress, judge, look)
        # One that decodes on the second look failed for a reason of the moment, or is of a kind that others read.
        found_bad = {i: why for i, why in judge.reasons(source, failed, look) if why != DECODES}
        found_bad |= {i: CHECKSUM for i in _damaged(source, wanted) if i not in found_bad}
        remembered = sorted(found_bad.items())
        # What is this machine's fault, not the files', may be mended meanwhile.
        if kept and not any(why.startswith((UNREADABLE, decode.NO_WEBP)) for _, why in remembered):
            _remember(kept, remembered)
    bad = tuple(RecordError(source.name(i), why) for i, why in remembered)
    return Verified(len(wanted), bad, tuple(i for i, _ in remembered))


def good_records(
    source: Source,
    threads: int,
    backend: str = "tf",
    max_bytes: int = MAX_BYTES,
    truncated: Truncation = "error",
    readers: Mapping[str, str] | None = None,
) -> NDArray[np.int64] | None:
    """The indices of the records that a backend decodes, ascending, or ``None`` if all do; warns of the others.

    Arguments are those of ``verify``.

    Raises:
        SourceError: none is left.
    """
    found = verify(source, threads, backend=backend, max_bytes=max_bytes, truncated=truncated, readers=readers)
    if not found.bad:
        return None
    good = np.setdiff1d(np.arange(found.samples, dtype=np.int64), np.array(found.bad_indices, np.int64))
    if not len(good):
        raise SourceError(f"all {found.samples} records are bad; the first: {found.bad[0]}")
    shown = "; ".join(str(error) for error in found.bad[:5]) + ("; …" if len(found.bad) > 5 else "")
    notify(f"left out {len(found.bad)} bad of {found.samples} records: {shown}")
    return good


def _undecodable(
    source: Source,
    indices: NDArray[np.int64],
    threads: int,
    progress: Callable[[int, int], None] | None,
    judge: Judge,
    look: Callable[[bytes], None] | None,
) -> list[int]:
    """The records that TensorFlow doesn't decode, or that are found to be bad otherwise."""
    import tensorflow as tf

    kinds = sorted({*TABLES[judge.backend].kinds, *(judge.readers or ())})

    reading, wanted, total = reader(source, threads=threads), tf.constant(indices), len(indices)

    def chunk(begin: Any) -> Any:
        position = tf.range(begin, tf.minimum(begin + reading.samples, total))
        return reading.chunk({"position": position, "index": tf.gather(wanted, position)})

    def work(state: Any) -> Any:
        data = reading.sample(state)["image"]
        with tf.control_dependencies([decode_whole(data, kinds, judge.max_bytes, judge.truncated)]):
            return tf.identity(state["position"]), data

    chunks = tf.data.Dataset.range(0, total, reading.samples).map(plain(chunk), num_parallel_calls=reading.parallel)
    stream = chunks.unbatch().map(plain(work), num_parallel_calls=threads).ignore_errors()
    good = np.zeros(total, bool)
    for positions, files in stream.batch(64).as_numpy_iterator():
        good[positions] = [judge.passes(data) for data in files]
        for position, data in zip(positions, files, strict=True):
            if look and good[position]:
                look(data)
        if progress:
            progress(int(positions[-1]) + 1, total)
    if progress:
        progress(total, total)  # bad ones at the end were passed over
    return [int(i) for i in indices[~good]]


def _damaged(source: Source, indices: NDArray[np.int64]) -> set[int]:
    """Which records' bytes don't fit the checksum stored with them."""
    if not isinstance(source, RecordSource):
        return set()
    return {i for at in range(0, len(indices), _AT_ONCE) for i in source.damaged(indices[at : at + _AT_ONCE])}


def _file(
    source: Source, backend: str, max_bytes: int, truncated: Truncation, readers: Mapping[str, str] | None
) -> Path:
    others = "" if readers is None else f"-{zlib.crc32(json.dumps(sorted(readers.items())).encode()):08x}"
    terms = f"{backend}{others}-{max_bytes}" + ("" if truncated == "error" else f"-{truncated}")
    return cache_folder.place(f"verified-{_RULES}", f"{source.fingerprint()}-{terms}.json")


def _remembered(path: Path, total: int) -> list[tuple[int, str]] | None:
    """The bad records of a set of so many that were found before; ``None`` where nobody looked, or that is damaged."""
    try:
        pairs = [one.list() for one in json_data.load(path).list()]
        if any(len(pair) != 2 for pair in pairs):
            raise DataError("it must be a list of pairs")
        return [(index.integer(0, total - 1), why.text()) for index, why in pairs]
    except FileNotFoundError:
        return None
    except (OSError, DataError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        notify(f"{path}: what was verified can't be read, and is verified anew: {reason}")
        return None


def _remember(path: Path, bad: list[tuple[int, str]]) -> None:
    try:
        cache_folder.remember(path, json.dumps(bad))
    except OSError as error:
        notify(f"{path}: what was verified can't be remembered: {error.strerror}")


CHECKSUM = "its bytes don't fit their checksum: the file is damaged there; copy it anew"
_AT_ONCE = 256  # records whose checksums are computed side by side
_RULES = 4  # to be raised with what counts as bad: what was remembered under other rules is found anew
MARK = "greenload: this record cannot be read or decoded:"
REMEDY = (
    "(for the reason run: greenload check FOLDER; where it finds none, open files or memory ran out; to leave bad "
    "records out: on_error=skip)"
)
_BAD = re.compile(rf"{re.escape(MARK)}\] \[(.*)\] \[(\d+)\] \[{re.escape(REMEDY)}", re.DOTALL)
_UNAVAILABLE = re.compile(r"\bBackendUnavailable: (.*)")
_RAISED = re.compile(rf"{re.escape(REFUSED)} \[(\d+)\] (.*)", re.DOTALL)


def record_error(message: str, source: Source, plan: Plan | None = None) -> GreenloadError | None:
    """What an error of TensorFlow's is about: a ``RecordError`` of the bad record that it names; a ``SourceError``
    where that record is good, and reading it failed for want of something; what a backend raised; else ``None``."""
    found = _BAD.search(message)
    try:
        if found:
            return _failed(source, int(found[2]), plan)
        raised = _RAISED.search(message)
        if raised:
            return _refused(source, int(raised[1]), raised[2], plan)
    except SourceError as error:
        return error
    other = _UNAVAILABLE.search(message)
    return BackendUnavailable(other[1]) if other else None


def _failed(source: Source, index: int, plan: Plan | None) -> SourceError:
    """The error for a record that was asked for and didn't come."""
    why = _reason(source, index, plan)
    if why != DECODES:
        return RecordError(source.name(index), why)
    if misfit := _misfit(source, index, plan.pipeline if plan else None):
        return RecordError(source.name(index), misfit)
    return SourceError(
        f"{source.name(index)}: couldn't be read or decoded, but can be now: open files or memory ran out meanwhile "
        "(ulimit -n; fewer threads or smaller batches take less), or the file has changed; start again"
    )


def _refused(source: Source, index: int, text: str, plan: Plan | None) -> RecordError:
    """The error for a record that a backend refused, by what it said."""
    name = source.name(index)
    for shown in (printable(name), name.encode(errors="backslashreplace").decode()):
        if text.startswith(f"{shown}: "):
            return RecordError(name, text.removeprefix(f"{shown}: ").split("\n", 1)[0])
    return RecordError(name, _reason(source, index, plan))


def _reason(source: Source, index: int, plan: Plan | None) -> str:
    """``reason``, for a plan's backends."""
    if plan is None:
        return reason(source, index)
    made = plan.pipeline
    return reason(source, index, plan.decoder, made.max_bytes, made.truncated, plan.readers)


def _misfit(source: Source, index: int, pipeline: Pipeline | None) -> str:
    """Why a record that decodes is too small for a pipeline's stages; empty if it isn't."""
    data = source.read(index)
    if pipeline is None or not isinstance(data, bytes):
        return ""
    exif = any(isinstance(stage, Decode) and stage.exif for stage in pipeline.stages)
    data, header = formats.opened(data, truncated=pipeline.truncated)
    height, width = sides_of(data, header, exif)
    found = DrawLayout.of(pipeline).misfit(np.array([height]), np.array([width]))
    return found[1] if found else ""


def naming(dataset: tf.data.Dataset, plan: Plan) -> tf.data.Dataset:
    """The same dataset, whose iterators raise ``RecordError`` in Python where TensorFlow's error is about a bad record.

    Inside a ``tf.function`` (Keras ``fit``) TensorFlow raises its own error, whose text names the record as well.
    """
    import tensorflow as tf

    made_in, source = os.getpid(), plan.pipeline.source
    reads = not isinstance(source, Arrays)

    def translated(iterator: Any) -> Any:
        class NamingIterator(type(iterator)):  # type: ignore[misc]  # of whatever class this TensorFlow makes
            stopped_by: GreenloadError | None = None

            def __next__(self) -> Any:
                forking.check(made_in, "an iterator of a dataset")
                if self.stopped_by:
                    raise self.stopped_by  # what came after it would be out of step
                if reads:
                    limits.check_files()
                try:
                    with shutdown.request:
                        return super().__next__()
                except tf.errors.OpError as error:
                    self.stopped_by = record_error(str(error.message), source, plan)
                    if self.stopped_by is None:
                        raise
                    raise self.stopped_by from None

        iterator.__class__ = NamingIterator
        return iterator

    class NamingDataset(type(dataset)):  # type: ignore[misc]
        def __iter__(self) -> Any:
            forking.check(made_in, "a dataset")
            if reads:
                limits.check_files()
            return translated(super().__iter__())

    dataset.__class__ = NamingDataset
    return dataset
