"""Changes to a dataset that leave its elements as they are: each finds its place in a tree, and gives a changed tree.

No change has a figure of its own. Each is run beside the dataset as it is, and elements are compared, before it is
taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from greenload.optimization.dataset_crops import crops, crops_while_decoding
from greenload.optimization.dataset_functions import (
    Rewrite,
    cast_later,
    casts_before_resizing,
    reversed_axis,
    reversing,
    shape_of_bytes,
    traced,
)
from greenload.optimization.dataset_nodes import (
    Made,
    TreeBuilder,
    edited,
    functions_of,
    lines,
    made_node,
    names_of,
    on_inputs,
    running,
)
from greenload.optimization.dataset_nodes import mapped_made as mapped
from greenload.profiling.tfdata.counting import Flow
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.rebuild import AUTOTUNE
from greenload.profiling.tfdata.remarks import call_text
from greenload.system.frameworks import tf

PREFETCHED = 2
"""Elements that are prepared ahead where the user left their number to TensorFlow."""


@dataclass(frozen=True)
class Facts:
    """What is known of a dataset that is to be changed, and what it may use."""

    root: Node
    flows: Mapping[str, Flow]
    """By a node's name."""
    epoch_samples: float | None
    """Samples in an epoch; None where that isn't known."""
    epochs: int
    ram: float
    """Bytes that may be held between epochs."""
    threads: int
    drawn: frozenset[str]
    """Nodes that draw from Python's or NumPy's random while they are traced."""
    shared: frozenset[str]
    """Nodes whose dataset stands in two places."""
    free_order: bool
    """Whether the dataset promises no order: it runs in parallel with ``deterministic=False``."""


@dataclass(frozen=True)
class Change:
    """One change."""

    key: str
    """Unique among the changes of a dataset."""
    title: str
    detail: str
    """What to write in one's code."""
    apply: Callable[[Node], Node | None]
    """The changed tree; None where a tree has no place for it."""
    ram_bytes: float = 0.0
    """What it holds between epochs."""
    instead: str = ""
    """Alternatives have one name here: where one is taken, the others are not tried."""


Finder = Callable[[Node, Facts], Iterator[Change]]


def at(name: str, edit: Callable[[Node], Node | None]) -> Callable[[Node], Node | None]:
    """A change of the node of a name.

    Args:
        name: of the node.
        edit: gives what stands in its place.
    """

    def apply(root: Node) -> Node | None:
        found: list[Node] = []

        def one(node: Node) -> Node | None:
            if node.name != name or found or node.kind == "selector":
                return None
            other = edit(node)
            found.extend([node] if other is not None else [])
            return other

        changed = edited(root, one)
        return changed if found else None

    return apply


def bounded_threads(root: Node, facts: Facts) -> Iterator[Change]:
    """No autotuning, a pool of few threads, numbers where it said AUTOTUNE.

    The operations of small functions wake a thread each, which costs more than they do: of one thread none is woken.
    """
    given = facts.root.dataset.options()
    if given.autotune.enabled is False and given.threading.private_threadpool_size:
        return
    for threads in dict.fromkeys((facts.threads, 1)):
        yield Change(
            f"threads: {threads}",
            f"Bound tf.data's threads to {threads}",
            f"set options.autotune.enabled = False, options.threading.private_threadpool_size = {threads} and"
            f" options.threading.max_intra_op_parallelism = 1; write {threads} for AUTOTUNE as num_parallel_calls, and"
            f" prefetch({PREFETCHED}) for prefetch(AUTOTUNE)",
            partial(_bounded, threads=threads),
            instead="threads",
        )


def _bounded(root: Node, threads: int) -> Node:
    """A tree that runs on so many threads."""
    bounded = tf.data.Options()
    bounded.threading.private_threadpool_size = threads
    bounded.threading.max_intra_op_parallelism = 1
    bounded.autotune.enabled = False
    numbered = edited_all(root, partial(_numbered, threads=threads))
    text = "with_options(options)"
    made = Made(
        lambda _, inputs: inputs[0].with_options(bounded), root.element_spec, text, arguments={"threads": threads}
    )
    return made_node("options", "options (threads)", [numbered], made)


