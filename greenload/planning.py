"""From a pipeline to a plan: which backend does which step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from greenload.errors import PipelineError
from greenload.pipeline import Pipeline
from greenload.plan import BACKENDS, Plan, place, processors
from greenload.steps import Step, steps_of, told_apart


def make_plan(
    pipeline: Pipeline,
    backend: str | Mapping[str, str] = "auto",
    *,
    threads: int | None = None,
    prefetch: int = 2,
) -> Plan:
    """Decide how a pipeline runs.

    Args:
        pipeline: what to run.
        backend: ``"tf"``, ``"dali-cpu"``, ``"dali"`` (on a GPU) or ``"pillow"`` for all steps on pixels; ``"auto"`` to
            choose for each; or a backend by the name of a step, as ``describe()`` shows it, or of a stage: then those
            not named are on ``"tf"``.
        threads: threads that work on samples; all processors that this process may use if not given.
        prefetch: batches held ready, at least 1.

    Raises:
        PipelineError: an argument is out of range, or a backend can't hold its steps.

    Example:
        >>> print(make_plan(train, {"Decode + crop": "dali-cpu", "RandomResizedCrop: resize": "pillow"}))
    """
    if not isinstance(pipeline, Pipeline):
        raise PipelineError(f"what is planned must be a Pipeline, not {type(pipeline).__name__} {str(pipeline)[:40]!r}")
    threads = processors() if threads is None else threads
    for name, value in (("threads", threads), ("prefetch", prefetch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise PipelineError(f"{name} must be a positive integer, not {value!r}")
    steps = steps_of(pipeline)
    if isinstance(backend, Mapping):
        placed = _by_name(steps, backend)
    elif backend in BACKENDS:
        placed = [on(step, backend) for step in steps]
    elif backend == "auto":
        placed = steps
    else:
        raise PipelineError(f"backend must be one of auto, {', '.join(BACKENDS)}, not {backend!r}")
    return place(pipeline, placed, threads=threads, prefetch=prefetch)


def on(step: Step, backend: str) -> Step:
    """A step on a backend; what isn't work on pixels stays in tf.data."""
    return replace(step, backend=backend) if step.kind == "pixels" else step


def _by_name(steps: Sequence[Step], wanted: Mapping[str, str]) -> list[Step]:
    shown = [step.name for step in told_apart(steps)]
    known = {name for name, step in zip(shown, steps, strict=True) if step.kind == "pixels"}
    known |= {stage for step in steps if step.kind == "pixels" for stage in step.stages}
    for name, backend in wanted.items():
        if name not in known:
            raise PipelineError(
                f"backend: names a step or a stage on pixels, one of {', '.join(sorted(known))}, not {name!r}"
            )
        if backend not in BACKENDS:
            raise PipelineError(f"backend of {name!r} must be one of {', '.join(BACKENDS)}, not {backend!r}")
    placed = []
    for name, step in zip(shown, steps, strict=True):
        named = [wanted[key] for key in (name, *step.stages) if key in wanted]
        placed.append(on(step, named[0]) if named else step)
    return placed
