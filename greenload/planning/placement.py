"""Makes the plan of steps whose backends are decided, or says why they can't follow each other that way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from greenload.backends.tables import TABLES, in_tf_data, supporting
from greenload.errors import PipelineError
from greenload.planning.cache_form import can_keep_files, check_caches
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import MIXED, Plan
from greenload.plans.steps import TF_DATA, Step, mirrored, reads_params, unique_names
from greenload.stages import primitives as p
from greenload.stages.policies import Policy


def place(pipeline: Pipeline, steps: Sequence[Step], *, threads: int, prefetch: int, auto: bool = False) -> Plan:
    """The plan of steps whose backends are settled.

    Args:
        pipeline: what is planned.
        steps: of ``steps.steps_of``; each on pixels names its backend.
        threads: threads that work on samples.
        prefetch: batches held ready.
        auto: whether greenload chose the backends, not the user: that isn't a remedy then.

    Raises:
        PipelineError: a backend doesn't hold its step to tolerance, or steps can't follow each other that way.
    """
    done = list(steps)
    names = list(dict.fromkeys(step.backend for step in done if step.kind == "pixels"))
    backend = names[0] if len(names) == 1 else MIXED if names else TF_DATA
    _check_supported(pipeline, done)
    _check_echoes(pipeline, done)
    check_caches(pipeline, done, auto)
    _check_batches(pipeline, backend, done)
    done = mirrored(done)
    taking = [name for name in names if not in_tf_data(name)]
    if taking:
        backends = " + ".join(taking)
        done = [
            replace(step, backend=backends, name="Batch + transfer") if step.kind == "batch" else step for step in done
        ]
    return Plan(pipeline, backend, threads, prefetch, tuple(unique_names(done)))


def _check_supported(pipeline: Pipeline, steps: Sequence[Step]) -> None:
    for step in steps:
        if step.primitive is None:
            continue
        _check_lowerings(step.primitive)
        whole = None if step.stage is None else pipeline.stages[step.stage]
        if whole and whole.mixes and step.traits.takes_batches and not isinstance(step.primitive, p.Mix):
            raise PipelineError(
                f"{whole} mixes a batch, and backend {step.backend!r} works on its images one by "
                f"one: use backend={TF_DATA!r}"
            )
        if TABLES[step.backend].supports(step.primitive, step.spec_in):
            continue
        able = supporting(step.primitive, step.spec_in)
        remedy = f"use backend={able[0]!r}" if able else "change its arguments, or remove it"
        stage, primitive, instead = _at_fault(pipeline, step)
        remedy += f", or {instead}" if instead else ""
        if primitive.lowerings:
            raise PipelineError(
                f"{stage} can't run on backend {step.backend!r}: it has lowerings for "
                f"{', '.join(primitive.lowerings)} alone: {remedy}"
            )
        if isinstance(primitive, p.Call):
            raise PipelineError(
                f"{stage} can't run on backend {step.backend!r}: arbitrary code is the explicit stage Apply(fn), for "
                f"the backends that can run it: {remedy}"
            )
        raise PipelineError(
            f"{stage} can't run on backend {step.backend!r} to tolerance, for images that are {step.spec_in}: {remedy}"
        )


def _check_echoes(pipeline: Pipeline, steps: Sequence[Step]) -> None:
    """What is done once for several echoes is done in tf.data on single samples, or on backends that have a way to."""
    able = [name for name, table in TABLES.items() if table.traits.echoes]
    crossed: Step | None = None
    for step in steps:
        if step.kind != "pixels" or step.serves == 1:
            continue
        shown = f"{step.name!r} stands before Echo(times={pipeline.times}), so it is done once for several images"
        if not step.traits.echoes:
            raise PipelineError(
                f"{shown}, which backend {step.backend!r} can't do: use backend={able[0]!r}, or remove Echo"
            )
        if crossed is not None and not step.traits.takes_batches:
            raise PipelineError(
                f"{shown}, but behind {crossed.name!r} on backend {crossed.backend!r} tf.data has batches, in which "
                f"each image stands several times: put both on {crossed.backend!r}"
            )
        crossed = step if step.traits.takes_batches else crossed


def _check_lowerings(primitive: p.Primitive) -> None:
    for part in primitive.parts if isinstance(primitive, p.Choice) else ():
        _check_lowerings(part.primitive)
    taking = [name for name, table in TABLES.items() if p.Primitive in table.rows]
    wrong = [name for name in primitive.lowerings if name not in taking]
    if wrong:
        raise PipelineError(
            f"{type(primitive).__name__}: lowerings are for {' or '.join(map(repr, taking))}, not {wrong[0]!r}"
        )


def _at_fault(pipeline: Pipeline, step: Step) -> tuple[str, p.Primitive, str]:
    """Which stage, and which of its primitives, a step's backend doesn't do: of a combinator, what is inside it; of a
    policy, the operation. And what an argument of that stage can do about it, in words, where one can."""
    assert step.primitive is not None  # what makes a step one of pixels
    if step.stage is None:
        return " + ".join(step.stages), step.primitive, ""
    stage, primitive = pipeline.stages[step.stage], step.primitive
    shown = str(stage)
    while isinstance(primitive, p.Choice):
        wrong = (x for x in primitive.parts if not TABLES[step.backend].supports(x.primitive, x.spec_in))
        part = next(wrong, None)
        if part is None:
            break
        primitive = part.primitive
        if stage.inside:
            stage = stage.inside[part.stage]
            shown = f"{stage} inside {pipeline.stages[step.stage].title}"
        elif not isinstance(primitive, p.Choice):
            shown = f"{type(primitive).__name__} of {stage}"
    return shown, primitive, stage.way_without(primitive) if isinstance(stage, Policy) else ""


def _check_batches(pipeline: Pipeline, backend: str, steps: Sequence[Step]) -> None:
    """What takes batches can't be followed by what needs single samples of any size, or splits a stage in two."""
    crossed: Step | None = None
    last: Step | None = None
    for step in steps:
        if step.kind == "cache" and crossed is not None:
            where = "Decode" if backend != MIXED else f"{crossed.name!r}"
            others = "'native' or 'auto'" if can_keep_files(pipeline) else "'tf'"
            by_hand = ", where steps are placed by hand," * (f"'{crossed.backend}'" in others)
            raise PipelineError(
                f"backend {crossed.backend!r} keeps pixels to itself until they are batched, so{by_hand} Cache must "
                f"stand before {where}; move it there, or use backend={others}"
            )
        if step.kind != "pixels":
            continue
        if step.traits.takes_batches and pipeline.batch is None:
            raise PipelineError(
                f"backend {step.backend!r} works on batches, but the pipeline has no Batch: add Batch(32)"
            )
        if last is not None and last.backend != step.backend:
            _check_crossing(last, step, crossed is not None)
        crossed = crossed or (step if step.traits.takes_batches else None)
        last = step


