"""DALI graphs of plans: the table from primitive to operators, and what such a graph is fed.

One table serves the CPU and the GPU: the device is the only difference. Nothing here imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.errors import PipelineError, RecordError
from greenload.formats import FormatError, header
from greenload.plan import Numbers, Step
from greenload.specs import ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p

Node = Any
"""A node of a DALI graph."""

IMAGES = "images"
"""The name of the input that takes the images."""

# Makes rounding to nearest cut, whichever way halves go: 3.0 stays 3, as 2**-15 is above a float32 step at 255.
_ROUND_TO_CUT = 2.0**-15 - 0.5


@dataclass(frozen=True)
class Target:
    """Where a graph runs."""

    gpu: int | None = None
    """The GPU's number; ``None`` for the CPU."""
    hw_decoder_load: float | None = None
    """The share of JPEGs that go to the GPU's fixed-function decoder; DALI's own choice if ``None``."""

    @property
    def device(self) -> str:
        """DALI's name for where pixels are worked on."""
        return "cpu" if self.gpu is None else "gpu"

    def decoding(self) -> dict[str, Any]:
        """The settings that make decoding equal on every backend: no EXIF rotation, libjpeg's fancy upsampling."""
        from nvidia.dali import types

        settings = {"output_type": types.RGB, "adjust_orientation": False}
        if self.gpu is None:
            return settings | {"device": "cpu"}
        share = {} if self.hw_decoder_load is None else {"hw_decoder_load": self.hw_decoder_load}
        return settings | {"device": "mixed", "jpeg_fancy_upsampling": True} | share


@dataclass(frozen=True)
class Argument:
    """One operator argument that differs from image to image, made from a stage's params."""

    name: str
    dtype: str
    take: Callable[[Params], NDArray[np.generic]]
    ndim: int = 1


@dataclass(frozen=True)
class Lowering:
    """A primitive as DALI operators: the arguments it is fed, and how the graph goes on from a node."""

    arguments: Callable[[Any], tuple[Argument, ...]]
    build: Callable[[Any, ImageSpec, Node, Mapping[str, Node], Target], Node]


_WINDOW = (
    Argument("start", "int32", lambda params: params["window"][:, :2]),
    Argument("shape", "int32", lambda params: params["window"][:, 2:]),
)

_MIRROR = (Argument("flip", "int32", lambda params: params["flip"], 0),)


