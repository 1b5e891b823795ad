"""Trees of datasets as changes leave them: nodes that no user wrote, and what builds them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from greenload.optimization.dataset_calls import composed
from greenload.optimization.dataset_functions import Played, Rewrite, mapped_again, rewritable, seeds_fixed, traced
from greenload.profiling.tfdata.functions import operations, operations_of
from greenload.profiling.tfdata.graph import STORES, Node
from greenload.profiling.tfdata.rebuild import Builder, Functions
from greenload.system.frameworks import tf

Make = Callable[["TreeBuilder", Sequence["tf.data.Dataset"]], "tf.data.Dataset"]
"""Builds a node on its rebuilt inputs."""


@dataclass(frozen=True, eq=False)
class Made:
    """What stands in `Node.inner` of a node that a change made.

    Args:
        make: builds it.
        element_spec: the structure of its elements.
        text: as one writes it in tf.data: ``"map(parse, num_parallel_calls=2)"``.
        why: in a few words, for a comment beside it.
        functions: of a map, in their order.
        names: of these functions.
        arguments: of the map, beside its function.
        again: whether it only orders or counts elements, and so can stand on others.
    """

    make: Make
    element_spec: Any
    text: str
    why: str = ""
    functions: tuple[Played, ...] = ()
    names: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    again: bool = False

    def on(self, node: Node, inputs: Sequence[tf.data.Dataset], builder: TreeBuilder) -> tf.data.Dataset:
        """The node on other inputs."""
        return self.make(builder, inputs)


class TreeBuilder(Builder):
    """Builds trees with nodes that changes made.

    Args:
        scratch: as of `Builder`.
        serial: one call at a time everywhere, and draws with a seed where the user gave none, so that what is equal
            gives equal elements.
        functions: as of `Builder`.
        cut: by a source's name, how many of its elements there are; None for all.
    """

    def __init__(
        self,
        scratch: str | None,
        *,
        serial: bool = False,
        functions: Functions | None = None,
        cut: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(scratch, None, functions)
        self.serial = serial
        self.rewrites: tuple[Rewrite, ...] = (seeds_fixed,) if serial else ()
        """Rewrites of every function that is played again, beside its own."""
        self._cut = cut or {}

    def on(self, node: Node, inputs: Sequence[tf.data.Dataset]) -> tf.data.Dataset:
        """A node on other inputs."""
        if isinstance(node.inner, Made):
            built = node.inner.on(node, inputs, self)
        elif self.serial and node.kind == "shuffle" and node.inner is None:
            built = shuffled(node, inputs[0], self)
        elif self.serial and node.kind == "map" and node.inner is None and draws_without_seed(node):
            built = mapped_again(inputs[0], [(node.function, ())], self.rewrites)
        else:
            built = super().on(node, inputs)
        return built.take(self._cut[node.name]) if not node.inputs and node.name in self._cut else built

    def parallelism(self, value: Any) -> Any:
        """``num_parallel_calls`` to use for one that is given."""
        return tf.constant(1, tf.int64) if self.serial else super().parallelism(value)


def made_node(kind: str, name: str, inputs: Sequence[Node], made: Made, like: Node | None = None) -> Node:
    """A node that a change made.

    Args:
        kind: as of `Node`.
        name: unique in the tree.
        inputs: what it stands on.
        made: builds it.
        like: the user's node whose place in the program it has.
    """
    placed: dict[str, Any] = (
        {} if like is None else {"where": like.where, "file": like.file, "branch": like.branch, "row": like.row}
    )
    return Node(None, kind, tuple(inputs), name, inner=made, **placed)


def mapped_made(
    node: Node,
    functions: tuple[Played, ...],
    inputs: Sequence[Node] | None = None,
    *,
    names: tuple[str, ...] = (),
    why: str = "",
    **arguments: Any,
) -> Node:
    """A map in a user's map's place.

    Args:
        node: the user's map, or what stands for it already.
        functions: what it runs, in their order.
        inputs: what it stands on; None for what it stands on now.
        names: of the functions, where they aren't the node's own.
        why: for a comment beside it.
        **arguments: of ``Dataset.map``.
    """

    def make(builder: TreeBuilder, given: Sequence[tf.data.Dataset]) -> tf.data.Dataset:
        chosen = {} if builder.serial else arguments
        return mapped_again(given[0], functions, builder.rewrites, **chosen)

    names = names or names_of(node)
    called = composed(names, [wrapper for wrapper, _ in functions])
    said = ", ".join([called, *(f"{key}={value}" for key, value in arguments.items())])
    kept = getattr(node.inner, "why", "")
    made = Made(
        make,
        node.element_spec,
        f"map({said})",
        "; ".join(dict.fromkeys(filter(None, (kept, why)))),
        functions,
        names,
        arguments,
    )
    return made_node("map", node.name, node.inputs if inputs is None else inputs, made, node)


def names_of(node: Node) -> tuple[str, ...]:
    """The names of a map's functions, one each."""
    return getattr(node.inner, "names", ()) or (node.row or node.name,)


