"""Finding bad records: all of a set before training, or the one that stopped it."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from greenload import formats
from greenload.backends.tf import TensorFlowBackend
from greenload.backends.tf_decode import decode_full
from greenload.backends.tf_stream import REFUSED
from greenload.errors import BackendUnavailable, RecordError, SourceError
from greenload.sources import UNREADABLE, Arrays, FileSource, Source

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


def verify(
    source: Source, threads: int = 2, progress: Callable[[int, int], None] | None = None, *, remember: bool = True
) -> Verified:
    """Read and wholly decode every record once, in parallel.

    A full decode is what finds a truncated file whatever window is cropped from it later. The result is remembered in
    the user's cache folder by the source's fingerprint (every file's path, size and time of change).

    Args:
        source: what to verify.
        threads: threads that decode.
        progress: called with the records done and their total.
        remember: whether to use and keep the remembered result.

    Raises:
        SourceError: the source itself can't be listed.
        BackendUnavailable: TensorFlow, which decodes, is missing.
    """
    total = len(source)
    if isinstance(source, Arrays):
        return Verified(total, (), ())
    found = TensorFlowBackend().availability()
    if not found.usable:
        raise BackendUnavailable(f"verifying decodes with TensorFlow: {found.detail}; {found.remedy}")
    assert isinstance(source, FileSource)
    remembered = _remembered(source) if remember else None
    if remembered is None:
        suspects = [(int(i), reason(source, int(i))) for i in _undecodable(source, threads, progress)]
        # One that decodes on the second look failed for a reason of the moment.
        remembered = [(i, why) for i, why in suspects if why != DECODES]
        if remember and not any(why.startswith(UNREADABLE) for _, why in remembered):
            _remember(source, remembered)
    bad = tuple(RecordError(source.name(i), why) for i, why in remembered)
    return Verified(total, bad, tuple(i for i, _ in remembered))


def good_records(source: Source, threads: int) -> NDArray[np.int64] | None:
    """The indices of the records that decode, ascending, or ``None`` if all do. Warns with the names of the others.

    Raises:
        SourceError: none is left.
    """
    found = verify(source, threads)
    if not found.bad:
        return None
    good = np.setdiff1d(np.arange(found.samples, dtype=np.int64), np.array(found.bad_indices, np.int64))
    if not len(good):
        raise SourceError(f"all {found.samples} records are bad; the first: {found.bad[0]}")
    shown = "; ".join(str(error) for error in found.bad[:5]) + ("; …" if len(found.bad) > 5 else "")
    warnings.warn(f"left out {len(found.bad)} bad of {found.samples} records: {shown}", stacklevel=3)
    return good


def reason(source: Source, index: int) -> str:
    """Why a record can't be decoded, or that it can."""
    try:
        data = source.read(index)
    except RecordError as error:
        return error.reason
    if not isinstance(data, bytes):
        return DECODES
    try:
        header = formats.header(data)
    except formats.FormatError as error:
        return str(error)
    import tensorflow as tf

    try:
        decode_full(tf.constant(data))
    except tf.errors.OpError:
        cut = "truncated" if not header.complete else "broken"
        return f"{cut} {header.format}: its header promises {header.width}×{header.height} pixels that can't be decoded"
    return DECODES


def _undecodable(source: FileSource, threads: int, progress: Callable[[int, int], None] | None) -> NDArray[np.int64]:
    import tensorflow as tf

    def work(index: Any, path: Any) -> Any:
        with tf.control_dependencies([decode_full(tf.io.read_file(path))]):
            return tf.identity(index)

    total = len(source)
    paths = tf.data.Dataset.from_tensor_slices(tf.constant([os.fsencode(path) for path in source.paths]))
    stream = tf.data.Dataset.zip(tf.data.Dataset.range(total), paths).map(work, num_parallel_calls=threads)
    good = np.zeros(total, bool)
    for indices in stream.ignore_errors().batch(64).as_numpy_iterator():
        good[indices] = True
        if progress:
            progress(int(indices[-1]) + 1, total)
    if progress:
        progress(total, total)  # bad ones at the end were passed over
    return np.flatnonzero(~good)


def _file(source: Source) -> Path:
    return Path(platformdirs.user_cache_dir("greenload")) / f"verified-{_RULES}" / f"{source.fingerprint()}.json"


def _remembered(source: Source) -> list[tuple[int, str]] | None:
    try:
        stored = json.loads(_file(source).read_text())
        bad = [(int(i), str(why)) for i, why in stored]
    except (OSError, ValueError, TypeError):
        return None  # never made, or damaged: made anew
    whole = isinstance(stored, list) and all(0 <= i < len(source) for i, _ in bad)
    return bad if whole else None


def _remember(source: Source, bad: list[tuple[int, str]]) -> None:
    path = _file(source)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(bad))
        partial.replace(path)
    except OSError as error:
        warnings.warn(f"{path}: what was verified can't be remembered: {error.strerror}", stacklevel=3)


DECODES = "decodes now: it has changed, or what failed came later"
_RULES = 1  # to be raised with what counts as bad: what was remembered under other rules is found anew
MARK = "greenload: this record cannot be read or decoded:"
REMEDY = "(for the reason run: greenload check FOLDER; to leave such records out: on_error=skip)"
_BAD = re.compile(rf"{re.escape(MARK)}\] \[(.*)\] \[(\d+)\] \[{re.escape(REMEDY)}", re.DOTALL)
_RAISED = re.compile(rf"{re.escape(REFUSED)} \[(\d+)\] (.*)", re.DOTALL)


def record_error(message: str, source: Source) -> RecordError | None:
    """The bad record that an error of TensorFlow's names, or ``None`` if it is about something else."""
    found = _BAD.search(message)
    if found:
        index = int(found[2])
        return RecordError(source.name(index), reason(source, index))
    raised = _RAISED.search(message)
    if not raised:
        return None
    name = source.name(int(raised[1]))
    shown = f"{name}: ".encode(errors="backslashreplace").decode()
    if not raised[2].startswith(shown):
        return RecordError(name, reason(source, int(raised[1])))
    return RecordError(name, raised[2].removeprefix(shown).split("\n", 1)[0])


def naming(dataset: tf.data.Dataset, source: Source) -> tf.data.Dataset:
    """The same dataset, whose iterators raise ``RecordError`` in Python where TensorFlow's error is about a bad record.

    Inside a ``tf.function`` (Keras ``fit``) TensorFlow raises its own error, whose text names the record as well.
    """
    import tensorflow as tf

    def translated(iterator: Any) -> Any:
        class NamingIterator(type(iterator)):  # type: ignore[misc]  # of whatever class this TensorFlow makes
            stopped_by: RecordError | None = None

            def __next__(self) -> Any:
                if self.stopped_by:
                    raise self.stopped_by  # what came after it would be out of step
                try:
                    return super().__next__()
                except tf.errors.OpError as error:
                    self.stopped_by = record_error(str(error.message), source)
                    if self.stopped_by is None:
                        raise
                    raise self.stopped_by from None

        iterator.__class__ = NamingIterator
        return iterator

    class NamingDataset(type(dataset)):  # type: ignore[misc]
        def __iter__(self) -> Any:
            return translated(super().__iter__())

    dataset.__class__ = NamingDataset
    return dataset