def edited_all(root: Node, edit: Callable[[Node], Node | None]) -> Node:
    """A tree in which every node, on its edited inputs, was given to ``edit``."""
    inputs = tuple(edited_all(before, edit) for before in root.inputs)
    same = all(a is b for a, b in zip(inputs, root.inputs, strict=True))
    node = root if same else on_inputs(root, *inputs)
    other = edit(node)
    return node if other is None else other


def _numbered(node: Node, threads: int) -> Node | None:
    """A node with a number for AUTOTUNE; None where it has none."""
    if node.kind == "map" and node.parameters.get("num_parallel_calls") == AUTOTUNE and functions_of(node):
        return mapped(node, functions_of(node), num_parallel_calls=threads)
    if node.kind == "prefetch" and node.inner is None and node.parameters.get("buffer_size") == AUTOTUNE:
        made = Made(
            lambda _, inputs: inputs[0].prefetch(PREFETCHED), node.element_spec, f"prefetch({PREFETCHED})", "a number"
        )
        return made_node("prefetch", node.name, node.inputs, made, node)
    return None


def one_prefetch(root: Node, facts: Facts) -> Iterator[Change]:
    """Only the last prefetch: each hands every element from thread to thread."""
    line = lines(root)[0]
    held = [node for node in running(root) if node.kind == "prefetch" and not node.hidden and node.inner is None]
    last = next((node for node in reversed(line) if node.kind not in ("options", "repeat")), None)
    surplus = [node for node in held if node is not last and node.name not in facts.shared]
    if not surplus:
        return
    names = {node.name for node in surplus}

    def apply(tree: Node) -> Node | None:
        return edited_all(tree, lambda node: node.inputs[0] if node.kind == "prefetch" and node.name in names else None)

    yield Change(
        "prefetch",
        "Prefetch at the end only",
        f"leave out prefetch behind {', '.join(call_text(node.inputs[0]) for node in surplus)}",
        apply,
    )


def synchronous(root: Node, facts: Facts) -> Iterator[Change]:
    """Maps in the thread that asks for their elements: two hand-overs fewer an element, but one at a time."""
    maps = [node for node in running(root) if node.kind == "map" and functions_of(node) and node.inputs]
    serial = [node for node in maps if "num_parallel_calls" not in node.parameters and not _is_synchronous(node)]
    for key, chosen in (("serial", serial), ("all", [node for node in maps if not _is_synchronous(node)])):
        if not chosen or (key == "all" and len(chosen) == len(serial)):
            continue
        names = {node.name for node in chosen}

        yield Change(
            f"synchronous: {key}",
            "Run maps in the thread that asks" if key == "serial" else "Run all maps in the thread that asks",
            f"pass synchronous=True, and no num_parallel_calls, to {_calls(chosen)}",
            partial(edited_all, edit=partial(_made_synchronous, names=frozenset(names))),
        )


def _made_synchronous(node: Node, names: frozenset[str]) -> Node | None:
    if node.name not in names or node.kind != "map" or not functions_of(node):
        return None
    return mapped(node, functions_of(node), synchronous=True)


def _is_synchronous(node: Node) -> bool:
    return isinstance(node.inner, Made) and "synchronous=True" in node.inner.text


def _calls(nodes: Sequence[Node]) -> str:
    return ", ".join(dict.fromkeys(call_text(node) for node in nodes if not node.hidden)) or "the maps"


