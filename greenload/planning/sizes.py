"""Estimates how large images are at each step, in the mean, from the headers of a few records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.steps import Step
from greenload.sources import FileSource, RecordSource, Source, formats, read_many
from greenload.specs import Truncation
from greenload.stages import primitives as p

RECORDS = 16
"""Records whose headers are read."""
_HEIGHT, _WIDTH, _BYTES = 375, 500, 82_000
ASSUMED = f"sizes: assumed to be {_WIDTH}×{_HEIGHT} JPEG of {_BYTES // 1000} kB, as no record could be read"
"""What is said, and done, where there is nothing to go by."""


@dataclass(frozen=True)
class SizedSteps:
    """Steps with their sizes, and what these rest on."""

    steps: tuple[Step, ...]
    """With ``size_in`` and ``size_out``."""
    kinds: Mapping[str, float]
    """Which kinds of files there are, keys of ``formats.KINDS``, and the share of each; 0 for one that is rare. Empty
    where records aren't encoded."""
    note: str
    """What the sizes rest on; empty where they are known."""
    decoded: float = 0.0
    """Mean pixels of an image as it is decoded; of what a cache keeps, where decoding stands behind it."""


@dataclass(frozen=True)
class _Seen:
    """What the headers said: one number a record."""

    index: NDArray[np.int64]
    height: NDArray[np.int64]
    width: NDArray[np.int64]
    size: float
    """Mean bytes while encoded, else pixels."""
    kinds: Mapping[str, float]
    note: str


def estimate(pipeline: Pipeline, steps: Sequence[Step], records: int = RECORDS) -> SizedSteps:
    """Mean sizes of images at each step, with the draws of epoch 0.

    Of encoded records the headers of a few are read: the first where records can only be read in order, else evenly
    spread, and one file more of each other extension. Where none can be read, typical photographs are assumed. Never
    raises what a source raises.

    Args:
        pipeline: whose records they are.
        steps: its steps, of ``steps_of``.
        records: how many are looked at.
    """
    seen = _seen(pipeline, records)
    try:
        areas, decoded = _followed(pipeline, steps, seen)
    except Exception:  # an image too small for a stage, or a user's stage: what is wrong is said where it runs
        decoded = float(np.mean(seen.height * seen.width))
        areas = [seen.size if step.spec_in.encoded else decoded for step in steps]
        areas.append(decoded)
    sized = (
        replace(step, size_in=before, size_out=after)
        for step, before, after in zip(steps, areas[:-1], areas[1:], strict=True)
    )
    return SizedSteps(tuple(sized), seen.kinds, seen.note, decoded)


def _seen(pipeline: Pipeline, records: int) -> _Seen:
    source = pipeline.source
    if not source.spec.encoded:
        return _of_pixels(source, records)
    try:
        headers = list(_headers(source, records, pipeline.truncated))
    except Exception:  # planning must not fail for a source that can't be read: loading says why
        headers = []
    means = [(index, header, size) for index, header, size, counts in headers if counts]
    if not means:
        sides = np.array([_HEIGHT]), np.array([_WIDTH])
        return _Seen(np.array([0]), *sides, float(_BYTES), {"JPEG": 1.0}, ASSUMED)
    counted = Counter(header.kind for _, header, _ in means)
    kinds = dict.fromkeys((header.kind for _, header, _, _ in headers), 0.0)
    kinds |= {kind: count / len(means) for kind, count in counted.items()}
    return _Seen(
        np.array([index for index, _, _ in means], np.int64),
        np.array([header.height for _, header, _ in means], np.int64),
        np.array([header.width for _, header, _ in means], np.int64),
        float(np.mean([size for _, _, size in means])),
        kinds,
        f"sizes: means of {len(means)} records",
    )


def _of_pixels(source: Source, records: int) -> _Seen:
    """Records that are pixels: their size is known, or that of the first is taken."""
    height, width, _ = source.spec.image_shape
    note = ""
    try:
        index = np.array(spread_indices(source, records))
        if height is None or width is None:
            height, width = np.shape(source.read(0))[:2]
            note = "sizes: of the first record"
    except Exception:
        index = np.array([0])
        height, width, note = height or _HEIGHT, width or _WIDTH, ASSUMED
    count = len(index)
    return _Seen(index, np.full(count, height), np.full(count, width), float(height * width), {}, note)


