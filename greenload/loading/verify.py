"""Finds the bad records of a set: reads and decodes all of them before training."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.backends.pillow import decode
from greenload.backends.tables import TABLES
from greenload.backends.tf.backend import TensorFlowBackend
from greenload.backends.tf.truncation import decode_whole
from greenload.errors import BackendUnavailable, RecordError, SourceError, UsageError
from greenload.loading.elements import plain
from greenload.loading.tf_reading import reader
from greenload.loading.verdicts import DECODES, Judge
from greenload.plans.plan import Plan
from greenload.public import public
from greenload.sources import UNREADABLE, Arrays, RecordSource, Source
from greenload.specs import MAX_BYTES, TRUNCATED, Truncation
from greenload.system import cache_folder, json_data, limits
from greenload.system.frameworks import tf
from greenload.system.json_data import DataError
from greenload.system.notices import notify


@dataclass(frozen=True)
class Verified:
    """The result of a verification."""

    samples: int
    """How many records were verified."""
    bad: tuple[RecordError, ...]
    """The bad records, in the source's order; each names its file and the reason."""
    bad_indices: tuple[int, ...]
    """The indices of the bad records."""


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
    checksums of the records' bytes are tested too. The result is remembered in the user's cache folder by the source's
    fingerprint (every file's path, size and time of change).

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
    support = TensorFlowBackend().availability()
    if not support.usable:
        raise BackendUnavailable(f"verifying decodes with TensorFlow: {support.detail}; {support.remedy}")
    wanted = np.arange(total, dtype=np.int64) if indices is None else indices
    threads = scalars.positive(UsageError, "threads", threads)
    remember = remember and indices is None
    # Named by the files as they are now: what changes while they are decoded must not be taken for verified.
    kept = _file(source, backend, max_bytes, truncated, readers) if remember else None
    remembered = cache_folder.recall(kept, lambda text: _bad_records(text, total), _KEPT, _ANEW) if kept else None
    if remembered is None:
        judge = Judge(backend, max_bytes, truncated, readers, threads)
        remembered = _look_through(source, wanted, judge, progress, look)
        # What is this machine's fault, not the files', may be mended meanwhile.
        if kept and not any(why.startswith((UNREADABLE, decode.NO_WEBP)) for _, why in remembered):
            cache_folder.remember(kept, json.dumps(remembered), _KEPT)
    bad = tuple(RecordError(source.name(i), why) for i, why in remembered)
    return Verified(len(wanted), bad, tuple(i for i, _ in remembered))


def verify_plan(plan: Plan, progress: Callable[[int, int], None] | None = None, **options: Any) -> Verified:
    """Verify a plan's records as the plan decodes them; ``options`` are others of `verify`."""
    pipeline = plan.pipeline
    return verify(
        pipeline.source, plan.threads, progress, backend=plan.decoder, max_bytes=pipeline.max_bytes,
        truncated=pipeline.truncated, readers=plan.readers, **options,
    )  # fmt: skip


def good_records(plan: Plan) -> NDArray[np.int64] | None:
    """The indices of the records that a plan's backends decode, ascending, or ``None`` if all do; warns of the others.

    Raises:
        SourceError: all records are bad.
    """
    verified = verify_plan(plan)
    if not verified.bad:
        return None
    good = good_indices(verified)
    shown = "; ".join(str(error) for error in verified.bad[:5]) + ("; …" if len(verified.bad) > 5 else "")
    notify(f"left out {len(verified.bad)} bad of {verified.samples} records: {shown}")
    return good


def good_indices(verified: Verified) -> NDArray[np.int64]:
    """The indices of the good records of a whole set, ascending.

    Raises:
        SourceError: all records are bad.
    """
    good = np.setdiff1d(np.arange(verified.samples, dtype=np.int64), np.array(verified.bad_indices, np.int64))
    if not len(good):
        raise SourceError(f"all {verified.samples} records are bad; the first: {verified.bad[0]}")
    return good


def _look_through(
    source: Source,
    indices: NDArray[np.int64],
    judge: Judge,
    progress: Callable[[int, int], None] | None,
    look: Callable[[bytes], None] | None,
) -> list[tuple[int, str]]:
    """Find the bad records among some, in order, each with its reason. Arguments are those of ``verify``."""
    limits.check_files()
    failed = _undecodable(source, indices, judge, progress, look)
    # One that decodes on the second look failed for a reason of the moment, or is of a kind that others read.
    reasons = {i: why for i, why in judge.reasons(source, failed, look) if why != DECODES}
    reasons |= {i: CHECKSUM for i in _damaged(source, indices) if i not in reasons}
    return sorted(reasons.items())


def _undecodable(
    source: Source,
    indices: NDArray[np.int64],
    judge: Judge,
    progress: Callable[[int, int], None] | None,
    look: Callable[[bytes], None] | None,
) -> list[int]:
    """The records that TensorFlow doesn't decode, or that are found to be bad otherwise."""
    kinds = sorted({*TABLES[judge.backend].kinds, *(judge.readers or ())})

    threads = judge.threads
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
    return cache_folder.locate(f"verified-{_RULES}", f"{source.fingerprint()}-{terms}.json")


def _bad_records(content: bytes, total: int) -> list[tuple[int, str]]:
    """The bad records of a set of so many, as they are kept.

    Raises:
        DataError: the content is damaged.
    """
    pairs = [pair.list() for pair in json_data.parse(content).list()]
    if any(len(pair) != 2 for pair in pairs):
        raise DataError("it must be a list of pairs")
    return [(index.integer(0, total - 1), why.text()) for index, why in pairs]


_KEPT, _ANEW = "what was verified", "it is verified anew"
CHECKSUM = "its bytes don't fit their checksum: the file is damaged there; copy it anew"
_AT_ONCE = 256  # records whose checksums are computed side by side
_RULES = 4  # to be raised with what counts as bad: what was remembered under other rules is found anew
