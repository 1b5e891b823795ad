"""The table of the tf backend: the primitives that it supports, how exactly, and the files that it reads."""

from __future__ import annotations

from typing import Any

from greenload.backends.base import BackendTable, rows
from greenload.backends.tf import choice, decode, filters, level_maps, lowerings
from greenload.plans.steps import TF_DATA
from greenload.sources.formats.jpeg import PARTIAL
from greenload.stages.primitives import Primitive


def _lowering_of(primitive: Primitive) -> Any:
    """How a part of a choice is done: as the table below says, once it is made."""
    return TABLE.lowering(primitive)


TABLE = BackendTable(
    TF_DATA,
    rows(decode.ROWS, lowerings.ROWS, level_maps.ROWS, filters.ROWS, choice.rows(_lowering_of)),
    kinds=("JPEG", PARTIAL, "PNG", "16-bit PNG", "BMP", "WebP", "GIF"),
)
