"""Builds a node again on another input, by TensorFlow's own operation, with the function as it is already traced.

So a user's function isn't called again, and nothing that belongs to the user's dataset is consumed, unless a `Builder`
is told so: a shuffle built again draws from a state of its own, a memory cache built again starts empty.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from greenload.profiling.tfdata.graph import Node, file_reader
from greenload.system.frameworks import tf

AUTOTUNE = -1
BUFFER = 2
"""Elements that ``prefetch(AUTOTUNE)`` holds in a copy. Left to TensorFlow it grows whenever the consumer finds it
empty, to gigabytes where nothing slows the consumer down, and every window would pay for what a later one takes."""
Functions = Callable[[Any, str], Any]
Alter = Callable[[Node, Sequence["tf.data.Dataset"]], "tf.data.Dataset | None"]
"""Gives something else for a node on its rebuilt inputs; None leaves the node as it is."""


class Builder:
    """Builds datasets from nodes.

    Args:
        scratch: a folder for what caches and snapshots would write; None: they write where the user has them write,
            and buffers are as the user wrote them.
        parallel: what stands for AUTOTUNE; None leaves it to TensorFlow.
        functions: gives a dataset's traced function, by the attribute that holds it; as it is if None.
        state: gives what a dataset keeps between its iterators; None: one built again begins with its own.
    """

    def __init__(
        self,
        scratch: str | None,
        parallel: int | None = None,
        functions: Functions | None = None,
        state: Callable[[Any], Any] | None = None,
    ) -> None:
        self._scratch = scratch
        self._parallel = parallel
        self._state = state
        self.function = functions or traced_function

    def with_functions(self, functions: Functions) -> Builder:
        """The same, of other functions."""
        return Builder(self._scratch, self._parallel, functions)

    def build(self, node: Node, alter: Alter | None = None, shared: bool = True) -> tf.data.Dataset:
        """A dataset that gives what ``node`` gives. One that stands in two branches is built once if ``shared``."""
        made: dict[int, Any] = {}

        def one(node: Node) -> Any:
            key = id(node.dataset) if shared and node.inner is None and node.kind != "selector" else id(node)
            if key not in made:
                inputs = [one(before) for before in node.inputs]
                altered = alter(node, inputs) if alter is not None else None
                made[key] = self.on(node, inputs) if altered is None else altered
            return made[key]

        return one(node)

    def on(self, node: Node, inputs: Sequence[tf.data.Dataset]) -> tf.data.Dataset:
        """A node on other inputs. One that isn't known stays on the user's own input."""
        if node.inner is not None:
            return node.inner.on(node, inputs)
        if node.kind in ("selector", "watched"):
            return inputs[0]
        if node.kind == "rebatch":  # needs a map of TensorFlow's own that is kept nowhere
            return inputs[0].rebatch(node.dataset._batch_sizes, node.dataset._drop_remainder)
        if node.kind == "unbatch":
            return inputs[0].unbatch()
        if node.kind == "from_generator" and self.function is not traced_function:
            variant = _MAKERS["_FlatMapDataset"](self, node.dataset, [node.dataset._inputs()[0]._variant_tensor])
            return tf.data.experimental.from_variant(variant, node.element_spec)
        if not node.known or (not inputs and node.kind != "random"):
            return node.dataset  # a source has no state: each iterator opens its own files
        dataset = file_reader(node.dataset)
        variant = _MAKERS[type(dataset).__name__](self, dataset, [source._variant_tensor for source in inputs])
        return tf.data.experimental.from_variant(variant, node.element_spec)

    def state(self, dataset: Any, fresh: Callable[[], Any]) -> Any:
        """The handle of what a dataset keeps between its iterators."""
        return fresh() if self._state is None else self._state(dataset)

    def buffered(self, size: Any) -> Any:
        """``buffer_size`` to use for one that is given."""
        return BUFFER if self._scratch is not None and int(size) == AUTOTUNE else size

    def parallelism(self, value: Any) -> Any:
        """``num_parallel_calls`` to use for one that is given."""
        return self._parallel if self._parallel is not None and int(value) == AUTOTUNE else value

    def place(self, given: str) -> str:
        """A cache's own file where it is filled already; else one below the scratch folder."""
        return given if finished_on_disk(given) else self.folder(given)

    def folder(self, given: Any) -> Any:
        """A place of its own below the scratch folder."""
        return given if self._scratch is None else os.path.join(tempfile.mkdtemp(dir=self._scratch), "data")


def traced_function(dataset: Any, attribute: str) -> Any:
    """A dataset's function as TensorFlow has traced it, by the attribute that holds it."""
    function = getattr(dataset, attribute).function
    return getattr(function, "without_clock", function)  # all have one in a process that is watched as a whole


