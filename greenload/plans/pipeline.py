"""A pipeline: what happens to samples, as a value. How and where it runs is a plan's matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from greenload import scalars, sources
from greenload.errors import PipelineError, RecordError
from greenload.public import public
from greenload.sources import RecordSource, Source
from greenload.specs import MAX_BYTES, ImageSpec, LabelSpec, Truncation
from greenload.stages import Batch, Cache, Decode, Echo, Shuffle, Stage
from greenload.stages.arguments import imported
from greenload.stages.base import keys_of
from greenload.stages.registry import STAGES
from greenload.system.json_data import DataError, Value, short

_FORMAT = "greenload.pipeline/1"
_LARGEST_SEED = 2**1023  # what JSON holds; a seed is taken modulo 2^64


@public
@dataclass(frozen=True, init=False)
class Pipeline:
    """A source, the stages in order, and the seed of everything random.

    Immutable, equal by value, checked when it is made. Randomness is a function of the seed, the epoch and each
    sample's index.

    Args:
        source: where samples come from.
        *stages: what happens to them, in order.
        seed: any integer.

    Raises:
        PipelineError: stages can't stand in this order, or get images that they can't work on.

    Example:
        >>> Pipeline(ImageFolder("data/train"), Shuffle(), Decode(), RandomResizedCrop(224), Batch(256), seed=7)
    """

    source: Source
    stages: tuple[Stage, ...]
    seed: int

    def __init__(self, source: Source, *stages: Stage, seed: int = 0) -> None:
        if not sources.is_source(source):
            raise PipelineError(f"a pipeline begins with a source such as ImageFolder(...), not with {_shown(source)}")
        for stage in stages:
            if not isinstance(stage, Stage):
                hint = "; write it with its parentheses" if isinstance(stage, type) else ""
                raise PipelineError(f"a pipeline is made of stages such as Decode(), not {_shown(stage)}{hint}")
        number = scalars.whole(seed)
        if number is None:
            raise PipelineError(f"seed must be an integer, not {seed!r}")
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "stages", tuple(stages))
        object.__setattr__(self, "seed", number)
        _check_order(self.stages)
        if self.shuffled and isinstance(source, RecordSource) and source.sequential:
            raise PipelineError(
                f"{source} is compressed and can only be read in order: remove Shuffle, or make plain files of it with "
                "greenload pack"
            )
        _check_labels(self.stages, self.specs)
        _ = self.label

    @property
    def specs(self) -> tuple[ImageSpec, ...]:
        """The spec of what enters each stage, and last of what leaves the pipeline: one more than there are stages."""
        specs = [self.source.spec]
        for position, stage in enumerate(self.stages, 1):
            try:
                specs.append(stage.out_spec(specs[-1]))
            except PipelineError as error:
                raise PipelineError(f"stage {position} of {len(self.stages)}: {error}") from None
        return tuple(specs)

    @property
    def label(self) -> LabelSpec:
        """The spec of a sample's label as it leaves the pipeline."""
        spec = LabelSpec()
        for stage in self.stages:
            spec = stage.out_label(spec)
        return spec

    @property
    def label_stages(self) -> tuple[Stage, ...]:
        """The stages that change labels, in order."""
        return tuple(stage for stage in self.stages if stage.changes_labels)

    def check_labels(self) -> None:
        """Make sure that the first stage that changes labels can take the source's. Lists the source then.

        Raises:
            RecordError: it can't take one; names its sample.
        """
        wrong = self.label_stages[0].wrong_label(self.source.labels) if self.label_stages else None
        if wrong is not None:
            raise RecordError(self.source.name(wrong[0]), wrong[1])

    @property
    def keys(self) -> tuple[int, ...]:
        """The key of each stage's draws."""
        return keys_of(self.stages)

    @property
    def shuffled(self) -> bool:
        """Whether each epoch has an order of its own."""
        return self.shuffle is not None

    @property
    def shuffle(self) -> Shuffle | None:
        """The stage that orders, if there is one."""
        return next((stage for stage in self.stages if isinstance(stage, Shuffle)), None)

    @property
    def echo(self) -> int | None:
        """The index of the stage that echoes, if there is one."""
        return next((index for index, stage in enumerate(self.stages) if isinstance(stage, Echo)), None)

    @property
    def times(self) -> int:
        """How many elements of an epoch are made of each sample; 1 without ``Echo``."""
        return next((stage.times for stage in self.stages if isinstance(stage, Echo)), 1)

    @property
    def max_bytes(self) -> int:
        """The most bytes that decoding one image may take, as its ``Decode`` says."""
        return next((stage.max_bytes for stage in self.stages if isinstance(stage, Decode)), MAX_BYTES)

    @property
    def truncated(self) -> Truncation:
        """What is done about files that are cut off, as its ``Decode`` says."""
        return next((stage.truncated for stage in self.stages if isinstance(stage, Decode)), "error")

    @property
    def batch(self) -> Batch | None:
        """The stage that batches, if there is one."""
        return next((stage for stage in self.stages if isinstance(stage, Batch)), None)

    def to_dict(self) -> dict[str, Any]:
        """The pipeline as JSON data."""
        return {
            "format": _FORMAT,
            "seed": self.seed,
            "source": self.source.to_dict(),
            "stages": [stage.to_dict() for stage in self.stages],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: Source | None = None) -> Pipeline:
        """The pipeline that ``to_dict`` described.

        A function or a stage of a user's own is imported by its name: only read descriptions that you trust.

        Args:
            data: the description.
            source: the samples, where the description holds none (``Arrays``), or others than it names.

        Raises:
            PipelineError: the description is of another format, lacks a part, names an unknown stage or argument, or
                holds a value of another type or out of range; names its place.
            SourceError: the source's description is damaged, or the source can't be opened.
        """
        try:
            value = Value(data)
            value.field("format").text(among=(_FORMAT,))
            stages = [_stage(entry) for entry in value.field("stages").list()]
            seed = value.field("seed").integer(-_LARGEST_SEED, _LARGEST_SEED)
            given = sources.from_dict(value.field("source").data) if source is None else source
            return cls(given, *stages, seed=seed)
        except DataError as error:
            raise PipelineError(f"a pipeline's description can't be used: {error}") from None
        except PipelineError as error:  # which may quote an argument of any length
            raise PipelineError(short(str(error), 500)) from None

    def __str__(self) -> str:
        return f"Pipeline({', '.join(map(str, (self.source, *self.stages)))}, seed={self.seed})"


