"""Reads a source's files by way of a plan's cache, from Python."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from greenload.backends.base import Records
from greenload.backends.native.abi import Form
from greenload.backends.native.blobs import Blob, Own
from greenload.backends.native.cache import (
    KERNEL_ONLY_FORMS,
    StoreWarnings,
    cached_decode,
    filling_segment,
    forms_of_files,
    kernel_form,
    open_store,
    planned_cache,
)
from greenload.backends.native.library import probe
from greenload.backends.native.runner import NativeRunner
from greenload.backends.readers import Readers, ppm
from greenload.plans.cache_steps import CACHE_BACKEND
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan
from greenload.sources import Source, read_many
from greenload.sources.formats import FormatError


class CachedReader:
    """Reads a source's files by way of a plan's cache, which it fills. Safe in threads.

    Args:
        plan: whose cache keeps files.
        readers: of the plan; closed with this.

    Raises:
        PipelineError: the cache's folder can't be used.
        BackendUnavailable: the kernel can't be loaded.
    """

    def __init__(self, plan: Plan, readers: Readers) -> None:
        cache_spec = planned_cache(plan)
        assert cache_spec is not None
        self._form, self._decode = kernel_form(cache_spec), cached_decode(plan)
        self._plan, self._readers = plan, readers
        self._numbers = DrawLayout.of(plan.pipeline)
        self._store = open_store(plan)
        self._filler = NativeRunner(plan, filling_segment(plan), readers) if cache_spec.filling else None
        self._coming: set[int] = set()
        self._changed = threading.Condition()
        self._warnings = StoreWarnings(plan, self._store)

    def read(self, source: Source, indices: Sequence[int]) -> list[Any]:
        """Several records as decoding behind the cache takes them: what is kept of each, else its file, or an image in
        a form of the kernel's own. Only what isn't kept is read.

        Raises:
            RecordError: a file can't be read, or not be made what is kept; names it.
        """
        images = self._kept(indices)
        lacking = [index for index in dict.fromkeys(indices) if index not in images]
        with self._claimed(lacking) as own:
            images |= self._kept(own)  # what another thread has kept since
            images |= self._filled(source, [index for index in own if index not in images])
        if others := [index for index in lacking if index not in images]:
            with self._changed:
                self._changed.wait_for(lambda: self._coming.isdisjoint(others))
            images |= self._kept(others)
            images |= self._filled(source, [index for index in others if index not in images])
        return [images[index] for index in indices]

    @contextlib.contextmanager
    def _claimed(self, indices: Sequence[int]) -> Iterator[list[int]]:
        """Those of some samples that no other thread reads meanwhile."""
        with self._changed:
            own = [index for index in indices if index not in self._coming]
            self._coming.update(own)
        try:
            yield own
        finally:
            with self._changed:
                self._coming.difference_update(own)
                self._changed.notify_all()

    def _kept(self, indices: Sequence[int]) -> dict[int, Any]:
        """What is kept of some samples, by index."""
        blobs = zip(indices, self._store.take(indices), strict=True)
        return {index: self._taken(blob) for index, blob in blobs if blob is not None}

    def _taken(self, blob: Blob) -> Blob | bytes:
        """What is kept of a sample as it is handed on: files that only other backends decode are bytes."""
        own = self._filler is not None or self._form in KERNEL_ONLY_FORMS
        return blob if own or blob.is_jpeg else blob.tobytes()

    def _filled(self, source: Source, indices: Sequence[int]) -> dict[int, Any]:
        """Some samples, read, and kept as far as there is room."""
        if not indices:
            return {}
        files = read_many(source, indices)
        images: Sequence[Any]
        if self._filler is None:
            forms = self._forms(files)
            images = self._converted(files, [row for row, form in enumerate(forms) if form is None])
        else:
            numbers = self._numbers.prepare(self._plan.pipeline.seed, 0, np.array(indices))
            records = Records(files, numbers, [source.name(index) for index in indices])
            images = [Own(ppm(np.asarray(image))) for image in self._filler.run(records)]
            forms = [None] * len(images)
        return {
            index: self._keep(index, image, form) for index, image, form in zip(indices, images, forms, strict=True)
        }

    def _keep(self, index: int, image: bytes, form: Form | None) -> Any:
        """An image, kept if there is room; ``form`` of a file, ``None`` of what was converted, or can't be."""
        if form is None and not isinstance(image, Own):
            return image  # a bad file: what decodes it says why
        blob = self._store.keep(index, image, Form.ENCODED if form is None else form)
        return image if blob is None else self._taken(blob)

    def _forms(self, files: Sequence[bytes]) -> list[Form | None]:
        """In which form each file is kept; ``None`` where another backend has to decode it first."""
        own, decode = self._form in KERNEL_ONLY_FORMS, self._decode
        plain = probe(files, decode.exif, decode.max_bytes)[:, 0] != 0
        jpeg = probe(files, False, decode.max_bytes)[:, 0] != 0 if decode.exif and own else plain
        forms = forms_of_files(self._form, plain, jpeg, np.where)
        return [Form(form) if known else None for form, known in zip(forms.tolist(), jpeg | (not own), strict=True)]

    def _converted(self, files: Sequence[bytes], rows: Sequence[int]) -> list[bytes]:
        """Files, with binary PPM of upright pixels in some rows; where a file can't be decoded it stays."""
        images, foreign = list(files), {}
        for row in rows:
            with contextlib.suppress(FormatError):
                foreign[row] = self._readers.foreign(files[row], CACHE_BACKEND, self._decode)
        results = self._readers.as_files(list(foreign.values()), ppm)
        for row, result in zip(foreign, results, strict=True):
            if not isinstance(result, FormatError):
                images[row] = Own(result)
        return images

    def tell_trouble(self) -> None:
        """Warn of what went wrong with what is kept, once: a full disk, damaged blocks."""
        self._warnings.tell()

    def forget(self) -> None:
        """Forget what is kept: for measuring how it is filled."""
        self._store.forget()

    def close(self) -> None:
        """Give it back, and warn of what went wrong until now; no image that it gave may be in use."""
        if self._filler is not None:
            self._filler.close()
        self._readers.close()
        try:
            self._warnings.tell_all()
        finally:
            self._store.close()
