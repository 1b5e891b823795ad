"""Draws which room of the package imports which, into `docs/architecture.md`: `make tables`.

Rooms and floors come from the import contract in pyproject.toml, arrows from the imports in the files. An arrow that
follows from two others is left out.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "greenload"
FILE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: written by make tables -->\n", "<!-- rooms end -->"


def floors() -> list[list[str]]:
    """Each floor's rooms and files, the highest floor first, as the contract in pyproject.toml has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [re.findall(r"\w+", layer) for layer in layers]


def imported(room: str) -> set[str]:
    """What of the package a room's files import, also inside functions: names at its top level."""
    found: set[str] = set()
    for file in sorted((PACKAGE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            found |= set(_names(node))
    return found


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module == "greenload":
        modules = [f"greenload.{alias.name}" for alias in node.names]
    else:
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    for module in modules:
        package, _, rest = module.partition(".")
        if package == "greenload" and rest:
            yield rest.partition(".")[0]


def arrows(levels: list[list[str]]) -> list[tuple[str, str]]:
    """Which room imports which room below it, less what follows from other arrows."""
    level = {room: number for number, rooms in enumerate(levels) for room in rooms if (PACKAGE / room).is_dir()}
    below = {room: {other for other in imported(room) & level.keys() if level[other] > level[room]} for room in level}

    def reached(room: str) -> set[str]:
        return below[room].union(*(reached(other) for other in below[room]))

    return [
        (room, other)
        for room in level
        for other in sorted(below[room], key=list(level).index)
        if not any(other in reached(between) for between in below[room])
    ]


def diagram() -> str:
    """The picture, as a Mermaid diagram."""
    levels = floors()[:-1]  # everything imports the ground
    lines = ["```mermaid", "flowchart TD"]
    for number, rooms in enumerate(levels):
        named = [room for room in rooms if (PACKAGE / room).is_dir()]
        lines.append(f"  subgraph floor{len(levels) + 1 - number} [floor {len(levels) + 1 - number}]")
        lines += [f"    {room}" for room in named]
        lines.append("  end")
    lines += [f"  {room} --> {other}" for room, other in arrows(levels)]
    return "\n".join([*lines, "```", ""])


def text() -> str:
    """The page with the picture that is true now."""
    before, rest = FILE.read_text(encoding="utf-8").split(BEGIN)
    return before + BEGIN + diagram() + END + rest.split(END, 1)[1]


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
