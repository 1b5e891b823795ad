"""The table of the Pillow backend: the primitives that it supports, how exactly, and the files that it reads."""

from __future__ import annotations

from greenload.backends.base import BackendTable, rows
from greenload.backends.pillow import choice, level_maps, lowerings
from greenload.backends.pillow.base import Lowering
from greenload.plans.steps import BackendTraits
from greenload.sources.formats.jpeg import PARTIAL
from greenload.stages.primitives import Primitive


def _lowering_of(primitive: Primitive) -> Lowering:
    """How a part of a choice is done: as the table below says, once it is made."""
    lowering: Lowering = TABLE.lowering(primitive)
    return lowering


TABLE = BackendTable(
    "pillow",
    rows(lowerings.ROWS, level_maps.ROWS, choice.rows(_lowering_of)),
    kinds=("JPEG", PARTIAL, "PNG", "BMP", "WebP", "GIF", "palette BMP"),
    traits=BackendTraits(takes_batches=True),
    not_for_others=("WebP",),  # it may be built without libwebp
)
