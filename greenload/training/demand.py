"""`demand`: how many samples a second a Keras model takes, where it never waits for them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from greenload import scalars
from greenload.energy.attribution.intervals import Variance, half_width
from greenload.energy.figures import Figure
from greenload.errors import GreenloadError, UsageError
from greenload.public import public
from greenload.report.record import Record
from greenload.system.frameworks import imports_of_extra, tf
from greenload.text import error_line
from greenload.training.made_batch import GIVE_ONE, made_batch
from greenload.training.model_state import model_kept

WINDOWS = 10
"""That the measured steps are divided into."""
LEAST_WINDOWS = 3
"""Where steps are so slow that there is no time for more."""
WARM_SHARE = 0.2
"""Of the seconds, that steps run before they are measured, tracing and the first two steps aside."""
FIRST_CALLS = 2
"""Calls that trace and compile: the first, and one more where a compiler works beside it."""
_MOST_SECONDS = 1e6
_ENDLESS = 2**31 - 1


@public
@dataclass(frozen=True, kw_only=True)
class Demand(Record):
    """How many samples a second a model trains on. ``gl.optimize`` takes it; ``float(demand)`` is the rate.

    Example:
        >>> demand = gl.demand(model, 64)
        >>> f"{float(demand):.0f} samples a second, {demand.step_s * 1e3:.1f} ms a step"
        '1893 samples a second, 33.8 ms a step'
    """

    samples_per_s: Figure
    """Samples a second, over wall time; the interval is studentised over windows of one run."""
    batch: int
    """Samples of a step."""
    device: str
    """Where the model's weights are, as TensorFlow, JAX or PyTorch name it; empty where the model has none."""
    model: str
    """Its name."""
    made: bool
    """Whether the batch was made up; else it was given."""
    steps: int
    """That were measured."""
    windows: int
    """They were divided into."""
    seconds: float
    """That these took."""
    warm_up_steps: int
    """Before these, left out."""

    @property
    def step_s(self) -> float:
        """Mean wall seconds of a step."""
        return self.seconds / self.steps

    def __float__(self) -> float:
        assert self.samples_per_s.value is not None  # no demand is made without
        return self.samples_per_s.value

    def __str__(self) -> str:
        low, high = self.samples_per_s.low, self.samples_per_s.high
        return (
            f"{self.model} takes {float(self):.4g} samples/s ({low:.4g} … {high:.4g}) in steps of {self.batch} on "
            f"{self.device or 'a device unknown'}: {self.steps} steps in {self.seconds:.1f} s"
        )


@public
def demand(model: Any, batch: Any, *, steps: int | None = None, seconds: float = 10.0) -> Demand:
    """Measure how many samples a second a Keras model trains on, with its data in memory: what a loader has to give.

    ``model.fit`` trains on one batch over and over, so that nothing is loaded, though each step gets it anew: where the
    model is on a GPU the copy to it counts, as in a training. Steps that trace, compile and warm up are left out. The
    model stays as it was: weights, optimiser, metrics, random seeds, and so do the global generators of random
    numbers. Its own callbacks aren't part of it.

    Args:
        model: a compiled Keras model, with its weights. It is trained as it was compiled: with its own ``train_step``,
            ``jit_compile``, ``steps_per_execution``, under its strategy.
        batch: samples of a step, of all replicas together: then a batch is made up, which takes inputs of known shapes.
            Or a batch as ``fit`` takes it: ``(inputs, targets)``, ``(inputs, targets, weights)`` or ``(inputs,)``, each
            an array ``[samples, …]``, or several in a list or dict.
        steps: to measure; as many as fit into ``seconds`` if not given.
        seconds: wall seconds to measure for, about, after a warm-up of a fifth of it.

    Returns:
        The rate with its 95 % interval over windows of this run, and what was run.

    Raises:
        UsageError: the model isn't compiled, has no weights yet, or can't train on the batch; an argument is out of
            range.
        BackendUnavailable: Keras or TensorFlow isn't installed.

    Example:
        >>> gl.optimize(train, epochs=90, ram="8GiB", demand=gl.demand(model, 64))
    """
    wanted = _checked_steps(steps)
    limit_s = scalars.number(seconds)
    if limit_s is None or not 0 < limit_s < _MOST_SECONDS:
        raise UsageError(f"seconds must be a number above 0, as 10, not {seconds!r}")
    with imports_of_extra("tf", "demand needs Keras, which can't be imported"):
        import keras
    _check_model(model, keras.Model)
    made = scalars.whole(batch) is not None
    data = _given(made_batch(model, scalars.positive(UsageError, "batch", batch)) if made else batch)
    rows = _rows(data)
    clock = _Clock(model, limit_s, wanted, int(getattr(model, "steps_per_execution", 1) or 1))
    with model_kept(model):
        _train(model, data, clock, made)
    return Demand(
        samples_per_s=rate(clock.windows_s, clock.steps_a_window * rows),
        batch=rows,
        device=_device(model),
        model=str(model.name),
        made=made,
        steps=clock.steps_a_window * len(clock.windows_s),
        windows=len(clock.windows_s),
        seconds=math.fsum(clock.windows_s),
        warm_up_steps=clock.warm_up_steps,
    )


def rate(windows_s: Sequence[float], samples: int) -> Figure:
    """Samples a second: all samples over all seconds, with the interval that windows' own rates let expect.

    Args:
        windows_s: wall seconds of each of at least two windows.
        samples: of each.

    Example:
        >>> figure = rate([1.0, 1.0, 1.0], 64)
        >>> figure.value, figure.half_width
        (64.0, 0.0)
    """
    count = len(windows_s)
    value = samples * count / math.fsum(windows_s)
    rates = [samples / seconds for seconds in windows_s]
    half = half_width([Variance(statistics.variance(rates) / count, count - 1)])
    return Figure(value, max(0.0, value - half), value + half, "measured")


