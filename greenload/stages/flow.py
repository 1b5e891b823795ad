"""Stages that decide when and how often a sample flows: order, decoding, caching, batching."""

from __future__ import annotations

from dataclasses import dataclass

from greenload.errors import PipelineError
from greenload.specs import HWC, NHWC, ImageSpec
from greenload.stages import primitives as pixels
from greenload.stages.base import Stage, flag, need_decoded
from greenload.stages.primitives import Primitive


@dataclass(frozen=True)
class Shuffle(Stage):
    """Each epoch in another order: a keyed bijection on the index, so the whole set is shuffled without a buffer.

    Wherever it stands before ``Batch`` it orders the whole pipeline. Without it, the source's order is kept.
    """

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        if spec.batched:
            raise PipelineError("Shuffle orders samples, but here they are batched: put it before Batch")
        return spec


@dataclass(frozen=True)
class Decode(Stage):
    """Encoded bytes to uint8 RGB pixels: JPEG (grey, CMYK, progressive too) and 8-bit PNG, told apart by their first
    bytes.

    JPEG is decoded with libjpeg's accurate integer DCT and fancy upsampling, which gives the same bits on every
    backend. EXIF orientation is ignored; alpha is dropped.
    """

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        if not spec.encoded:
            raise PipelineError(f"Decode takes encoded bytes, but here images are {spec} already: remove it")
        return ImageSpec((None, None, 3), "uint8", HWC)

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.Decode(),)


@dataclass(frozen=True)
class Cache(Stage):
    """Keep what reaches this place in memory, by sample, from its first use on; later epochs start from here.

    Whatever stands before it must be deterministic: a random stage would be frozen at its first draw. It holds
    encoded bytes before ``Decode``, pixels after it, and grows with the set.
    """

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        if spec.batched:
            raise PipelineError("Cache keeps samples, but here they are batched: put it before Batch")
        return spec


@dataclass(frozen=True)
class Batch(Stage):
    """``size`` samples stacked along a new first dimension; the last batch of an epoch may be smaller.

    Args:
        size: samples in a batch.
        drop_remainder: leave out an epoch's last, smaller batch, so that the batch dimension is static.
    """

    size: int
    drop_remainder: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise PipelineError(f"Batch: size must be a positive integer, not {self.size!r}")
        object.__setattr__(self, "drop_remainder", flag("Batch", "drop_remainder", self.drop_remainder))

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_decoded(self, spec)
        if spec.batched:
            raise PipelineError(f"{self}: images are batched already; remove one Batch")
        if not spec.static:
            raise PipelineError(
                f"{self} stacks images of one size, but here they are {spec}: put Resize((height, width)), "
                "CenterCrop or RandomResizedCrop before it"
            )
        return ImageSpec((self.size if self.drop_remainder else None, *spec.shape), spec.dtype, NHWC)
