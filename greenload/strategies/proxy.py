"""`Proxy`: a small model with a fixed recipe, trained on the user's own data to judge a pipeline's augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.errors import BackendUnavailable, UsageError
from greenload.loading.dataset import build_dataset
from greenload.loading.load import device_of, load
from greenload.planning.choose import make_plan
from greenload.plans.order import Order, Position
from greenload.plans.pipeline import Pipeline
from greenload.profiling.in_place.watch import watch
from greenload.public import public
from greenload.stages import Batch, Shuffle
from greenload.strategies import proxy_model
from greenload.strategies.held_out import divide, without_chance
from greenload.strategies.proxy_checks import class_count, form_of, need_alike, need_known_classes, need_pixels
from greenload.training.callback import EnergyCallback
from greenload.training.fit_report import FitReport
from greenload.training.spent import EnergyPart

if TYPE_CHECKING:
    import tensorflow as tf

LEAST_SIZE = 8
"""Rows and columns that the model halves twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRun:
    """One training of a proxy: the score, and what the training took, loader and model side by side.

    ``print(run.fit)`` shows all of it by step.
    """

    score: float
    """The share of the validation's images that are put into their own class after the last epoch."""
    seconds: float
    """Of the training, without the validation."""
    cpu_s: float
    """CPU seconds of this process in that time, loader and model together."""
    energy_j: Mapping[str, float]
    """Joules by domain in that time, idle power included; of counters alone, so empty where there are none."""
    loader_cpu_s: float | None
    """CPU seconds of the loader's functions; None where the native library, which has the clocks, isn't built."""
    loader_energy_j: Mapping[str, float]
    """Joules of the loader by domain, of those in ``energy_j`` that are known of it."""
    model_cpu_s: float | None
    """The rest of ``cpu_s``, tf.data's own work included; None where the loader's aren't known."""
    model_energy_j: Mapping[str, float]
    """Joules of the model by domain, likewise."""
    samples: int
    """Images trained on in an epoch; of a last, smaller batch none."""
    validated: int
    """Images that the score is of."""
    fit: FitReport = field(repr=False)
    """All figures, with their intervals and notes."""


