"""What tf.data does around any backend: reads records, keeps caches, maps samples, hands batches on.

With the ``tf`` backend all steps run in one parallel map, element by element; with DALI tf.data reads encoded bytes,
and whole batches of them cross into DALI and come back as pixels.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from greenload.backends import tf as tf_backend
from greenload.backends.base import Records
from greenload.backends.tf import Element, State
from greenload.backends.tf_read import reader
from greenload.errors import RecordError
from greenload.plan import Plan, Step
from greenload.sources import Source

if TYPE_CHECKING:
    import tensorflow as tf


def options(plan: Plan) -> Any:
    """``tf.data.Options`` that keep a plan's stated bounds: a private pool of its threads, no autotuning."""
    import tensorflow as tf

    chosen = tf.data.Options()
    chosen.threading.private_threadpool_size = plan.threads
    chosen.threading.max_intra_op_parallelism = 1
    chosen.autotune.enabled = False
    # A cache's table makes the map stateful, and TensorFlow 2.21 fails when it fuses a stateful map inside flat_map.
    chosen.experimental_optimization.map_and_batch_fusion = all(step.kind != "cache" for step in plan.steps)
    chosen.deterministic = True
    return chosen


def compose(elements: Sequence[Element]) -> Element:
    """One function that applies several in order."""
    import tensorflow as tf

    def chained(state: State) -> State:
        return functools.reduce(lambda so_far, element: element(so_far), elements, state)

    plain: Element = tf.autograph.experimental.do_not_convert(chained)  # holds no control flow to be traced
    return plain


def cached(upstream: Element, step: Step) -> Element:
    """``upstream``, kept by index from its first use on, in a table in memory that all iterators of a dataset share.

    tf.data's own ``cache`` stores the order of the first epoch along, and so would freeze it.
    """
    import tensorflow as tf

    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.string, default_value="")
    dtype = tf.string if step.spec_out.encoded else tf.as_dtype(step.spec_out.dtype)

    def element(state: State) -> State:
        kept = table.lookup(state["index"])

        def fill() -> Any:
            image = upstream(state)["image"]
            stored = image if dtype == tf.string else tf.io.serialize_tensor(image)
            with tf.control_dependencies([table.insert(state["index"], stored)]):
                return tf.identity(image)

        def recall() -> Any:
            return kept if dtype == tf.string else tf.io.parse_tensor(kept, dtype)

        image = tf.cond(tf.strings.length(kept) > 0, recall, fill)
        image.set_shape(step.spec_out.shape)
        return state | {"image": image}

    return element


REFUSED = "greenload: bad record"
"""What an error that crosses from a backend into TensorFlow begins with; then come index, name and reason."""


class _Crossing:
    """A call from tf.data into a backend. A ``ValueError`` reaches users as ``InvalidArgumentError`` with its text."""

    def __init__(self, run: Callable[[Records], Any], source: Source) -> None:
        self.run = run
        self.source = source

    def __call__(self, images: Any, numbers: Any, index: Any) -> Any:
        names = [self.source.name(int(i)) for i in index]
        try:
            return self.run(Records(list(images), numbers, names))
        except RecordError as error:
            text = f"{REFUSED} [{index[names.index(error.path)]}] {error}"
            raise ValueError(text.encode(errors="backslashreplace").decode()) from None


