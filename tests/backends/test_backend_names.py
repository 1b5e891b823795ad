"""What is asked of a backend is a property of it: outside its own room nobody compares its name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import greenload
from greenload.backends import BACKENDS

ROOM = Path(greenload.__file__).parent


def compared(tree: ast.AST) -> Iterator[int]:
    """The lines on which something is compared with a backend's name, or looked for among such names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            operands = [node.value]
        else:
            continue
        constants = (part for operand in operands for part in _parts(operand) if isinstance(part, ast.Constant))
        if any(constant.value in BACKENDS for constant in constants):
            yield node.lineno if isinstance(node, ast.Compare) else node.value.lineno


def _parts(operand: ast.AST) -> Iterator[ast.AST]:
    """An operand, or what it lists."""
    yield operand
    for element in getattr(operand, "elts", ()):
        yield from _parts(element)


def test_no_name_of_a_backend_is_compared_outside_backends() -> None:
    found = [
        f"{path.relative_to(ROOM)}:{line}"
        for path in sorted(ROOM.rglob("*.py"))
        if path.relative_to(ROOM).parts[0] != "backends"
        for line in compared(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_every_way_to_compare_is_seen() -> None:
    for text in (
        "step.backend == 'tf'",
        "'dali' in plan.backends",
        "backend in ('tf', 'auto')",
        "(name, kind) != ('pillow', 'WebP')",
        "names == ('tf',)",
        "match name:\n    case 'dali-cpu':\n        pass",
    ):
        assert list(compared(ast.parse(text))), text
    for text in ("def load(backend='tf'):\n    pass", "rates = {'tf': 1.0}", "place(step, 'pillow')"):
        assert not list(compared(ast.parse(text))), text