@public
@dataclass(frozen=True)
class Proxy:
    """A small Keras model and a fixed recipe that stand for the training that is meant, to compare augmentations.

    **The model** is the residual network of He et al. (CVPR 2016, arXiv 1512.03385, section 4.2) with one block a
    stage: ResNet-8, of 16, 32 and 64 channels, 79,000 weights and 12.5 million multiplications an image of 32 × 32. A
    ResNet-8 is also what MLPerf Tiny takes for CIFAR-10 (Banbury et al., 2021, arXiv 2106.07597). uint8 is scaled to
    −1 … 1; floats are taken as they come. Images of more than ``size`` rows or columns are shrunk to it by the model's
    first layer, bilinear with a low-pass filter; smaller ones stay as they are. So the loader works at the pipeline's
    own size, and its joules are those of the pipeline.

    **The recipe**: descent with Nesterov's momentum 0.9, learning rate 0.1 for batches of 128 and in proportion for
    others (He et al.; Goyal et al., 2017, arXiv 1706.02677), from 0 up in the first 5 % of the steps, then down to 0 as
    a cosine (Loshchilov and Hutter, ICLR 2017, arXiv 1608.03983); weights decay by 5e-4 (Zagoruyko and Komodakis, BMVC
    2016, arXiv 1605.07146). No dropout, no smoothing of labels, nothing chosen by the validation: the score is the
    accuracy after the last epoch. Labels may be classes, or one number for each (``OneHot``, ``MixUp``, ``CutMix``).

    **What is common to all pipelines with one seed**: the first weights, the samples trained on and held out, their
    order, and the draws of stages that they share; so differences between pipelines are paired. The program's own
    generators of random numbers aren't touched. On one machine a seed gives the same score again on a CPU; GPUs add up
    in any order, unless ``tf.config.experimental.enable_op_determinism()`` was called, which also slows tf.data.

    A ranking by a small model isn't always the large one's: the strength of augmentation that is best grows with the
    model and with the set (Cubuk et al., "RandAugment", 2020, arXiv 1909.13719, "Systematic failures of a separate
    proxy task"). Where it matters, give `compare` a function that trains the model that is meant.

    Args:
        validation: what the score is of: a pipeline of labelled images of the same shape and dtype, without draws. If
            not given, a fifth of each class of the training source is held out and not trained on, drawn anew by each
            seed. It is loaded by the pipeline's own stages without those that draw: ``RandomResizedCrop`` becomes
            ``Resize``, a ``RandomCrop`` that changes the size a ``CenterCrop``.
        samples: how many images of the training source are used in all, those held out included, the same share of
            each class, drawn anew by each seed; all if not given.
        size: the most rows and columns that the model sees, from 8; ``None`` for all, however many.
        epochs: passes over the images trained on.
        batch: images in a step. The pipeline's ``Batch`` is replaced by it, its last, smaller batch left out; a
            ``Shuffle`` is added where there is none.

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> proxy = gl.Proxy(samples=5000, epochs=10)
        >>> choice = gl.compare({"plain": train, "mixup": train_mixup}, evaluate=proxy)
        >>> run = proxy.run(train, seed=0)
        >>> run.score, run.loader_cpu_s, run.model_cpu_s
        (0.981, 3.1, 48.2)
    """

    validation: Pipeline | None = None
    samples: int | None = None
    size: int | None = 32
    epochs: int = 20
    batch: int = 64

    def __post_init__(self) -> None:
        if self.validation is not None and not isinstance(self.validation, Pipeline):
            raise UsageError(
                f"Proxy: validation must be a Pipeline or None, not {type(self.validation).__name__}: leave it out to "
                "hold out a fifth of the training source"
            )
        for name, otherwise in (("samples", " or None"), ("size", " or None"), ("epochs", ""), ("batch", "")):
            if (value := getattr(self, name)) is not None or not otherwise:
                checked = scalars.positive(UsageError, f"Proxy: {name}", value, otherwise)
                object.__setattr__(self, name, checked)
        if self.size is not None and self.size < LEAST_SIZE:
            raise UsageError(f"Proxy: size must be {LEAST_SIZE} or more, as the model halves it twice, not {self.size}")

    def run(self, pipeline: Pipeline, seed: int, backend: str | Mapping[str, str] = "auto") -> ProxyRun:
        """Train the model on a pipeline, and judge it.

        Args:
            pipeline: gives images of one shape, uint8 or floats, and their classes. Its own seed isn't used.
            seed: any integer: of the first weights, the samples, their order and the pipeline's draws.
            backend: as `load` takes it.

        Raises:
            PipelineError: the model can't be trained on the pipeline, or the validation doesn't fit it.
            SourceError: labels aren't classes, are of one class only, or the validation has others.
            BackendUnavailable: Keras isn't installed, or the backend can't run here.
        """
        number, classes = _seed(seed), class_count(pipeline)
        division = divide(pipeline.source.labels, number, self.samples, hold_out=self.validation is None)
        batch = min(self.batch, len(division.trained))
        training = _training(pipeline, number, batch)
        judging = _judging(self.validation, training, self.batch)
        proxy_model.require_keras()
        dataset = _loaded(training, backend, division.trained)
        judged = _loaded(judging, "auto", None if self.validation is not None else division.held_out)
        steps = len(division.trained) // batch * self.epochs
        spec, soft = training.specs[-1], bool(training.label.shape)
        shape = [side for side in spec.image_shape if side is not None]  # of batches all are known
        model = proxy_model.build_model(
            shape, spec.dtype, classes, size=self.size, seed=number, steps=steps, batch=batch, soft=soft
        )
        energy = EnergyCallback()
        model.fit(_watched(dataset), epochs=self.epochs, callbacks=[energy], shuffle=False, verbose=0)
        validated = len(judging.source) if self.validation is not None else len(division.held_out)
        score = proxy_model.accuracy(model, judged, validated, classes, soft=soft)
        return _run(energy.report, score, samples=len(division.trained) // batch * batch, validated=validated)

    def __call__(self, dataset: tf.data.Dataset, seed: int) -> float:
        """Train the model on a dataset, and give its accuracy on ``validation``, which must be given.

        ``samples`` and ``batch`` don't count here: the dataset's batches are taken as they come, each epoch all.

        Args:
            dataset: batches of images ``[n, height, width, channels]`` and of labels, classes ``[n]`` or one number for
                each ``[n, classes]``; of a known length.
            seed: any integer, of the first weights.

        Raises:
            UsageError: ``validation`` isn't given, or the dataset is of another form.
        """
        if self.validation is None:
            raise UsageError(
                "Proxy: of a dataset nothing can be held out, so validation must be given: Proxy(validation=pipeline), "
                "or proxy.run(pipeline, seed)"
            )
        proxy_model.require_keras()
        images, labels, steps = form_of(dataset)
        validation = _in_batches(self.validation, self.batch)
        need_alike(validation, tuple(images.shape[1:]), images.dtype.name)
        soft = len(labels.shape) == 2
        classes = int(labels.shape[1]) if soft else class_count(validation)
        number, batch = _seed(seed), images.shape[0] or self.batch
        shape, dtype, steps = tuple(images.shape[1:]), images.dtype.name, steps * self.epochs
        model = proxy_model.build_model(
            shape, dtype, classes, size=self.size, seed=number, steps=steps, batch=int(batch), soft=soft
        )
        model.fit(dataset, epochs=self.epochs, shuffle=False, verbose=0)
        return proxy_model.accuracy(model, load(validation), len(validation.source), classes, soft=soft)

    def to_dict(self) -> dict[str, Any]:
        """Architecture, recipe and arguments as JSON data: what the scores of two comparisons must share."""
        return {
            "proxy": proxy_model.NAME,
            "validation": None if self.validation is None else self.validation.to_dict(),
            "samples": self.samples,
            "size": self.size,
            "epochs": self.epochs,
            "batch": self.batch,
        }


def _seed(seed: Any) -> int:
    number = scalars.whole(seed)
    if number is None:
        raise UsageError(f"Proxy: seed must be an integer, not {seed!r}")
    return number


def _training(pipeline: Pipeline, seed: int, batch: int) -> Pipeline:
    """The pipeline with the proxy's seed and batch, and shuffled."""
    order = () if pipeline.shuffled else (Shuffle(),)
    made = _in_batches(Pipeline(pipeline.source, *order, *pipeline.stages, seed=seed), batch, drop_remainder=True)
    need_pixels(made.specs[-1])
    return made


def _in_batches(pipeline: Pipeline, size: int, drop_remainder: bool = False) -> Pipeline:
    """The pipeline with batches of a size."""
    batch = Batch(size, drop_remainder)
    stages = [batch if isinstance(stage, Batch) else stage for stage in pipeline.stages]
    return Pipeline(pipeline.source, *stages, *(() if pipeline.batch else (batch,)), seed=pipeline.seed)


def _judging(validation: Pipeline | None, training: Pipeline, batch: int) -> Pipeline:
    """What the score is of, which must be like what is trained on."""
    if validation is None:
        judging = without_chance(training, batch)
    else:
        judging = _in_batches(validation, batch)
        need_known_classes(training.source, validation.source)
    shape = training.specs[-1].shape[1:]
    need_alike(judging, shape, training.specs[-1].dtype)
    return judging


def _loaded(pipeline: Pipeline, backend: str | Mapping[str, str], indices: NDArray[np.int64] | None) -> tf.data.Dataset:
    """Some samples of a pipeline, each new iteration the next epoch."""
    plan = make_plan(pipeline, backend)
    target = device_of(plan, None, None)
    return build_dataset(plan, Order(pipeline, indices), Position(), None, target)


def _watched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    try:
        return watch(dataset)
    except BackendUnavailable:  # no clocks: the run says so by None
        return dataset


def _run(report: FitReport, score: float, *, samples: int, validated: int) -> ProxyRun:
    spent = report.fit
    assert spent.total.cpu_s is not None and spent.total.cpu_s.value is not None  # of this process, always counted
    counted = _counted(spent.total)
    return ProxyRun(
        score=score,
        seconds=spent.wall_s,
        cpu_s=spent.total.cpu_s.value,
        energy_j=_known(spent.total, counted),
        loader_cpu_s=_cpu_s(spent.loader),
        loader_energy_j=_known(spent.loader, counted),
        model_cpu_s=_cpu_s(spent.model),
        model_energy_j=_known(spent.model, counted),
        samples=samples,
        validated=validated,
        fit=report,
    )


def _cpu_s(part: EnergyPart) -> float | None:
    return None if part.cpu_s is None else part.cpu_s.value


def _counted(total: EnergyPart) -> tuple[str, ...]:
    """The domains whose joules counters gave."""
    return tuple(domain for domain, figure in total.energy_j.items() if figure.provenance != "modelled")


def _known(part: EnergyPart, domains: Sequence[str]) -> dict[str, float]:
    """A part's joules by domain, of some domains, where they are known."""
    figures = {domain: part.energy_j[domain].value for domain in domains if domain in part.energy_j}
    return {domain: joules for domain, joules in figures.items() if joules is not None}
