"""Lays out tables and sentences for any width: what has no room goes into a further table; no figure is cut."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from greenload.text import breaks

_LONGEST_WORD = 24
"""Columns up to which a word of a name isn't broken for another column's sake."""
_SHORTEST_NAME = 8
"""Columns that a name keeps where not even one figure has room beside it."""
_PROSE = 72
"""Columns of a sentence in a table that has all the room there is."""


@dataclass(frozen=True)
class Line:
    """One line of a table."""

    cells: tuple[str | Text, ...]
    """The name, then a figure for each column; none for a heading."""
    style: str = ""
    end_section: bool = False
    """Whether a rule follows."""


@dataclass(frozen=True)
class FigureTable:
    """A table of names and their figures. Figures that have no room stand in further tables, each with the names.

    Example:
        >>> rich.print(FigureTable("step", ("CPU ms", "cpu mJ"), [Line(("Decode", "0.84 ±0.02", "12.5"))]))
    """

    name: str
    """Head of the names."""
    figures: Sequence[str]
    """Heads of the figures, of one or several lines."""
    lines: Sequence[Line]
    left: frozenset[str] = frozenset()
    """Those that are words: they start at the left, and may be broken."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        names = [str(line.cells[0]) for line in self.lines]
        longest = max(_longest_word(text) for text in (self.name, *names))
        whole = max(_widest_line(text) for text in (self.name, *names))
        for number, columns in enumerate(self._tables(console, options, min(longest, _LONGEST_WORD))):
            if number:
                yield ""
            rest = self._rest(console, options, columns)
            width = min(whole, max(options.max_width - rest, min(longest, _SHORTEST_NAME)))
            wide = options.update(width=max(options.max_width, width + rest))  # a narrower terminal wraps lines itself
            yield from console.render(self._table(columns, width), wide)

    def _tables(self, console: Console, options: ConsoleOptions, name: int) -> list[range]:
        """Which figures stand in each table: as many as have room, at least one."""
        tables, begin = [], 0
        while begin < len(self.figures):
            end = begin + 1
            while end < len(self.figures):
                if name + self._rest(console, options, range(begin, end + 1)) > options.max_width:
                    break
                end += 1
            tables.append(range(begin, end))
            begin = end
        return tables or [range(0)]

    def _rest(self, console: Console, options: ConsoleOptions, columns: range) -> int:
        """Columns of the terminal that a table takes beside its names."""
        free = options.update(width=100_000)
        return Measurement.get(console, free, self._table(columns, 1)).maximum - 1

    def _table(self, columns: range, name: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)
        table.add_column(self.name, overflow="fold", width=name)
        for index in columns:
            head = self.figures[index]
            if head in self.left:
                table.add_column(head, overflow="fold", max_width=_LONGEST_WORD)
            else:
                table.add_column(head, justify="right", no_wrap=True)
        for line in self.lines:
            figures = [line.cells[1 + index] for index in columns] if len(line.cells) > 1 else []
            cells = (cell if isinstance(cell, Text) else Text(cell) for cell in (line.cells[0], *figures))
            table.add_row(*cells, style=line.style, end_section=line.end_section)
        return table


@dataclass(frozen=True)
class Facts:
    """Sentences side by side, a row for each thing; one below the other where their words have no room.

    Example:
        >>> rich.print(Facts(("", "found"), [(Text("yes"), "meter cpu: readable")]))
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str | Text]]
    named: int = 1
    """How many of the first columns name the thing: they stand in one line if the others don't fit."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = [[head, *(str(row[index]) for row in self.rows)] for index, head in enumerate(self.heads)]
        least = [max(map(_longest_word, column)) for column in columns]
        widest = [max(map(_widest_line, column)) for column in columns]
        gap = 2
        room = options.max_width - gap * (len(columns) - 1)
        if sum(least) > room:
            yield from self._stacked()
            return
        most = [min(wide, max(word, _PROSE)) for word, wide in zip(least, widest, strict=True)]
        table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False)
        for head, width in zip(self.heads, _shared(least, most, room), strict=True):
            table.add_column(head, width=width)
        for row in self.rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
        yield table

    def _stacked(self) -> RenderResult:
        for row in self.rows:
            named = [cell if isinstance(cell, Text) else Text(cell) for cell in row[: self.named]]
            yield Sentence(Text(" ").join(named))
            for head, cell in zip(self.heads[self.named :], row[self.named :], strict=True):
                if str(cell):
                    yield Sentence(Text.assemble(f"{head}: ", cell), indent=2)


@dataclass(frozen=True)
class Sentence:
    """A sentence broken between words, so that no figure in it is cut; what has no room at all is broken at signs."""

    text: str | Text
    style: str = ""
    indent: int = 0
    """Columns before each of its lines."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = self.text if isinstance(self.text, Text) else Text(self.text)
        for line in text.divide(breaks(text.plain, max(options.max_width - self.indent, _SHORTEST_NAME))):
            line.rstrip()
            shown = Text(" " * self.indent, self.style, overflow="ignore", no_wrap=True)
            yield shown.append_text(line)


def plain_text(shown: RenderableType, width: int) -> str:
    """What is shown as plain text, ``width`` columns wide, without colour."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(shown, crop=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=1)


def _widest_line(text: str) -> int:
    return max(map(cell_len, text.splitlines()), default=1)


def _shared(least: Sequence[int], most: Sequence[int], room: int) -> list[int]:
    """Widths between least and most that use the room: the narrowest columns get what they want first."""
    widths = list(least)
    left = room - sum(least)
    wanting = sorted(range(len(least)), key=lambda index: most[index] - least[index])
    for rank, index in enumerate(wanting):
        more = min(most[index] - least[index], left // (len(wanting) - rank))
        widths[index] += more
        left -= more
    return widths