def functions_of(node: Node) -> tuple[Played, ...]:
    """The functions of a map, the first one's first; empty where they can't be played again."""
    if isinstance(node.inner, Made):
        return node.inner.functions
    if node.kind != "map" or node.inner is not None or not rewritable(traced(node.function)):
        return ()
    return ((node.function, ()),)


def node_operations(node: Node) -> list[Any]:
    """``NodeDef`` of every operation in a node's functions."""
    if isinstance(node.inner, Made):
        return [one for wrapper, _ in node.inner.functions for one in operations_of(traced(wrapper))]
    return list(operations(node))


def replaced(root: Node, target: Node, other: Node) -> Node:
    """A tree with another node in the place of one."""
    return edited(root, lambda node: other if node is target else None)


def edited(root: Node, edit: Callable[[Node], Node | None]) -> Node:
    """A tree whose nodes are given to ``edit`` from the end on: what it gives stands in their place, as it is."""
    made = edit(root)
    if made is not None:
        return made
    inputs = tuple(edited(before, edit) for before in root.inputs)
    return root if all(a is b for a, b in zip(inputs, root.inputs, strict=True)) else replace(root, inputs=inputs)


def on_inputs(node: Node, *inputs: Node) -> Node:
    """A node on other inputs."""
    return replace(node, inputs=tuple(inputs))


def lines(root: Node) -> list[list[Node]]:
    """The parts of a tree in which each node has one input, from their sources to their ends; the main one first.

    What is before a cache runs in the first epoch only: a line begins with its last cache.

    Example:
        A zip of two sources, mapped: ``[[zip, map], [source], [source]]``.
    """
    line = [root]
    while len(line[-1].inputs) == 1 and line[-1].kind not in STORES:
        line.append(line[-1].inputs[0])
    inputs = () if line[-1].kind in STORES else line[-1].inputs
    branches = [part for before in inputs for part in lines(before)]
    return [line[::-1], *branches]


def running(root: Node) -> list[Node]:
    """The nodes that run in every epoch: not those before a cache."""
    return [node for line in lines(root)[::-1] for node in line]


def shared_nodes(root: Node) -> frozenset[str]:
    """The names of nodes whose dataset stands in two places: no change touches them, or what is before them."""
    seen: dict[int, int] = {}
    for node in root.nodes():
        if node.dataset is not None:
            seen[id(node.dataset)] = seen.get(id(node.dataset), 0) + 1
    return frozenset(node.name for node in root.nodes() if seen.get(id(node.dataset), 0) > 1)


def draws_without_seed(node: Node) -> bool:
    """Whether a node's function draws numbers that are others in every process."""
    seeded = (one.attr for one in node_operations(node) if "seed2" in one.attr)
    return any(not attributes["seed"].i and not attributes["seed2"].i for attributes in seeded)


def shuffled(node: Node, dataset: Any, builder: TreeBuilder) -> Any:
    """A shuffle of the user's over other elements, in the same order of as many: of the same seed and buffer.

    Args:
        node: the user's shuffle.
        dataset: what is shuffled.
        builder: where it runs one call at a time, one without a seed gets its name's.
    """
    from tensorflow.python.ops import gen_dataset_ops

    given = node.dataset
    seed, seed2 = given._seed, given._seed2
    if builder.serial and not int(seed) and not int(seed2):
        number = int.from_bytes(hashlib.sha256(node.name.encode()).digest()[:4], "little")
        seed, seed2 = (tf.constant(value, tf.int64) for value in (number, 1))
    variant = gen_dataset_ops.shuffle_dataset_v3(
        dataset._variant_tensor,
        buffer_size=given._buffer_size,
        seed=seed,
        seed2=seed2,
        seed_generator=gen_dataset_ops.dummy_seed_generator(),
        reshuffle_each_iteration=given._reshuffle_each_iteration is not False,
        **dataset._flat_structure,
    )
    return tf.data.experimental.from_variant(variant, dataset.element_spec)


def promises_no_order(root: Node) -> bool:
    """Whether a dataset runs in parallel and lets elements overtake each other."""
    free = root.dataset.options().deterministic is False
    parallel = [node for node in root.nodes() if "num_parallel_calls" in node.parameters]
    own = [getattr(node.dataset, "_deterministic", "default") for node in parallel]
    return any(one == "false" or (free and one == "default") for one in own)
