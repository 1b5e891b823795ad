"""Cells of a page's table that a head sorts: what they show, and the value that they are sorted by."""

from __future__ import annotations

from greenload.energy.figures import Figure
from greenload.text import amount


def figure_cell(figure: Figure) -> dict[str, str]:
    """A figure, underlined where it is modelled; its interval is what hovering says."""
    known = figure.low is not None and figure.value is not None
    return {
        "value": repr(float(figure.value)) if figure.value is not None else "",
        "text": amount(figure, resolve=False),
        "kind": "modelled-cell" if known and figure.provenance != "measured" else "",
        "hint": f"{figure.low:.4g} to {figure.high:.4g}" if known else "not measured",
    }


def text_cell(text: str, value: float | str | None = None, kind: str = "") -> dict[str, str]:
    """A text.

    Args:
        text: what is shown.
        value: what it is sorted by; the text where it is None.
        kind: class of its style; ``"role"`` for words, which begin at the left.
    """
    return {"value": text if value is None else str(value), "text": text, "kind": kind, "hint": ""}
