"""Decodes files in TensorFlow and fills those that are cut off: Python is called only for a file that seems cut."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

from greenload.backends.tf.formats import ToReadable, apart, as_it_is, bmp_is_short, decode_full, ends_as_jpeg, is_jpeg
from greenload.sources import formats
from greenload.sources.formats.png import END as PNG_END
from greenload.specs import MAX_BYTES, Truncation
from greenload.system import shutdown
from greenload.system.frameworks import tf


def decode_whole(
    data: Any,
    kinds: Collection[str] | None = None,
    max_bytes: int = MAX_BYTES,
    truncated: Truncation = "error",
    to_readable: ToReadable = as_it_is,
) -> Any:
    """``decode_full``, of a file that may be cut off.

    Args:
        data: a file's bytes, a scalar string tensor.
        kinds: the kinds of files to accept; all that TensorFlow decodes if not given.
        max_bytes: the most bytes that decoding it may take.
        truncated: what is done about a file that is cut off.
        to_readable: passed on to ``decode_full``.
    """
    if truncated == "fill":
        file = data
        data = tf.cond(ends_as_jpeg(file), lambda: file, lambda: filled(file, max_bytes))
    return decode_full(data, kinds, max_bytes, to_readable)


def filled(data: Any, max_bytes: int) -> Any:
    """A file that is filled where it is cut off; a JPEG that ends in an end marker needn't come here."""
    return _filling(max_bytes)(data)


@functools.cache
def _filling(max_bytes: int) -> Any:
    """Not inlined, so that its ops cost nothing where it isn't called."""

    def call(data: bytes) -> bytes:
        with shutdown.call_from_tensorflow:
            try:
                return formats.opened(data, None, max_bytes, "fill")[0]
            except formats.FormatError:
                return data  # the decoder refuses it; why is told where the record is named

    def whole(data: Any) -> Any:
        end = tf.strings.substr(data, tf.maximum(tf.strings.length(data) - len(PNG_END), 0), len(PNG_END))
        png = (tf.strings.substr(data, 0, 4) == b"\x89PNG") & (end != PNG_END)
        bmp = (tf.strings.substr(data, 0, 2) == b"BM") & bmp_is_short(data)
        return tf.cond(
            is_jpeg(data) | png | bmp,
            lambda: tf.ensure_shape(tf.numpy_function(call, [data], tf.string, stateful=False), ()),
            lambda: tf.identity(data),
        )

    return apart(whole)
