"""The tables of all backends: what a plan may ask of each. No framework is imported for them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

from greenload.backends.base import BackendTable
from greenload.backends.dali.table import CPU_TABLE, GPU_TABLE
from greenload.backends.native.table import TABLE as NATIVE_TABLE
from greenload.backends.pillow.table import TABLE as PILLOW_TABLE
from greenload.backends.tf.table import TABLE as TF_TABLE
from greenload.sources.formats import Support
from greenload.specs import ImageSpec
from greenload.stages.primitives import Primitive

TABLES: Mapping[str, BackendTable] = {
    table.name: table for table in (TF_TABLE, CPU_TABLE, GPU_TABLE, PILLOW_TABLE, NATIVE_TABLE)
}
"""By the name that a plan calls a backend."""
CACHE_TABLE = next(table for table in TABLES.values() if table.traits.keeps_files)
"""Of the backend whose cache keeps files."""


def in_tf_data(backend: object) -> bool:
    """Whether something is the name of a backend whose steps are part of tf.data's graph."""
    return isinstance(backend, str) and backend in TABLES and not TABLES[backend].traits.takes_batches


def supporting(primitive: Primitive, spec: ImageSpec) -> tuple[str, ...]:
    """The backends that do a primitive on images of ``spec``."""
    return tuple(name for name, table in TABLES.items() if table.supports(primitive, spec))


def reading(kind: str) -> tuple[str, ...]:
    """The backends that read a kind of files."""
    return tuple(name for name, table in TABLES.items() if kind in table.kinds)


def read_in_tf_data(kind: str) -> bool:
    """Whether tf.data's graph decodes a kind of files."""
    return any(in_tf_data(name) for name in reading(kind))


def support(backend: str, readers: Iterable[str] | None = None) -> Support:
    """What ``formats.header`` must know of the backend that is to decode a file.

    Args:
        backend: its name.
        readers: the kinds that others decode for it, as ``Plan.readers``; ``None`` where no other may.
    """
    return _support(backend, None if readers is None else frozenset(readers))


@functools.cache
def _support(backend: str, readers: frozenset[str] | None) -> Support:
    fillers = tuple(name for name, table in TABLES.items() if table.fills_jpeg)
    return Support(backend, frozenset(TABLES[backend].kinds), readers, reading, fillers)
