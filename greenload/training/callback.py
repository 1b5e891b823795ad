"""`EnergyCallback`: what a Keras ``fit`` spends on loading by step, on waiting for data, and on the model."""

from __future__ import annotations

import functools
import inspect
import math
import os
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from greenload.energy.meters.discover import discover
from greenload.energy.sharing import DEFAULT, SharedSampler
from greenload.errors import UsageError
from greenload.profiling.in_place import publishing
from greenload.profiling.profile import profile
from greenload.public import public
from greenload.report.data import Report
from greenload.report.prometheus import Metrics, serve
from greenload.system.frameworks import imports_of_extra
from greenload.training.fit import INTERRUPTED, Fit, scalars
from greenload.training.fit_report import FitReport, load_report
from greenload.training.idle import IDLE_S
from greenload.training.live_steps import watched_in
from greenload.training.served import Highest, show_epoch, show_instant
from greenload.training.spent import Spent

if TYPE_CHECKING:
    import tensorflow as tf

    from greenload.planning.device_split import Split
    from greenload.plans.pipeline import Pipeline
    from greenload.plans.plan import Plan


@public
class EnergyCallback:
    """A Keras callback that splits a fit's joules and CPU seconds into loader, waiting for data, and model.

    Meters run beside the training: counters where there are any, models where not. What a sample costs to load, step by
    step, comes from a profile; times the samples trained on it is the loader's part, where a sample is what the profile
    takes for one (``plan["sample"]``): a row of the batches, or an element of its dataset. A profile that claims more
    than the fit used, beyond its interval and 15 %, is of something else: that is said first, and loader and model stay
    one figure; of a watched dataset the loader is then its functions alone. Idle power is a line of its own; the part
    drawn while the step waited for its next batch is charged to the loader as *waiting*. Validation is apart, and what
    is left is the model's. `greenload.training.split` has the formulas. Without a profile loader and model are one
    figure, unless the dataset is watched; the rest stands.

    A watched dataset (``gl.watch``) needs no profile: the clocks of its steps tell what their functions took in this
    very fit, in training and in validation, and that is the loader's part, at least, as tf.data's own work for each
    element can't be told from the model's without a profile taken in place. Those watched datasets count that batches
    come from; where that can't be seen, as under a strategy, every one that works during the fit. It is then also said
    who waits for whom, what tf.data's autotune chose and how much RAM its buffers hold, where it tells (TensorFlow,
    without a strategy), and watts by step are kept over time (``report.timeline``,
    ``report.save_html("fit.html")``).

    It works with ``gl.load``, with any ``tf.data.Dataset``, and with arrays; with ``steps_per_epoch``, validation,
    ``jit_compile``, ``run_eagerly``, under ``tf.distribute.MirroredStrategy``, where the samples of all replicas are
    counted. Waiting is seen on TensorFlow, without a strategy, with ``steps_per_execution=1``;
    elsewhere it is said to be unknown. On a GPU it is the time that the host waited, which the GPU may have spent on
    the step before: the GPU waited at most so long. The loader's part is what its samples cost at full speed:
    starting an epoch's iterator, and batches that were prepared but never trained on, are in the model's part. An epoch
    that fills a cache is charged what the profile's first epoch cost (``Report.first_epoch``), the others what later
    ones did. Where it can't be seen which it is, as under a strategy, or where ``steps_per_epoch`` ends it early,
    loader and model are one figure for it, and for the whole fit, which a note says; of a watched dataset the loader is
    then its functions alone. The joules of a counter are the whole machine's: what others drew is estimated by CPU time
    and kept apart.

    Each epoch adds to Keras's logs, so that ``History`` and Keras's own ``TensorBoard`` (after this one in the list)
    have them: ``energy_j``, ``loader_j``, ``waiting_j``, ``model_j`` (joules of all domains), ``waiting_s``,
    ``loader_cpu_s``. What isn't known is left out; joules are ``nan`` in an epoch in which a counter failed, and the
    loader's and the model's in one of which isn't known whether it filled a cache.

    Args:
        loader: what the loader costs: a `Report` of `gl.profile`, or the path of one that was saved. A `Pipeline`, a
            `Plan`, a `Split` or a dataset is profiled here and now, which takes a minute; one that is watched, or made
            of watched ones, isn't: then of all watched datasets these count. A profile beside a watched dataset gives
            the joules of a CPU second, step by step, and what steps are held against.
        log_dir: folder for TensorBoard: scalars ``energy/total_j``, ``energy/loader_j``, ``energy/waiting_j``,
            ``energy/model_j`` and ``energy/loader/STEP_j`` by epoch; of a watched dataset ``energy/watts/STEP`` too,
            whose steps are milliseconds since the fit began.
        port: serves the figures to Prometheus there, up to `close`: a port, or ``"address:port"``; and what watched
            datasets do to ``greenload top :PORT``. A sum over the parts
            of ``greenload_training_epoch_energy_joules`` is ``greenload_training_epoch_total_energy_joules``.
        idle_s: seconds before the first batch in which idle power is measured, where there is a counter; with 0 it
            is the profile's. A GPU without an energy counter takes some 16 s.
        baseline: what steps of a watched dataset cost before, to say which have drifted: a `Report`, a `FitReport`, or
            the path of one. The profile if left out.
        discovery: passed to ``discover``, as ``powercap_root=…``.

    Raises:
        UsageError: an argument is out of range, or the port can't be had.
        BackendUnavailable: Keras isn't installed.
        ReportError: the file isn't a report.

    Example:
        >>> energy = gl.EnergyCallback()
        >>> model.fit(gl.watch(dataset), epochs=3, callbacks=[energy])
        >>> energy.report.save_html("fit.html")
        >>> energy = gl.EnergyCallback(gl.profile(train), log_dir="logs")
        >>> model.fit(gl.load(train), epochs=3, callbacks=[energy])
        >>> print(energy.report)
    """

    params: Mapping[str, Any] | None
    """What Keras says of the fit."""
    model: Any
    """The model that Keras trains."""

    def __new__(cls, *args: Any, **kwargs: Any) -> EnergyCallback:
        made: EnergyCallback = super().__new__(_with_keras(cls))
        return made

    def __init__(
        self,
        loader: Report | str | os.PathLike[str] | Pipeline | Plan | Split | tf.data.Dataset | None = None,
        *,
        log_dir: str | os.PathLike[str] | None = None,
        port: int | str | None = None,
        idle_s: float = IDLE_S,
        baseline: Report | FitReport | str | os.PathLike[str] | None = None,
        **discovery: Any,
    ) -> None:
        super().__init__()
        if not idle_s >= 0:
            raise UsageError(f"idle_s must be 0 or more, got {idle_s}: leave it out for {IDLE_S} s")
        inspect.signature(discover).bind(**discovery)  # a misspelt option raises here, not in the fit
        self._baseline = _baseline(baseline)
        self._only = watched_in(loader)
        self._metrics = Metrics()
        self._metrics.show_status(publishing.document)
        # Before a minute of profiling, as the port may be taken.
        self._server = None if port is None else serve(self._metrics, port)
        try:
            self.profile: Report | None = None if self._only else _profile(loader)
            """What the loader costs, as profiled; None if nobody did."""
        except BaseException:
            if self._server is not None:
                self._server.close()
            raise
        self.reports: tuple[FitReport, ...] = ()
        """One for each fit that has ended."""
        self._shared = SharedSampler(lambda: discover(**discovery)) if discovery else DEFAULT
        self._idle_s = idle_s
        self._log_dir = None if log_dir is None else os.fspath(log_dir)
        self._fit: Fit | None = None
        self._finalizer: weakref.finalize[..., EnergyCallback] | None = None
        self._highest: Highest = {}
        self._epochs_served = 0
        self._samples_served: int | None = 0

    @property
    def report(self) -> FitReport:
        """The last fit that ended, also if by an exception.

        Raises:
            UsageError: none has.
        """
        if not self.reports:
            raise UsageError("a report is there once a fit has ended, and none has: call close() if it was interrupted")
        return self.reports[-1]

    @property
    def epochs(self) -> tuple[Spent, ...]:
        """The epochs of the running fit so far; of the last one, if none runs."""
        if self._fit is not None:
            return tuple(self._fit.epochs)
        return self.reports[-1].epochs if self.reports else ()

    def close(self) -> None:
        """End what an interrupted fit left open, and stop serving. Harmless if repeated.

        Keras tells nobody of a Ctrl-C between two steps: the figures then go on up to this call, or to the next fit. A
        callback that nobody refers to any more stops its meters without a report.
        """
        self._end(INTERRUPTED)
        if self._server is not None:
            self._server.close()
            self._server = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Start the meters and measure idle power."""
        self._end(INTERRUPTED)
        self._fit = Fit(
            self.model,
            self._shared,
            profile=self.profile,
            idle_s=self._idle_s,
            log_dir=self._log_dir,
            failed=_weakly_failed(self),
            only=self._only,
            baseline=self._baseline,
            told=functools.partial(show_instant, self._metrics, self._highest)
            if self._server is not None
            else lambda instant: None,
        )
        self._finalizer = weakref.finalize(self, self._fit.abandon)
        self._finalizer.atexit = False  # meters end with the process
        if self._server is not None:
            self._metrics.attach(self._fit.use.sampler, self._fit.use.statuses)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Start the epoch's window."""
        if self._fit is not None:
            self._fit.begin_epoch(epoch)

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Start a window of validation, where it is part of a fit."""
        if self._fit is not None:
            self._fit.begin_validation()

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """End the window of validation."""
        if self._fit is not None:
            self._fit.end_validation()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Split the epoch's energy, and tell the logs, TensorBoard and Prometheus."""
        if self._fit is None:
            return
        steps = (self.params or {}).get("steps")
        spent = self._fit.end_epoch(None if steps is None else int(steps))
        if logs is not None:
            logs.update(self._logged(spent))
        self._fit.write(epoch, spent)
        self._serve(spent)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Stop the meters and make the report."""
        self._end("")

    def _end(self, ended: str) -> None:
        fit, self._fit = self._fit, None
        if fit is None:
            return
        if self._finalizer is not None:
            self._finalizer.detach()
        self._metrics.detach()
        if (report := fit.end(ended)) is not None:
            self.reports = (*self.reports, report)

    def _logged(self, spent: Spent) -> dict[str, float]:
        """What Keras's logs get. Its History appends what comes, so an epoch left out would shift those after it."""
        parts = {"energy_j": spent.total, "waiting_j": spent.waiting}
        told_apart = self.profile is not None or spent.is_watched
        parts |= {"loader_j": spent.loader, "model_j": spent.model} if told_apart else {}
        is_one_figure = (bool(spent.does_not_fit) and not spent.is_watched) or self._knows_another(spent)
        unknown = {
            name: math.nan
            for name, part in parts.items()
            if (is_one_figure and name in ("loader_j", "model_j"))
            or (
                spent.void
                and all(
                    joules.value is not None for domain, joules in part.energy_j.items() if domain not in spent.void
                )
            )
        }
        if is_one_figure:
            unknown["loader_cpu_s"] = math.nan
        return unknown | {name: value for name, value in scalars(spent) if "/" not in name}

    def _knows_another(self, spent: Spent) -> bool:
        """Whether this epoch's loader isn't known where another epoch's may be, which fills a cache or reads one."""
        cached = self.profile is not None and bool(self.profile.first_epoch or self.profile.caches)
        return cached and (spent.loader.cpu_s is None or spent.loader.cpu_s.value is None)

    def _serve(self, spent: Spent) -> None:
        self._epochs_served += 1
        served, samples = self._samples_served, spent.passed.samples
        # A total that lacks an epoch is none, nor is a later one.
        self._samples_served = None if served is None or samples is None else served + samples
        show_epoch(self._metrics, spent, self._epochs_served, self._samples_served)


