"""Text for people: names that can't steer a terminal, lines that fit it, numbers cut to the digits they support."""

from __future__ import annotations

import codecs
import itertools
import math
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Interval(Protocol):
        """A value with its 95 % interval; None where there is none. A `greenload.energy.figures.Figure` is one."""

        @property
        def value(self) -> float | None: ...
        @property
        def low(self) -> float | None: ...
        @property
        def high(self) -> float | None: ...
        @property
        def half_width(self) -> float | None: ...
        @property
        def unresolved(self) -> bool: ...


DASH = "–"
"""Stands for a figure that doesn't exist; never for zero."""
SPELT = "greenload.spelt"
"""For ``errors=`` of a text stream: what its encoding lacks is spelt in ASCII, or escaped."""
_ASCII = {"±": "+-", "−": "-", "–": "-", "×": "x", "…": "...", "→": "->", "₂": "2", "²": "2", "µ": "u"}
"""Signs of figures and formulas."""
_UNBOUNDED = 100_000
_PIECES = re.compile(r"[^/\\\\_:=|]+[/\\\\_:=|]*|[/\\\\_:=|]+")
"""Where a word that is wider than the terminal may be broken: behind these signs, which no figure holds."""


def printable(text: object) -> str:
    """The text in one line, with every character that could move a cursor, or can't be encoded, as a visible escape.

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


def one_line(text: object, most: int = 200) -> str:
    """The text, such as an error's, with every run of blanks and line ends as one blank; its first characters.

    Args:
        text: anything; its ``str``.
        most: characters that are kept.
    """
    return " ".join(str(text).split())[:most]


def shortened(text: str, most: int) -> str:
    """The text; of a longer one, its beginning and an ellipsis.

    Example:
        >>> shortened("randaugment: profiling", 12)
        'randaugment…'
    """
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def error_line(error: BaseException) -> str:
    """An error that isn't greenload's, in one line: ``"KeyError: 'x'"``."""
    return f"{type(error).__name__}: {one_line(error)}"


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

    offsets, offset, used = [], 0, 0
    for piece in _pieces(text, width):
        if used and used + cell_len(piece.rstrip()) > width:
            offsets.append(offset)
            used = 0
        offset += len(piece)
        used += cell_len(piece)
    return offsets


def _pieces(text: str, width: int) -> Iterator[str]:
    """Pieces that aren't broken: words with the blanks behind them, and parts of words that are too wide."""
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


def rounded_figure(figure: Interval) -> tuple[str, str] | None:
    """Value and half-width as text, cut where the interval stops supporting digits; None for a missing figure.

    The half-width keeps two digits where they are 10 to 35, else one, and the value ends at the same digit (the
    Particle Data Group's rule). Without an interval three significant digits are kept, and the half-width is empty.

    Example:
        >>> rounded_figure(Figure(0.93241, 0.90911, 0.95571, "measured"))
        ('0.932', '0.023')
    """
    if figure.value is None or figure.half_width is None:
        return None
    half = figure.half_width
    if half <= max(abs(figure.value), 1.0) * 1e-12:
        lead = abs(figure.value)
        return (_fixed(figure.value, 2 - math.floor(math.log10(lead)) if lead else 0), "")
    exponent = math.floor(math.log10(half))
    digits = 1 if half / 10.0**exponent <= 3.55 else 0
    places = digits - exponent
    return _fixed(figure.value, places), _fixed(half, places)


def _fixed(value: float, places: int) -> str:
    places = min(places, 12)
    text = f"{round(value, places):,.{max(places, 0)}f}"
    return text.lstrip("-") if not text.strip("-0.,") else text.replace("-", "−")


def amount(figure: Interval | None, *, resolve: bool = True) -> str:
    """A figure for people: ``"0.932 ±0.023"``, ``"unresolved"``, or a dash where there is none.

    Args:
        figure: what to show.
        resolve: whether an unresolved figure is called that; what is left over is shown as a number either way.
    """
    parts = rounded_figure(figure) if figure is not None else None
    if figure is None or parts is None:
        return DASH
    if figure.unresolved and resolve:
        return "unresolved"
    return f"{parts[0]} ±{parts[1]}" if parts[1] else parts[0]


def call_count(figure: Interval | None) -> str:
    """A number of calls in three digits: ``"2"``, ``"0.00391"``; 0 if its interval holds zero, a dash if missing."""
    if figure is None or figure.value is None or figure.low is None or figure.high is None:
        return DASH
    return "0" if figure.low <= 0 <= figure.high else f"{figure.value:.3g}".replace("-", "−")


def number_text(value: float) -> str:
    """A number in four digits, never as a power of ten: ``"12,190"``, ``"0.1234"``.

    Example:
        >>> number_text(12190.4), number_text(1.47)
        ('12,190', '1.47')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def percent(share: float | None, *, fine: bool = False) -> str:
    """A share as per cents, ``"31 %"``; a dash where there is none.

    Args:
        share: 0.31 for 31 %.
        fine: two digits below 10 %, ``"2.5 %"``; else whole per cents.
    """
    if share is None or not math.isfinite(share * 100):
        return DASH
    digits = ".2g" if fine and abs(share) < 0.1 else ".0f"
    return f"{share * 100:{digits}} %".replace("-0 %", "0 %").replace("-", "−")


def more_text(more: float, *interval: float) -> str:
    """How much more something is than another thing, which is to follow: ``"31 % more than"``, ``"4.2 times
    as much as"``.

    Args:
        more: relative: 0.31 for 31 %. From twice as much on it is said as a factor.
        interval: its bounds, if they are to be said: ``"31 % (20 % to 45 %) more than"``.
    """
    times = more >= 1

    def one(share: float) -> str:
        return f"{1 + share:.2g}" if times else percent(share, fine=not interval)

    bounds = f" ({one(interval[0])} to {one(interval[1])})" if interval else ""
    return f"{one(more)} times{bounds} as much as" if times else f"{one(more)}{bounds} more than"


def bytes_text(count: float) -> str:
    """Bytes with a decimal unit: ``"82.1 kB"``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" or abs(count) >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("the last unit always returns")


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    return "".join(_ASCII.get(char) or char.encode("ascii", "backslashreplace").decode() for char in part), error.end


codecs.register_error(SPELT, _spell)
