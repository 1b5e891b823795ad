"""The table of the tf backend: the primitives that it supports, how exactly, and the files that it reads."""

from __future__ import annotations

from greenload.backends.base import BackendTable, rows
from greenload.backends.tf import choice, decode, filters, lowerings
from greenload.plans.steps import TF_DATA
from greenload.sources.formats.jpeg import PARTIAL

TABLE = BackendTable(
    TF_DATA,
    rows(decode.ROWS, lowerings.ROWS, filters.ROWS, choice.ROWS),
    kinds=("JPEG", PARTIAL, "PNG", "16-bit PNG", "BMP", "WebP", "GIF"),
)
