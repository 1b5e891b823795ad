"""A dataset as a tree of nodes: what each one is, who wrote it, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from greenload.profiling.tfdata.names import function_file, user_function

DALI_NODE = "dali"
"""The kind of a dataset of DALI's."""
BATCHING = frozenset({"batch", "padded_batch", "dense_to_sparse_batch"})
"""Kinds that put elements together."""
GROUPING = BATCHING | {"group_by_window", "rebatch", "window", "dense_to_ragged"}
"""Kinds behind which a cache would keep which samples are together."""
JOINS = frozenset({"zip", "concatenate", "choose"})
"""Kinds with several inputs, each a branch of its own."""
NESTING = frozenset({"flat_map", "interleave"})
"""Kinds whose function gives a dataset."""
STORES = frozenset({"cache", "snapshot"})
"""Kinds that make what is before them unnecessary, once they are full."""
FILE_READERS = frozenset({"tfrecords", "text_lines", "fixed_length_records", "csv"})
"""Kinds that read files; the names of the files are their input."""
PASSIVE = frozenset(
    {"options", "restructure", "repeat", "take", "skip", "shard", "assert_cardinality", "enumerate", "watched", *JOINS}
)
"""Kinds that only pass elements on: they have no row."""
_FUNCTIONS = ("_map_func", "_predicate", "_scan_func", "_reduce_func", "_shard_func")


@dataclass(frozen=True, eq=False)
class Node:
    """One dataset of a chain. Compared by identity: the same dataset in two branches is two nodes."""

    dataset: Any
    """TensorFlow's object; None for a node inside an interleave's function."""
    kind: str
    """What `walk` calls it: ``"map"``, ``"from_generator"``, ``"selector"``; else the class's own name."""
    inputs: tuple[Node, ...] = ()
    name: str = ""
    """Its own, unique in its graph."""
    where: str = ""
    """``"train.py:31"``, where the user wrote its function; the user's call where a library's function does it."""
    file: str = ""
    """Whole path of that file."""
    call: str = ""
    """What the user called that made it, with the place: ``"rejection_resample train.py:12"``, or with a number where
    that isn't known: ``"list_files 1"``; empty for a method of the node's own kind, as ``map`` for a map."""
    branch: str = ""
    """``"zip 2"``, ``"interleave"``; several joined by `` / ``."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    hidden: bool = False
    """Has no row: it passes elements on, or is part of another row."""
    known: bool = True
    """Whether greenload can build it again on another input."""
    inner: Any = None
    """For a node inside an interleave's function: the `inner_graph.Inner` that can build it."""
    looked: tuple[Node, ...] = ()
    """For an interleave: the chain inside its function, its source first; empty where that can't be seen."""
    row: str = ""
    """The name of the row that it is part of: that of the call where one call made several nodes."""

    @property
    def element_spec(self) -> Any:
        """The structure of its elements."""
        return self.dataset.element_spec if self.inner is None else self.inner.element_spec

    @property
    def function(self) -> Any:
        """The user's function as tf.data wraps it; None for kinds without one."""
        return function_wrapper(self.dataset)

    def nodes(self) -> Iterator[Node]:
        """All nodes up to this one, inputs first; those inside an interleave's function before it."""
        for before in self.inputs:
            yield from before.nodes()
        yield from self.looked
        yield self

    def to_dict(self) -> dict[str, Any]:
        """The node as data, without its inputs."""
        data: dict[str, Any] = {"kind": self.kind, "name": self.name}
        data |= {key: value for key in ("where", "branch") if (value := getattr(self, key))}
        return data | {"parameters": dict(self.parameters), "element_spec": str(self.element_spec)}


def function_wrapper(dataset: Any) -> Any:
    """tf.data's wrapper of a dataset's function; None where it has none."""
    if type(dataset).__name__ == "_DenseToRaggedDataset":
        dataset = dataset._mapped_dataset
    return next((function for name in _FUNCTIONS if (function := getattr(dataset, name, None)) is not None), None)


def function_wrappers(dataset: Any) -> list[Any]:
    """All of tf.data's wrappers of functions that a dataset has: grouping has three, a snapshot two."""
    held = [*vars(dataset).values(), *vars(file_reader(dataset)).values()]
    if (mapped := getattr(dataset, "_mapped_dataset", None)) is not None:
        held += vars(mapped).values()
    return [value for value in held if hasattr(value, "_func") and hasattr(value, "function")]


def without_adapter(dataset: Any) -> Any:
    """The dataset below TensorFlow 1's adapter."""
    while hasattr(dataset, "_dataset") and type(dataset).__name__.endswith(("Adapter", "V1")):
        dataset = dataset._dataset
    return dataset


def file_reader(dataset: Any) -> Any:
    """What reads a reader's files: readers are a ``flat_map`` over the names of files, kept in ``_impl``."""
    return getattr(dataset, "_impl", dataset)


def endless_repeat(node: Node) -> bool:
    """Whether a node repeats without an end."""
    return node.kind == "repeat" and node.parameters.get("count", -1) < 0


def generator_of(dataset: Any) -> Any:
    """The user's generator, if the dataset is what ``from_generator`` gives: it hides in closures."""
    function = dataset._map_func._func
    if "from_generator_op" not in function_file(function):
        return None
    seen = [function]
    for held in seen:  # grows while it is read
        for cell in getattr(held, "__closure__", None) or ():
            value = cell.cell_contents
            if hasattr(value, "_generator"):
                return user_function(value._generator)
            if callable(value) and value not in seen and len(seen) < 50:
                seen.append(value)
    return function
