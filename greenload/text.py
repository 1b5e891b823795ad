"""Text on its way to people: no name in a message can move a cursor, hide what follows, or fail to be encoded."""

from __future__ import annotations

import codecs
import itertools
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SPELT = "greenload.spelt"
"""For ``errors=`` of a text stream: what its encoding lacks is spelt in ASCII, or escaped."""
_ASCII = {"±": "+-", "−": "-", "–": "-", "×": "x", "…": "...", "→": "->", "₂": "2", "²": "2", "µ": "u"}
"""Signs of figures and formulas."""
_UNBOUNDED = 100_000
_PIECES = re.compile(r"[^/\\\\_:=|]+[/\\\\_:=|]*|[/\\\\_:=|]+")
"""Where a word that is wider than the terminal may be broken: behind these signs, which no figure holds."""


def printable(text: object) -> str:
    """The text in one line, with whatever could move a cursor, or can't be encoded, as a visible escape.

    Escaped are control characters (ESC, BEL, CR, LF, those of C1), marks that turn the direction of writing, and lone
    surrogates, which stand for bytes of a file name that aren't UTF-8. Text that is printable stays as it is, so
    escaping twice changes nothing.

    Example:
        >>> print(printable("a\\x1b[2J"))
        a\\x1b[2J
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)


def screen_width() -> int:
    """Columns of the terminal that standard output is; without bound where it is none, since a file has no edge.

    The environment's ``COLUMNS`` overrules both.
    """
    import shutil  # takes as long to import as all else here

    return shutil.get_terminal_size((_UNBOUNDED, 24)).columns


def breaks(text: str, width: int) -> list[int]:
    """The offsets at which a text goes on in a new line: between words; only what is wider than a line is broken.

    Args:
        text: in one line.
        width: columns; a character may take two.
    """
    from rich.cells import cell_len

    found, at, used = [], 0, 0
    for piece in _pieces(text, width):
        if used and used + cell_len(piece.rstrip()) > width:
            found.append(at)
            used = 0
        at += len(piece)
        used += cell_len(piece)
    return found


def _pieces(text: str, width: int) -> Iterator[str]:
    """What stays together: words with the blanks behind them, and parts of words that are too wide."""
    from rich.cells import cell_len, chop_cells

    for word in re.findall(r"\s*\S+\s*", text):
        if cell_len(word.strip()) <= width:
            yield word
            continue
        for part in _PIECES.findall(word):
            yield from chop_cells(part, width) if cell_len(part.strip()) > width else (part,)


def wrapped(text: str, width: int) -> str:
    """A line as lines of so many columns (see `breaks`)."""
    edges = [0, *breaks(text, width), len(text)]
    return "\n".join(text[begin:end].rstrip() for begin, end in itertools.pairwise(edges))


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    return "".join(_ASCII.get(char) or char.encode("ascii", "backslashreplace").decode() for char in part), error.end


codecs.register_error(SPELT, _spell)