def finished_on_disk(cache: str) -> bool:
    """Whether a cache's file is there, and whole: TensorFlow writes its index last."""
    return bool(cache) and os.path.exists(cache + ".index")


def _ops() -> tuple[Any, Any]:
    from tensorflow.python.ops import gen_dataset_ops, gen_experimental_dataset_ops

    return gen_dataset_ops, gen_experimental_dataset_ops


def _operation(
    name: str, *attributes: str, function: str = "", argument: str = "f", experimental: bool = False, **defaults: Any
) -> Callable[..., Any]:
    """An operation of one input, whose arguments a dataset keeps in attributes of the same names.

    Args:
        name: of the operation.
        attributes: its arguments.
        function: the attribute of the function that it calls, if any.
        argument: what takes that function.
        experimental: whether it is one of TensorFlow's experimental operations.
        defaults: arguments whose attribute not every dataset has, and what then stands for it.
    """

    def make(builder: Builder, d: Any, v: list[Any]) -> Any:
        given = {attribute: getattr(d, f"_{attribute}") for attribute in attributes}
        given |= {attribute: getattr(d, f"_{attribute}", default) for attribute, default in defaults.items()}
        if "num_parallel_calls" in given:
            given["num_parallel_calls"] = builder.parallelism(given["num_parallel_calls"])
        if function:
            f = builder.function(d, f"_{function}")
            given |= {"other_arguments": f.captured_inputs, argument: f}
        return getattr(_ops()[experimental], name)(v[0], **given, **d._common_args)

    return make


def _padded_batch(_: Builder, d: Any, v: list[Any]) -> Any:
    from tensorflow.python.data.util import nest, structure

    return _ops()[0].padded_batch_dataset_v2(
        v[0],
        batch_size=d._batch_size,
        padded_shapes=nest.flatten(d._padded_shapes),
        padding_values=nest.flatten(d._padding_values),
        drop_remainder=d._drop_remainder,
        output_shapes=structure.get_flat_tensor_shapes(d._structure),
        metadata=d._metadata.SerializeToString(),
    )


def _ragged(builder: Builder, d: Any, v: list[Any]) -> Any:
    return _MAKERS[type(d._mapped_dataset).__name__](builder, d._mapped_dataset, v)


def _sparse_batch(_: Builder, d: Any, v: list[Any]) -> Any:
    shape = tf.constant([-1 if n is None else n for n in tf.TensorShape(d._row_shape).as_list()], tf.int64)
    return _ops()[1].dense_to_sparse_batch_dataset(v[0], d._batch_size, row_shape=shape, **d._flat_structure)


def _shuffle(builder: Builder, d: Any, v: list[Any]) -> Any:
    return _ops()[0].shuffle_dataset_v3(
        v[0],
        buffer_size=d._buffer_size,
        seed=d._seed,
        seed2=d._seed2,
        seed_generator=builder.state(d, _ops()[0].dummy_seed_generator),
        reshuffle_each_iteration=True if d._reshuffle_each_iteration is None else d._reshuffle_each_iteration,
        **d._common_args,
    )


def _cache(builder: Builder, d: Any, v: list[Any]) -> Any:
    given = d._filename.numpy().decode()
    return _ops()[0].cache_dataset_v2(
        v[0],
        filename=builder.place(given) if given else "",
        cache=builder.state(d, _ops()[0].dummy_memory_cache),
        **d._common_args,
    )


def _snapshot(builder: Builder, d: Any, v: list[Any]) -> Any:
    read, shard = builder.function(d, "_reader_func"), builder.function(d, "_shard_func")
    return _ops()[1].snapshot_dataset_v2(
        v[0],
        builder.folder(d._path),
        read.captured_inputs,
        shard.captured_inputs,
        compression=d._compression,
        reader_func=read,
        shard_func=shard,
        **d._common_args,
    )


def _prefetch(builder: Builder, d: Any, v: list[Any]) -> Any:
    size = builder.buffered(d._buffer_size)
    return _ops()[0].prefetch_dataset(
        v[0], buffer_size=size, slack_period=None, legacy_autotune=int(size) == AUTOTUNE, **d._common_args
    )


def _scan(builder: Builder, d: Any, v: list[Any]) -> Any:
    from tensorflow.python.data.util import structure

    f = builder.function(d, "_scan_func")
    state = structure.to_tensor_list(d._state_structure, d._initial_state)
    return _ops()[1].scan_dataset(v[0], state, f.captured_inputs, f=f, preserve_cardinality=True, **d._common_args)


