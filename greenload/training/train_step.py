"""Counts the batches and samples of Keras's training step, and times how long it waits for them.

Keras fetches a batch inside the function it trains with, where no callback sees it. On TensorFlow that function is
replaced during a fit by one that fetches the batch itself, with a clock before and after, and calls Keras's own with
it: the operations and their order stay. It costs nothing measurable, on models of a few hundred microseconds
a step, as one call of TensorFlow takes the place of another. On several replicas the batch is fetched in the same call
that trains on it, as a second call for all replicas would cost a millisecond: its rows are seen, the wait is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from greenload.profiling.tfdata.units import ranks, row_count
from greenload.system.frameworks import tf
from greenload.training.caches import CacheWatch
from greenload.training.spent import Passed


@dataclass(frozen=True, slots=True)
class Waits:
    """How long the training step has waited for batches since a fit began."""

    seconds: float
    blind: bool = False
    """Whether it can't be seen now."""


_Step = Callable[[Any], tuple[Any, int | None]]
"""Trains on an iterator's next batch; gives what Keras's step gives, and the batch's rows."""
_KEPT = "_greenload_steps"
"""A training function's attribute that keeps its traces, by the spec of batches: fit is often called once an epoch."""
_UNDECIDED = object()


class Steps:
    """Stands in for ``model.train_function`` during a fit.

    Whether batches can be fetched here is decided for each iterator: other callbacks may train on batches of their own
    (``train_on_batch``), and a fit that was interrupted leaves this in the model for the next one's data.

    Args:
        function: Keras's own.
        model: the model.
        failed: called with what the function raised, before it is passed on.
        watch: looks at each iterator before and after its first batch.
    """

    def __init__(
        self, function: Callable[..., Any], model: Any, failed: Callable[[BaseException], None], watch: CacheWatch
    ) -> None:
        while isinstance(function, Steps):  # left by a fit that was interrupted between steps, or another callback's
            function = function.function
        self.function: Callable[..., Any] = function
        self._failed = failed
        self._model = model
        self._watch = watch
        self._ends = _ends()
        self._clock = time.monotonic_ns
        self._per_call = int(getattr(model, "steps_per_execution", 1) or 1)
        self._step: _Step | None = None
        self._static_rows: int | None = None
        self._waited_before_ns = 0
        self._waited_ns = 0
        self._waits_since_ns = 0
        self.reset()

    def reset(self) -> None:
        """Count from here: a new epoch."""
        self._iterator: Any = _UNDECIDED
        self._calls: dict[int | None, int] = {}  # how many, by samples in a batch
        self._waited_before_ns += self._waited_ns
        self._waited_ns = 0
        self._ranks: set[tuple[int | None, ...]] = set()
        self._blind = ""
        self.ended = False
        """Whether an iterator had no more batches."""
        self._watch.reset()
        self._updates_before = self._updates()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch a batch, noting the wait, and train on it."""
        try:
            iterator: Any = args[0] if args else None
            is_new = iterator is not self._iterator
            if is_new:
                self._watch.before(iterator)
                self._decide(iterator, len(args) == 1 and not kwargs)
            if self._step is None:
                logs, samples = self.function(*args, **kwargs), self._static_rows
            else:
                logs, samples = self._step(iterator)
            self._calls[samples] = self._calls.get(samples, 0) + 1
            if is_new:
                self._watch.after()
            return logs
        except self._ends:
            self.ended = True
            raise
        except BaseException as error:
            self._failed(error)
            raise

    def waits(self) -> Waits:
        """How long it has waited since the fit began, up to now. For any thread."""
        since_ns = self._waits_since_ns
        now_ns = self._clock() - since_ns if since_ns else 0
        return Waits((self._waited_before_ns + self._waited_ns + now_ns) / 1e9, bool(self._blind))

    def iterator(self) -> Any:
        """The iterator that batches come from now; None where there is none. For any thread."""
        return None if self._iterator is _UNDECIDED else self._iterator

    def passed(self, steps: int | None) -> Passed:
        """What passed since `reset`.

        Args:
            steps: batches of an epoch where Keras knows them: several steps in one call may run more, or find fewer.
        """
        calls = sum(self._calls.values())
        batches = calls if self._per_call == 1 else self._batches(calls, steps)
        samples = None
        if batches is not None and None not in self._calls:
            if self._per_call == 1:
                samples = sum(rows * count for rows, count in self._calls.items() if rows is not None)
            elif len(self._calls) < 2:
                samples = batches * (next(iter(self._calls), 0) or 0)
        axes = next(iter(self._ranks)) if len(self._ranks) == 1 else ()
        if not self._blind:
            why = () if samples is not None else ("samples can't be counted: batches have no first axis",)
            return Passed(batches, samples, self._waited_ns / 1e9, why, axes)
        unknown: tuple[str, ...] = (f"how long the step waited for data isn't known: {self._blind}",)
        if samples is None:
            helps = "; batch with drop_remainder=True" if self._per_call != 1 and None in self._calls else ""
            unknown += (f"how many samples passed isn't known, and so not the loader's part{helps}",)
        return Passed(batches, samples, None, unknown, axes)

    def _batches(self, calls: int, steps: int | None) -> int | None:
        """Batches in calls that run several, of which the last may have had fewer: as many as updates were made.

        As many updates as all calls run, or as an epoch has batches, prove it. Others do only where each batch is one
        update: not in a training step of one's own, nor with accumulated gradients or a scaled loss.
        """
        after, most = self._updates(), calls * self._per_call
        if not calls or after is None or self._updates_before is None:
            return None if calls else 0
        updates = after - self._updates_before
        if not most - self._per_call < updates <= most:
            return None
        return updates if updates in (most, steps) or self._updates_each_batch() else None

    def _updates(self) -> int | None:
        """How often the weights were updated, where that may be asked for and is needed."""
        if self._per_call == 1:
            return None
        import keras

        count = getattr(getattr(self._model, "optimizer", None), "iterations", None)
        # On other backends the variable is away while the fit runs.
        return None if count is None or keras.config.backend() != "tensorflow" else int(count)

    def _updates_each_batch(self) -> bool:
        import keras

        optimizer = self._model.optimizer
        sometimes = getattr(optimizer, "gradient_accumulation_steps", None) or hasattr(optimizer, "inner_optimizer")
        return getattr(type(self._model), "train_step", None) is keras.Model.train_step and not sometimes

    def _decide(self, iterator: Any, alone: bool) -> None:
        """Whether batches of this iterator can be fetched here."""
        spec = getattr(iterator, "element_spec", None)
        # Others come anew with each call, and may hold much: a batch, or the weights.
        self._iterator = _UNDECIDED if spec is None else iterator
        why = self._why_blind(iterator, alone)
        self._blind = self._blind or why
        self._static_rows = _static_rows(spec)
        self._ranks.add(() if spec is None else tuple(ranks(spec)))
        if not why:
            self._step = self._fetching(self._make_step(spec))
        else:
            self._step = self._on_replicas(spec) if self._sees_replicas(iterator, alone) else None

    def _why_blind(self, iterator: Any, alone: bool) -> str:
        import keras

        if keras.config.backend() != "tensorflow":
            return f"Keras runs on {keras.config.backend()}; it can be seen on tensorflow"
        if self._per_call != 1:
            return f"{self._per_call} steps run in one call; compile with steps_per_execution=1 to see it"
        for name in ("make_train_function", "_make_function"):
            if getattr(type(self._model), name, None) is not getattr(keras.Model, name):
                return f"{type(self._model).__name__} has its own {name}; it can be seen with Keras's"
        if not alone or not isinstance(iterator, tf.data.Iterator):
            kind = type(iterator).__name__
            return f"batches come from a {kind}, as under tf.distribute or train_on_batch; fit on one device shows it"
        if not all(isinstance(spec, tf.TypeSpec) for spec in tf.nest.flatten(iterator.element_spec)):
            return "elements hold what isn't a tensor"
        return ""

    def _sees_replicas(self, iterator: Any, alone: bool) -> bool:
        """Whether batches come for the replicas of this process alone, by a function that is Keras's own."""
        import keras

        if keras.config.backend() != "tensorflow" or self._per_call != 1 or not alone:
            return False
        own = getattr(type(self._model), "_make_function", None) is not keras.Model._make_function
        own = own or getattr(type(self._model), "make_train_function", None) is not keras.Model.make_train_function
        strategies = (tf.distribute.MirroredStrategy, tf.distribute.OneDeviceStrategy)
        here = isinstance(getattr(self._model, "distribute_strategy", None), strategies)
        return here and not own and isinstance(iterator, tf.distribute.DistributedIterator)

    def _fetching(self, step: Callable[[Any], Any]) -> _Step:
        """Fetches a batch with a clock before and after, and trains on it."""

        def train(iterator: Any) -> tuple[Any, int | None]:
            before = self._waits_since_ns = self._clock()
            try:
                batch = next(iterator)
            finally:  # the end of the data was waited for, too
                self._waits_since_ns = 0
                self._waited_ns += self._clock() - before
            return step(batch), _rows(tf.nest.flatten(batch))

        return train

    def _make_step(self, spec: Any) -> Callable[[Any], Any]:
        """Keras's step on a batch that has been fetched: traced for the shapes that its own would be traced for."""
        function = self.function
        if self._model.run_eagerly:
            return lambda batch: function([batch])
        return self._traced(spec, lambda batch: function([batch]), (spec,))

    def _on_replicas(self, spec: Any) -> _Step:
        """Fetches a batch for each replica and trains on them, in one call; their rows are added up."""
        function, strategy = self.function, self._model.distribute_strategy

        def step(iterator: Any) -> tuple[Any, Any]:
            batch = iterator.get_next()
            leaves = (strategy.experimental_local_results(leaf) for leaf in tf.nest.flatten(batch))
            return function([batch]), tf.add_n([row_count(part) for part in zip(*leaves, strict=True)])

        called = step if self._model.run_eagerly else self._traced(("replicas", spec), step, None)

        def train(iterator: Any) -> tuple[Any, int | None]:
            logs, samples = called(iterator)
            return logs, int(samples)

        return train

    def _traced(self, key: Any, step: Callable[[Any], Any], signature: Any) -> Callable[[Any], Any]:
        """A step as TensorFlow's function: the one that was traced before for the same batches, if any."""
        kept = getattr(self.function, _KEPT, [])
        for known, traced in kept:
            if known == key:
                return traced  # type: ignore[no-any-return]
        made: Callable[[Any], Any] = tf.function(step, input_signature=signature, autograph=False)
        setattr(self.function, _KEPT, [*kept, (key, made)])
        return made


def _ends() -> tuple[type[BaseException], ...]:
    """The exceptions that say that there are no more batches: Keras may run without TensorFlow."""
    try:
        from tensorflow.errors import OutOfRangeError
    except ImportError:
        return (StopIteration,)
    return StopIteration, OutOfRangeError


def _static_rows(spec: Any) -> int | None:
    """Samples of every batch, where the dataset's shapes say so."""
    if spec is None:
        return None
    return _rows(tf.nest.flatten(spec))


def _rows(leaves: list[Any]) -> int | None:
    """The length of the first axis of a batch's first tensor; None where there is none, or it isn't known."""
    shapes = (getattr(leaf, "shape", None) for leaf in leaves)  # None and Optional have no shape
    shape: Any = next((shape for shape in shapes if shape is not None), None)
    return int(shape[0]) if getattr(shape, "rank", None) and shape[0] is not None else None
