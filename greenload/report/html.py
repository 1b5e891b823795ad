"""A report, or two, as one self-contained page: nothing is fetched, everything that came from outside is escaped."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

from greenload.errors import ReportError
from greenload.report.comparison import compare
from greenload.report.comparison_page import comparison_values
from greenload.report.data import Report
from greenload.report.page import page_values
from greenload.text import printable


def html(report: Report, other: Report | None = None) -> str:
    """The page: headline, cost per step, what to change first, the plan, power over time, the check, the table.

    Bars are solid where measured and hatched where modelled. CPU seconds come first unless a counter measures the
    processor's joules. Charts are drawn by the page's style alone; its script only answers hovering and arrow keys.

    Args:
        report: what to show.
        other: another report to hold against it: the page is then `compare_html`'s.

    Returns:
        HTML of some 50 kB: in light and dark, on telephones and on paper.

    Raises:
        ReportError: jinja2 is missing.

    Example:
        >>> pathlib.Path("report.html").write_text(html(report), encoding="utf-8")
    """
    return compare_html(report, other) if other is not None else render("page.html", page_values(report))


def compare_html(a: Report, b: Report) -> str:
    """Two reports on one page: how machine and setup differ, then totals and steps side by side, with ratios b / a.

    Raises:
        ReportError: jinja2 is missing.
    """
    return render("compare.html", comparison_values(compare(a, b)))


def render(name: str, values: dict[str, Any]) -> str:
    """A page of this room's templates.

    Args:
        name: of the template.
        values: what it shows; every plain string is escaped.

    Raises:
        ReportError: jinja2 is missing.
    """
    try:
        import jinja2  # noqa: F401 - only whether it is there
    except ImportError:
        raise ReportError("the page needs jinja2, and jinja2 is missing: pip install 'greenload[report]'") from None
    page: str = _environment().get_template(name).render(values)
    return page


@functools.cache
def _environment() -> Any:
    import jinja2

    return jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        loader=jinja2.FunctionLoader(_source),
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    return (resources.files("greenload.report") / name).read_text("utf-8")


def _finalize(value: Any) -> Any:
    """Every plain string of the page without characters that can't be encoded or shown; line ends stay."""
    if type(value) is not str:
        return value
    return "\n".join(printable(line) for line in value.split("\n"))
