"""The table of the DALI backends: the primitives that they support, how exactly, and the files that they read.

The same operators serve the CPU and the GPU: the device is the only difference.

Tolerances on the CPU were measured against the float64 references over photographs and noise, with sides from 1 to
1,000 pixels. ``nvJPEG`` is not bit-equal to libjpeg, and its kernels round on their own: on a GPU they are wider.
"""

from __future__ import annotations

from collections.abc import Mapping

from greenload.backends.base import BackendTable, TableRow, rows
from greenload.backends.dali import choice, decode, filters, level_maps, lowerings
from greenload.backends.dali.base import Lowering
from greenload.plans.steps import BackendTraits
from greenload.stages import primitives as p


def _rows(gpu: bool) -> Mapping[type[p.Primitive], TableRow]:
    return rows(decode.rows(gpu), lowerings.rows(gpu), level_maps.ROWS, filters.rows(gpu), choice.rows(_lowering_of))


def _lowering_of(primitive: p.Primitive) -> Lowering:
    """How a part of a choice is done: as the table below says, once it is made; the GPU's are the same."""
    lowering: Lowering = CPU_TABLE.lowering(primitive)
    return lowering


CPU_TABLE = BackendTable(
    "dali-cpu",
    _rows(gpu=False),
    kinds=("JPEG", "PNG", "16-bit PNG", "BMP", "WebP", "palette BMP", "TIFF"),
    traits=BackendTraits(takes_batches=True, queues_batches=True, fuses_flip=True, echoes=False),
)
GPU_TABLE = BackendTable(
    "dali",
    _rows(gpu=True),
    kinds=("JPEG", "PNG"),  # what a GPU does with the others isn't known yet
    traits=BackendTraits(takes_batches=True, on_gpu=True, queues_batches=True, fuses_flip=True, echoes=False),
    fills_jpeg=False,
)
