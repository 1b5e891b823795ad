"""The standard set of operations that ``greenload calibrate`` measures, on images of a few sizes."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.chain import run_plan
from greenload.backends.tables import TABLES, in_tf_data, read_in_tf_data
from greenload.errors import PipelineError, SourceError
from greenload.planning.choose import on_backend
from greenload.plans.steps import TF_DATA
from greenload.profiling.calibration.probes import (
    BATCH,
    SMALL_BATCH,
    Probe,
    ProbeGroup,
    Samples,
    SizedPipeline,
    batching,
    on_batches,
    on_samples,
    transfers,
    whole_batches,
)
from greenload.profiling.calibration.summed import Summed
from greenload.sources import Arrays, Files, Source, formats
from greenload.stages import (
    CenterCrop,
    ColorJitter,
    Decode,
    GaussianBlur,
    MixUp,
    Normalize,
    Pad,
    RandAugment,
    RandomAdjustSharpness,
    RandomAutocontrast,
    RandomCrop,
    RandomEqualize,
    RandomErasing,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomInvert,
    RandomPerspective,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
    Stage,
    ToDtype,
)
from greenload.stages import primitives as p
from greenload.system.frameworks import tf

SIDE, SMALL = 224, 32
"""Sides of images: as models of photographs take them, and as in CIFAR."""
_WIDE = (360, 480)  # rows and columns of decoded photographs
_A_SIZE, _SMALL_ONES = 20, 256  # images of each size; small ones
_TO_FLOAT = ToDtype("float32", scale=True)
_NORMALIZE = Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
_FLIP = RandomHorizontalFlip()
_JITTER = ColorJitter(0.2, 0.2, 0.2, 0.05)
_SEEN = RandomPerspective(p=1.0)
_MIX = MixUp(num_classes=2)
_OF_POLICIES = ("Brightness", "Contrast", "Posterize", "Solarize")
"""Operations whose primitives only policies have."""


@dataclass(frozen=True)
class Material:
    """Images to work on."""

    files: dict[str, Files]
    """Encoded ones, by kind of file and size: ``"JPEG small"``."""
    wide: Arrays
    """uint8 ``[n, 360, 480, 3]``, like the two below cut from the files."""
    side: Arrays
    """uint8 ``[n, 224, 224, 3]``."""
    small: Arrays
    """uint8 ``[n, 32, 32, 3]``."""

    @classmethod
    def of(cls, source: Source, folder: str) -> Material:
        """Made from a source of encoded images, in a folder.

        Raises:
            SourceError: none of them is of a kind that tf reads.
        """
        images = []
        for index in range(len(source)):
            data: Any = source.read(index)
            head = formats.header(data)
            if read_in_tf_data(head.kind):
                images.append((head.height * head.width, index, head.kind))
        if not images:
            raise SourceError(f"{source}: none of its files is of a kind that tf reads: name a folder of JPEGs")
        usual = max({kind for _, _, kind in images}, key=[kind for _, _, kind in images].count)
        images = sorted(image for image in images if image[2] == usual)
        paths = [source.name(index) for _, index, _ in images]
        large = paths[-_A_SIZE:]
        middle = max(0, (len(paths) - _A_SIZE) // 2)
        files = {
            f"{usual} small": Files(paths[:_A_SIZE]),
            f"{usual} medium": Files(paths[middle : middle + _A_SIZE]),
            f"{usual} large": Files(large),
        }
        wide = _decoded(Files(large))
        files |= _encoded(wide, Path(folder), usual)
        rows, columns = (_WIDE[0] - SIDE) // 2, (_WIDE[1] - SIDE) // 2
        each = -(-_SMALL_ONES // len(wide))
        tiles = [wide[:, rows : rows + SMALL, at : at + SMALL] for at in range(0, _WIDE[1] - SMALL, SMALL)][:each]
        side = wide[:, rows : rows + SIDE, columns : columns + SIDE]
        return cls(files, Arrays(wide), Arrays(np.ascontiguousarray(side)), Arrays(np.concatenate(tiles)))


def _decoded(source: Files) -> NDArray[np.uint8]:
    laid = SizedPipeline.out(source, (Decode(), Resize(_WIDE, antialias=False)), len(source))
    images: NDArray[np.uint8] = run_plan(laid.plan("tf", 1), laid.records())
    return images


def _encoded(images: NDArray[np.uint8], folder: Path, usual: str) -> dict[str, Files]:
    """The kinds of files that can be made without more libraries."""

    def png(image: NDArray[Any]) -> bytes:
        data: bytes = tf.io.encode_png(image).numpy()
        return data

    made = {}
    for kind, encode in (("PNG", png), ("16-bit PNG", lambda image: png(image.astype(np.uint16) * 257)), ("BMP", _bmp)):
        if kind == usual:
            continue
        for size, cut in (("small", images[:8, :96, :128]), ("medium", images[:8])):
            below = folder / f"{kind} {size}"
            below.mkdir()
            for number, image in enumerate(cut):
                (below / f"{number:06d}").write_bytes(encode(image))
            made[f"{kind} {size}"] = Files(sorted(below.iterdir()))
    return made


def _bmp(image: NDArray[np.uint8]) -> bytes:
    """A bottom-up file of 24 bits; its rows must be multiples of four bytes."""
    height, width, _ = image.shape
    pixels = image[::-1, :, ::-1].tobytes()
    head = struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(pixels), 2835, 2835, 0, 0) + pixels


def standard(material: Material, names: Sequence[str], threads: int, thorough: bool = False) -> Iterator[ProbeGroup]:
    """Groups of probes, backend by backend.

    Args:
        material: the images.
        names: the backends, tf first.
        threads: threads that work.
        thorough: rare operations, dtypes and kinds of files too.
    """
    files = [name for name in material.files if thorough or not name.startswith(("16-bit", "BMP", "PNG small"))]
    for backend in names:
        for name in files:
            yield from _on_files(name, material.files[name], backend, threads, thorough)
        for name, images, stages in _on_pixels(material, thorough):
            yield from _alone(f"{name} on {backend}", images, stages, backend, threads)
    yield from _around(material, names, threads)


def _on_pixels(material: Material, thorough: bool) -> Iterator[tuple[str, Arrays, list[tuple[Stage, ...]]]]:
    """Images in memory, and what is done to them: some stages each."""
    for name, images in (("small images", material.small), ("images", material.side)):
        height = images.images.shape[1]
        usual: list[tuple[Stage, ...]] = [
            (_FLIP,),
            (_FLIP,) * 4,
            (RandomCrop(height * 7 // 8),),
            (Pad(height // 16),),
            (_JITTER,),
            (Resize((height // 2, height // 2)),),
            (Resize((height // 2, height // 2), antialias=False),),
            (_TO_FLOAT,),
            (_FLIP, _TO_FLOAT),
            (RandomRotation(20),),
            (GaussianBlur(5),),
            (RandomErasing(p=1.0),),
            (_SEEN,),
            (RandomInvert(p=1.0),),
            (RandomAutocontrast(p=1.0),),
            (RandomEqualize(p=1.0),),
            (RandomAdjustSharpness(2, p=1.0),),
            *((RandAugment(1, 15, only=(operation,)),) for operation in _OF_POLICIES),
            (Summed(),),
        ]
        rare: list[tuple[Stage, ...]] = [
            (RandomVerticalFlip(),),
            (RandomGrayscale(0.5),),
            (GaussianBlur(9 if height < SIDE else 23),),
            (ToDtype("float16", scale=True),),
            (ToDtype("bfloat16", scale=True),),
            (Resize((height * 5 // 4, height * 5 // 4)),),
        ]
        yield name, images, usual + (rare if thorough else [])
        floats = Arrays(images.images.astype(np.float32) / np.float32(255.0))
        usual = [(_FLIP,), (_FLIP,) * 4, (_NORMALIZE,), (RandomErasing(p=1.0),)]
        rare = [
            (_FLIP, _NORMALIZE),
            (RandomVerticalFlip(),),
            (RandomCrop(height * 7 // 8),),
            (Pad(height // 16),),
            (_JITTER,),
            (RandomGrayscale(0.5),),
            (Resize((height // 2, height // 2)),),
            (Resize((height // 2, height // 2), antialias=False),),
            (RandomRotation(20),),
            (GaussianBlur(5),),
            (_SEEN,),
            (ToDtype("bfloat16"),),
            (ToDtype("float16"),),
        ]
        yield f"float {name}", floats, usual + (rare if thorough else [])
    yield (
        "photographs",
        material.wide,
        [(Resize((SIDE, SIDE)),), (Resize((SIDE, SIDE), antialias=False),)],
    )


def _alone(
    name: str, images: Arrays, stages: Sequence[tuple[Stage, ...]], backend: str, threads: int
) -> Iterator[ProbeGroup]:
    if in_tf_data(backend):  # where every step stands alone: longer runs tell nothing more
        laid = [SizedPipeline.out(images, some) for some in stages if len(some) == 1]
        probes = [
            probe
            for number, pipeline in enumerate(laid)
            for probe in list(on_samples(f"{name} {number}", pipeline, threads))[-1:]
        ]
        plain = Samples(SizedPipeline.out(images, ()), SizedPipeline.out(images, ()).plan("tf", threads))
        yield ProbeGroup(name, tuple(probes), plain.alone)
        return
    laid = [*(SizedPipeline.out(images, some) for some in stages), SizedPipeline.out(images, (_FLIP,), SMALL_BATCH)]
    probes = list(_probes([(f"{name} {number}", pipeline) for number, pipeline in enumerate(laid)], backend, threads))
    yield ProbeGroup(name, tuple(probes))


def _probes(laid: Sequence[tuple[str, SizedPipeline]], backend: str, threads: int) -> Iterator[Probe]:
    for name, pipeline in laid:
        try:
            yield on_batches(name, pipeline, backend, threads)
        except PipelineError:
            continue  # a backend is asked only for what its table has


def _on_files(name: str, files: Files, backend: str, threads: int, thorough: bool) -> Iterator[ProbeGroup]:
    kind = name.rpartition(" ")[0]
    if kind not in TABLES[backend].kinds:
        return
    usual = not name.endswith("small") or kind == "JPEG"
    chains: list[tuple[Stage, ...]] = [(Decode(), Resize((SIDE, SIDE)))]
    if kind == "JPEG":
        chains += [(Decode(), RandomResizedCrop(SIDE), _FLIP)] + (
            [(Decode(), CenterCrop(SIDE // 2))] if thorough else []
        )
    elif thorough and usual:
        chains += [(Decode(), RandomResizedCrop(SIDE))]
    laid = [(f"{name} {number} on {backend}", SizedPipeline.out(files, some)) for number, some in enumerate(chains)]
    if in_tf_data(backend):
        lines = [list(on_samples(label, pipeline, threads)) for label, pipeline in laid]
        probes = [probe for line in lines for probe in dict.fromkeys((line[0], line[-1]))]
        yield ProbeGroup(f"{name} on tf", tuple(probes), Samples(laid[0][1], laid[0][1].plan("tf", threads)).alone)
        return
    probes = list(_probes(laid, backend, threads))
    if usual:
        probes += _probes(
            [(f"{name} few on {backend}", SizedPipeline.out(files, chains[0], SMALL_BATCH))], backend, threads
        )
        probes.append(on_batches(f"{name} decoded on {backend}", laid[0][1], backend, threads, first=1))
    yield ProbeGroup(f"{name} on {backend}", tuple(probes))


def _around(material: Material, names: Sequence[str], threads: int) -> Iterator[ProbeGroup]:
    """What tf.data does around steps: batching, work on batches, transfers to other backends."""
    floats = Arrays(material.side.images.astype(np.float32))
    for name, images in (("small", material.small), ("images", material.side), ("floats", floats)):
        laid = [SizedPipeline.out(images, ()), SizedPipeline.out(images, (), SMALL_BATCH)]
        probes = [batching(f"batch {name} {number}", pipeline, threads) for number, pipeline in enumerate(laid)]
        yield ProbeGroup(f"batching {name}", tuple(probes), Samples(laid[0], laid[0].plan("tf", threads)).alone)
        ends: tuple[Stage, ...] = (_NORMALIZE,) if images is floats else (_TO_FLOAT,)
        whole = whole_batches(f"{name} batched", SizedPipeline.out(images, (), behind=ends), threads, one_by_one=False)
        yield ProbeGroup(f"batched {name}", (whole,))
        yield from _mixed(name, images, names, threads)
        single = whole_batches(f"{name} one by one", SizedPipeline.out(images, (_FLIP,)), threads, one_by_one=True)
        yield ProbeGroup(f"one by one {name}", (single,))
    jpeg = [files for name, files in material.files.items() if name.endswith(("small", "medium"))][:2]
    taking = [name for name in names if not in_tf_data(name)]
    called = [name for name in taking if not TABLES[name].traits.in_graph]
    for backend in called[:1]:
        yield from _called(material, jpeg, backend, threads)
    for backend in taking[:1]:
        for number, files in enumerate(jpeg):
            laid_out = SizedPipeline.out(files, (Decode(), Resize((SIDE, SIDE))))
            steps = [
                on_backend(step, TF_DATA if isinstance(step.primitive, p.Decoding) else backend)
                for step in laid_out.sizes.steps
            ]
            yield transfers(f"hand over sizes {number}", laid_out, laid_out.placed(steps, threads))


def _mixed(name: str, images: Arrays, names: Sequence[str], threads: int) -> Iterator[ProbeGroup]:
    """Batches whose images are mixed with each other, on each backend that has a way to."""
    laid = SizedPipeline.out(images, (), behind=(_MIX,))
    for backend in names:
        if not TABLES[backend].supports(p.Mix(), laid.sizes.steps[-1].spec_in):
            continue
        label = f"mixed {name} on {backend}"
        if in_tf_data(backend):
            probe = whole_batches(label, laid, threads, one_by_one=False)
        else:
            probe = on_batches(label, laid, backend, threads)
        yield ProbeGroup(label, (probe,))


def _called(material: Material, jpeg: Sequence[Files], backend: str, threads: int) -> Iterator[ProbeGroup]:
    """Transfers of files, and of images of one size, to a backend that Python calls for them."""
    for number, files in enumerate(jpeg):
        for side, batch in ((SIDE, None), (SMALL, SMALL_BATCH)):
            stages = (Decode(), Resize((side, side)))
            laid_out = SizedPipeline.out(files, stages, batch or BATCH)
            plan = laid_out.plan(backend, threads)
            yield transfers(f"hand over encoded {number} {side} {batch}", laid_out, plan)
    for name, images in (("small", material.small), ("images", material.side)):
        for batch, ends in ((None, ()), (SMALL_BATCH, ()), (None, (_TO_FLOAT,)))[
            :: 1 if images is material.side else 2
        ]:
            laid_out = SizedPipeline.out(images, (_FLIP, *ends), batch or BATCH)
            plan = laid_out.plan(backend, threads)
            yield transfers(f"hand over pixels {name} {batch} {len(ends)}", laid_out, plan)
