"""Decides what the native backend's cache keeps of a set, and how much of it: the form, and the budget."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from greenload.backends import registry
from greenload.backends.native import library
from greenload.backends.native.cache import cached_forms
from greenload.backends.tables import CACHE_TABLE, TABLES
from greenload.errors import PipelineError
from greenload.machine import available_memory
from greenload.planning.sizes import SizedSteps, estimate
from greenload.plans.cache_steps import cache_steps, last_cache
from greenload.plans.pipeline import Pipeline
from greenload.plans.steps import CacheSpec, Step, steps_of
from greenload.sources import Arrays, RecordSource
from greenload.specs import CacheForm
from greenload.stages import Cache
from greenload.stages import primitives as p
from greenload.stages.registry import STAGES
from greenload.system.notices import notify
from greenload.text import bytes_text

SAVES: Mapping[CacheForm, float] = {
    "encoded": 0.0,
    "transcoded": 0.12,
    "coefficients": 0.61,
    "planes": 0.72,
    "pixels": 0.72,
    "resized": 0.72,
}
"""The share of CPU time that later epochs save against reading and decoding files, by what is kept: measured on
photographs of 500×375 with random crops of 224×224 (``bench/native.py``). Resized images are taken to save what pixels
do; it depends on their size."""
PLANE_BYTES, PIXEL_BYTES = 1.5, 3.0
"""Bytes a pixel: of planes whose chroma has half as many rows and columns, and of RGB."""
COEFFICIENT_BYTES, COEFFICIENT_TABLES = 2.1, 640
"""Bytes of a JPEG's coefficients for one of the file, and of the tables that go with them."""
_CHOICES: tuple[CacheForm, ...] = ("planes", "coefficients", "transcoded")
"""What ``"auto"`` chooses from, the first where they save the same."""
_BLOB = 64
"""What is kept of an image is rounded up to so many bytes."""


def caches_files(steps: Sequence[Step]) -> bool:
    """Whether a cache among some steps keeps files."""
    return any(step.keeps for step in steps)


def sized_steps(pipeline: Pipeline, able: Sequence[str]) -> SizedSteps:
    """A pipeline's steps with their sizes, not yet placed. Where the native backend is among some that are able, and
    does all that needs it, its cache keeps files: in which form, and how much of the set, is decided here.

    Raises:
        PipelineError: the form that is asked for can't be where the cache stands.
    """
    keeps = any(TABLES[name].traits.keeps_files for name in able)
    steps = cache_steps(pipeline) if keeps and not why_not_kept(pipeline) else None
    if steps is None:
        return estimate(pipeline, steps_of(pipeline))
    sizes = estimate(pipeline, steps)
    resolved = (replace(step, keeps=step.keeps and _resolved(step.keeps, pipeline, sizes)) for step in sizes.steps)
    return replace(sizes, steps=tuple(resolved))


def check_caches(pipeline: Pipeline, steps: Sequence[Step], auto: bool) -> None:
    """Make sure that tf.data can keep what caches are asked to keep, where the native backend doesn't.

    Raises:
        PipelineError: it can't; says why the native backend doesn't, and the remedy.
    """
    if caches_files(steps) or not any(step.kind == "cache" for step in steps):
        return
    otherwise = "" if auto else " or 'auto'"
    decoding = next((step for step in steps if isinstance(step.primitive, p.Decoding)), None)
    by_hand = decoding is not None and decoding.backend == CACHE_TABLE.name
    here = "steps placed by hand keep no files" if by_hand else "here another backend decodes"
    for stage, spec in zip(pipeline.stages, pipeline.specs, strict=False):
        if not isinstance(stage, Cache) or stage in (Cache(), Cache(form="encoded" if spec.encoded else "pixels")):
            continue
        why = _why_not_here() or why_not_kept(pipeline) or f"{here}: use backend={CACHE_TABLE.name!r}{otherwise}"
        tf_keeps = spec.encoded or decoding is None or not decoding.traits.takes_batches
        raise PipelineError(f"{stage} needs backend {CACHE_TABLE.name!r}, and {why}" + "; or write Cache()" * tf_keeps)


def can_keep_files(pipeline: Pipeline) -> bool:
    """Whether the cache of a pipeline keeps files where backend "native" or "auto" is asked for."""
    return not _why_not_here() and not why_not_kept(pipeline)


def _why_not_here() -> str:
    """Why the native backend can't be used here, and the remedy; empty where it can."""
    presence = registry.get(CACHE_TABLE.name).presence()
    return "" if presence.usable else f"that can't be used here: {presence.detail}; {presence.remedy}"


def why_not_kept(pipeline: Pipeline) -> str:
    """Why the native backend can't keep what a pipeline's cache asks for, and the remedy; empty where it can."""
    source = pipeline.source
    if pipeline.batch is None:
        return "that works on batches, but the pipeline has no Batch: add Batch(32)"
    if isinstance(source, RecordSource) and source.sequential:
        return f"that keeps by index, but {source} can only be read in order: make plain files with greenload pack"
    steps = cache_steps(pipeline)
    if steps is None and isinstance(source, Arrays):
        return "that keeps what it decodes from files, but Arrays are pixels in memory already: remove Cache"
    if steps is None:
        return "that keeps files, or uint8 RGB images behind Decode: put Cache right behind Decode"
    decoding = [step for step in steps if isinstance(step.primitive, p.Decoding)]
    filling = [inner for step in steps if step.keeps for inner in step.keeps.filling]
    for step in (*filling, *decoding):
        if step.primitive is None or not CACHE_TABLE.supports(step.primitive, step.spec_in):
            return f"that doesn't do {' + '.join(step.stages)}: put Cache right behind Decode"
    last, _ = last_cache(pipeline)
    of_users = [type(stage).__name__ for stage in pipeline.stages[:last] if type(stage) not in STAGES.values()]
    if filling and of_users:
        return f"that can't tell when the code of {of_users[0]} changes: put Cache right behind Decode"
    return ""


