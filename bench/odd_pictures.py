"""Odd pictures through every backend: what two of them read has the same pixels, whole and cropped while decoding.

    python -m bench.odd_pictures [--every 1] [--out bench-odd-pictures.json]

The pictures (``tests/support/odd_images.py``) are whole files, as cameras, scanners, old programs and editors write
them: kinds × depths × palettes × transparency × frames × headers. A backend reads a picture if ``formats.header`` says
so. An exception is one that two backends read to different pixels, that a backend can't decode although it says that it
reads it, or that tf's graph decodes although ``formats.header`` refuses it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from bench.corrupted import in_batches, through_tf
from greenload.backends.native.library import why_missing
from greenload.backends.tables import support
from greenload.machine import machine
from greenload.sources import formats

FORMAT = "greenload.odd-pictures/1"
BACKENDS = ("tf", "dali-cpu", "pillow", *(("native",) if not why_missing() else ()))
_SIDES = (128, 160)  # of what is compared; larger than any of the pictures
_WINDOW = (16, 20)


@dataclass(frozen=True)
class Picture:
    """What became of one picture."""

    name: str
    kind: str
    """Its kind by ``formats.header``; empty if it is refused."""
    readers: tuple[str, ...]
    """The backends that read it."""
    difference: int
    """The greatest between two backends' pixels, in levels."""
    faults: tuple[str, ...]
    """Why it is an exception; empty if it isn't."""


def look(pictures: Mapping[str, bytes], backends: Sequence[str] = BACKENDS) -> list[Picture]:
    """Decode every picture on every backend that reads it, whole and cropped, and compare."""
    names, files = list(pictures), list(pictures.values())
    reads = {backend: [_refusal(data, backend) == "" for data in files] for backend in backends}
    found: dict[tuple[int, str], dict[str, Any]] = {(index, way): {} for index in range(len(files)) for way in _WAYS}
    faults: list[list[str]] = [[] for _ in files]
    for backend in backends:
        for way in _WAYS:
            for index, (image, why) in enumerate(decoded(files, backend, way)):
                if reads[backend][index] and image is None:
                    faults[index].append(f"{backend}, {way}: {why}")
                elif image is not None and not reads[backend][index]:
                    faults[index].append(f"{backend}, {way}: decoded, though {_refusal(files[index], backend)}")
                elif image is not None:
                    found[index, way][backend] = np.asarray(image).astype(int)
    results = []
    for index, name in enumerate(names):
        difference = 0
        for way in _WAYS:
            images = found[index, way]
            for backend, image in images.items():
                apart = int(abs(image - next(iter(images.values()))).max())
                if apart:
                    faults[index].append(f"{backend}, {way}: {apart} levels from {next(iter(images))}")
                difference = max(difference, apart)
        readers = tuple(backend for backend in backends if reads[backend][index])
        results.append(Picture(name, kind(files[index]), readers, difference, tuple(faults[index])))
    return results


_WAYS = ("whole", "cropped")


def _refusal(data: bytes, backend: str) -> str:
    try:
        formats.header(data, support(backend))
    except formats.FormatError as error:
        return str(error)
    return ""


def kind(data: bytes) -> str:
    """The kind of a picture; empty if no backend reads it."""
    try:
        return formats.header(data).kind
    except formats.FormatError:
        return ""


def decoded(files: list[bytes], backend: str, way: str) -> list[tuple[Any, str]]:
    """Each file's pixels and ``""``, or ``None`` and why it is bad."""
    from greenload import Batch, CenterCrop, Decode, Pad, Pipeline, RandomCrop
    from greenload.planning.choose import make_plan
    from greenload.plans.params import DrawLayout
    from greenload.sources import Files

    # With a border between them decoding and cropping don't become one.
    whole = (Decode(), Pad(1), CenterCrop(_SIDES))
    stages = whole if way == "whole" else (Decode(), RandomCrop(_WINDOW, pad_if_needed=True))
    pipeline = Pipeline(Files([str(i) for i in range(len(files))]), *stages, Batch(16), seed=5)
    plan = make_plan(pipeline, backend, threads=1)
    numbers = DrawLayout.of(pipeline).prepare(5, 0, np.arange(len(files)))
    return (through_tf if backend == "tf" else in_batches)(plan, files, numbers)


def pictures(every: int = 1) -> dict[str, bytes]:
    """All pictures, or one of so many."""
    from odd_images import pictures as made

    return {name: data for index, (name, data) in enumerate(made().items()) if index % every == 0}


def summary(found: Sequence[Picture]) -> str:
    """What became of all, and every exception."""
    lines = [f"{picture.name}: {'; '.join(picture.faults)}" for picture in found if picture.faults]
    shared = [picture for picture in found if len(picture.readers) > 1]
    kinds = Counter(picture.kind for picture in shared)
    lines.append(
        f"{len(found)} odd pictures, {len(shared)} read by two backends or more "
        f"({', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}): "
        f"{sum(bool(picture.faults) for picture in found)} exceptions, at most "
        f"{max((picture.difference for picture in found), default=0)} levels apart"
    )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """The command; 1 if there is an exception."""
    parser = argparse.ArgumentParser(prog="python -m bench.odd_pictures", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="take one picture of so many")
    parser.add_argument("--out", type=Path, default=Path("bench-odd-pictures.json"), help="the JSON file to write")
    options = parser.parse_args(argv)
    found = look(pictures(options.every))
    print(summary(found))
    report = {"format": FORMAT, "machine": asdict(machine()), "pictures": [asdict(picture) for picture in found]}
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any(picture.faults for picture in found) else 0


if __name__ == "__main__":
    sys.exit(main())
