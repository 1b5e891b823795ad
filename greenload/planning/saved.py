"""Makes a plan of its file again, and says where that was written on another machine or by other versions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from greenload.backends import registry
from greenload.backends.tables import CACHE_TABLE, TABLES
from greenload.errors import BackendUnavailable, PipelineError, ReportError, SourceError
from greenload.machine import machine
from greenload.planning.cache_form import default_ram
from greenload.planning.choose import on_backend
from greenload.planning.placement import place
from greenload.plans.cache_steps import cache_steps
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Expected, Plan
from greenload.plans.plan_file import FORMAT
from greenload.plans.steps import CacheSpec, Step, steps_of
from greenload.public import public
from greenload.sources import Source
from greenload.sources.formats import KINDS
from greenload.specs import CACHE_FORMS, CacheForm
from greenload.system import file_input, json_data
from greenload.system.file_paths import check_path
from greenload.system.json_data import DataError, Value
from greenload.system.notices import notify
from greenload.text import printable

_REMEDY = "make the plan anew, and save that"


@public
def load_plan(path: str | os.PathLike[str], source: Source | None = None) -> Plan:
    """Read the plan that ``Plan.save`` or ``Optimization.save`` wrote.

    It runs as it was saved: the same backend for each step, threads, what is kept and in which form. A plan that keeps
    images in memory within no budget of its own gets this process's. Functions and stages of a user's own are imported
    by their names: only read plans that you trust.

    Warns where it was made on another machine, or with other versions: there another plan may be the best.

    Args:
        path: of the file.
        source: the samples, where the file holds none (``Arrays``), or others than it names, as of a folder that has
            moved.

    Raises:
        UsageError: ``path`` isn't one.
        ReportError: the file can't be read, isn't JSON, is damaged, or is no plan of this version; names the file.
        SourceError: the source that it names is gone, or it was of ``Arrays`` and no ``source`` is given.
        BackendUnavailable: a backend that it names can't run here; names the remedy.

    Example:
        >>> gl.make_plan(train).save("plan.json")
        >>> gl.load(gl.load_plan("plan.json"))
    """
    check_path(path)
    try:
        data = json_data.parse(file_input.read_any(path, json_data.LARGEST_BYTES)).data
    except OSError as error:
        raise ReportError(f"{path}: the plan can't be read: {error.strerror}; check the path") from None
    except DataError as error:
        raise ReportError(f"{path}: a plan's file is JSON that is whole, this one isn't: {error}; {_REMEDY}") from None
    inner = data.get("plan") if isinstance(data, Mapping) and "format" not in data else None
    data = inner if isinstance(inner, Mapping) else data
    try:
        plan = plan_of(data, source)
    except (ReportError, SourceError, BackendUnavailable) as error:
        kind = next(kind for kind in (ReportError, SourceError, BackendUnavailable) if isinstance(error, kind))
        moved = isinstance(error, SourceError) and source is None and "source=" not in str(error)
        remedy = "; where it moved, give load_plan its source=" if moved else ""
        raise kind(f"{path}: {error}{remedy}") from None
    if differs := _differences(Value(data)):
        notify(
            f"{path}: this plan was made {differs}: it runs, but another may be better here; gl.optimize or make_plan "
            "makes one for this machine"
        )
    return plan


def plan_data(plan: Plan) -> dict[str, Any]:
    """What a plan's file holds, as JSON data. The inverse of `plan_of`.

    Raises:
        PipelineError: a stage can't be described, as one of a function without a name.
    """
    return plan.file_data()


def plan_of(data: Any, source: Source | None = None) -> Plan:
    """The plan that a file's JSON data describe.

    Args:
        data: of the file.
        source: as `load_plan` takes it.

    Raises:
        ReportError: the data are damaged, or no plan of this version.
        SourceError: the source is gone, or the data hold none.
        BackendUnavailable: a backend can't run here.
    """
    try:
        return _plan_of(Value(data), source)
    except DataError as error:
        raise ReportError(f"a plan's file can't be used: {error}; {_REMEDY}") from None
    except PipelineError as error:
        raise ReportError(f"a plan's file must fit this version: {error}; {_REMEDY}") from None


def _plan_of(value: Value, source: Source | None) -> Plan:
    value.field("format").text(among=(FORMAT,))
    saved = value.field("steps").list()
    threads, prefetch = (value.field(name).integer(1) for name in ("threads", "prefetch"))
    _require(saved)
    pipeline = Pipeline.from_dict(value.field("pipeline").plain(), source)
    len(pipeline.source)  # says now if it is gone
    plan = place(pipeline, list(_placed(pipeline, saved)), threads=threads, prefetch=prefetch)
    names = [step.field("name").text() for step in saved]
    if names != [step.name for step in plan.steps]:
        here = ", ".join(step.name for step in plan.steps)
        raise DataError(f"here its pipeline has the steps {here}, not {json_data.short(', '.join(names))}")
    sized = (
        replace(step, size_in=_size(given, "size_in"), size_out=_size(given, "size_out"))
        for step, given in zip(plan.steps, saved, strict=True)
    )
    return replace(
        plan,
        steps=tuple(sized),
        readers=_readers(value.given("readers")),
        expected=_expected(value.given("expected")),
        sizes=printable(value.field("sizes").text()),
    )


def _require(saved: Sequence[Value]) -> None:
    """Make sure that the backends of saved steps can run here. Loads each but TensorFlow, which is only looked for."""
    pixels = [step.field("backend") for step in saved if step.field("kind").text() == "pixels"]
    names = [backend.text(among=registry.BACKENDS) for backend in pixels]
    names += [CACHE_TABLE.name] if any(step.given("keeps") for step in saved) else []
    for name in dict.fromkeys(names):
        presence = registry.get(name).presence()
        if not presence.usable:
            raise BackendUnavailable(
                f"the plan needs backend {name!r}, which can't be used here: {presence.detail}; {presence.remedy}"
            )


def _placed(pipeline: Pipeline, saved: Sequence[Value]) -> Iterator[Step]:
    """A pipeline's steps, each on the backend that its saved one is on, with what is kept."""
    keeping = next((keeps for step in saved if (keeps := step.given("keeps"))), None)
    caches = any(step.field("kind").text() == "cache" for step in saved)
    bare = cache_steps(pipeline) if keeping or not caches else None
    if keeping and bare is None:
        keeping.refuse("left out: the pipeline has no cache that keeps files")
    backends: list[str] = []
    for step in saved:
        if step.field("kind").text() == "pixels":
            parts = step.get("parts")
            backends += [step.field("backend").text()] * (parts.integer(1, 2) if parts else 1)
    steps = bare or steps_of(pipeline)
    pixels = sum(step.kind == "pixels" for step in steps)
    if len(backends) != pixels:
        raise DataError(f"it has backends for {len(backends)} steps on pixels, but here its pipeline has {pixels}")
    for bare_step in steps:
        if bare_step.kind == "pixels":
            yield on_backend(bare_step, backends.pop(0))
        elif bare_step.keeps and keeping:
            yield replace(bare_step, keeps=_kept(bare_step.keeps, keeping))
        else:
            yield bare_step


