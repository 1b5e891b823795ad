"""Plans whose caches keep nothing yet, to measure how they are filled."""

from __future__ import annotations

import contextlib
import copy
import gc
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from greenload.backends.native.keeping import keeping_of, key_of
from greenload.backends.native.store import folder_of
from greenload.plans.plan import Plan


@contextlib.contextmanager
def kept_anew(plan: Plan) -> Iterator[Plan]:
    """The same plan, whose cache keeps apart from all others, and keeps nothing yet; it is removed in the end."""
    apart = secrets.token_hex(8)
    steps = tuple(replace(s, keeps=replace(s.keeps, apart=apart)) if s.keeps else s for s in plan.steps)
    # What is kept in memory stays as long as its pipeline.
    fresh = replace(plan, pipeline=copy.copy(plan.pipeline), steps=steps)
    try:
        yield fresh
    finally:
        keeping = keeping_of(fresh)
        gc.collect()  # closes it
        if keeping is not None and keeping.path is not None:
            shutil.rmtree(folder_of(Path(keeping.path), key_of(fresh)), ignore_errors=True)