def _decode(primitive: p.Decode, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    from nvidia.dali import fn

    return fn.decoders.image(image, **target.decoding())


def _decode_crop(
    primitive: p.DecodeCrop, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target
) -> Node:
    from nvidia.dali import fn

    return fn.decoders.image_slice(image, start=fed["start"], shape=fed["shape"], axes=(0, 1), **target.decoding())


def _crop(primitive: p.Crop, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    from nvidia.dali import fn

    return fn.slice(image, start=fed["start"], shape=fed["shape"], axes=(0, 1), device=target.device)


def _pad(primitive: p.Pad, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    from nvidia.dali import fn

    return fn.slice(
        image,
        start=fed["start"],
        shape=[primitive.height, primitive.width],
        axes=(0, 1),
        out_of_bounds_policy="pad",
        device=target.device,
    )


def _resize(primitive: p.Resize, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    from nvidia.dali import fn, types

    return fn.resize(
        image,
        size=fed.get("size", [primitive.height, primitive.width]),
        interp_type=types.INTERP_LINEAR,
        antialias=primitive.antialias,
        device=target.device,
    )


def _flip(primitive: p.Flip, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    from nvidia.dali import fn

    return fn.flip(image, horizontal=fed["flip"], device=target.device)


def _affine(primitive: p.Affine, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """``crop_mirror_normalize``: a tenth of what arithmetic operators cost, and closer to the reference."""
    from nvidia.dali import fn, types

    mirror = {"mirror": fed["flip"]} if isinstance(primitive, p.FlipAffine) else {}
    count = max(len(primitive.scale), len(primitive.offset))
    scales = np.broadcast_to(primitive.scale, count)
    offsets = np.broadcast_to(primitive.offset, count)
    whole = primitive.dtype == "uint8"
    return fn.crop_mirror_normalize(
        image,
        mean=(-offsets / scales).tolist(),
        std=(1.0 / scales).tolist(),
        shift=_ROUND_TO_CUT if whole else 0.0,
        **mirror,
        dtype=types.UINT8 if whole else types.FLOAT,
        output_layout="HWC",
        device=target.device,
    )


LOWERINGS: Mapping[type[p.Primitive] | type[None], Lowering] = {
    p.Decode: Lowering(lambda primitive: (), _decode),
    p.DecodeCrop: Lowering(lambda primitive: _WINDOW, _decode_crop),
    p.Crop: Lowering(lambda primitive: _WINDOW, _crop),
    p.Pad: Lowering(lambda primitive: (Argument("start", "int32", lambda params: -params["pad"]),), _pad),
    p.Resize: Lowering(
        lambda primitive: (
            ()
            if primitive.height is not None and primitive.width is not None
            else (Argument("size", "float32", lambda params: params["size"]),)
        ),
        _resize,
    ),
    p.Flip: Lowering(lambda primitive: _MIRROR, _flip),
    p.Affine: Lowering(lambda primitive: (), _affine),
    p.FlipAffine: Lowering(lambda primitive: _MIRROR, _affine),
}
"""What each primitive comes down to."""


@dataclass(frozen=True)
class Feed:
    """One input of a graph beside the images: an argument of one step, and the stage whose params it is made from."""

    name: str
    place: int
    argument: Argument


def pixel_steps(steps: Sequence[Step]) -> list[Step]:
    """The steps that have a primitive, in order.

    Raises:
        PipelineError: DALI has no lowering for one of them.
    """
    chosen = [step for step in steps if step.primitive is not None]
    for step in chosen:
        if type(step.primitive) not in LOWERINGS:
            raise PipelineError(f"backend 'dali' has no lowering for {step.name} ({step.primitive}): use backend='tf'")
    return chosen


def feeds_of(steps: Sequence[Step]) -> tuple[Feed, ...]:
    """The inputs that some steps need beside the images.

    Args:
        steps: with primitives, as ``pixel_steps`` gives them.
    """
    feeds = []
    for position, step in enumerate(steps):
        for argument in LOWERINGS[type(step.primitive)].arguments(step.primitive):
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

    kinds = {"int32": types.INT32, "float32": types.FLOAT, "uint8": types.UINT8}
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
                argument.name: sources[f"{argument.name}_{position}"] for argument in lowering.arguments(step.primitive)
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
    incomplete: tuple[int, ...] = ()
    """Positions of JPEGs without an end marker: only a full decode tells whether they are cut."""


def sizes_of(images: Sequence[bytes] | Sequence[NDArray[np.generic]], names: Sequence[str]) -> Sizes:
    """The sizes of a batch's images, from their headers or shapes.

    Raises:
        RecordError: a header can't be read; names the record.
    """
    sides = np.empty((2, len(images)), np.int64)
    incomplete = []
    image: Any  # mypy takes what isn't bytes for a collection
    for position, image in enumerate(images):
        if isinstance(image, bytes):
            try:
                head = header(image)
            except FormatError as error:
                raise RecordError(names[position], str(error)) from None
            sides[0, position] = head.height
            sides[1, position] = head.width
            if not head.complete:
                incomplete.append(position)
        else:
            sides[:, position] = image.shape[:2]
    return Sizes(sides[0], sides[1], tuple(incomplete))


def arguments_of(
    numbers: Numbers, feeds: Sequence[Feed], drawn: NDArray[np.float64], sizes: Sizes
) -> dict[str, NDArray[np.generic]]:
    """What the inputs beside the images are fed for a batch, by input name: ``[n, …]``, contiguous."""
    if not feeds:
        return {}
    params = numbers.params(drawn, sizes.height, sizes.width, tuple({feed.place for feed in feeds}))
    return {
        feed.name: np.ascontiguousarray(feed.argument.take(params[feed.place]), feed.argument.dtype) for feed in feeds
    }


def image_list(images: Sequence[bytes | NDArray[np.generic]]) -> Any:
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