def fused_maps(root: Node, facts: Facts) -> Iterator[Change]:
    """Maps that follow each other as one."""
    for node in running(root):
        before = node.inputs[0] if node.kind == "map" and node.inputs else None
        if before is None or before.kind != "map" or not functions_of(node) or not functions_of(before):
            continue
        if {node.name, before.name} & facts.shared:
            continue

        def edit(later: Node, first: str = before.name) -> Node | None:
            inner = later.inputs[0]
            if inner.name != first or not functions_of(inner) or not functions_of(later):
                return None
            given = dict(getattr(later.inner, "arguments", None) or _arguments(later))
            given = given or dict(getattr(inner.inner, "arguments", None) or _arguments(inner))
            both = functions_of(inner) + functions_of(later)
            return mapped(later, both, inner.inputs, names=names_of(inner) + names_of(later), **given)

        yield Change(
            f"fuse: {node.name}",
            f"Make one map of {before.row} and {node.row}",
            f"call {before.row} and {node.row} from one function in one map at {node.where or before.where}",
            at(node.name, edit),
        )


def _arguments(node: Node) -> dict[str, Any]:
    calls = node.parameters.get("num_parallel_calls")
    return {} if calls is None else {"num_parallel_calls": calls}


def rewritten(root: Node, facts: Facts) -> Iterator[Change]:
    """Functions whose operations can be done otherwise, to the same numbers."""
    for node in running(root):
        for key, title, detail, rewrites in _rewrites(node):
            edit = partial(_played_otherwise, rewrites=rewrites, why=title)
            yield Change(f"{key}: {node.name}", title, f"in {call_text(node)} {detail}", at(node.name, edit))


def _played_otherwise(node: Node, rewrites: Callable[[Any], Sequence[Rewrite]], why: str) -> Node | None:
    played = tuple((wrapper, (*rewrites(traced(wrapper)), *own)) for wrapper, own in functions_of(node))
    given = dict(getattr(node.inner, "arguments", None) or _arguments(node))
    return mapped(node, played, why=why, **given) if played else None


_Found = tuple[str, str, str, Callable[[Any], Sequence[Rewrite]]]


def _rewrites(node: Node) -> Iterator[_Found]:
    graphs = [traced(wrapper).graph.get_operations() for wrapper, _ in functions_of(node)]
    if any(True for wrapper, _ in functions_of(node) for _ in crops(traced(wrapper))):
        detail = (
            "use tf.io.decode_and_crop_jpeg with the crop's window, one pixel more on each side within the image, and"
            " slice that pixel off: the chroma of its first and last columns needs it; decode what isn't a whole JPEG"
            " as now"
        )
        yield "crop", f"Decode only what {node.row} crops", detail, crops_while_decoding
    if any(casts_before_resizing(operation) for graph in graphs for operation in graph):
        detail = "leave out the tf.cast to float32 before tf.image.resize: it takes uint8, and gives the same floats"
        yield "cast", f"Resize bytes in {node.row}", detail, lambda _: (cast_later, shape_of_bytes)
    if any(reversing(operation) is not None for graph in graphs for operation in graph):
        detail = "write tf.reverse(x, [axis]) for a slice with a step of -1"
        yield "reverse", f"Reverse whole rows in {node.row}", detail, lambda _: (reversed_axis,)


def again(node: Node) -> Callable[[TreeBuilder, Sequence[Any]], Any] | None:
    """Builds a node that only orders or counts elements on elements of another structure; None for other nodes."""
    from greenload.optimization.dataset_nodes import shuffled

    given = node.dataset
    if isinstance(node.inner, Made) and node.inner.again:
        return node.inner.make
    if node.inner is not None:
        return None
    if node.kind == "shuffle":
        return lambda builder, inputs: shuffled(node, inputs[0], builder)
    if node.kind == "prefetch":
        return lambda builder, inputs: inputs[0].prefetch(builder.buffered(given._buffer_size))
    if node.kind in ("take", "skip", "repeat"):
        return lambda _, inputs: getattr(inputs[0], node.kind)(given._count)
    if node.kind == "shard":
        return lambda _, inputs: inputs[0].shard(given._num_shards, given._index)
    if node.kind == "options":
        return lambda _, inputs: inputs[0].with_options(given.options())
    return None
