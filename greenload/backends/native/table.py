"""The table of the native backend: what its kernel supports, how exactly, and which files it reads."""

from __future__ import annotations

from greenload.backends.base import BackendTable, TableRow, rows
from greenload.backends.native import lowerings
from greenload.plans.steps import BackendTraits
from greenload.sources.formats.jpeg import PARTIAL
from greenload.specs import DTYPES
from greenload.stages import primitives as p

# Of a choice, and of a weighted sum, each image goes through a program of the alternatives that it gets.
TABLE = BackendTable(
    "native",
    rows(lowerings.ROWS, (TableRow(p.Choice, None, DTYPES), TableRow(p.WeightedSum, None, ("uint8",)))),
    kinds=("JPEG", PARTIAL),  # what of them the kernel doesn't decode another backend does
    traits=BackendTraits(takes_batches=True, in_graph=True, keeps_files=True),
)
