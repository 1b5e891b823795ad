"""Files that TensorFlow doesn't read, decoded by other backends from within its graph.

Python is called for these files alone. The call is stateless, so that a graph which never meets one can be fused,
stored and sent to other processes as before.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from greenload.backends.readers import Foreign, Readers
from greenload.backends.tf.formats import ToReadable, apart, as_it_is, known
from greenload.backends.tf.table import TABLE
from greenload.sources import formats
from greenload.sources.formats import FormatError
from greenload.stages import primitives as p
from greenload.system import shutdown
from greenload.system.frameworks import tf

TURNED = ("JPEG", "PNG", "WebP")
"""The formats whose EXIF orientation is applied in the graph, by the bytes of the file as it is."""


def to_readable_by(readers: Readers, primitive: p.Decoding) -> ToReadable:
    """A function that gives a file as it is where TensorFlow reads it, else a PNG of what another backend decodes.

    A file that can't be decoded stays as it is, and is refused by TensorFlow.

    Args:
        readers: of the plan.
        primitive: the step that decodes.
    """
    if not readers.backends:
        return as_it_is
    starts = formats.starts(readers.backends)
    held = _Call(readers, primitive)
    call = shutdown.weak_call(held, _Call.png)

    def convert(data: Any) -> Any:
        def as_png() -> Any:
            return tf.ensure_shape(tf.numpy_function(call, [data], tf.string, stateful=False), ())

        def looked_at() -> Any:
            return tf.cond(known(data, primitive.max_bytes), lambda: data, as_png)

        return tf.cond(begins(data, starts), looked_at, lambda: data)

    converting = apart(convert)

    def to_readable(data: Any) -> Any:
        _ = held
        return converting(data)

    return to_readable


def begins(data: Any, starts: Collection[bytes]) -> Any:
    """Whether a file begins in one of some ways."""
    lengths = sorted({len(start) for start in starts})
    alike = [tf.strings.substr(data, 0, n) == [start for start in starts if len(start) == n] for n in lengths]
    return tf.reduce_any(tf.concat(alike, 0))


class _Call:
    """A call from TensorFlow into the other backends, for one file, which is whole, or has been filled."""

    def __init__(self, readers: Readers, primitive: p.Decoding) -> None:
        self._readers = readers
        self._able = readers.support(TABLE.name)
        self._primitive = primitive

    def png(self, file: Any) -> bytes:
        data = bytes(file)
        try:
            head = formats.header(data, self._able, self._primitive.max_bytes)
        except FormatError:
            return data
        if head.kind not in (self._able.readers or ()):
            return data
        turned = self._primitive.exif and head.format not in TURNED
        (result,) = self._readers.as_pngs([Foreign(data, head, formats.orientation(data) if turned else 1)])
        return data if isinstance(result, FormatError) else result
