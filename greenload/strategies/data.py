"""`Comparison`: what strategies cost and what they score, as frozen data with the JSON's own shape."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greenload.errors import ReportError, UsageError
from greenload.public import public
from greenload.report.record import json_fields, load_record, save_json, save_page, typed_fields
from greenload.report.validation import COMPARE_SCHEMA, validate
from greenload.strategies.records import Compared
from greenload.text import screen_width

if TYPE_CHECKING:
    from rich.console import RenderableType


@public
@dataclass(frozen=True, kw_only=True)
class Comparison(Compared):
    """Strategies side by side: what each costs, what it scores, and which to choose. ``print(choice)`` shows a table.

    Example:
        >>> choice = Comparison.load("compare.json")
        >>> choice.recommended, choice.pareto
        ('trivial', ('plain', 'trivial'))
    """

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON data, valid by `COMPARE_SCHEMA`."""
        return {"schema": COMPARE_SCHEMA} | json_fields(self, Comparison)

    @classmethod
    def from_dict(cls, data: Any) -> Comparison:
        """The inverse of `to_dict`.

        Raises:
            ReportError: the data isn't a comparison of this version; names the value that breaks a rule.
        """
        validate(data, COMPARE_SCHEMA)
        meters = [{"remedy": "", "meter": ""} | meter for meter in data["meters"]]
        try:
            return cls(**typed_fields(cls, {**data, "meters": meters}))
        except UsageError as error:
            raise ReportError(f"a comparison's figures must make sense: {error}; compare again") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the comparison as JSON: all of it, or the file stays as it was.

        Raises:
            ReportError: the file can't be written.
        """
        save_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Comparison:
        """Read a comparison that `save` wrote, or that `gl.compare` keeps in ``out``, also while it runs.

        Raises:
            ReportError: the file can't be read, isn't JSON, or isn't a comparison of this version; names the file.
        """
        return load_record(path, cls.from_dict)

    def html(self) -> str:
        """The comparison as one self-contained page: the Pareto chart, a card for each strategy, a table.

        Raises:
            ReportError: jinja2 is missing.
        """
        from greenload.strategies.page import comparison_html  # rarely needed, and imports the report's pages

        return comparison_html(self)

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page: all of it, or the file stays as it was.

        Raises:
            ReportError: the file can't be written, or jinja2 is missing.
        """
        save_page(path, self.html())

    def render(self) -> RenderableType:
        """The comparison as a table for a rich console."""
        from greenload.strategies.table import render_comparison  # rich takes long to import

        return render_comparison(self)

    def __str__(self) -> str:
        from greenload.report.columns import plain_text  # rich takes long to import

        return plain_text(self.render(), screen_width())