def _group_by_window(builder: Builder, d: Any, v: list[Any]) -> Any:
    key, reduce, size = (builder.function(d, f"_{name}_func") for name in ("key", "reduce", "window_size"))
    return _ops()[1].group_by_window_dataset(
        v[0],
        key.captured_inputs,
        reduce.captured_inputs,
        size.captured_inputs,
        key_func=key,
        reduce_func=reduce,
        window_size_func=size,
        **d._common_args,
    )


def _options(_: Builder, d: Any, v: list[Any]) -> Any:
    return _ops()[0].options_dataset(v[0], d.options()._to_proto().SerializeToString(), **d._common_args)


def _choose(_: Builder, d: Any, v: list[Any]) -> Any:
    return _ops()[1].directed_interleave_dataset(
        v[0], v[1:], stop_on_empty_dataset=d._stop_on_empty_dataset, **d._flat_structure
    )


def _random(_: Builder, d: Any, v: list[Any]) -> Any:
    if not d._rerandomize:
        return _ops()[1].random_dataset(seed=d._seed, seed2=d._seed2, **d._common_args)
    return _ops()[1].random_dataset_v2(
        seed=d._seed,
        seed2=d._seed2,
        seed_generator=_ops()[0].dummy_seed_generator(),
        rerandomize_each_iteration=True,
        **d._common_args,
    )


_INTERLEAVING = ("cycle_length", "block_length", "buffer_output_elements", "prefetch_input_elements")
_MAKERS: dict[str, Callable[[Builder, Any, list[Any]], Any]] = {
    "_AssertCardinalityDataset": lambda _, d, v: _ops()[1].assert_cardinality_dataset(
        v[0], d._expected_cardinality, **d._flat_structure
    ),
    "_BatchDataset": _operation("batch_dataset_v2", "batch_size", "drop_remainder"),
    "_ParallelBatchDataset": _operation(
        "parallel_batch_dataset", "batch_size", "num_parallel_calls", "drop_remainder", "deterministic"
    ),
    "CacheDataset": _cache,
    "_ConcatenateDataset": lambda _, d, v: _ops()[0].concatenate_dataset(v[0], v[1], **d._common_args),
    "_DenseToRaggedDataset": _ragged,
    "_DenseToSparseBatchDataset": _sparse_batch,
    "_DirectedInterleaveDataset": _choose,
    "_FilterDataset": _operation("filter_dataset", function="predicate", argument="predicate"),
    "_FlatMapDataset": _operation("flat_map_dataset", function="map_func"),
    "_GroupByWindowDataset": _group_by_window,
    "_IgnoreErrorsDataset": lambda _, d, v: _ops()[1].ignore_errors_dataset(v[0], **d._flat_structure),
    "_InterleaveDataset": _operation("interleave_dataset", "cycle_length", "block_length", function="map_func"),
    "_MapDataset": _operation(
        "map_dataset", "use_inter_op_parallelism", "preserve_cardinality", function="map_func", force_synchronous=False
    ),
    "_OptionsDataset": _options,
    "_PaddedBatchDataset": _padded_batch,
    "_ParallelInterleaveDataset": _operation(
        "parallel_interleave_dataset_v4",
        *_INTERLEAVING,
        "num_parallel_calls",
        function="map_func",
        deterministic="default",
    ),
    "ParallelInterleaveDataset": _operation(
        "legacy_parallel_interleave_dataset_v2", *_INTERLEAVING, "deterministic", function="map_func", experimental=True
    ),
    "_ParallelMapDataset": _operation(
        "parallel_map_dataset_v2",
        "num_parallel_calls",
        "deterministic",
        "use_inter_op_parallelism",
        "preserve_cardinality",
        function="map_func",
        use_unbounded_threadpool=False,
    ),
    "_PrefetchDataset": _prefetch,
    "_RandomDataset": _random,
    "RandomDatasetV2": _random,
    "_RepeatDataset": _operation("repeat_dataset", "count"),
    "_RestructuredDataset": lambda _, d, v: v[0],
    "_ScanDataset": _scan,
    "_ShardDataset": _operation("shard_dataset", "num_shards", "index"),
    "_ShuffleDataset": _shuffle,
    "_SkipDataset": _operation("skip_dataset", "count"),
    "_SnapshotDataset": _snapshot,
    "_TakeDataset": _operation("take_dataset", "count"),
    "_TakeWhileDataset": _operation(
        "take_while_dataset", function="predicate", argument="predicate", experimental=True
    ),
    "_UniqueDataset": _operation("unique_dataset", experimental=True),
    "_WindowDataset": _operation("window_dataset", "size", "shift", "stride", "drop_remainder"),
    "_ZipDataset": lambda _, d, v: _ops()[0].zip_dataset(v, **d._common_args),
}
"""How TensorFlow 2.21 makes each of its datasets, by class."""
