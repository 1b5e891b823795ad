"""Takes a dataset apart into its nodes. Nothing runs, and nothing is traced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from greenload.errors import UsageError
from greenload.profiling.tfdata.calls import call_of, call_places, calls_of_nodes, names_and_rows
from greenload.profiling.tfdata.graph import (
    DALI_NODE,
    JOINS,
    NESTING,
    PASSIVE,
    Node,
    file_reader,
    function_wrapper,
    generator_of,
    without_adapter,
)
from greenload.profiling.tfdata.inner_graph import look_inside
from greenload.profiling.tfdata.names import function_file, function_name, function_place, installed
from greenload.system.frameworks import tf

_KIND_OF_CLASS: Mapping[str, str] = {
    "_AssertCardinalityDataset": "assert_cardinality",
    "_BatchDataset": "batch",
    "_ParallelBatchDataset": "batch",
    "CacheDataset": "cache",
    "_DirectedInterleaveDataset": "choose",
    "_ConcatenateDataset": "concatenate",
    "CsvDatasetV2": "csv",
    "_DataServiceDatasetV2": "data_service",
    "_DenseToRaggedDataset": "dense_to_ragged",
    "_DenseToSparseBatchDataset": "dense_to_sparse_batch",
    "_FilterDataset": "filter",
    "FixedLengthRecordDatasetV2": "fixed_length_records",
    "_FlatMapDataset": "flat_map",
    "_ListDataset": "from_list",
    "_TensorSliceDataset": "from_tensor_slices",
    "_TensorDataset": "from_tensors",
    "_GroupByWindowDataset": "group_by_window",
    "_IgnoreErrorsDataset": "ignore_errors",
    "_InterleaveDataset": "interleave",
    "_ParallelInterleaveDataset": "interleave",
    "ParallelInterleaveDataset": "interleave",
    "_LoadDataset": "load",
    "_MapDataset": "map",
    "_ParallelMapDataset": "map",
    "MatchingFilesDataset": "matching_files",
    "_OptionsDataset": "options",
    "_PaddedBatchDataset": "padded_batch",
    "_PrefetchDataset": "prefetch",
    "_RandomDataset": "random",
    "RandomDatasetV2": "random",
    "_RangeDataset": "range",
    "_RebatchDataset": "rebatch",
    "_RepeatDataset": "repeat",
    "_RestructuredDataset": "restructure",
    "_ScanDataset": "scan",
    "_ShardDataset": "shard",
    "_ShuffleDataset": "shuffle",
    "_SkipDataset": "skip",
    "_SnapshotDataset": "snapshot",
    "_TakeDataset": "take",
    "_TakeWhileDataset": "take_while",
    "TFRecordDatasetV2": "tfrecords",
    "TextLineDatasetV2": "text_lines",
    "_UnbatchDataset": "unbatch",
    "_UniqueDataset": "unique",
    "WatchedDataset": "watched",
    "_WindowDataset": "window",
    "_ZipDataset": "zip",
}
"""Kinds by TensorFlow's class: where a transformation has a method of ``Dataset``, its name."""
_USERS = frozenset({"map", "filter", "flat_map", "interleave", "scan", "take_while"})
"""Kinds whose row is named by their function."""
_PARAMETERS = (
    "batch_size", "batch_sizes", "drop_remainder", "num_parallel_calls", "deterministic", "buffer_size", "count",
    "cycle_length", "block_length", "num_shards", "index", "size", "shift", "stride", "filename", "path",
    "reshuffle_each_iteration",
)  # fmt: skip
_ENDLESS_RANGE = 2**63 - 1
_MOST_NODES = 300


def walk(dataset: tf.data.Dataset) -> Node:
    """The tree that ends in a dataset. Nothing runs, and nothing is traced.

    Raises:
        UsageError: the tree has more than 300 nodes.
    """
    root = _tree(dataset, "", [0])
    calls = calls_of_nodes(root)
    named, where = names_and_rows(root, calls), call_places(root, calls)

    def finished(node: Node) -> Node:
        name, row = named[node]
        inputs, looked = (tuple(map(finished, nodes)) for nodes in (node.inputs, node.looked))
        call = calls.get(node, "")
        return replace(node, inputs=inputs, looked=looked, name=name, row=row, call=call, where=where[node])

    return finished(root)


