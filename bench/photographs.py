"""The photographs that contestants load: a folder's, or samples."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.by_hand import Workload


@contextmanager
def photos(given: str | None, images: int) -> Iterator[str]:
    """The folder of photos; sample photographs in a folder that is removed afterwards, if none is given."""
    if given is not None:
        yield os.path.abspath(given)
        return
    from greenload.sources.samples import make_samples

    with tempfile.TemporaryDirectory() as folder:
        print(f"making {images} sample photographs", file=sys.stderr)
        target = os.path.join(folder, "sample")
        make_samples(target, images=images)
        yield target


def workload(folder: str, batch: int, threads: int, most: int | None = None) -> Workload:
    """The JPEGs of a folder, and in the page cache.

    Args:
        folder: of class folders.
        batch: images in a batch.
        threads: that work.
        most: take that many, evenly spread; all if not given.
    """
    from greenload import ImageFolder

    source = ImageFolder(folder)
    kept = [i for i, path in enumerate(source.paths) if Path(path).read_bytes()[:3] == b"\xff\xd8\xff"]
    if most is not None and len(kept) > most:
        kept = [kept[k * len(kept) // most] for k in range(most)]
    paths, labels = [source.paths[i] for i in kept], [int(source.labels[i]) for i in kept]
    return Workload(tuple(paths), tuple(labels), batch=batch, threads=threads)