def _headers(source: Source, records: int, truncated: Truncation) -> Iterator[tuple[int, formats.Header, int, bool]]:
    """Index, header and bytes of some records that can be read, and whether the record counts for the means."""
    for index, data, counts in some_records(source, records):
        try:
            yield index, formats.opened(data, truncated=truncated)[1], len(data), counts
        except formats.FormatError:
            continue


def some_records(source: Source, records: int = RECORDS) -> Iterator[tuple[int, Any, bool]]:
    """Index and image of some records that can be read, and whether the record stands for others.

    They are those of `spread_indices`; then one file more of each other extension, which stands for itself.
    """
    chosen = spread_indices(source, records)
    rare = [index for index in _first_of_each_extension(source) if index not in chosen]
    for index, data in _read(source, chosen + rare):
        yield index, data, index in chosen


def spread_indices(source: Source, records: int) -> list[int]:
    """Indices of some records, ascending: evenly spread; the first ones where records can only be read in order."""
    if isinstance(source, RecordSource) and source.sequential:
        return list(range(min(records, len(source))))
    indices: list[int] = np.unique(np.linspace(0, len(source) - 1, records).astype(np.int64)).tolist()
    return indices


def _read(source: Source, indices: Sequence[int]) -> Iterator[tuple[int, Any]]:
    try:
        yield from zip(indices, read_many(source, indices), strict=True)
        return
    except Exception:
        pass  # one of them is bad: the others, one by one
    for index in indices:
        try:
            data = source.read(index)
        except Exception:
            continue
        yield index, data


def _first_of_each_extension(source: Source) -> list[int]:
    """A file of each extension: a folder of JPEGs may hold a few of another kind, which some backends can't read."""
    if not isinstance(source, FileSource):
        return []
    paths = source.paths
    ends = paths.offsets[1:]
    if not len(ends) or (np.diff(paths.offsets) < 4).any():
        return []
    letters = np.frombuffer(paths.blob, np.uint8)
    last = np.zeros(len(ends), np.uint32)
    for back in range(4, 0, -1):
        last = (last << np.uint32(8)) | (letters[ends - back] | np.uint8(0x20))
    return sorted(np.unique(last, return_index=True)[1].tolist())[:RECORDS]


def _followed(pipeline: Pipeline, steps: Sequence[Step], seen: _Seen) -> tuple[list[float], float]:
    """What enters each step, and last what leaves: mean pixels, bytes while encoded; and what ``SizedSteps.decoded``
    says."""
    numbers = DrawLayout.of(pipeline)
    drawn = numbers.prepare(pipeline.seed, 0, seen.index)
    height, width = seen.height, seen.width
    params: dict[int | None, Any] = {}
    after: list[float] = []
    for index, stage in enumerate(pipeline.stages):
        params[index] = stage.params(numbers.of_stage(drawn, index), height, width)
        height, width = stage.out_size(params[index], height, width)
        after.append(float(np.mean(height * width)))
    decoded = float(np.mean(seen.height * seen.width))
    areas = [seen.size]
    for step in steps:
        filling = step.keeps.filling if step.keeps else ()
        for inner in filling:
            decoded = _area(inner, params.get(inner.stage), after, decoded, decoded)
        areas.append(_area(step, params.get(step.stage), after, decoded, areas[-1]))
    return areas, decoded


def _area(step: Step, params: Any, after: Sequence[float], decoded: float, before: float) -> float:
    match step.primitive:
        case p.Decode():
            return decoded
        case p.DecodeCrop() | p.Crop():
            return float(np.mean(params["window"][..., 2] * params["window"][..., 3]))
        case p.Resize(height=int(height), width=int(width)) | p.Pad(height=int(height), width=int(width)):
            return float(height * width)
        case p.Resize() | p.Pad():
            return float(np.mean(params["size"][..., 0] * params["size"][..., 1]))
        case p.Call() if step.stage is not None:
            return after[step.stage]
    return before
