"""Moves a pipeline's last stages, which only rescale values, into a Keras layer on the device that trains.

Rescaling is as well done there: float32 is four times uint8's bytes to batch, to hold ready and to move. What the layer
costs its device instead, a profile of the split shows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from greenload.errors import BackendUnavailable, PipelineError
from greenload.plans.pipeline import Pipeline
from greenload.plans.steps import Step
from greenload.public import public
from greenload.specs import ImageSpec
from greenload.stages import Batch, Echo, Normalize, Shuffle, Stage, ToDtype
from greenload.stages import primitives as p

_FLOATS = ("float16", "bfloat16", "float32")


@public
@dataclass(frozen=True, eq=False)
class Split:
    """A pipeline in two halves. Unpacks as ``host, layer = split``."""

    pipeline: Pipeline
    """What stays on the host."""
    layer: Any
    """A ``keras.layers.Layer`` that does the rest to a batch (or to one image)."""
    stages: tuple[Stage, ...]
    """The stages that the layer stands for, in order."""
    spec: ImageSpec
    """What the layer gives."""

    @property
    def step(self) -> Step:
        """The layer as a profile's row."""
        names = tuple(type(stage).__name__ for stage in self.stages)
        return Step("device", f"{' + '.join(names)} in the model", names, "keras", self.pipeline.specs[-1], self.spec)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.pipeline, self.layer))


@public
def split_for_device(pipeline: Pipeline) -> Split:
    """Move a pipeline's trailing ``ToDtype`` and ``Normalize`` into a Keras layer, for the device that trains.

    Both halves one after the other give the numbers of the whole pipeline (to 1e-6 of their range: the same
    multiplication and addition in float32). The layer is Keras's own ``Rescaling``, so that a saved model loads
    anywhere; put it in front of the model. ``Batch``, ``Echo``, ``OneHot`` and ``Shuffle`` may stand behind or between
    the stages that move.

    Args:
        pipeline: ends in ``ToDtype`` or ``Normalize``, its last one to a floating dtype.

    Returns:
        The pipeline without these stages, and the layer; ``profile`` of it shows both sides.

    Raises:
        PipelineError: nothing at its end can move.
        BackendUnavailable: Keras isn't installed.

    Example:
        >>> host, layer = gl.split_for_device(train)
        >>> model = keras.Sequential([layer, backbone])
        >>> model.fit(gl.load(host), epochs=3)
    """
    if not isinstance(pipeline, Pipeline):
        raise PipelineError(f"what is split must be a Pipeline, not {type(pipeline).__name__} {str(pipeline)[:40]!r}")
    moved = movable(pipeline)
    if not moved:
        backwards = zip(reversed(pipeline.stages), reversed(pipeline.specs[:-1]), strict=True)
        last = next((stage for stage, spec in backwards if not _aside(stage, spec)), "its source")
        raise PipelineError(
            "split_for_device moves the ToDtype and Normalize that a pipeline ends in, but this ends in "
            f"{last}: there is nothing to move, so load it as it is"
        )
    stages = tuple(pipeline.stages[index] for index in moved)
    return Split(without(pipeline, moved), _layer(pipeline, moved), stages, pipeline.specs[-1])


def without(pipeline: Pipeline, indices: Collection[int]) -> Pipeline:
    """A pipeline without the stages at some indices."""
    kept = (stage for index, stage in enumerate(pipeline.stages) if index not in indices)
    return Pipeline(pipeline.source, *kept, seed=pipeline.seed)


def movable(pipeline: Pipeline) -> list[int]:
    """The indices of the stages that can move, in order: each gives float32, except the last, which gives any float."""
    moved: list[int] = []
    for index in reversed(range(len(pipeline.stages))):
        stage, after = pipeline.stages[index], pipeline.specs[index + 1]
        if _aside(stage, pipeline.specs[index]):
            continue
        if not isinstance(stage, (ToDtype, Normalize)) or after.dtype not in (("float32",) if moved else _FLOATS):
            break
        moved.insert(0, index)
    return moved


def _aside(stage: Stage, spec: ImageSpec) -> bool:
    """Whether a stage changes no pixel, so that what moves may stand before it."""
    return isinstance(stage, (Batch, Echo, Shuffle)) or (stage.changes_labels and not stage.primitives(spec))


def _layer(pipeline: Pipeline, moved: list[int]) -> Any:
    try:
        import keras
    except ImportError as error:
        raise BackendUnavailable(
            f"split_for_device makes a Keras layer: {error}; pip install 'greenload[tf]'"
        ) from None
    scale, offset = np.ones(1), np.zeros(1)
    for index in moved:
        for affine in pipeline.stages[index].primitives(pipeline.specs[index]):
            assert isinstance(affine, p.Affine)  # all that these stages come down to
            scale, offset = scale * np.array(affine.scale), offset * np.array(affine.scale) + np.array(affine.offset)
    rescaling = keras.layers.Rescaling(_plain(scale), _plain(offset), dtype="float32")
    dtype = pipeline.specs[moved[-1] + 1].dtype
    if dtype == "float32":
        return rescaling
    # Computed in float32 and rounded once, as everywhere; a layer of another dtype casts what enters it.
    return keras.Sequential([rescaling, keras.layers.Activation("linear", dtype=dtype)])


def _plain(numbers: Any) -> float | list[list[list[float]]]:
    """One number where all are the same: it broadcasts to any count of channels. Else ``[1, 1, channels]``, whose
    channels are last whatever Keras's ``image_data_format`` says."""
    return float(numbers[0]) if len(set(numbers.tolist())) == 1 else [[[float(n) for n in numbers]]]