def _kept(keeps: CacheSpec, given: Value) -> CacheSpec:
    """What a cache keeps, as it was saved."""
    form = given.field("form").text(among=[form for form in CACHE_FORMS if form != "auto"])
    if (form == "resized") != bool(keeps.filling):
        given.field("form").refuse("what the stages before Cache give: 'resized' where there are some behind Decode")
    in_common = given.field("in_common").data is True
    budget, set_bytes, share = (given.given(name) for name in ("budget", "set_bytes", "share"))
    of_process = default_ram() if in_common else None
    return replace(
        keeps,
        form=_form(form),
        budget=of_process if in_common else budget.integer(1) if budget else None,
        in_common=in_common,
        filling=tuple(replace(s, backend=CACHE_TABLE.name, traits=CACHE_TABLE.traits) for s in keeps.filling),
        set_bytes=set_bytes.number(0.0) if set_bytes else None,
        share=share.number(0.0, 1.0) if share else None,
    )


def _form(text: str) -> CacheForm:
    return next(form for form in CACHE_FORMS if form == text)


def _size(step: Value, name: str) -> float | None:
    given = step.given(name)
    return None if given is None else given.number(0.0)


def _readers(value: Value | None) -> dict[str, str] | None:
    if value is None:
        return None
    readers = {kind: backend.text(among=TABLES) for kind, backend in value.mapping().items()}
    unknown = next((kind for kind in readers if kind not in KINDS), None)
    if unknown is not None:
        raise DataError(f"{value.place} must name kinds of files, not {json_data.shown(unknown)}")
    return readers


def _expected(value: Value | None) -> Expected | None:
    if value is None:
        return None
    others = value.field("others").list()
    return Expected(
        value.field("unit").text(among=("cpu_s", "energy_j")),
        value.field("cost").number(0.0),
        tuple((printable(other.field("plan").text()), other.field("cost").number(0.0)) for other in others),
        printable(value.field("costs").text()),
        tuple(printable(sentence.text()) for sentence in value.field("unknown").list()),
    )


def _differences(value: Value) -> str:
    """How the machine and the versions that a plan was made with differ from these; empty where they don't."""
    here = machine()
    try:
        saved = value.field("machine")
        cpu, cpus = saved.field("cpu_model").text(), saved.field("cpus").integer(0)
        packages = {name: version.text() for name, version in saved.field("packages").mapping().items()}
    except DataError:
        return "where its file doesn't say"
    parts = []
    if (cpu, cpus) != (here.cpu_model, here.cpus):
        parts.append(f"on another machine ({cpu}, {cpus} CPUs; here {here.cpu_model}, {here.cpus})")
    changed = [
        f"{name} {packages.get(name, 'missing')}, here {here.packages.get(name, 'missing')}"
        for name in sorted({*packages, *here.packages})
        if packages.get(name) != here.packages.get(name)
    ]
    if changed:
        parts.append(f"with other versions ({'; '.join(changed)})")
    return " and ".join(parts)
