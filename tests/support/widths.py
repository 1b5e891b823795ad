"""What must hold of everything that is shown, whatever the terminal's width."""

from __future__ import annotations

from collections.abc import Callable

from rich.cells import cell_len

WIDTHS = (40, 60, 80, 100, 120)


def figures(shown: str) -> set[str]:
    """Every word that holds a digit."""
    return {word for word in shown.split() if any(char.isdigit() for char in word)}


def assert_figures_are_whole(show: Callable[[int], str]) -> None:
    """Every figure of the widest form is whole in the others, none of which is wider than it may be."""
    wide = show(200)
    assert figures(wide)
    for width in WIDTHS:
        shown = show(width)
        lost = {word for word in figures(wide) - figures(shown) if cell_len(word) <= width}
        assert not lost, f"at {width} columns:\n{shown}"
        assert max(map(cell_len, shown.splitlines())) <= width, shown
        assert "…" not in shown.replace("… and", "").replace("[", "")
