"""Two comparisons of strategies as a table for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from greenload.report.columns import FigureTable, Line, Sentence
from greenload.report.terminal import render_differences
from greenload.strategies.changes import Changes, change_cells, change_name, notes
from greenload.text import printable


def render_changes(changed: Changes) -> RenderableType:
    """Two comparisons for a rich console: how machine and settings differ, then each strategy's figures.

    Example:
        >>> rich.print(render_changes(changes(Comparison.load("before.json"), Comparison.load("after.json"))))
    """
    shown: list[RenderableType] = []
    for letter, side in (("A", changed.a), ("B", changed.b)):
        shown.append(
            Sentence(Text.assemble((f"{letter}  {printable(side.created)}", "bold"), ": ", printable(side.reason)))
        )
    if changed.machines:
        unlike = "Not the same machine or versions: differences below may be theirs, not the strategies'"
        shown += [Sentence(unlike, "bold red"), render_differences(changed.machines)]
    if changed.settings:
        shown.append(render_differences(changed.settings))
    lines = []
    for each in changed.strategies:
        fate = f" (only in {each.only})" if each.only else ""
        lines.append(Line((Text(f"{printable(each.strategy)}{fate}", style="bold"),)))
        for number, change in enumerate(each.changes, 1):
            lines.append(
                Line((f"  {change_name(change)}", *change_cells(change)), end_section=number == len(each.changes))
            )
    heads = ("A", "B", "B − A", "B / A (95 %)", "B is")
    shown.append(FigureTable("strategy", heads, lines, left=frozenset({"B is"})))
    return Group(
        *shown, *(Sentence(note, "dim") for note in ("unclear: the interval of B − A holds zero", *notes(changed)))
    )