def _resolved(cache_spec: CacheSpec, pipeline: Pipeline, sizes: SizedSteps) -> CacheSpec:
    _, cache = last_cache(pipeline)
    there = cached_forms(Path(cache.path), pipeline) if cache.path else []
    followed = next((kept.form for kept in there if kept.auto), None) if cache.disk is None else None
    budget = cache.disk if cache.path else cache.ram or default_ram()

    def room(held: int) -> int | None:
        return disk_room(Path(cache.path), cache.disk, held) if cache.path else budget

    count, takes = _count(pipeline), bytes_an_image(sizes)
    form = cache_spec.form
    filling = tuple(replace(step, backend=CACHE_TABLE.name, traits=CACHE_TABLE.traits) for step in cache_spec.filling)
    if filling:
        if form not in ("auto", "resized", "pixels"):
            raise PipelineError(
                f"{cache} keeps files, but {filling[-1].stages[-1]} stands before it: put Cache behind Decode, "
                "or leave form out"
            )
        form = "resized"
    elif form == "resized":
        raise PipelineError(
            f"{cache} keeps what stages between Decode and Cache give, but there are none: put it behind a stage that "
            "resizes, or leave form out"
        )
    elif form == "auto" and followed:
        form = followed  # whatever else is on the disk by now
    elif form == "auto":
        left = room(there[0].bytes if there else 0)
        form = best_form(takes, count, left, sizes.kinds.get("JPEG", 0.0), library.has_vectors())
    in_all = takes[form] * count
    there_is = room(sum(kept.bytes for kept in there if kept.form == form))
    _warn_of_little_room(cache, form, there_is, takes[form])
    share = _share(in_all, there_is)
    usual = not cache.path and not cache.ram
    return replace(
        cache_spec, form=form, budget=budget, in_common=usual, filling=filling, set_bytes=in_all or None, share=share
    )


def _warn_of_little_room(cache: Cache, form: CacheForm, room: int | None, needed: float) -> None:
    """Warn where there isn't room for one image."""
    if room is None or room >= needed:
        return
    given = cache.disk if cache.path else cache.ram
    remedy = f"raise {'disk' if cache.path else 'ram'}" if given else "make room there"
    notify(
        f"{cache} has room for {bytes_text(room)}, but an image takes about {bytes_text(needed)} as {form!r}, so "
        f"hardly any is kept: {remedy}, or remove Cache"
    )


def best_form(
    takes: Mapping[CacheForm, float], count: int, room: int | None, jpegs: float, vectors: bool = True
) -> CacheForm:
    """The form that is expected to save most: what it saves of an image, times the share of the set that fits.

    Args:
        takes: mean bytes of an image in each form.
        count: images of the set; 0 where that isn't known.
        room: bytes that there are; ``None`` where that isn't known.
        jpegs: the share of plain JPEGs among the files.
        vectors: whether the kernel has the processor's vectors. Without them coefficients save nothing: libjpeg has
            some of its own.
    """

    def saving(form: CacheForm) -> float:
        # Files of other kinds aren't transcoded.
        share = _share(takes[form] * count, room)
        return SAVES[form] * (jpegs if form == "transcoded" else 1.0) * (1.0 if share is None else share)

    return max((form for form in _CHOICES if vectors or form != "coefficients"), key=saving)


def decoding_left(steps: Sequence[Step]) -> float:
    """The share of the cost of decoding that is left in later epochs where a cache keeps files; 1 where none does."""
    keeps = next((step.keeps for step in steps if step.keeps), None)
    return 1.0 if keeps is None else 1.0 - SAVES[keeps.form] * (1.0 if keeps.share is None else keeps.share)


def _share(in_all: float, room: int | None) -> float | None:
    """The share of a set that fits; ``None`` where the set's size or the room isn't known."""
    return None if room is None or not in_all else min(1.0, room / in_all)


def bytes_an_image(sizes: SizedSteps) -> dict[CacheForm, float]:
    """Mean bytes of an image in each form, as it is kept."""
    file = next((step.size_out or 0.0 for step in sizes.steps if step.kind == "read"), 0.0)
    jpegs, pixels = sizes.kinds.get("JPEG", 0.0), sizes.decoded * PIXEL_BYTES
    others = pixels * (1.0 - jpegs)  # of which the pixels are kept
    planes = sizes.decoded * PLANE_BYTES * jpegs + others
    given: dict[CacheForm, float] = {
        "encoded": file,
        "transcoded": file,
        "coefficients": (file * COEFFICIENT_BYTES + COEFFICIENT_TABLES) * jpegs + others,
        "planes": planes,
        "pixels": pixels,
        "resized": pixels,
    }
    return {form: size + _BLOB / 2 for form, size in given.items()}


def _count(pipeline: Pipeline) -> int:
    try:
        return len(pipeline.source)
    except Exception:  # planning must not fail for a source that can't be read: loading says why
        return 0


@functools.cache
def default_ram() -> int:
    """Half the memory that was available when it was first asked for: so all plans of a process agree on it, whatever
    is kept meanwhile. It is one budget: what is kept for one of them leaves less to the others."""
    return max(1, available_memory() // 2)


def disk_room(folder: Path, limit: int | None, held: int = 0) -> int | None:
    """Bytes that may be kept in a folder, which holds so many of them already; ``None`` where that can't be found
    out."""
    try:
        standing = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
        room = shutil.disk_usage(standing).free + held
    except (OSError, StopIteration):
        return limit
    return room if limit is None else min(room, limit)
