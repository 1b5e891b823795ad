"""The cache of a plan: the key that it is found by, the store that holds it, and what a folder holds of it already.

What is kept is a JPEG, or of the kernel's own forms (``abi.Form``), which only the kernel decodes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import greenload
from greenload.backends.image_sizes import decode_of
from greenload.backends.native import abi, library
from greenload.backends.native import store as stores
from greenload.backends.native.abi import Form
from greenload.backends.native.store import Store, StoreError
from greenload.backends.readers import PACKAGES
from greenload.errors import BackendUnavailable, PipelineError, SourceError
from greenload.machine import package_versions
from greenload.plans.cache_steps import CACHE_BACKEND, last_cache
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import CacheSpec
from greenload.sources import Source
from greenload.sources.files import FileSource
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
KERNEL_ONLY_FORMS = (Form.COEFFICIENTS, Form.PLANES, Form.PIXELS)
"""Forms that only the kernel reads: of other files than JPEG pixels are kept, not the files."""


def planned_cache(plan: Plan) -> CacheSpec | None:
    """What a plan's cache keeps; ``None`` where it has none, or one of tf.data's own."""
    return next((step.keeps for step in plan.steps if step.keeps), None)


def kernel_form(cache_spec: CacheSpec) -> Form:
    """The form that a plain JPEG is kept in. One that is to be turned is kept as a JPEG, which says how."""
    return _FORMS[cache_spec.form]


def forms_of_files(form: Form, plain: Any, jpeg: Any, where: Callable[..., Any]) -> Any:
    """The forms that files are kept in, as integers ``[n]``. The kernel's own don't say how they are to be turned.

    Args:
        form: of a plain JPEG.
        plain: whether each is one that the kernel decodes, and that isn't to be turned where ``form`` can't say so.
        jpeg: whether each is one that the kernel decodes.
        where: NumPy's or TensorFlow's.
    """
    return where(plain, int(form), where(jpeg, int(Form.TRANSCODED), int(Form.ENCODED)))


def cached_decode(plan: Plan) -> p.Decoding:
    """How a source's files are decoded where its plan's cache keeps them: here or behind the cache."""
    cache_spec = planned_cache(plan)
    return decode_of(cache_spec.filling if cache_spec and cache_spec.filling else plan.steps)


def key_of(plan: Plan) -> bytes:
    """The fingerprint of what a plan's cache keeps: of the source's files, what is done to them, and versions."""
    cache_spec = planned_cache(plan)
    assert cache_spec is not None
    return _key(plan.pipeline, _files(plan.pipeline.source), cache_spec.form, cache_spec.apart)


def _key(pipeline: Pipeline, files: str, form: CacheForm, apart: str = "") -> bytes:
    facts = {
        "source": files,
        "count": len(pipeline.source),
        "stages": [stage.to_dict() for stage in _work(pipeline)],
        "form": form,
        "apart": apart,
        "versions": [library.version().partition(";")[0], abi.ABI, stores.BLOCKS_VERSION, greenload.__version__],
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
        BackendUnavailable: the kernel can't be loaded.
    """
    cache_spec, key = planned_cache(plan), key_of(plan)
    assert cache_spec is not None
    folder = None if cache_spec.path is None else Path(cache_spec.path)

    def opened() -> Store:
        return Store(folder, key, len(plan.pipeline.source), cache_spec.budget, cache_spec.in_common)

    try:
        store = opened()
    except StoreError as error:
        _, cache = last_cache(plan.pipeline)
        raise PipelineError(
            f"{cache} can't keep images there: {error}: name a folder that can be written, or leave path out"
        ) from None
    if folder is not None:
        _describe(plan, folder, key)
    elif not cache_spec.apart:
        _hold(plan.pipeline, key, opened)
    return store


_HELD: dict[int, tuple[tuple[int, bytes], Store]] = {}
"""By the ``id`` of a pipeline: the process and key, and a handle, of what it keeps in memory. In a child of the process
what it held is its parent's: it keeps its own in the place of that."""


def _hold(pipeline: Pipeline, key: bytes, opened: Callable[[], Store]) -> None:
    """Keep a store open until a pipeline is no longer referred to, or keeps under another key."""
    known, own = _HELD.get(id(pipeline)), (os.getpid(), key)
    if known is not None and known[0] == own:
        return
    _HELD[id(pipeline)] = own, opened()
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
    cache_spec = planned_cache(plan)
    if cache_spec is None or (stores.folder_of(folder, key) / stores.FACTS).exists():
        return
    when = datetime.now(UTC).isoformat(timespec="seconds")
    told = {"form": cache_spec.form, "auto": last_cache(plan.pipeline)[1].form == "auto", "when": when}
    with contextlib.suppress(OSError):  # no pixel depends on it
        stores.describe(folder, key, _facts(plan.pipeline) | told)


def _facts(pipeline: Pipeline) -> dict[str, Any]:
    """What people are told of what a pipeline keeps."""
    return {"source": str(pipeline.source), "stages": [str(stage) for stage in _work(pipeline)]}


@dataclass(frozen=True)
class CachedForm:
    """What a folder keeps of a pipeline's images in a form already."""

    form: CacheForm
    bytes: int
    auto: bool
    """Whether ``"auto"`` chose the form, when the first of them was kept."""


def cached_forms(folder: Path, pipeline: Pipeline) -> list[CachedForm]:
    """What a folder keeps already of a pipeline's images as they are now, by form; that of most bytes first."""
    told = _told(folder, pipeline)
    if not told:  # without a look at each of the source's files
        return []
    try:
        files = _files(pipeline.source)
        keys = {_key(pipeline, files, form).hex(): form for form in CACHE_FORMS}
    except (BackendUnavailable, SourceError):  # it is said where it is read
        return []
    forms = []
    for own in keys.keys() & told.keys():
        with contextlib.suppress(OSError):  # it is being removed
            size = sum(block.stat().st_size for block in (folder / own).glob(stores.BLOCKS))
            forms.append(CachedForm(keys[own], size, told[own]))
    return sorted(forms, key=lambda kept: -kept.bytes)


def _told(folder: Path, pipeline: Pipeline) -> dict[str, bool]:
    """The keys, of those below a folder, that say that they are of a pipeline's source and stages; and whether
    ``"auto"`` chose their form."""
    told = {}
    try:
        files = list(folder.glob(f"*/{stores.FACTS}"))
    except OSError:  # it is said where the folder is opened
        return {}
    for file in files:
        try:
            facts = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(facts, dict) and facts.items() >= _facts(pipeline).items():
            told[file.parent.name] = facts.get("auto") is True
    return told


def _work(pipeline: Pipeline) -> list[Stage]:
    """The stages that make of a file what is decoded behind a pipeline's cache, ``Decode`` the first."""
    last, _ = last_cache(pipeline)
    stages = list(zip(pipeline.stages, pipeline.specs, strict=False))
    decode = next(index for index, stage in enumerate(pipeline.stages) if isinstance(stage, Decode))
    between = [stage for stage, spec in stages[decode + 1 : last] if stage.operations(spec)]
    return [pipeline.stages[decode], *between]


_A_BLOCK = re.compile(r"\S+" + re.escape(stores.BLOCKS.lstrip("*")))
"""A block's name, which is another each time that it is tried to write what is kept."""


class StoreWarnings:
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


def filling_segment(plan: Plan) -> Segment:
    """The steps that make of a file the image that is kept, where there are some."""
    cache_spec, (last, _) = planned_cache(plan), last_cache(plan.pipeline)
    assert cache_spec is not None
    return Segment(CACHE_BACKEND, cache_spec.filling, 0, last)
