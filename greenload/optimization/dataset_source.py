"""A changed dataset as tf.data code that its user can read."""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from greenload.optimization.dataset_nodes import Made
from greenload.profiling.tfdata.graph import Node
from greenload.system.frameworks import tf

_INDENT = "    "
_WIDTH = 100
"""Characters of a docstring's line, about."""


def call(node: Node) -> str:
    """A node as a call of a method of ``tf.data.Dataset``: ``"batch(32)"``.

    Example:
        >>> call(node)
        'shuffle(1000, seed=7)'
    """
    if isinstance(node.inner, Made):
        return node.inner.text
    given = node.parameters
    name = node.row or node.name
    calls = _said("num_parallel_calls", given.get("num_parallel_calls"))
    if node.kind in ("map", "filter", "flat_map", "interleave"):
        cycle = _said("cycle_length", given.get("cycle_length"))
        return f"{node.kind}({', '.join(part for part in (name, cycle, calls) if part)})"
    if node.kind == "shuffle":
        seed = int(node.dataset._seed2) if node.dataset is not None and int(node.dataset._seed2) else None
        once = "reshuffle_each_iteration=False" if given.get("reshuffle_each_iteration") is False else ""
        return f"shuffle({', '.join(p for p in (str(given.get('buffer_size', '')), _said('seed', seed), once) if p)})"
    if node.kind in ("batch", "padded_batch"):
        size = given.get("batch_size", getattr(node.dataset, "_batch_size", ""))
        size = int(size) if hasattr(size, "__int__") else size
        drop = "drop_remainder=True" if given.get("drop_remainder") else ""
        padding = _padding(node.dataset) if node.kind == "padded_batch" and node.dataset is not None else []
        return f"{node.kind}({', '.join(part for part in (str(size), *padding, drop) if part)})"
    if node.kind == "shard" and node.dataset is not None:
        return f"shard({int(node.dataset._num_shards)}, {int(node.dataset._index)})"
    if node.kind == "cache" and given.get("filename"):
        return f"cache({given['filename']!r})"
    if node.kind == "options":
        return "with_options(options)"
    if node.kind in ("take", "skip", "repeat"):
        count = given.get("count", "")
        return f"{node.kind}({'' if node.kind == 'repeat' and count in (-1, '') else count})"
    if node.kind == "prefetch":
        return f"prefetch({_number(given.get('buffer_size', ''))})"
    if node.kind == "window":
        parts = [str(given.get("size", "")), *(_said(key, given.get(key)) for key in ("shift", "stride"))]
        return f"window({', '.join(part for part in parts if part)})"
    return f"{node.kind}()"


def _padding(padded: Any) -> list[str]:
    """The shapes to which a batch is padded, and what it is padded with where that isn't zero."""
    sizes = [
        [None if size == -1 else size for size in shape.numpy().tolist()]
        for shape in tf.nest.flatten(padded._padded_shapes)
    ]
    values = [value.numpy() for value in tf.nest.flatten(padded._padding_values)]
    said = [f"padded_shapes={tf.nest.pack_sequence_as(padded._padded_shapes, sizes)!r}"]
    if any(values):
        plain = [value if isinstance(value, bytes) else value.item() for value in values]
        said.append(f"padding_values={tf.nest.pack_sequence_as(padded._padding_values, plain)!r}")
    return said


def _number(value: Any) -> str:
    return "tf.data.AUTOTUNE" if value == -1 else str(value)


def _said(name: str, value: Any) -> str:
    return "" if value is None else f"{name}={_number(value)}"


def source_text(before: Node, after: Node, heading: Sequence[str]) -> str:
    """A function ``improved(dataset)`` as text: from the last node that no change touches to the end.

    Args:
        before: the user's tree.
        after: the changed one.
        heading: lines that say what was changed, and how that was checked.
    """
    writer = _Writer(before)
    last = writer.written(after)
    arguments = ", ".join(writer.arguments)
    told = [
        heading[0],
        "",
        *heading[1:],
        "",
        "Args:",
        *(f"    {name}: {text}" for name, text in writer.arguments.items()),
    ]
    said = [f"{_INDENT}{line}".rstrip() for text in told for line in _lines(text)]
    said[0] = f'{_INDENT}"""{said[0].lstrip()}'
    lines = [f"def improved({arguments}):", *said, f'{_INDENT}"""', *(f"{_INDENT}{line}" for line in writer.lines)]
    return "\n".join(["import tensorflow as tf", "", "", *lines, f"{_INDENT}return {last}", ""])


