"""Keras's training step, seen from outside: batches and samples that passed, and how long it waited for them.

Keras fetches a batch inside the function it trains with, where no callback sees it. On TensorFlow that function is
replaced for the time of a fit by one that fetches the batch itself, with a clock before and after, and hands it to
Keras's own: the operations and their order stay. It costs nothing measurable, on models of a few hundred microseconds
a step, as one call of TensorFlow takes the place of another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from greenload.training_data import Passed

_KEPT = "_greenload_step"
"""Where a training function keeps what was traced for it: fit is often called once an epoch."""


class Steps:
    """Stands in for ``model.train_function`` during a fit.

    Args:
        function: Keras's own.
        model: the model.
        failed: called with what the function raised, before it is passed on.
    """

    def __init__(self, function: Callable[..., Any], model: Any, failed: Callable[[BaseException], None]) -> None:
        while isinstance(function, Steps):  # left by a fit that was interrupted between steps, or another callback's
            function = function.function
        self.function: Callable[..., Any] = function
        self._failed = failed
        self._model = model
        self._ends = _ends()
        self._clock = time.monotonic_ns
        self._per_call = int(getattr(model, "steps_per_execution", 1) or 1)
        self._step: Callable[[Any], Any] | None = None
        self._flatten: Callable[[Any], list[Any]] = list
        self._blind = ""
        self._static_rows: int | None = None
        self._begun = False
        self.reset()

    def reset(self) -> None:
        """Count from here: a new epoch."""
        self._calls = 0
        self._samples: int | None = 0
        self._waited_ns = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch a batch, noting the wait, and train on it."""
        try:
            if not self._begun:
                self._begin(*args, **kwargs)
            if self._step is None:
                found = self.function(*args, **kwargs)
            else:
                before = self._clock()
                try:
                    batch = next(args[0])
                finally:  # that there is none left was waited for, too
                    self._waited_ns += self._clock() - before
                found = self._step(batch)
                self._count(batch)
            self._calls += 1
            return found
        except self._ends:
            raise
        except BaseException as error:
            self._failed(error)
            raise

    def passed(self, steps: int | None) -> Passed:
        """What passed since `reset`.

        Args:
            steps: batches of an epoch where Keras knows them: the last of several steps in one call may be missing.
        """
        if self._step is not None or not self._begun:
            why = () if self._samples is not None else ("samples can't be counted: batches have no first axis",)
            return Passed(self._calls, self._samples, self._waited_ns / 1e9, why)
        batches = self._calls * self._per_call
        batches = batches if steps is None else min(batches, steps)
        exact = self._per_call == 1 or steps is not None
        samples = batches * self._static_rows if self._static_rows is not None and exact else None
        unknown: tuple[str, ...] = (f"how long the step waited for data isn't known: {self._blind}",)
        if samples is None:
            helps = "; batch with drop_remainder=True" if self._per_call != 1 else ""
            unknown += (f"how many samples passed isn't known, and so not the loader's part{helps}",)
        return Passed(batches, samples, None, unknown)

    def _begin(self, *args: Any, **kwargs: Any) -> None:
        """Decide, by the first call, whether batches can be fetched here."""
        self._begun = True
        iterator = args[0] if args else None
        self._blind = self._why_blind(iterator, len(args) == 1 and not kwargs)
        self._static_rows = _static_rows(getattr(iterator, "element_spec", None))
        if not self._blind:
            self._step = self._make_step(iterator)

    def _why_blind(self, iterator: Any, alone: bool) -> str:
        import keras

        if keras.config.backend() != "tensorflow":
            return f"Keras runs on {keras.config.backend()}; it can be seen on tensorflow"
        import tensorflow as tf

        if self._per_call != 1:
            return f"{self._per_call} steps run in one call; compile with steps_per_execution=1 to see it"
        for name in ("make_train_function", "_make_function"):
            if getattr(type(self._model), name, None) is not getattr(keras.Model, name):
                return f"{type(self._model).__name__} has its own {name}; it can be seen with Keras's"
        if not alone or not isinstance(iterator, tf.data.Iterator):
            return (
                f"batches come from a {type(iterator).__name__}, as under tf.distribute; it can be seen on one device"
            )
        if not all(isinstance(spec, tf.TypeSpec) for spec in tf.nest.flatten(iterator.element_spec)):
            return "elements hold what isn't a tensor"
        return ""

    def _make_step(self, iterator: Any) -> Callable[[Any], Any]:
        """Keras's step on a batch that has been fetched: traced for the shapes that its own would be traced for."""
        import tensorflow as tf

        self._flatten = tf.nest.flatten
        function, spec = self.function, iterator.element_spec
        if self._model.run_eagerly:
            return lambda batch: function([batch])
        kept = getattr(function, _KEPT, None)
        if kept is not None and kept[0] == spec:
            return kept[1]  # type: ignore[no-any-return]
        step: Callable[[Any], Any] = tf.function(
            lambda batch: function([batch]), input_signature=(spec,), autograph=False
        )
        setattr(function, _KEPT, (spec, step))
        return step

    def _count(self, batch: Any) -> None:
        first = self._flatten(batch)[0]
        rows = first.shape[0] if len(first.shape) else None
        self._samples = None if self._samples is None or rows is None else self._samples + int(rows)


def _ends() -> tuple[type[BaseException], ...]:
    """What says that there are no more batches: Keras may run without TensorFlow."""
    try:
        from tensorflow.errors import OutOfRangeError
    except ImportError:
        return (StopIteration,)
    return StopIteration, OutOfRangeError


def _static_rows(spec: Any) -> int | None:
    """Samples of every batch, where the dataset's shapes say so."""
    if spec is None:
        return None
    import tensorflow as tf

    first = getattr(tf.nest.flatten(spec)[0], "shape", None)
    return None if first is None or first.rank in (None, 0) or first[0] is None else int(first[0])
