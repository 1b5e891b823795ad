"""Pipelines that give what a given one gives, with something kept between epochs, or with changes that are allowed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from greenload.errors import PipelineError
from greenload.optimization.training import Relaxation
from greenload.planning.device_split import movable
from greenload.plans.pipeline import Pipeline
from greenload.specs import CacheForm
from greenload.stages import Batch, Cache, Decode, Echo, RandomCrop, RandomResizedCrop, Resize, Shuffle, Stage, ToDtype

SHRUNK = (8 / 7, 3 / 2)
"""How much longer than the longer side of what is cut out the shorter side of shrunk images is: 256 for crops of 224,
as images are usually resized for evaluation (torchvision's ``ImageClassification(crop_size=224, resize_size=256)``);
and 336."""
IN_MEMORY: tuple[CacheForm, ...] = ("planes", "pixels", "coefficients", "transcoded", "encoded")
"""Forms that may be kept in memory of what comes out of a file."""
ON_DISK: tuple[CacheForm, ...] = ("planes", "pixels", "coefficients", "transcoded")
"""The same on disk. A copy of the files there costs as much to read as ``"transcoded"``, and more to decode."""
RESIZED: CacheForm = "resized"
"""What is kept of what stages between decoding and the cache give."""
WORDS = {"encoded": "files", "transcoded": "transcoded files", "resized": "resized images"}
"""What forms are called that aren't called by their names."""


@dataclass(frozen=True)
class Variant:
    """A pipeline, and how it differs from the given one."""

    pipeline: Pipeline
    what: str = ""
    """What is kept between epochs: ``"planes"``, ``"files"``; empty for nothing."""
    form: CacheForm | None = None
    """The form in which the native backend keeps it; None where it doesn't."""
    on_disk: bool = False
    changes: tuple[Relaxation, ...] = ()

    @property
    def by_tf_data(self) -> bool:
        """Whether tf.data keeps it: all of it, in memory."""
        return bool(self.what) and self.form is None

    @property
    def kept(self) -> str:
        """``"planes in memory"``; empty for nothing."""
        if not self.what:
            return ""
        return f"{self.what} {'on disk' if self.on_disk else 'in memory'}" + " (tf.data)" * self.by_tf_data


def streaming(pipeline: Pipeline) -> Pipeline:
    """A pipeline without caches: the same pixels, everything done anew in each epoch."""
    return _of(pipeline, [stage for stage in pipeline.stages if not isinstance(stage, Cache)])


def relaxed(pipeline: Pipeline, allow: Collection[Relaxation]) -> Iterator[Variant]:
    """The pipeline as it is, then with each change of its stages that is allowed, and with all of them."""
    yield Variant(pipeline)
    made: list[Variant] = []
    if "antialias" in allow and (aliased := _aliased(pipeline)):
        made.append(Variant(aliased, changes=("antialias",)))
    if "float16" in allow and (halved := _in_float16(pipeline)):
        made.append(Variant(halved, changes=("float16",)))
        if aliased_too := next((one for one in made if one.changes == ("antialias",)), None):
            both = _in_float16(aliased_too.pipeline)
            made += [Variant(both, changes=("antialias", "float16"))] if both else []
    yield from made


def keeping(variant: Variant, *, ram: int, disk: int, folder: str | None) -> Iterator[Variant]:
    """Pipelines whose cache keeps files, or images as files: in each form, in memory and in a folder.

    Args:
        variant: a pipeline without caches.
        ram: bytes in memory; 0 for none.
        disk: bytes in the folder; 0 for none.
        folder: its path.
    """
    places = [(False, Cache(ram=ram), IN_MEMORY)] if ram else []
    places += [(True, Cache(folder, disk=disk), ON_DISK)] if disk and folder else []
    before, behind = _index(variant.pipeline.stages, Decode), _behind_fixed(variant.pipeline)
    for on_disk, cache, forms in places:
        for form in (*forms, RESIZED):
            index = behind if form == RESIZED else before
            if cached := _with(variant.pipeline, index, replace(cache, form=form)):
                yield replace(variant, pipeline=cached, form=form, what=WORDS.get(form, form), on_disk=on_disk)


def keeping_in_tf_data(variant: Variant) -> Iterator[Variant]:
    """Pipelines whose cache is tf.data's: of files, of decoded images, and of what deterministic stages make of them.

    Args:
        variant: a pipeline without caches.
    """
    pipeline = variant.pipeline
    decode = _index(pipeline.stages, Decode)
    if decode is None:
        return
    places: dict[int | None, str] = {
        decode: "files",
        decode + 1: "pixels",
        _behind_fixed(pipeline): "resized images",
        max(_fixed(pipeline), default=decode) + 1: "finished images",
    }
    places[decode + 1] = "pixels"  # where nothing deterministic stands behind it
    for index, what in places.items():
        if cached := _with(pipeline, index, Cache()):
            yield replace(variant, pipeline=cached, what=what)


def shrunk(variant: Variant, *, ram: int, disk: int, folder: str | None) -> Iterator[Variant]:
    """Pipelines that keep images made smaller first, though larger than what a random crop takes of them; the arguments
    are those of `keeping`."""
    stages = variant.pipeline.stages
    decode = _index(stages, Decode)
    crop = next((i for i, stage in enumerate(stages) if isinstance(stage, RandomCrop | RandomResizedCrop)), None)
    if decode is None or crop is None or crop < decode:
        return
    between = stages[decode + 1 : crop]
    if any(not isinstance(stage, Shuffle) for stage in between):
        return  # what stands there is part of what is kept, and decides about sizes itself
    cut = stages[crop]
    assert isinstance(cut, RandomCrop | RandomResizedCrop)
    longer = max(cut.size) if isinstance(cut.size, tuple) else cut.size
    for factor in SHRUNK:
        side = round(longer * factor)
        smaller = _of(variant.pipeline, [*stages[:crop], Resize(side), *stages[crop:]])
        for kept in keeping(replace(variant, pipeline=smaller), ram=ram, disk=disk, folder=folder):
            if kept.form == RESIZED:
                changes: tuple[Relaxation, ...] = (*variant.changes, "shrunk-cache")
                yield replace(kept, what=f"images shrunk to {side}", changes=changes)


def _of(pipeline: Pipeline, stages: Sequence[Stage]) -> Pipeline:
    return Pipeline(pipeline.source, *stages, seed=pipeline.seed)


def _with(pipeline: Pipeline, index: int | None, cache: Cache) -> Pipeline | None:
    """A pipeline with a cache at some place; None where it can't stand there, as behind a random stage."""
    if index is None:
        return None
    try:
        return _of(pipeline, [*pipeline.stages[:index], cache, *pipeline.stages[index:]])
    except PipelineError:
        return None


def _index(stages: Sequence[Stage], kind: type[Stage]) -> int | None:
    return next((index for index, stage in enumerate(stages) if isinstance(stage, kind)), None)


def _fixed(pipeline: Pipeline) -> list[int]:
    """The indices of the deterministic stages on single images right behind ``Decode``."""
    decode = _index(pipeline.stages, Decode)
    fixed: list[int] = []
    if decode is None:
        return fixed
    for index in range(decode + 1, len(pipeline.stages)):
        stage = pipeline.stages[index]
        if stage.draws or stage.changes_labels or isinstance(stage, Batch | Echo) or pipeline.specs[index].batched:
            break
        if stage.operations(pipeline.specs[index]):
            fixed.append(index)
    return fixed


def _behind_fixed(pipeline: Pipeline) -> int | None:
    """Where images are still uint8 RGB behind as many deterministic stages as possible; None where there is none."""
    usual = [i + 1 for i in _fixed(pipeline) if (s := pipeline.specs[i + 1]).dtype == "uint8" and s.shape[-1] == 3]
    return max(usual, default=None)


def _aliased(pipeline: Pipeline) -> Pipeline | None:
    """The pipeline with every resize unfiltered, also inside of others; None where none is filtered."""
    changed = [_unfiltered(stage) for stage in pipeline.stages]
    return _of(pipeline, changed) if changed != list(pipeline.stages) else None


def _unfiltered(stage: Stage) -> Stage:
    if isinstance(stage, Resize | RandomResizedCrop):
        return replace(stage, antialias=False)
    inside = getattr(stage, "stages", None)
    if isinstance(inside, Stage):
        return replace(stage, stages=_unfiltered(inside))  # type: ignore[call-arg]  # of the combinators
    if isinstance(inside, tuple):
        return replace(stage, stages=tuple(map(_unfiltered, inside)))  # type: ignore[call-arg]
    return stage


def _in_float16(pipeline: Pipeline) -> Pipeline | None:
    """The pipeline whose trailing ``ToDtype`` and ``Normalize`` give float16 in place of float32, rounded once; None
    where it doesn't end in such."""
    last = next(reversed(movable(pipeline)), None)
    if last is None or pipeline.specs[-1].dtype != "float32":
        return None
    stages = pipeline.stages
    return _of(pipeline, [*stages[: last + 1], ToDtype("float16"), *stages[last + 1 :]])