def _weakly_failed(callback: EnergyCallback) -> Callable[[Fit, BaseException], None]:
    """Tells the callback of an error. The model holds this while a fit runs, and so must not hold the callback."""
    reference = weakref.ref(callback)

    def failed(fit: Fit, error: BaseException) -> None:
        # The training step raised: Keras ends the fit without telling its callbacks.
        if (callback := reference()) is not None and fit is callback._fit:
            callback._end(type(error).__name__)

    return failed


def _with_keras(cls: Any) -> Any:
    """The class as a Keras callback: made with its first object, so that importing greenload imports no Keras."""
    with imports_of_extra("tf", "EnergyCallback needs Keras, which can't be imported"):
        from keras.callbacks import Callback
    if issubclass(cls, Callback):
        return cls
    made = cls.__dict__.get("_made")
    if made is None:
        made = cls._made = type(cls.__name__, (cls, Callback), {"__module__": cls.__module__})
    return made


def _baseline(baseline: Any) -> Report | Spent | None:
    """What steps cost before: a profile, or a fit."""
    if isinstance(baseline, str | os.PathLike):
        baseline = load_report(baseline)
    if baseline is None or isinstance(baseline, Report):
        return baseline
    if isinstance(baseline, FitReport):
        return baseline.fit
    raise UsageError(
        f"a baseline is a Report, a FitReport or the path of one, found a {type(baseline).__name__}: give what "
        "gl.profile returned, or a former EnergyCallback's report"
    )


def _profile(loader: Any) -> Report | None:
    if loader is None or isinstance(loader, Report):
        return loader
    if isinstance(loader, str | os.PathLike):
        return Report.load(loader)
    return profile(loader)
