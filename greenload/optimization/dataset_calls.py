"""Functions of maps as Python that runs: their names, one called on what another gives, rows of a batch at once."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any


def function_text(name: str) -> str:
    """A function's name as an expression; where Python takes none of that name, in words: ``to_sequence_2``.

    Example:
        >>> function_text("parse"), function_text("lambda x: x + 1"), function_text("to sequence #2")
        ('parse', '(lambda x: x + 1)', 'to_sequence_2')
    """
    try:
        expression: ast.expr | None = ast.parse(name.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        expression = None
    if isinstance(expression, ast.Lambda):
        return f"({name.strip()})"
    if isinstance(expression, ast.Name | ast.Attribute):
        return name.strip()
    words = re.sub(r"[^0-9a-zA-Z]+", "_", name).strip("_")
    return words if words.isidentifier() and words not in ("lambda", "None", "True", "False") else "function"


def composed(names: Sequence[str], wrappers: Sequence[Any]) -> str:
    """Functions as one that calls the first one first.

    Args:
        names: of the functions.
        wrappers: tf.data's of the functions, which know whether they take a tuple's parts.

    Example:
        >>> composed(["parse", "scale"], wrappers)  # parse takes a tensor, scale an image and a label
        'lambda element: scale(*parse(element))'
    """
    if len(names) == 1:
        text = function_text(names[0])
        return text[1:-1] if text.startswith("(") else text
    text = "element"
    for name, wrapper in zip(names, wrappers, strict=True):
        text = f"{function_text(name)}({_star(wrapper)}{text})"
    return f"lambda {_star(wrappers[0])}element: {text}"


def mapped_text(names: Sequence[str], wrappers: Sequence[Any], each: bool = False) -> str:
    """Maps one after the other, behind the dot: ``"map(f).map(g)"``.

    Args:
        names: of their functions.
        wrappers: tf.data's of these.
        each: whether they run on every row of a batch, all rows at once.
    """
    if not each:
        return ".".join(f"map({composed([name], [wrapper])})" for name, wrapper in zip(names, wrappers, strict=True))
    texts = []
    for name, wrapper in zip(names, wrappers, strict=True):
        function = function_text(name)
        on_row = f"lambda row: {function}(*row)" if _star(wrapper) else function
        texts.append(f"map(lambda {_star(wrapper)}batch: tf.vectorized_map({on_row}, batch))")
    return ".".join(texts)


def dense_text(wrapper: Any) -> str:
    """A map that makes tensors of the ragged ones that a function gives for a batch."""
    star = "*" if type(wrapper.output_structure) is tuple else ""
    made = "part.to_tensor() if isinstance(part, tf.RaggedTensor) else part"
    return f"map(lambda {star}batch: tf.nest.map_structure(lambda part: {made}, batch))"


def _star(wrapper: Any) -> str:
    return "*" if type(wrapper._input_structure) is tuple else ""
