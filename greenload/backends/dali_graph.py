"""DALI graphs of plans, and what such a graph is fed. Nothing here imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends import orienting
from greenload.backends.base import Images
from greenload.backends.dali_base import Argument, Target
from greenload.backends.dali_lowerings import LOWERINGS
from greenload.errors import RecordError
from greenload.formats import FormatError, header, orientation
from greenload.prepared import Numbers
from greenload.specs import ImageSpec
from greenload.stages import primitives as p
from greenload.steps import Step

IMAGES = "images"
"""The name of the input that takes the images."""


@dataclass(frozen=True)
class Feed:
    """One input of a graph beside the images: an argument of one step, and the stage whose params it is made from."""

    name: str
    place: int
    argument: Argument


def pixel_steps(steps: Sequence[Step]) -> list[Step]:
    """The steps that have a primitive, in order. That DALI has a lowering for each was seen to when it was planned."""
    return [step for step in steps if step.primitive is not None]


def feeds_of(steps: Sequence[Step]) -> tuple[Feed, ...]:
    """The inputs that some steps need beside the images.

    Args:
        steps: with primitives, as ``pixel_steps`` gives them.
    """
    feeds = []
    for position, step in enumerate(steps):
        for argument in LOWERINGS[type(step.primitive)].arguments(step.primitive, step.spec_in):
            assert step.stage is not None, step  # only primitives of a stage's own have params
            feeds.append(Feed(f"{argument.name}_{position}", step.stage, argument))
    return tuple(feeds)


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
    from nvidia.dali import Pipeline, fn, types

    kinds = {
        "bool": types.BOOL,
        "uint8": types.UINT8,
        "int8": types.INT8,
        "int32": types.INT32,
        "float16": types.FLOAT16,
        "float32": types.FLOAT,
    }
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
        for position, step in enumerate(steps):
            lowering = LOWERINGS[type(step.primitive)]
            fed = {
                argument.name: sources[f"{argument.name}_{position}"]
                for argument in lowering.arguments(step.primitive, step.spec_in)
            }
            node = lowering.build(step.primitive, step.spec_in, node, fed, target)
        graph.set_outputs(node.shape() if shapes else node, *(sources[feed.name] for feed in idle))
    graph.build()
    return graph


@dataclass(frozen=True)
class Sizes:
    """Rows and columns of each image of a batch as it enters, int64 ``[n]``, and which may be cut."""

    height: NDArray[np.int64]
    width: NDArray[np.int64]
    exif: tuple[tuple[int, int], ...] = ()
    """The position of each JPEG that has an EXIF block, and where it begins in it."""
    stripped: tuple[int, ...] = ()
    """Positions of TIFFs: a window's decode reads only the strips that it needs, so it misses damage in others."""
    orientation: NDArray[np.int64] | None = None
    """The EXIF orientations, where they are applied: then the sizes are those of upright images."""

    def params(self) -> dict[str, NDArray[np.int64]]:
        """What turning images upright needs, as further params."""
        if self.orientation is None:
            return {}
        return {"orientation": self.orientation, "upright_height": self.height, "upright_width": self.width}


def sizes_of(
    images: Images,
    names: Sequence[str],
    backend: str = "dali-cpu",
    exif: bool = False,
) -> Sizes:
    """The sizes of a batch's images, from their headers or shapes.

    Args:
        images: files' bytes, or pixels.
        names: what names each in an error.
        backend: the backend that is to decode them.
        exif: whether EXIF orientation is applied.

    Raises:
        RecordError: a header can't be read, or the backend doesn't read such files; names the record.
    """
    sides = np.empty((2, len(images)), np.int64)
    turns = np.ones(len(images), np.int64) if exif else None
    blocks, stripped = [], []
    image: Any  # mypy takes what isn't bytes for a collection
    for position, image in enumerate(images):
        if isinstance(image, bytes):
            try:
                head = header(image, backend)
            except FormatError as error:
                raise RecordError(names[position], str(error)) from None
            sides[0, position] = head.height
            sides[1, position] = head.width
            if head.exif is not None:
                blocks.append((position, head.exif))
            if head.format == "TIFF":
                stripped.append(position)
            if turns is not None:
                turns[position] = orientation(image)
        else:
            sides[:, position] = image.shape[:2]
    if turns is None:
        return Sizes(sides[0], sides[1], tuple(blocks), tuple(stripped))
    return Sizes(*orienting.upright_size(sides[0], sides[1], turns), tuple(blocks), tuple(stripped), turns)


def without_exif(images: Images, sizes: Sizes) -> Images:
    """The images, with EXIF blocks hidden from DALI: its parser refuses a JPEG for an EXIF block that it can't read."""
    if not sizes.exif:
        return images
    hidden: list[Any] = list(images)
    for position, at in sizes.exif:
        hidden[position] = b"".join((hidden[position][:at], b"hidden", hidden[position][at + 6 :]))
    return hidden


def applies_exif(steps: Sequence[Step]) -> bool:
    """Whether one of some steps decodes with EXIF orientation applied."""
    return any(isinstance(s.primitive, (p.Decode, p.DecodeCrop)) and s.primitive.exif for s in steps)


def arguments_of(
    numbers: Numbers, feeds: Sequence[Feed], drawn: NDArray[np.float64], sizes: Sizes, first: int = 0
) -> dict[str, NDArray[np.generic]]:
    """What the inputs beside the images are fed for a batch, by input name: ``[n, …]``, contiguous.

    ``sizes`` are those of the images as they enter the stage at place ``first``.
    """
    if not feeds:
        return {}
    params = numbers.params(drawn, sizes.height, sizes.width, tuple({feed.place for feed in feeds}), first=first)
    return {
        feed.name: np.ascontiguousarray(
            feed.argument.take({**params[feed.place], **sizes.params()}), feed.argument.dtype
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
