"""Reads the records of each kind of source inside tf.data.

Files are read one by one by TensorFlow's own operation, in parallel. Records in files of many are read in chunks: one
call into Python asks for all records of a chunk, adjacent ones are read in one system call, and the interpreter's lock
is free meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from greenload.backends.tf.backend import Element, State
from greenload.sources import Arrays, FileSource, RecordSource, Source
from greenload.sources.listing import Paths
from greenload.system import shutdown
from greenload.system.frameworks import tf
from greenload.text import printable

CHUNK = 256
"""Positions, orders and draws are computed for so many samples at once."""
CALL_BYTES = 1 << 20
"""Bytes that are read in one call, about, where the order keeps no groups: what a processor's cache holds."""
IN_FLIGHT_BYTES = 64 << 20
"""Bytes of chunks that are read ahead at once, about."""


@dataclass(frozen=True)
class RecordReading:
    """How a source's records are read inside tf.data."""

    chunk: Element
    """Adds to a chunk of samples what ``sample`` needs; works on its ``"index"``, int64 ``[n]``."""
    sample: Element
    """Puts ``"image"`` into one sample's state. Fails where the record can't be read."""
    name: Callable[[Any], Any]
    """From an index to the record's name; both tensors."""
    batch: Element = dict
    """Puts ``"image"`` into the state of a batch that went through ``chunk``; empty where a record can't be read."""
    path: Callable[[Any], Any] | None = None
    """From indices to the files' paths, where each record is a file: then there is no ``batch``."""
    samples: int = CHUNK
    """How many samples' orders and draws are computed at once."""
    per_call: int | None = None
    """How many of them ``chunk`` gets at once; ``None`` for all."""
    parallel: int = 1
    """How many calls of ``chunk`` go on at once."""

    @property
    def in_chunks(self) -> bool:
        """Whether it is ``chunk`` that reads."""
        return self.path is None and self.chunk is not dict


def reader(source: Source, *, threads: int = 1, group: int | None = None, singly: bool = False) -> RecordReading:
    """How records of a source are read inside tf.data.

    Args:
        source: files, records, or arrays.
        threads: chunks that are read at a time, at most.
        group: samples whose records are adjacent, where the order keeps such groups: each is one chunk.
        singly: read each record where its sample asks for it, since a cache may hold it already.
    """
    if isinstance(source, Arrays):
        return _arrays(source)
    if isinstance(source, FileSource):
        return _files(source)
    assert isinstance(source, RecordSource)
    return _records(source, threads, group, singly)


def _arrays(source: Arrays) -> RecordReading:
    images = tf.constant(source.images)

    def gather(state: State) -> State:
        return state | {"image": tf.gather(images, state["index"])}

    return RecordReading(dict, gather, lambda index: tf.strings.format("images[{}]", index), gather)


def _files(source: FileSource) -> RecordReading:
    def texts(blob: bytes, offsets: Any) -> Callable[[Any], Any]:
        # One string and the offsets in it: a tensor of a million strings takes 100 MB.
        whole, begins = tf.constant(blob), tf.constant(offsets)

        def text(index: Any) -> Any:
            begin = tf.gather(begins, index)
            return tf.strings.substr(whole, begin, tf.gather(begins, index + 1) - begin)

        return text

    path = name = texts(source.paths.blob, source.paths.offsets)
    if source.special:
        # TensorFlow would wait for a pipe for ever; asked for a file in it, it says at once that it can't be read.
        kept = Paths(text + "/none" if i in source.special else text for i, text in enumerate(source.paths))
        path = texts(kept.blob, kept.offsets)
    if not source.paths.printable():
        # An error's text must be UTF-8, which a file's name need not be, and is shown in terminals.
        shown = [printable(text).encode() for text in source.paths]
        name = texts(b"".join(shown), np.cumsum([0, *map(len, shown)], dtype=np.int64))

    def look_up(state: State) -> State:
        return state | {"path": path(state["index"])}

    def read(state: State) -> State:
        return {key: value for key, value in state.items() if key != "path"} | {"image": tf.io.read_file(state["path"])}

    return RecordReading(look_up, read, name, path=path)


def _records(source: RecordSource, threads: int, group: int | None, singly: bool) -> RecordReading:
    table = source.table
    paths = tf.constant([printable(path).encode() for path in table.paths])
    bounds, numbers = tf.constant(table.bounds), tf.constant(table.numbers)

    def name(index: Any) -> Any:
        file = tf.searchsorted(bounds, index[tf.newaxis], side="right", out_type=tf.int64)[0] - 1
        number = tf.as_string(index - tf.gather(bounds, file) + tf.gather(numbers, file))
        return tf.strings.join([tf.gather(paths, file), "[", number, "]"])

    call = shutdown.weak_call(source, _read_chunk)

    def images(index: Any) -> Any:
        _ = source
        records = tf.numpy_function(call, [index], tf.string, stateful=False)
        records.set_shape(index.shape)
        return records

    def checked(image: Any) -> Any:
        # The bare operation: tf.debugging.Assert puts it into a branch, which costs as much as reading does.
        check = tf.raw_ops.Assert(condition=tf.strings.length(image) > 0, data=["no record"])
        with tf.control_dependencies([check] if check is not None else []):
            return tf.identity(image)

    def read_chunk(state: State) -> State:
        return state | {"image": images(state["index"])}

    def check(state: State) -> State:
        return state | {"image": checked(state["image"])}

    def read_one(state: State) -> State:
        return state | {"image": checked(images(state["index"][tf.newaxis])[0])}

    if singly:
        return RecordReading(dict, read_one, name, batch=read_chunk)
    mean = max(1.0, source.mean_bytes)
    per_call = max(1, min(CHUNK, int(CALL_BYTES / mean))) if group is None else group
    ahead = 1 if source.sequential else max(1, min(threads, int(IN_FLIGHT_BYTES / (per_call * mean))))
    calls = None if group else per_call
    return RecordReading(read_chunk, check, name, samples=group or CHUNK, per_call=calls, parallel=ahead)


def _read_chunk(source: RecordSource, index: Any) -> Any:
    records = source.read_many(index)
    out = np.empty(len(records), object)
    out[:] = [data or b"" for data in records]
    return out
