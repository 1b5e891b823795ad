"""Options that convert a report's joules to grams of CO₂ equivalent."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from greenload.errors import UsageError
from greenload.report.carbon import WORLD_G_PER_KWH, check_factors

if TYPE_CHECKING:
    from greenload.report.data import Report


def add_carbon(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--carbon",
        nargs="?",
        type=_factor,
        const=0.0,
        metavar="G_PER_KWH",
        help=f"also grams of CO2e, by the grid's factor, or by the world's average ({WORLD_G_PER_KWH:g}, IEA 2019)",
    )
    parser.add_argument("--pue", type=float, metavar="PUE", help="of the data centre, for --carbon (default 1)")


def check_carbon(options: argparse.Namespace) -> None:
    """Refuse factors that can't be, before minutes of work.

    Raises:
        UsageError: one is out of range, or there is a PUE but nothing to convert.
    """
    if options.carbon is None and options.pue is not None:
        raise UsageError("--pue is a factor of --carbon, which isn't given: add --carbon")
    check_factors(options.carbon or None, _pue(options))


def with_carbon(report: Report, options: argparse.Namespace) -> Report:
    """The report with its carbon, where that was asked for."""
    return report if options.carbon is None else report.with_carbon(options.carbon or None, _pue(options))


def _pue(options: argparse.Namespace) -> float:
    return 1.0 if options.pue is None else float(options.pue)


def _factor(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be a positive number of grams a kWh, not {text!r}: --carbon=475")
    return value
