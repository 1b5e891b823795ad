"""What is asked of a backend is a property of it: outside its own room nothing is decided by its name.

Seen are comparisons, ``match``, subscripts, and calls that look a name up, of a literal or of a constant of a module
(``TF_DATA``, or a tuple that holds it). Not seen: a variable that was given a name before (``at = TF_DATA``), one
built from parts, a constant that is imported under another name, a place in a list of names (``BACKENDS[0]``), a table
keyed by names, and what an argument decides.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import greenload
from greenload.backends.registry import BACKENDS

ROOM = Path(greenload.__file__).parent
LOOK_UPS = frozenset(("startswith", "endswith", "index", "count", "get", "pop", "remove", "find"))
"""Methods whose result depends on what they are given."""
NO_BACKEND = frozenset(("DALI_NODE",))
"""Constants that are spelt as a backend is and name something else: a kind of node in a graph of tf.data's."""
ALLOWED = {
    "cli/doctor.py": "doctor's line of Pillow",
}
"""Modules with a look-up by name that decides nothing, and which: none but these."""


def sources() -> Mapping[str, ast.Module]:
    """All modules of the package, by path."""
    files = {str(path.relative_to(ROOM)): path for path in sorted(ROOM.rglob("*.py"))}
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in files.items()}


def constants(trees: Collection[ast.Module]) -> frozenset[str]:
    """The names of modules' constants whose value is a backend's name, or lists one."""
    found = set()
    for tree in trees:
        for statement in tree.body:
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
            if value is not None and any(_is_name(part, ()) for part in _parts(value)):
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(found - NO_BACKEND)


def decided(tree: ast.AST, named: Collection[str] = ()) -> Iterator[int]:
    """The lines on which something is compared with a backend's name, or looked up by one.

    Args:
        tree: of a module.
        named: the constants that stand for backends' names.
    """
    for node in ast.walk(tree):
        operands: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            operands = [node.value]
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            operands = [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOOK_UPS:
            operands = node.args
        if any(_is_name(part, named) for operand in operands for part in _parts(operand)):
            yield operands[0].lineno


def _is_name(part: ast.AST, named: Collection[str]) -> bool:
    if isinstance(part, ast.Constant):
        return part.value in BACKENDS
    return (part.id if isinstance(part, ast.Name) else getattr(part, "attr", None)) in named


def _parts(operand: ast.AST) -> Iterator[ast.AST]:
    """An operand, or what it lists."""
    yield operand
    for element in getattr(operand, "elts", ()):
        yield from _parts(element)


def test_nothing_is_decided_by_the_name_of_a_backend_outside_backends() -> None:
    trees = sources()
    named = constants(trees.values())
    assert "TF_DATA" in named
    found = {
        name: lines
        for name, tree in trees.items()
        if not name.startswith("backends/") and (lines := list(decided(tree, named)))
    }
    assert {name: len(lines) for name, lines in found.items()} == dict.fromkeys(ALLOWED, 1), found


def test_every_way_to_decide_is_seen() -> None:
    named = constants([ast.parse("HOST = 'tf'\nTHOSE: tuple[str, ...] = ('dali', 'dali-cpu')\nDALI_NODE = 'dali'")])
    assert named == {"HOST", "THOSE"}
    for text in (
        "step.backend == 'tf'",
        "'dali' in plan.backends",
        "backend in ('tf', 'auto')",
        "(name, kind) != ('pillow', 'WebP')",
        "names == ('tf',)",
        "match name:\n    case 'dali-cpu':\n        pass",
        "step.backend != HOST",
        "step.backend == steps.HOST",
        "name in THOSE",
        "match name:\n    case steps.HOST:\n        pass",
        "backend.startswith('dali')",
        "names.index(HOST)",
        "rates.get('pillow', 1.0)",
        "TABLES[HOST].kinds",
    ):
        assert list(decided(ast.parse(text), named)), text
    for text in (
        "def load(backend='tf'):\n    pass",
        "rates = {'tf': 1.0}",
        "place(step, 'pillow')",
        "Segment(HOST, steps)",
        "rates[HOST] = 1.0",
        "node.kind == DALI_NODE",
    ):
        assert not list(decided(ast.parse(text), named)), text