def _check_crossing(last: Step, step: Step, crossed: bool) -> None:
    if last.traits.on_gpu:
        raise PipelineError(
            f"step {step.name!r} on backend {step.backend!r} can't follow {last.name!r} on {last.backend!r}, whose "
            f"images stay on the GPU: put it on {last.backend!r} too, or those before it on another backend"
        )
    if crossed and not step.traits.takes_batches and not step.spec_in.static:
        raise PipelineError(
            f"step {step.name!r} on backend {step.backend!r} can't follow {last.name!r} on {last.backend!r}: images "
            f"come back to tf.data as a batch, whose images have one size, but here they are {step.spec_in}; put it on "
            f"{last.backend!r} too, or resize before"
        )
    if crossed and not last.traits.takes_batches and not last.spec_out.static:
        raise PipelineError(
            f"step {step.name!r} on backend {step.backend!r} can't follow {last.name!r} on {last.backend!r} there: "
            f"tf.data has a batch, whose images have one size, but here they are {last.spec_out}; put both on one "
            "backend"
        )
    same_stage = last.stage is not None and last.stage == step.stage
    if same_stage and (reads_params(step) or not step.spec_out.static):
        raise PipelineError(
            f"steps {last.name!r} and {step.name!r} are of one stage that can't be split between backends "
            f"{last.backend!r} and {step.backend!r}: put both on one"
        )