class _Clock:
    """Told of every call of a training step, it warms up, then measures windows of as many steps each.

    Args:
        model: told to stop once all is measured.
        seconds: to measure for.
        steps: to measure in place of that.
        per_call: steps in a call.
        now: monotonic seconds.
    """

    def __init__(
        self, model: Any, seconds: float, steps: int | None, per_call: int, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._model, self._seconds, self._steps, self._per_call, self._now = model, seconds, steps, per_call, now
        self.windows_s: list[float] = []
        self.warm_up_steps = 0
        self.steps_a_window = 0
        self._ends_s: list[float] = []  # of calls of the warm-up
        self._calls = 0  # of this window
        self._since_s = 0.0
        self._windows = WINDOWS

    def after_call(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Keras's ``on_train_batch_end``."""
        if self.steps_a_window:
            self._calls += 1
            if self._calls * self._per_call == self.steps_a_window:
                self._end_window(logs)
            return
        self.warm_up_steps += self._per_call
        _wait_for(logs)  # a GPU works behind the calls: in warm-up each is waited for, to see what one takes
        self._ends_s.append(self._now())
        warm = self._ends_s[FIRST_CALLS - 1 :]
        if len(warm) > 1 and warm[-1] - warm[0] >= WARM_SHARE * self._seconds:
            self._begin(statistics.median(end - before for before, end in pairwise(warm)))

    @property
    def done(self) -> bool:
        """Whether all windows were measured."""
        return 0 < self._windows == len(self.windows_s)

    def _begin(self, call_s: float) -> None:
        """Decide on windows by what a call takes, and begin the first."""
        calls = self._seconds / call_s if self._steps is None else math.ceil(self._steps / self._per_call)
        self._windows = max(LEAST_WINDOWS, min(WINDOWS, int(calls)))
        self.steps_a_window = max(1, int(calls / self._windows)) * self._per_call
        self._calls, self._since_s = 0, self._now()

    def _end_window(self, logs: Mapping[str, Any] | None) -> None:
        _wait_for(logs)
        now_s = self._now()
        self.windows_s.append(now_s - self._since_s)
        self._calls, self._since_s = 0, now_s
        if self.done:
            self._model.stop_training = True


def _wait_for(logs: Mapping[str, Any] | None) -> None:
    """Wait until a step's results are there."""
    if logs:
        from keras import ops

        ops.convert_to_numpy(next(iter(logs.values())))


def _train(model: Any, data: tuple[Any, ...], clock: _Clock, made: bool) -> None:
    from keras import callbacks

    dataset = tf.data.Dataset.from_tensors(data).repeat()
    told = callbacks.LambdaCallback(on_train_batch_end=clock.after_call)
    try:
        model.fit(dataset, steps_per_epoch=_ENDLESS, epochs=1, verbose=0, shuffle=False, callbacks=[told])
    except GreenloadError:
        raise
    except Exception as error:  # whatever Keras, TensorFlow or the model's own code raises
        helps = GIVE_ONE if made else "give one that model.fit trains on"
        raise UsageError(
            f"model {model.name!r} can't train on the batch {'made up for' if made else 'given to'} it "
            f"({error_line(error)}): {helps}"
        ) from error
    if not clock.done:
        raise UsageError(f"model {model.name!r} ended its training by itself after {clock.warm_up_steps} steps or more")


def _checked_steps(steps: Any) -> int | None:
    if steps is None:
        return None
    count = scalars.whole(steps)
    if count is None or count < LEAST_WINDOWS:
        raise UsageError(f"steps must be a whole number from {LEAST_WINDOWS}, as 100, or None, not {steps!r}")
    return count


def _check_model(model: Any, kind: Any) -> None:
    if not isinstance(model, kind):
        raise UsageError(f"demand takes a Keras model, not {type(model).__name__}: give one that is compiled")
    if not model.compiled:
        raise UsageError(
            f"a training step is what a model was compiled for, but {model.name!r} isn't compiled: call model.compile "
            "with its optimizer and loss first"
        )
    if not model.built:
        raise UsageError(f"model {model.name!r} has no weights yet: begin it with keras.Input, or call it on a batch")


def _given(batch: Any) -> tuple[Any, ...]:
    """A batch as a dataset's element."""
    if isinstance(batch, tuple) and 1 <= len(batch) <= 3:
        return tuple(_arrays(part) for part in batch)
    raise UsageError(
        f"batch is a number of samples, or (inputs, targets) as fit takes them, not {type(batch).__name__}: give one"
    )


def _arrays(part: Any) -> Any:
    """Arrays in dicts and tuples: to a dataset a list would be one array."""
    if isinstance(part, Mapping):
        return {name: _arrays(inner) for name, inner in part.items()}
    if isinstance(part, list | tuple) and any(hasattr(inner, "shape") or isinstance(inner, Mapping) for inner in part):
        return tuple(_arrays(inner) for inner in part)
    return part


def _rows(data: tuple[Any, ...]) -> int:
    """Samples of a batch: all its arrays have as many."""
    leaves = tf.nest.flatten(data)
    shapes = [tuple(getattr(leaf, "shape", ())) for leaf in leaves]
    counts = {int(shape[0]) if shape else 0 for shape in shapes}
    if len(counts) != 1 or counts == {0}:
        raise UsageError(f"a batch's arrays have as many samples each, at least 1, found shapes {shapes}: make it so")
    return counts.pop()


def _device(model: Any) -> str:
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is not None and strategy.num_replicas_in_sync > 1:
        return ", ".join(str(name) for name in strategy.extended.worker_devices)
    weights = model.weights
    return str(getattr(weights[0].value, "device", "")) if weights else ""
