"""Lets a profile fill and empty the cache of a plan, without a trace in what the plan keeps otherwise."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from greenload.backends.native.cache import planned_cache
from greenload.errors import PipelineError
from greenload.plans.cache_steps import last_cache
from greenload.plans.plan import Plan
from greenload.system import file_output
from greenload.system.scratch import ScratchFolder

_PREFIX = ".greenload-profile-"


@contextmanager
def separate_cache(plan: Plan) -> Iterator[Plan]:
    """A plan that keeps its images apart, for a while: where it keeps them in a folder, in one inside of that.

    Raises:
        PipelineError: the folder can't be used.
    """
    cache_spec = planned_cache(plan)
    if cache_spec is None:
        yield plan
        return
    with _folder(plan, cache_spec.path) as folder:
        # What the process keeps otherwise leaves it room, or there would be nothing to measure.
        own = replace(cache_spec, path=folder, apart=secrets.token_hex(8), in_common=False)
        steps = (replace(step, keeps=own) if step.keeps else step for step in plan.steps)
        yield replace(plan, steps=tuple(steps))


def _folder(plan: Plan, path: str | None) -> ScratchFolder | nullcontext[None]:
    if path is None:
        return nullcontext()
    try:
        os.makedirs(path, exist_ok=True)
        return ScratchFolder(path, _PREFIX)
    except OSError as error:
        _, cache = last_cache(plan.pipeline)
        raise PipelineError(
            f"{cache} can't keep images there: {file_output.why(error)}: name a folder that can be written"
        ) from None
