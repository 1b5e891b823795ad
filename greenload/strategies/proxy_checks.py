"""What a proxy can be trained and judged on. Each check says the rule, what was found, and what helps."""

from __future__ import annotations

from typing import Any

import numpy as np

from greenload.errors import PipelineError, SourceError, UsageError
from greenload.plans.pipeline import Pipeline
from greenload.sources import Source
from greenload.specs import ImageSpec

_DTYPES = ("uint8", "float16", "bfloat16", "float32")


def class_count(pipeline: Pipeline) -> int:
    """How many classes a pipeline's labels have.

    Raises:
        PipelineError: labels leave it in another form.
        SourceError: they aren't classes, or there is one only.
    """
    if not isinstance(pipeline, Pipeline):
        raise PipelineError(f"Proxy trains on a Pipeline, not {type(pipeline).__name__} {str(pipeline)[:40]!r}")
    label, labels = pipeline.label, pipeline.source.labels
    if len(label.shape) > 1 or (not label.shape and label.dtype != "int64"):
        raise PipelineError(
            f"Proxy needs labels that are classes, or one number for each, but here they are {label}: remove the stage "
            "that makes such labels"
        )
    pipeline.check_labels()
    known = np.unique(labels)
    if known[0] < 0 or known[-1] >= len(labels):
        wrong = known[0] if known[0] < 0 else known[-1]
        raise SourceError(
            f"Proxy needs labels that are classes, numbered from 0, but {pipeline.source} has the label {wrong} among "
            f"{len(labels)} samples: number them, as by numpy.unique(labels, return_inverse=True)"
        )
    if len(known) < 2:
        raise SourceError(
            f"Proxy needs two classes or more, but all {len(labels)} labels of {pipeline.source} are {known[0]}: give "
            "the source its labels"
        )
    return label.shape[0] if label.shape else int(known[-1]) + 1


def need_pixels(spec: ImageSpec) -> None:
    """Make sure that images are of a dtype that the model takes.

    Raises:
        PipelineError: they aren't.
    """
    if spec.dtype not in _DTYPES:
        raise PipelineError(
            f"Proxy trains on uint8 or float images, but here they are {spec}: end the pipeline with ToDtype('float32')"
        )


def need_alike(judging: Pipeline, shape: tuple[int | None, ...], dtype: str) -> None:
    """Make sure that a model trained on images of a shape and dtype can be judged by a pipeline.

    Raises:
        PipelineError: it gives others, or draws.
    """
    spec = judging.specs[-1]
    if spec.shape[1:] != shape or spec.dtype != dtype:
        trained = f"{dtype} {'×'.join(map(str, shape))}"
        raise PipelineError(
            f"Proxy judges by images like those that it trains on, {trained}, but the validation's are "
            f"{spec.dtype} {'×'.join(map(str, spec.shape[1:]))}: end both pipelines alike"
        )
    if any(stage.draws for stage in judging.stages):
        drawing = next(stage for stage in judging.stages if stage.draws)
        raise PipelineError(f"Proxy judges without chance, but the validation has {drawing}, which draws: remove it")


def need_known_classes(training: Source, validation: Source) -> None:
    """Make sure that the validation's labels mean what the training's do.

    Raises:
        SourceError: the names of their classes differ, or the validation has a class that the training hasn't.
    """
    names = getattr(training, "classes", None), getattr(validation, "classes", None)
    if all(names) and names[0] != names[1]:
        raise SourceError(
            f"Proxy judges by the classes that it trains on, but label 0 … {len(names[0] or ()) - 1} of {training} are "
            f"{_some(names[0])}, and of {validation} {_some(names[1])}: pass the same classes=[...] to both"
        )
    unknown = np.setdiff1d(validation.labels, training.labels)
    if len(unknown):
        raise SourceError(
            f"Proxy judges by the classes that it trains on, but {validation} has class {unknown[0]}, and {training} "
            "has not: leave its samples out"
        )


def _some(names: Any) -> str:
    return ", ".join(map(repr, names[:4])) + (", …" if len(names) > 4 else "")


def form_of(dataset: Any) -> tuple[Any, Any, int]:
    """The specs of a dataset's images and labels, and how many batches it has.

    Raises:
        UsageError: it gives something else, or its length isn't known.
    """
    spec = getattr(dataset, "element_spec", None)
    pair = spec if isinstance(spec, tuple) and len(spec) == 2 else (None, None)
    ranks = tuple(getattr(getattr(part, "shape", None), "rank", None) for part in pair)
    if ranks not in ((4, 1), (4, 2)) or None in pair[0].shape[1:]:  # type: ignore[union-attr]
        raise UsageError(
            "Proxy: a dataset must give batches of (images [n, height, width, channels] of one size, labels [n] or "
            f"[n, classes]), found {type(dataset).__name__} of {str(spec)[:100]}"
        )
    steps = int(dataset.cardinality())
    if steps < 1:
        raise UsageError(
            "Proxy: a dataset's length must be known, as the learning rate follows it: add "
            ".apply(tf.data.experimental.assert_cardinality(batches))"
        )
    return pair[0], pair[1], steps
