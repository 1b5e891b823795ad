"""`watch`: the same dataset with a clock around each function that it calls."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from greenload.errors import UsageError
from greenload.loading.iterate import Batches
from greenload.profiling.in_place.clocks import Clocks, is_pipeline
from greenload.profiling.in_place.flow import samples_of
from greenload.profiling.in_place.pipelines import watched_pipeline, with_pipelines
from greenload.profiling.in_place.publishing import publish
from greenload.profiling.in_place.watched import Watched, WatchedStep, numbered
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.names import installed
from greenload.profiling.tfdata.units import sample_unit
from greenload.profiling.tfdata.walk import walk
from greenload.public import public
from greenload.system.frameworks import tf

Data = TypeVar("Data", bound="tf.data.Dataset | Batches")


@public
def watch(dataset: Data) -> Data:
    """The same dataset with a clock around each function that it calls.

    Its elements, their order, its randomness, options and what ``fit`` or a distribution strategy does with it stay as
    they are: it shares the state of the given one's shuffles and caches. A clock takes about a microsecond of CPU time
    a call.

    ``watched`` of what is given back tells what the functions have done so far, in all its iterators and in datasets
    made of it together. A clock sees calls, and the CPU time and the waiting of the thread that a function runs on:
    not what it has others do, as another process, and of tf.data's own work (batches, shuffles, caches, buffers)
    nothing. ``watched.unwatched`` names what has no clock, and why.

    Another process that runs its graph, as a worker of tf.data service or one that loads a model saved with it, calls
    ``gl.register_operations()`` first. Otherwise TensorFlow says there that the op type ``GreenloadEnter`` is not
    registered. Or give the service the dataset as it was before ``watch``.

    Args:
        dataset: any ``tf.data.Dataset``, or the batches of ``iterate``; one that is watched already is given back as it
            is, what one was watched as before is given again while it is in use, and a part that is watched keeps its
            clocks.

    Returns:
        A dataset with an attribute ``watched``; of batches the same object. What ``load`` or ``iterate`` made has rows
        by the steps of its plan, each by the clocks of its backend, and ``"draws"`` and ``"… intake"`` for what
        prepares them.

    Raises:
        UsageError: it isn't a dataset, has more than 300 nodes, or is made inside a ``tf.function``.
        BackendUnavailable: the native library, which has the clocks, isn't built, or can't be loaded.

    Example:
        >>> dataset = gl.watch(images.map(decode).map(augment).batch(32))
        >>> before = dataset.watched.read()
        >>> model.fit(dataset)
        >>> span = dataset.watched.read() - before
        >>> span.steps["decode"].calls, span.steps["decode"].total_cpu_s
        (50000, 61.2)
    """
    if isinstance(getattr(dataset, "watched", None), Watched):
        return dataset
    if (known := _made_of_before(dataset)) is not None:
        return known  # type: ignore[no-any-return]
    name = _place_of_call()
    if (pipeline := watched_pipeline(dataset, name)) is not None:
        publish()
        return _remembered(dataset, pipeline)  # type: ignore[no-any-return]
    if not isinstance(dataset, tf.data.Dataset):
        raise UsageError(f"watch takes a tf.data.Dataset, found {type(dataset).__name__}: pass the dataset itself")
    if not tf.executing_eagerly():
        raise UsageError("watch takes a dataset outside of tf.function, found a call inside one: watch it before")
    clocks = Clocks(with_pipelines(walk(dataset), name))
    watched = _watched(clocks, name)
    publish()
    return _remembered(dataset, _watched_class()(dataset, clocks, watched))  # type: ignore[no-any-return]


def _remembered(dataset: Any, made: Any) -> Any:
    """What was made of a dataset, which whoever watches that again is given as well, while it is in use."""
    if made is not dataset:
        _made_of[dataset] = weakref.ref(made)
    return made


def _made_of_before(dataset: Any) -> Any:
    try:
        made = _made_of.get(dataset)
    except TypeError:  # anything may be given
        return None
    return None if made is None else made()


_made_of: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()


def _watched(clocks: Clocks, name: str) -> Watched:
    """What clocks count: the steps of pipelines first."""
    root = clocks.root
    pipelines = [node for node in root.nodes() if is_pipeline(node)]
    unwatched: dict[str, str] = {}
    parts: list[Watched] = []
    for node in pipelines:
        part, why = node.dataset.watched, clocks.left_out(node)
        unwatched |= dict.fromkeys((step.name for step in part.steps), why) if why else part.unwatched
        if not why and part not in parts:
            parts.append(part)
    steps = numbered([*(step for part in parts for step in part.steps), *clocks.steps.values()])
    counts = samples_of(root, _names(clocks, steps)), sample_unit(root).name
    alone = len(pipelines) == len(parts) == 1
    samples, unit = (parts[0].samples, parts[0].sample_unit) if alone else counts
    return Watched(
        name,
        steps,
        {**unwatched, **clocks.unwatched},
        samples,
        unit,
        includes=(*clocks.includes, *(node.dataset.watched for node in pipelines)),
    )


def _names(clocks: Clocks, steps: Sequence[WatchedStep]) -> Mapping[Node, str]:
    """The names of the steps that tell how many elements a node gives."""
    names = {step.clocks: step.name for step in steps}
    return {node: names[step.clocks] for node, step in clocks.telling().items()}


def _place_of_call() -> str:
    """``"train.py:12"``, the innermost line of the user's program; of whatever called where all is installed."""
    frame: Any = sys._getframe(2)
    called = frame
    while frame is not None and installed(frame.f_code.co_filename):
        frame = frame.f_back
    frame = frame or called
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def _watched_class() -> Any:
    from tensorflow.python.data.ops.dataset_ops import UnaryUnchangedStructureDataset

    class WatchedDataset(UnaryUnchangedStructureDataset):  # type: ignore[misc]
        """A dataset with clocks."""

        def __init__(self, dataset: Any, clocks: Clocks, watched: Watched) -> None:
            self.clocks = clocks
            self.watched = watched
            super().__init__(dataset, clocks.dataset._variant_tensor)
            for name, value in vars(dataset).items():  # as Keras hangs `class_names` on the dataset
                if not name.startswith("_") and not hasattr(self, name):
                    setattr(self, name, value)

        def __iter__(self) -> Any:
            iterator = super().__iter__()
            if tf.executing_eagerly():
                self.watched.iterators.add(iterator)
            return iterator

    return WatchedDataset
