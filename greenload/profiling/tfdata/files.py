"""Which files a dataset reads, as far as its graph names them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from typing import Any

from greenload.errors import UsageError
from greenload.profiling.tfdata.guard import tf_error_line
from greenload.profiling.tfdata.walk import walk
from greenload.system.frameworks import tf

_SCHEME = b"file://"
_HOLDING = frozenset({"from_tensor_slices", "from_tensors"})
_LOOKED_AT = 1000  # names, each a look at the file system


def files_of_dataset(dataset: tf.data.Dataset) -> tuple[str, ...]:
    """The files that a dataset's graph names in its constants, those of its functions included.

    Names of existing files are found whether they are a reader's input, a list to map over, or a pattern. A name that
    is only put together while the dataset runs isn't, nor what a Python generator opens.

    Args:
        dataset: looked at, not run.

    Raises:
        UsageError: it names no file that exists, or its graph can't be had.

    Example:
        >>> files_of_dataset(tf.data.TFRecordDataset(["train-0.tfrecord"]))     # doctest: +SKIP
        ('train-0.tfrecord',)
    """
    try:
        graph = tf.compat.v1.GraphDef.FromString(
            dataset._as_serialized_graph(external_state_policy=tf.data.experimental.ExternalStatePolicy.IGNORE).numpy()
        )
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise UsageError(
            f"a cold run needs the names of the dataset's files, but its graph can't be had: {tf_error_line(error)}: "
            "profile a greenload pipeline, or leave cold out"
        ) from None
    paths = dict.fromkeys(path for text in _texts(graph) for path in _files(text))
    if not paths:
        raise UsageError(
            "a cold run needs the names of the dataset's files, and its graph names none that exists: names that are "
            "put together while it runs aren't seen; use whole paths, or leave cold out"
        )
    return tuple(paths)


def some_files(dataset: tf.data.Dataset) -> tuple[str, ...]:
    """Files that a dataset's sources name, one of each folder, to find the device by; none where they name none.

    Looks at names that are a source's elements alone, the first thousand of each: not at the whole graph, which is as
    large as what a dataset holds in memory.

    Args:
        dataset: looked at, not run.

    Example:
        >>> some_files(tf.data.TFRecordDataset(["a/train-0.tfrecord", "a/train-1.tfrecord"]))     # doctest: +SKIP
        ('a/train-0.tfrecord',)
    """
    by_folder: dict[str, str] = {}
    for node in walk(dataset).nodes():
        for held in getattr(node.dataset, "_tensors", ()) if node.kind in _HOLDING else ():
            if held.dtype != tf.string or not hasattr(held, "numpy"):
                continue
            for text in tf.reshape(held, [-1])[:_LOOKED_AT].numpy().tolist():
                path = os.fsdecode(text.removeprefix(_SCHEME))
                if os.path.isfile(path):
                    by_folder.setdefault(os.path.dirname(path), path)
    return tuple(by_folder.values())


def _texts(graph: Any) -> Iterator[bytes]:
    """Every string constant of a graph and its functions."""
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    for node in nodes:
        if node.op == "Const" and node.attr["dtype"].type == tf.string.as_datatype_enum:
            # Not make_ndarray: it can't read the form that TensorFlow writes long lists of strings in.
            held = tf.io.parse_tensor(node.attr["value"].tensor.SerializeToString(), tf.string)
            yield from held.numpy().ravel().tolist() if held.shape.rank else [held.numpy()]


def _files(text: bytes) -> Iterator[str]:
    path = os.fsdecode(text.removeprefix(_SCHEME))
    if not path or "\0" in path:
        return
    if os.path.isfile(path):
        yield path
    elif glob.has_magic(path) and any(map(str.isalnum, path)):  # a mere "**" is hardly the name of a set
        yield from (match for match in sorted(glob.glob(path, recursive=True)) if os.path.isfile(match))