class Stream:
    """The functions of a plan's steps, lowered once, and how they make a dataset.

    Args:
        plan: what is lowered.
        group: samples whose records lie together in the plan's order, if it keeps such groups.
    """

    def __init__(self, plan: Plan, group: int | None = None) -> None:
        plan.pipeline.check_labels()
        self.plan = plan
        self._crossings: list[_Crossing] = []
        caches = any(step.kind == "cache" for step in plan.steps)
        self.reading = reader(plan.pipeline.source, threads=plan.threads, group=group, apart=caches)
        """How records come in; its ``sample`` is the first of ``on_samples``."""
        self.on_samples: list[tuple[Step, Element]] = []
        """Each step that works on single samples in tf.data, with its function; reading comes first."""
        pixels = [s for s in plan.steps if s.kind == "pixels" and s.backend == "tf"]
        single = [s for s in pixels if not s.spec_out.batched]
        lowered = dict(zip(single, tf_backend.elements(plan, single), strict=True))
        for step in plan.steps:
            if step.kind == "read":
                self.on_samples.append((step, self.reading.sample))
            elif step.kind == "cache":
                self.on_samples.append((step, cached(self.sample(), step)))
            elif step in lowered:
                self.on_samples.append((step, lowered[step]))
        after = [s for s in pixels if s.spec_out.batched]
        self.on_batches = list(zip(after, tf_backend.elements(plan, after), strict=True))
        """Each step that works on whole batches in tf.data, with its function."""
        self._kept = ["position", "label", "image"]
        if plan.backend != "tf":
            self._kept += ["index", "numbers"]
        elif any(tf_backend.reads_numbers(step) for step in after):
            self._kept += ["numbers"]

    def sample(self) -> Element:
        """All steps on samples as one function. What a cache holds isn't computed before it is asked."""
        last_cache = max((i for i, (step, _) in enumerate(self.on_samples) if step.kind == "cache"), default=0)
        return compose([element for _, element in self.on_samples[last_cache:]])

    def roots(self, chunks: tf.data.Dataset) -> tf.data.Dataset:
        """Chunks of roots to single ones, with what reading them needs; where records are read in chunks, they are
        read here."""
        reading = self.reading
        chunks = chunks.rebatch(reading.together) if reading.together else chunks
        return chunks.map(compose([reading.chunk]), num_parallel_calls=reading.parallel, deterministic=True).unbatch()

    def samples(self, roots: tf.data.Dataset) -> tf.data.Dataset:
        """Roots (position, index, label, numbers) to samples with images, in order, on the plan's threads."""
        work = compose([self.sample(), lambda done: {key: done[key] for key in self._kept if key in done}])
        return roots.map(work, num_parallel_calls=self.plan.threads, deterministic=True)

    def finish(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Batches of states to ``(images, labels)``: through DALI where the plan says so, and what follows
        ``Batch``."""
        if self.plan.backend != "tf":
            batches = self.crossing(batches, self._dali)
        whole = compose([element for _, element in self.on_batches])

        def pair(state: State) -> tuple[Any, Any]:
            done = whole(state)
            return done["image"], self.labels(done["label"])

        return batches.map(pair)

    def labels(self, numbers: Any) -> Any:
        """A batch's labels as the pipeline gives them."""
        import tensorflow as tf

        stage = self.plan.pipeline.one_hot
        return tf.one_hot(numbers, stage.num_classes, dtype=stage.dtype) if stage else numbers

    @functools.cached_property
    def _dali(self) -> Callable[[Records], Any]:
        from greenload.backends import dali

        batch = self.plan.pipeline.batch
        assert batch is not None  # make_plan sees to it
        return dali.DaliRunner(self.plan, batch_size=batch.size, threads=self.plan.threads).run

    def crossing(self, batches: tf.data.Dataset, run: Callable[[Records], Any]) -> tf.data.Dataset:
        """Batches of records out of tf.data, through ``run``, and back as images."""
        import tensorflow as tf

        spec = self.plan.out_spec
        held = _Crossing(run, self.plan.pipeline.source)
        # TensorFlow keeps every function it may call for the life of the process: it gets one that holds nothing. What
        # it refers to is kept by the dataset, through this stream or `cross`.
        self._crossings.append(held)
        weak = weakref.ref(held)

        def call(images: Any, numbers: Any, index: Any) -> Any:
            crossing = weak()
            assert crossing is not None  # the dataset that is running keeps it
            return crossing(images, numbers, index)

        def cross(state: State) -> State:
            _ = held
            numbers = state.get("numbers", tf.zeros([tf.size(state["index"]), 0], tf.float64))
            inputs = [state["image"], numbers, state["index"]]
            image = tf.numpy_function(call, inputs, tf.as_dtype(spec.dtype), stateful=True)
            image.set_shape(spec.shape)
            return {"image": image, "label": state["label"]}

        return batches.prefetch(1).map(cross)
