"""What a plan's cache keeps of its source's files between epochs: the key it is found by, and how it is filled and read
from Python.

What is kept is a JPEG, or of the kernel's own forms (``library.Form``), which only the kernel decodes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import greenload
from greenload.backends.base import Records
from greenload.backends.image_sizes import decode_of
from greenload.backends.native import library
from greenload.backends.native import store as stores
from greenload.backends.native.blobs import Blob, Own
from greenload.backends.native.library import Form, probe
from greenload.backends.native.runner import NativeRunner
from greenload.backends.native.store import Store, StoreError
from greenload.backends.readers import PACKAGES, Readers, ppm
from greenload.errors import PipelineError, SourceError
from greenload.machine import package_versions
from greenload.plans.keeping import KEEPER, last_cache
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Keeping
from greenload.sources import Source, read_many
from greenload.sources.files import FileSource
from greenload.sources.formats import FormatError
from greenload.specs import CACHE_FORMS, CacheForm
from greenload.stages import Decode, Stage
from greenload.stages import primitives as p
from greenload.system.notices import notify

_FORMS = {
    "encoded": Form.ENCODED,
    "transcoded": Form.TRANSCODED,
    "coefficients": Form.COEFFICIENTS,
    "planes": Form.PLANES,
    "pixels": Form.PIXELS,
    "resized": Form.ENCODED,  # binary PPM already
}

_DECODED = ("coefficients", "planes", "pixels", "resized")
"""Of these, what is kept of a file depends on what decodes it."""
OF_ITS_OWN = (Form.COEFFICIENTS, Form.PLANES, Form.PIXELS)
"""Forms that only the kernel reads: of other files than JPEG pixels are kept, not the files."""


def keeping_of(plan: Plan) -> Keeping | None:
    """What a plan's cache keeps; ``None`` where it has none, or one of tf.data's own."""
    return next((step.keeps for step in plan.steps if step.keeps), None)


def form_of(keeping: Keeping) -> Form:
    """The form that a plain JPEG is kept in. One that is to be turned is kept as a JPEG, which says how."""
    return _FORMS[keeping.form]


def kept_in(form: Form, plain: Any, jpeg: Any, where: Callable[..., Any]) -> Any:
    """The forms that files are kept in, as integers ``[n]``. The kernel's own don't say how they are to be turned.

    Args:
        form: of a plain JPEG.
        plain: whether each is one that the kernel decodes, and that isn't to be turned where ``form`` can't say so.
        jpeg: whether each is one that the kernel decodes.
        where: NumPy's or TensorFlow's.
    """
    return where(plain, int(form), where(jpeg, int(Form.TRANSCODED), int(Form.ENCODED)))


def decode_of_kept(plan: Plan) -> p.Decoding:
    """How a source's files are decoded where its plan's cache keeps them: here or behind the cache."""
    keeping = keeping_of(plan)
    return decode_of(keeping.filling if keeping and keeping.filling else plan.steps)


def key_of(plan: Plan) -> bytes:
    """The fingerprint of what a plan's cache keeps: of the source's files, what is done to them, and versions."""
    keeping = keeping_of(plan)
    assert keeping is not None
    return _key(plan.pipeline, _files(plan.pipeline.source), keeping.form, keeping.apart)


def _key(pipeline: Pipeline, files: str, form: CacheForm, apart: str = "") -> bytes:
    facts = {
        "source": files,
        "count": len(pipeline.source),
        "stages": [stage.to_dict() for stage in _work(pipeline)],
        "form": form,
        "apart": apart,
        "versions": [library.version().partition(";")[0], library.ABI, stores.BLOCKS_VERSION, greenload.__version__],
    }
    if form in _DECODED:
        facts["decoders"] = [library.fingerprint(), package_versions(PACKAGES)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()


def _files(source: Source) -> str:
    """The fingerprint of a source's files: without labels, which change nothing that is kept."""
    return source.files_fingerprint() if isinstance(source, FileSource) else source.fingerprint()


