"""What a plan's cache keeps, inside TensorFlow's graph: batches read it, and fill it, without a call into Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from greenload.backends.image_sizes import decode_of
from greenload.backends.native.abi import Form, Status
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
from greenload.backends.native.graph_files import GraphFiles, replaced
from greenload.backends.native.graph_inputs import Inputs
from greenload.backends.native.op import keep, make, probe, recall, store_attribute
from greenload.backends.readers import Readers
from greenload.plans.plan import Plan
from greenload.system.frameworks import tf

Read = Callable[[Any], Any]
"""From indices of samples, int64 ``[k]``, to their files, strings; empty where one can't be read."""


class CachedReaderGraph:
    """Reads a source's files by way of a plan's cache, which it fills.

    Args:
        plan: whose cache keeps files.
        readers: of the plan.
        helpers: threads that help the one that fills the cache.

    Raises:
        PipelineError: the cache's folder can't be used.
    """

    def __init__(self, plan: Plan, readers: Readers, helpers: int = 0) -> None:
        self._helpers = helpers
        cache_spec = planned_cache(plan)
        assert cache_spec is not None
        # Operations open it anew wherever they run. This one stays for what they kept between two iterators.
        self._store = open_store(plan)
        folder = None if cache_spec.path is None else Path(cache_spec.path)
        self._attribute = store_attribute(
            folder, self._store.key, len(plan.pipeline.source), cache_spec.budget, cache_spec.in_common
        )
        self._decode, self._form = cached_decode(plan), kernel_form(cache_spec)
        self._files = GraphFiles(self._decode, readers)
        self._making = _Making(plan, readers, helpers) if cache_spec.filling else None
        self._warnings = StoreWarnings(plan, self._store)

    @property
    def own_forms(self) -> bool:
        """Whether what it gives may be in a form that only the kernel reads."""
        return self._making is not None or self._form in KERNEL_ONLY_FORMS

    def read(self, indices: Any, read: Read) -> Any:
        """What is kept of samples, or else their files, which are kept as far as there is room; strings ``[n]``. They
        are valid as long as this is. A file that can't be made what is kept is empty.

        Args:
            indices: int64 ``[n]``.
            read: is called for those that aren't kept.
        """
        kept = recall(indices, self._attribute)
        lacking = tf.equal(tf.strings.length(kept), 0)

        def filled() -> Any:
            rows = tf.where(lacking)
            which = tf.gather_nd(indices, rows)
            (done,) = replaced([kept], rows, [self._kept(which, read(which))])
            return done

        return tf.ensure_shape(tf.cond(tf.reduce_any(lacking), filled, lambda: kept), (None,))

    def _kept(self, indices: Any, files: Any) -> Any:
        if self._making is not None:
            files, forms = self._making.images(files), tf.fill(tf.shape(indices), int(Form.ENCODED))
        else:
            files, forms = self._convertible(files)
        return keep(indices, files, forms, self._attribute, self._helpers)

    def _convertible(self, files: Any) -> tuple[Any, Any]:
        """Files, and the form that each is kept in. Where that is one of the kernel's own, files that another backend
        decodes are binary PPMs."""
        own, decode = self._form in KERNEL_ONLY_FORMS, self._decode
        plain, _ = probe(files, decode.exif, decode.max_bytes)
        jpeg = probe(files, False, decode.max_bytes)[0] if decode.exif and own else plain
        forms = forms_of_files(self._form, plain, jpeg, tf.where)
        if not own:
            return files, forms

        def converted() -> Any:
            rows = tf.where(~jpeg)
            images, _ = self._files.pixels(tf.gather_nd(files, rows))
            (done,) = replaced([files], rows, [images])
            return done

        return tf.cond(tf.reduce_all(jpeg), lambda: files, converted), forms

    def tell_trouble(self) -> None:
        """Warn of what went wrong with what is kept, once: a full disk, damaged blocks."""
        self._warnings.tell_all()

    def forget(self) -> None:
        """Forget what is kept."""
        self._store.forget()


class _Making:
    """Makes of files the images that are kept, where stages stand between decoding and the cache."""

    def __init__(self, plan: Plan, readers: Readers, helpers: int) -> None:
        self._helpers = helpers
        segment = filling_segment(plan)
        self._inputs = Inputs(plan, segment)
        self._files = GraphFiles(decode_of(segment.steps), readers)

    def images(self, files: Any) -> Any:
        """Binary PPMs of files, strings ``[n]``; empty where one can't be decoded, or is too small."""
        readable, sizes = self._files.many(files)
        inputs = self._inputs.of(sizes, None)
        sides = self._inputs.sides(sizes)
        done, status = self._made(readable, inputs.rows, sides)
        bad = status == Status.BAD_FILE

        def again() -> Any:
            which = tf.where(bad)
            decoded, upright = self._files.pixels(tf.gather_nd(files, which))
            looked_at = tf.concat([tf.gather_nd(sizes, which)[:, :2], upright[:, 2:]], 1)
            own = self._inputs.of(looked_at, None)
            made, _ = self._made(decoded, own.rows, tf.gather_nd(sides, which))
            return replaced([done], which, [made])[0]

        done = tf.cond(tf.reduce_any(bad), again, lambda: done)
        if inputs.enough is None:
            return done
        enough = inputs.enough
        return tf.cond(tf.reduce_all(enough), lambda: done, lambda: tf.where(enough, done, ""))

    def _made(self, files: Any, rows: Any, sides: Any) -> tuple[Any, Any]:
        layout = self._inputs.layout
        return make(files, rows, sides, layout.chosen_steps(), layout.columns, self._helpers)