def _stage(value: Value) -> Stage:
    """The stage that an entry of a description is of."""
    given = value.field("stage")
    kind = STAGES.get(given.text()) or imported(given.text())
    if not isinstance(kind, type) or not issubclass(kind, Stage):
        kind = STAGES[given.text(among=STAGES)]
    parts = {name: part for name, part in value.mapping().items() if name != "stage"}
    arguments = {name: _argument(part) for name, part in parts.items()}
    try:
        return kind(**arguments)
    except TypeError as error:
        raise PipelineError(f"{kind.__name__}: {error}") from None


def _argument(value: Value) -> Any:
    """A stage's argument, which may be a stage itself, or several."""
    data = value.plain()  # no deeper than can be followed
    if isinstance(data, Mapping):
        return _stage(value)
    if isinstance(data, list) and any(isinstance(part, Mapping) for part in data):
        return tuple(_stage(part) for part in value.list())
    return tuple(data) if isinstance(data, list) else data


def _check_order(stages: tuple[Stage, ...]) -> None:
    for kind in (Shuffle, Decode, Echo, Batch):
        count = sum(isinstance(stage, kind) for stage in stages)
        if count > 1:
            raise PipelineError(f"a pipeline has at most one {kind.__name__}, but this has {count}: remove the others")
    for position, stage in enumerate(stages):
        if isinstance(stage, Cache):
            random = next((before for before in stages[:position] if before.draws), None)
            if random is not None:
                raise PipelineError(f"Cache after {random} would freeze its draws: put Cache before it")
            echo = next((before for before in stages[:position] if isinstance(before, Echo)), None)
            if echo is not None:
                raise PipelineError(
                    f"Cache keeps samples, but behind {echo} each is there several times: put it before"
                )
        if isinstance(stage, Shuffle) and any(isinstance(before, Echo) for before in stages[:position]):
            raise PipelineError(f"{stage} orders samples, not their echoes: put it before Echo")
    *earlier, last = [stage for stage in stages if isinstance(stage, Cache)] or [Cache()]
    for cache in earlier:
        if cache != Cache():
            raise PipelineError(
                f"of several caches the last one says how images are kept, but here {cache} stands before {last}: move "
                "its arguments there, or remove one Cache"
            )


def _check_labels(stages: tuple[Stage, ...], specs: tuple[ImageSpec, ...]) -> None:
    """What mixes a batch, or changes labels by draws, needs images of one size, and draws."""
    for stage, spec in zip(stages, specs, strict=False):
        if stage.mixes and not (spec.batched and stage.draws):
            rule = (
                "works on batches, but here images are single: put it behind Batch"
                if stage.draws
                else ("mixes a batch, so it needs a draw for each sample: set draws and numbers")
            )
            raise PipelineError(f"{stage} {rule}")
        if stage.changes_labels and stage.numbers and not spec.batched:
            raise PipelineError(f"{stage} changes labels by draws, so it works on batches: put it behind Batch")


def _shown(value: object) -> str:
    return value.__name__ if isinstance(value, type) else f"{type(value).__name__} {str(value)[:40]!r}"