def _tree(dataset: Any, branch: str, count: list[int]) -> Node:
    count[0] += 1
    if count[0] > _MOST_NODES:
        raise UsageError(f"a dataset to profile has up to {_MOST_NODES} nodes, this one has more: profile a part of it")
    dataset = without_adapter(dataset)
    kind = _KIND_OF_CLASS.get(type(dataset).__name__, DALI_NODE if "DALIDataset" in type(dataset).__name__ else "")
    if kind == "flat_map" and (generator := generator_of(dataset)) is not None:
        name, where, file = function_name(generator), function_place(generator), function_file(generator)
        return Node(dataset, "from_generator", (), name, where, file, branch=branch)
    children = list(file_reader(dataset)._inputs())
    if kind == "unbatch":  # comes behind a map of TensorFlow's own, which is made anew with it
        children = list(children[0]._inputs()[0]._inputs())
    if kind == "zip" and len(children) == 2 and _counts(children[0]):
        kind = "enumerate"
    known = bool(kind) and kind not in (DALI_NODE, "data_service")
    kind = kind or type(dataset).__name__.strip("_")
    inputs = []
    for index, child in enumerate(children):
        label = _branch(kind, index)
        before = _tree(child, " / ".join(part for part in (branch, label) if part), count)
        if kind == "choose" and index == 0:
            name, where = (before.call.partition(" ")[0], before.where) if before.call else ("choose", "")
            whole = _hidden(before)
            before = Node(
                without_adapter(child),
                "selector",
                (whole,),
                name,
                where,
                call=before.call,
                branch=before.branch,
                known=False,
            )
        elif not known or (kind == "enumerate" and index == 0) or (hasattr(dataset, "_impl") and _written_here(before)):
            before = _hidden(before)  # what is before a dataset that can't be built on anything else is part of its row
        inputs.append(before)
    name, where, file, call = _called(dataset, kind)
    node = Node(
        dataset,
        kind,
        tuple(inputs),
        getattr(dataset, "_name", None) or name,
        where,
        file,
        call,
        branch,
        _parameters(dataset),
        kind in PASSIVE,
        known,
    )
    if kind in NESTING:
        looked = look_inside(node)
        node = replace(node, looked=looked, hidden=bool(looked))  # its cost is in the rows of the chain inside
    return node


def _called(dataset: Any, kind: str) -> tuple[str, str, str, str]:
    """A node's name, place, file and call: the user's function's own, or the call that made a library's do it."""
    function = function_wrapper(dataset)
    if function is None or kind == "tfrecords":
        return kind, "", "", ""
    call = call_of(function)
    made = "" if call is None else call.made(kind)
    user = function._func if kind in _USERS else None
    if user is not None and not installed(function_file(user) or "/built-in/site-packages/"):
        return function_name(user), function_place(user), function_file(user), made
    if call is None:
        return kind if user is None else function_name(user), "", "", ""
    name = call.name if made else kind if user is None else function_name(user)
    return name, call.where, call.file, made


def _written_here(node: Node) -> bool:
    """Whether all of a tree comes from a reader's own list of files, which is no row of its own."""
    return all(
        source.kind in ("from_tensor_slices", "from_tensors", "map", "range") for source in node.nodes()
    ) and all(installed(function_file(source.function._func)) for source in node.nodes() if source.kind == "map")


def _hidden(node: Node) -> Node:
    return replace(node, hidden=True, inputs=tuple(_hidden(before) for before in node.inputs), looked=())


def _branch(kind: str, index: int) -> str:
    if kind == "choose":
        return f"choose {index}" if index else "choose"
    return f"{kind} {index + 1}" if kind in JOINS else ""


def _counts(dataset: Any) -> bool:
    """Whether it is the endless range that ``enumerate`` zips with, which TensorFlow hides in a variant."""
    dataset = without_adapter(dataset)
    if type(dataset).__name__ == "_RangeDataset":
        return int(dataset._stop) == _ENDLESS_RANGE
    endless = type(dataset).__name__ == "_VariantDataset" and int(dataset.cardinality()) == -1
    return endless and str(getattr(dataset.element_spec, "dtype", "")) == "<dtype: 'int64'>"


def _parameters(dataset: Any) -> dict[str, Any]:
    parameters = {}
    for name in _PARAMETERS:
        value: Any = getattr(dataset, f"_{name}", None)
        if hasattr(value, "numpy"):
            array = value.numpy()
            value = array.decode(errors="replace") if isinstance(array, bytes) else array.tolist()
        if value is not None and isinstance(value, bool | int | str | list):
            parameters[name] = value
    return parameters
