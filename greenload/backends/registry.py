"""The backends by name, each imported when it is asked for, and what is made with them: runners and readers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from greenload.backends.base import GraphSegment, Runner
from greenload.backends.clocks import StepClock
from greenload.backends.interface import Backend
from greenload.backends.readers import Decoder, Readers
from greenload.backends.tables import TABLES, support
from greenload.errors import BackendUnavailable, PipelineError
from greenload.plans.plan import Plan, Segment

BACKENDS = tuple(TABLES)
"""The backends that a plan can name. ``"auto"`` chooses among them, for each step."""


def get(name: str) -> Backend:
    """The backend of a name.

    Raises:
        PipelineError: there is none of that name.
    """
    if name == "tf":
        from greenload.backends.tf.backend import TensorFlowBackend

        return TensorFlowBackend()
    if name in ("dali", "dali-cpu"):
        from greenload.backends.dali.backend import DaliBackend

        return DaliBackend(name)
    if name == "pillow":
        from greenload.backends.pillow.backend import PillowBackend

        return PillowBackend()
    if name == "native":
        from greenload.backends.native.backend import NativeBackend

        return NativeBackend()
    raise PipelineError(f"backend must be one of {', '.join(BACKENDS)}, not {name!r}")


def require(names: Iterable[str]) -> None:
    """Make sure that backends can run here.

    Raises:
        BackendUnavailable: one can't; says why, and names the remedy, as ``greenload doctor`` does.
    """
    for name in names:
        availability = get(name).availability()
        if not availability.usable:
            raise BackendUnavailable(f"backend {name!r}: {availability.detail}; {availability.remedy}")


def make_runner(plan: Plan, segment: Segment, batch_size: int) -> Runner:
    """A segment of a plan, ready to run on its backend; the arguments and errors are those of ``Backend.runner``."""
    return get(segment.backend).runner(plan, segment, batch_size, readers_of(plan))


def make_graph_segment(plan: Plan, segment: Segment, counter: str = "") -> GraphSegment | None:
    """A segment of a plan inside TensorFlow's graph, as ``Backend.graph_segment`` gives it."""
    return get(segment.backend).graph_segment(plan, segment, readers_of(plan), counter)


def step_clocks(segment: Segment, counter: str) -> Sequence[StepClock]:
    """The own clocks of a segment that was made inside TensorFlow's graph with such a counter."""
    own = get(segment.backend).own_clocks(segment, counter)
    return () if own is None else own.clocks()


def make_readers(backends: Mapping[str, str] | None, threads: int) -> Readers:
    """What decodes files for backends that don't read them; the arguments are those of ``Readers``."""
    return Readers(backends, threads, _make_decoder, support)


def readers_of(plan: Plan) -> Readers:
    """What decodes the files that a plan's decoding backend doesn't read."""
    return make_readers(plan.readers, plan.threads)


def _make_decoder(backend: str) -> Decoder:
    require([backend])
    return get(backend).decoder()