def _lines(text: str) -> list[str]:
    """Lines of a docstring, broken between words."""
    plain = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    behind = " " * (2 * (len(text) - len(text.lstrip())) if text[:1] == " " else 2 * text.startswith("- "))
    return textwrap.wrap(plain, _WIDTH, subsequent_indent=behind, break_long_words=False, break_on_hyphens=False) or [
        ""
    ]


class _Writer:
    """Writes a tree as statements.

    Args:
        before: the user's tree, whose untouched parts become arguments.
    """

    def __init__(self, before: Node) -> None:
        self._own = {id(node) for node in before.nodes()}
        self.lines: list[str] = []
        self.arguments: dict[str, str] = {}
        self._arrays: dict[str, str] = {}  # by the variable that fetches their rows
        self._used: dict[str, int] = {}

    def written(self, root: Node) -> str:
        """Write the statements of a tree; gives the variable that holds the dataset."""
        line = [root]
        while id(line[-1]) not in self._own and len(line[-1].inputs) == 1:
            line.append(line[-1].inputs[0])
        start, *rest = line[::-1]
        name = self._start(start)
        for node in rest:
            self._call(name, node)
        return name

    def _start(self, node: Node) -> str:
        """The variable that holds what a line of nodes begins with."""
        if id(node) in self._own:
            name = "dataset" if not self.arguments else f"dataset_{len(self.arguments) + 1}"
            self.arguments[name] = f"what you have up to {_place(node)}"
            return name
        if node.inputs:
            branches = [self.written(before) for before in node.inputs]
            name = branches[0] if node.kind == "concatenate" else self._unused("joined")
            made = {
                "zip": f"tf.data.Dataset.zip(({', '.join(branches)}))",
                "concatenate": f"{branches[0]}.concatenate({', '.join(branches[1:])})",
            }.get(node.kind, f"{node.kind}({', '.join(branches)})")
            self.lines.append(f"{name} = {made}")
            return name
        name, arrays = self._unused("rows"), "x" if "x" not in self.arguments else f"x_{len(self.arguments) + 1}"
        self.arguments[arrays] = "the arrays, in the structure in which from_tensor_slices has them"
        self._arrays[name] = arrays
        self.lines += [f"{arrays} = tf.nest.map_structure(tf.convert_to_tensor, {arrays})", f"{name} = {call(node)}"]
        return name

    def _unused(self, name: str) -> str:
        """A variable that no statement has yet: ``rows``, ``rows_2``."""
        self._used[name] = number = self._used.get(name, 0) + 1
        return f"{name}_{number}" if number > 1 else name

    def _call(self, name: str, node: Node) -> None:
        if node.kind == "options" and not isinstance(node.inner, Made):
            place = f" at {node.where}" if node.where else ""
            options = "your_options" if "your_options" not in self.arguments else f"your_options_{len(self.arguments)}"
            self.arguments[options] = f"the tf.data.Options that you set{place}"
            self.lines.append(f"{name} = {name}.with_options({options})")
            return
        if isinstance(node.inner, Made) and "with_options" in node.inner.text:
            self.lines += [
                "options = tf.data.Options()",
                "options.autotune.enabled = False",
                f"options.threading.private_threadpool_size = {node.inner.arguments['threads']}",
                "options.threading.max_intra_op_parallelism = 1",
                f"{name} = {name}.with_options(options)",
            ]
            return
        why = node.inner.why if isinstance(node.inner, Made) else ""
        told = "; ".join(part for part in (why, node.where if not node.call else "") if part)
        text = readable(call(node))
        if node.kind == "fetch":
            text = text.replace("rows), x)", f"rows), {self._arrays.get(name, 'x')})")
        self.lines.append(f"{name} = {name}.{text}" + (f"  # {told}" if told else ""))


def _place(node: Node) -> str:
    where = f" at {node.where}" if node.where else ""
    text = f"{node.call.partition(' ')[0]}" if node.call else call(node)
    return f".{text}{where}"


def readable(text: str) -> str:
    """A call whose function has no name that Python takes, with one in words: ``map(to_sequence__2)``."""
    match = re.match(r"(\w+)\((?!lambda)([^,()=]+)(.*)$", text, re.DOTALL)
    if match is None or match[1] not in ("map", "filter", "flat_map", "interleave", "window"):
        return text
    name = match[2].strip()
    if name.isidentifier() or name.isdigit() or re.fullmatch(r"[\w.]+", name):
        return text if not keyword.iskeyword(name) else f"{match[1]}({name}_{match[3]}"
    words = re.sub(r"[^0-9a-zA-Z]+", "_", name).strip("_")
    return f"{match[1]}({words if words.isidentifier() and not keyword.iskeyword(words) else 'function'}{match[3]}"