def open_store(plan: Plan) -> Store:
    """The store of a plan's cache: in a process the same one for all that keep the same in the same place.

    In memory it stays for as long as the plan's pipeline is referred to, so that a pipeline that is iterated over once
    an epoch finds what was kept in the last one.

    Raises:
        PipelineError: the folder can't be used.
        KernelMissing: the kernel can't be loaded.
    """
    keeping, key = keeping_of(plan), key_of(plan)
    assert keeping is not None
    folder = None if keeping.path is None else Path(keeping.path)

    def opened() -> Store:
        return Store(folder, key, len(plan.pipeline.source), keeping.budget)

    try:
        store = opened()
    except StoreError as error:
        _, cache = last_cache(plan.pipeline)
        raise PipelineError(
            f"{cache} can't keep images there: {error}: name a folder that can be written, or leave path out"
        ) from None
    if folder is not None:
        _describe(plan, folder, key)
    elif not keeping.apart:
        _hold(plan.pipeline, key, opened)
    return store


_HELD: dict[int, tuple[bytes, Store]] = {}
"""By the ``id`` of a pipeline: the key and a handle of what it keeps in memory."""


def _hold(pipeline: Pipeline, key: bytes, opened: Callable[[], Store]) -> None:
    """Keep a store open until a pipeline is no longer referred to, or keeps under another key."""
    known = _HELD.get(id(pipeline))
    if known is not None and known[0] == key:
        return
    _HELD[id(pipeline)] = key, opened()
    if known is None:
        weakref.finalize(pipeline, _let_go, id(pipeline)).atexit = False  # threads may still read then
    else:
        known[1].close()


def _let_go(pipeline: int) -> None:
    known = _HELD.pop(pipeline, None)
    if known is not None:
        known[1].close()


def _describe(plan: Plan, folder: Path, key: bytes) -> None:
    """Write beside what is kept in a folder what it is of, where that isn't there yet."""
    keeping = keeping_of(plan)
    if keeping is None or (stores.folder_of(folder, key) / stores.FACTS).exists():
        return
    when = datetime.now(UTC).isoformat(timespec="seconds")
    told = {"form": keeping.form, "auto": last_cache(plan.pipeline)[1].form == "auto", "when": when}
    with contextlib.suppress(OSError):  # no pixel depends on it
        stores.describe(folder, key, _facts(plan.pipeline) | told)


def _facts(pipeline: Pipeline) -> dict[str, Any]:
    """What people are told of what a pipeline keeps."""
    return {"source": str(pipeline.source), "stages": [str(stage) for stage in _work(pipeline)]}


@dataclass(frozen=True)
class KeptForm:
    """What a folder keeps of a pipeline's images in a form already."""

    form: CacheForm
    bytes: int
    auto: bool
    """Whether ``"auto"`` chose the form, when the first of them was kept."""


def kept_there(folder: Path, pipeline: Pipeline) -> list[KeptForm]:
    """What a folder keeps already of a pipeline's images as they are now, by form; that of most bytes first."""
    told = _told(folder, pipeline)
    if not told:  # without a look at each of the source's files
        return []
    try:
        files = _files(pipeline.source)
        keys = {_key(pipeline, files, form).hex(): form for form in CACHE_FORMS}
    except (library.KernelMissing, SourceError):  # it is said where it is read
        return []
    found = []
    for own in keys.keys() & told.keys():
        with contextlib.suppress(OSError):  # it is being removed
            size = sum(block.stat().st_size for block in (folder / own).glob(stores.BLOCKS))
            found.append(KeptForm(keys[own], size, told[own]))
    return sorted(found, key=lambda kept: -kept.bytes)


def _told(folder: Path, pipeline: Pipeline) -> dict[str, bool]:
    """The keys, of those below a folder, that say that they are of a pipeline's source and stages; and whether
    ``"auto"`` chose their form."""
    told = {}
    for file in folder.glob(f"*/{stores.FACTS}"):
        try:
            facts = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(facts, dict) and facts.items() >= _facts(pipeline).items():
            told[file.parent.name] = facts.get("auto") is True
    return told


def _work(pipeline: Pipeline) -> list[Stage]:
    """The stages that make of a file what is decoded behind a pipeline's cache, ``Decode`` the first."""
    place, _ = last_cache(pipeline)
    stages = list(zip(pipeline.stages, pipeline.specs, strict=False))
    decode = next(index for index, stage in enumerate(pipeline.stages) if isinstance(stage, Decode))
    between = [stage for stage, spec in stages[decode + 1 : place] if stage.operations(spec)]
    return [pipeline.stages[decode], *between]


