"""How errors inside TensorFlow name a bad record: by texts that ``record_errors`` reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenload.system.frameworks import tf

MARK = "greenload: this record cannot be read or decoded:"
REMEDY = (
    "(for the reason run: greenload check FOLDER; where it finds none, open files or memory ran out; to leave bad "
    "records out: on_error=skip)"
)
"""Texts before and behind the name and index of a missing record, in an error of TensorFlow's."""
REFUSED = "greenload: bad record"
"""What the text of a backend's error begins with inside TensorFlow; then come index, name and reason."""


def refuse(name: Callable[[Any], Any], index: Any) -> Any:
    """An operation that always fails, and names a record.

    Args:
        name: from an index to the record's name, as ``RecordReading.name``.
        index: the record's, an int64 scalar.
    """
    # The bare operation: tf.debugging.Assert puts it into a branch.
    return tf.raw_ops.Assert(condition=False, data=[MARK, name(index), index, REMEDY])
