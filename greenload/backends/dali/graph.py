"""Builds DALI graphs of plans, and computes what such a graph is fed; nothing here imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.dali.base import Argument, Lowering, Node, Target
from greenload.backends.dali.table import CPU_TABLE
from greenload.backends.image_sizes import BatchSizes
from greenload.plans.params import DrawLayout
from greenload.plans.steps import Step
from greenload.specs import ImageSpec
from greenload.system import forking
from greenload.system.frameworks import fn, types

IMAGES = "images"
"""The name of the input that takes the images."""


def dtypes() -> dict[str, Any]:
    """DALI's dtypes by their names here."""
    return {
        "bool": types.BOOL,
        "uint8": types.UINT8,
        "int8": types.INT8,
        "int32": types.INT32,
        "int64": types.INT64,
        "float16": types.FLOAT16,
        "float32": types.FLOAT,
        "float64": types.FLOAT64,
    }


@dataclass(frozen=True)
class Feed:
    """One input of a graph beside the images: an argument of one step, and the stage whose params it is made from."""

    name: str
    stage: int
    argument: Argument


def feeds_of(steps: Sequence[Step]) -> tuple[Feed, ...]:
    """The inputs that some steps need beside the images.

    Args:
        steps: with primitives. That DALI has a lowering for each was seen to when it was planned.
    """
    feeds = []
    for position, step in enumerate(steps):
        for argument in _lowering(step).arguments(step.primitive, step.spec_in):
            assert step.stage is not None, step  # only primitives of a stage's own have params
            feeds.append(Feed(feed_name(argument.name, position), step.stage, argument))
    return tuple(feeds)


def feed_name(argument: str, position: int) -> str:
    """``Feed.name`` of an argument of the step at a position."""
    return f"{argument}_{position}"


def _lowering(step: Step) -> Lowering:
    assert step.primitive is not None  # what makes a step one of pixels
    lowering: Lowering = CPU_TABLE.lowering(step.primitive)  # the GPU's are the same
    return lowering


def lowered(steps: Sequence[Step], node: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """How a graph goes on from a node through some steps, whose further inputs are ``fed`` by ``Feed.name``."""
    for position, step in enumerate(steps):
        lowering = _lowering(step)
        arguments = lowering.arguments(step.primitive, step.spec_in)
        own = {argument.name: fed[feed_name(argument.name, position)] for argument in arguments}
        node = lowering.build(step.primitive, step.spec_in, node, own, target)
    return node


def make_graph(
    steps: Sequence[Step],
    spec: ImageSpec,
    *,
    batch_size: int,
    threads: int,
    target: Target,
    shapes: bool = False,
    idle: Sequence[Feed] = (),
) -> Any:
    """A built ``nvidia.dali.Pipeline`` of some steps.

    Args:
        steps: with primitives.
        spec: what enters.
        batch_size: the most images of one run.
        threads: DALI's worker threads.
        target: where it runs.
        shapes: put out the last images' shapes, not the images.
        idle: inputs that no step uses, and that come out after the images.
    """
    from nvidia.dali import Pipeline

    kinds = dtypes()
    # The dynamic executor gives each run output buffers of its own, which live as long as someone refers to them. With
    # a greater depth the first schedule_run would start as many runs, fed or not; several may be in flight with 1 too.
    graph = Pipeline(
        batch_size=batch_size,
        num_threads=threads,
        device_id=target.gpu,
        prefetch_queue_depth=1,
        exec_dynamic=True,
    )
    with graph:
        node = (
            fn.external_source(name=IMAGES, no_copy=True, ndim=1, dtype=types.UINT8)
            if spec.encoded
            else fn.external_source(name=IMAGES, no_copy=True, ndim=3, dtype=kinds[spec.dtype], layout="HWC")
        )
        if target.gpu is not None and not spec.encoded:
            node = node.gpu()
        sources = {
            feed.name: fn.external_source(name=feed.name, ndim=feed.argument.ndim, dtype=kinds[feed.argument.dtype])
            for feed in (*feeds_of(steps), *idle)
        }
        node = lowered(steps, node, sources, target)
        graph.set_outputs(node.shape() if shapes else node, *(sources[feed.name] for feed in idle))
    graph.build()
    forking.in_child(graph, _abandon)
    return graph


def _abandon(graph: Any) -> None:
    """Take from a graph what it would shut down, in a forked child: the threads to be ended are its parent's."""
    forking.leak(graph._pipe)
    graph._pipe = None


def arguments_of(
    numbers: DrawLayout, feeds: Sequence[Feed], drawn: NDArray[np.float64], sizes: BatchSizes, first: int = 0
) -> dict[str, NDArray[np.generic]]:
    """What the inputs beside the images are fed for a batch, by input name: ``[n, …]``, contiguous.

    ``sizes`` are those of the images as they enter the stage at place ``first``.
    """
    if not feeds:
        return {}
    params = numbers.params(drawn, sizes.height, sizes.width, tuple({feed.stage for feed in feeds}), first=first)
    return {
        feed.name: np.ascontiguousarray(
            feed.argument.take({**params[feed.stage], **sizes.params()}), feed.argument.dtype
        )
        for feed in feeds
    }


def image_list(images: Sequence[Any] | NDArray[np.generic]) -> Any:
    """A batch's images as a DALI tensor list that refers to their memory: keep them until the run is over."""
    from nvidia.dali.tensors import TensorCPU, TensorListCPU

    if isinstance(images[0], bytes):
        return TensorListCPU([TensorCPU(image) for image in images], "", False)
    tensors = [TensorCPU(np.ascontiguousarray(image), "HWC") for image in images]
    return TensorListCPU(tensors, "HWC", False)


def feed(graph: Any, images: Any, arguments: Mapping[str, NDArray[np.generic]]) -> None:
    """Give a graph one run's inputs. ``images`` as ``image_list`` makes it, or what a graph put out."""
    graph.feed_input(IMAGES, images)
    for name, values in arguments.items():
        graph.feed_input(name, values)
