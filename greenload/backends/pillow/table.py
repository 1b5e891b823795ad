"""The table of the Pillow backend: the primitives that it supports, how exactly, and the files that it reads."""

from __future__ import annotations

from greenload.backends.base import BackendTable, rows
from greenload.backends.pillow import choice, lowerings
from greenload.plans.steps import BackendTraits
from greenload.sources.formats.jpeg import PARTIAL

TABLE = BackendTable(
    "pillow",
    rows(lowerings.ROWS, choice.ROWS),
    kinds=("JPEG", PARTIAL, "PNG", "BMP", "WebP", "GIF", "palette BMP"),
    traits=BackendTraits(takes_batches=True),
    not_for_others=("WebP",),  # it may be built without libwebp
)
