"""A changed dataset as tf.data code that its user can read."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from typing import Any

from greenload.optimization.dataset_nodes import Made
from greenload.profiling.tfdata.graph import Node

_INDENT = "    "


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
        return f"{node.kind}({', '.join(part for part in (str(size), drop) if part)})"
    if node.kind in ("take", "skip", "repeat"):
        count = given.get("count", "")
        return f"{node.kind}({'' if node.kind == 'repeat' and count in (-1, '') else count})"
    if node.kind == "prefetch":
        return f"prefetch({_number(given.get('buffer_size', ''))})"
    if node.kind == "window":
        parts = [str(given.get("size", "")), *(_said(key, given.get(key)) for key in ("shift", "stride"))]
        return f"window({', '.join(part for part in parts if part)})"
    return f"{node.kind}()"


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
    said = [f'{_INDENT}"""{heading[0]}', "", *(f"{_INDENT}{line}".rstrip() for line in heading[1:])]
    said += ["", f"{_INDENT}Args:", *(f"{_INDENT * 2}{name}: {text}" for name, text in writer.arguments.items())]
    lines = [f"def improved({arguments}):", *said, f'{_INDENT}"""', *(f"{_INDENT}{line}" for line in writer.lines)]
    return "\n".join(["import tensorflow as tf", "", "", *lines, f"{_INDENT}return {last}", ""])


class _Writer:
    """Writes a tree as statements.

    Args:
        before: the user's tree, whose untouched parts become arguments.
    """

    def __init__(self, before: Node) -> None:
        self._own = {id(node) for node in before.nodes()}
        self.lines: list[str] = []
        self.arguments: dict[str, str] = {}

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
            name = branches[0] if node.kind == "concatenate" else "joined"
            made = {
                "zip": f"tf.data.Dataset.zip(({', '.join(branches)}))",
                "concatenate": f"{branches[0]}.concatenate({', '.join(branches[1:])})",
            }.get(node.kind, f"{node.kind}({', '.join(branches)})")
            self.lines.append(f"{name} = {made}")
            return name
        number = sum(1 for line in self.lines if line.startswith("rows")) + 1
        name = "rows" if not any(line.startswith("rows = ") for line in self.lines) else f"rows_{number}"
        if not self.arguments:
            self.arguments["x"] = "the arrays, each of as many rows; of several, gather from each its own"
        self.lines.append(f"{name} = {call(node)}")
        return name

    def _call(self, name: str, node: Node) -> None:
        if node.kind == "options" and not isinstance(node.inner, Made):
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