_A_BLOCK = re.compile(r"\S+" + re.escape(stores.BLOCKS.lstrip("*")))
"""A block's name, which is another each time that it is tried to write what is kept."""


class Trouble:
    """Warns of what went wrong with what a plan's cache keeps, once: a full disk, damaged blocks."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self._cache, self._store = last_cache(plan.pipeline)[1], store
        self._said = ""

    def tell(self) -> None:
        """Warn of what is known."""
        trouble = self._store.state().trouble
        kind = _A_BLOCK.sub("", trouble)
        if kind and kind != self._said:
            self._said = kind
            notify(f"{self._cache}: {trouble}")

    def tell_all(self) -> None:
        """Warn where a stream has ended, once its last images are written: closing a store tells nobody."""
        self._store.flush()
        self.tell()


class Keeper:
    """Reads a source's files by way of a plan's cache, which it fills. Safe in threads.

    Args:
        plan: whose cache keeps files.
        readers: of the plan; closed with this.

    Raises:
        PipelineError: the cache's folder can't be used.
        KernelMissing: the kernel can't be loaded.
    """

    def __init__(self, plan: Plan, readers: Readers) -> None:
        keeping = keeping_of(plan)
        assert keeping is not None
        self._form, self._decode = form_of(keeping), decode_of_kept(plan)
        self._plan, self._readers = plan, readers
        self._numbers = DrawLayout.of(plan.pipeline)
        self._store = open_store(plan)
        self._filler = NativeRunner(plan, filling_of(plan), readers) if keeping.filling else None
        self._coming: set[int] = set()
        self._changed = threading.Condition()
        self._trouble = Trouble(plan, self._store)

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
        own = self._filler is not None or self._form in OF_ITS_OWN
        return blob if own or blob.is_jpeg else blob.tobytes()

    def _filled(self, source: Source, indices: Sequence[int]) -> dict[int, Any]:
        """Some samples, read, and kept as far as there is room."""
        if not indices:
            return {}
        files = read_many(source, indices)
        images: Sequence[Any]
        if self._filler is None:
            forms = self._forms(files)
            images = self._converted(files, [place for place, form in enumerate(forms) if form is None])
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
        own, decode = self._form in OF_ITS_OWN, self._decode
        plain = probe(files, decode.exif, decode.max_bytes)[:, 0] != 0
        jpeg = probe(files, False, decode.max_bytes)[:, 0] != 0 if decode.exif and own else plain
        forms = kept_in(self._form, plain, jpeg, np.where)
        return [Form(form) if known else None for form, known in zip(forms.tolist(), jpeg | (not own), strict=True)]

    def _converted(self, files: Sequence[bytes], places: Sequence[int]) -> list[bytes]:
        """Files, with binary PPM of upright pixels in some places; where a file can't be decoded it stays."""
        images, foreign = list(files), {}
        for place in places:
            with contextlib.suppress(FormatError):
                foreign[place] = self._readers.foreign(files[place], KEEPER, self._decode)
        results = self._readers.as_files(list(foreign.values()), ppm)
        for place, result in zip(foreign, results, strict=True):
            if not isinstance(result, FormatError):
                images[place] = Own(result)
        return images

    def tell_trouble(self) -> None:
        """Warn of what went wrong with what is kept, once: a full disk, damaged blocks."""
        self._trouble.tell()

    def forget(self) -> None:
        """Forget what is kept: for measuring how it is filled."""
        self._store.forget()

    def close(self) -> None:
        """Give it back, and warn of what went wrong until now; no image that it gave may be in use."""
        if self._filler is not None:
            self._filler.close()
        self._readers.close()
        try:
            self._trouble.tell_all()
        finally:
            self._store.close()


def filling_of(plan: Plan) -> Segment:
    """The steps that make of a file the image that is kept, where there are some."""
    keeping, (place, _) = keeping_of(plan), last_cache(plan.pipeline)
    assert keeping is not None
    return Segment(KEEPER, keeping.filling, 0, place)
