"""The stages of a pipeline: frozen data, named and behaving as in torchvision.transforms.v2."""

from __future__ import annotations

from greenload.stages.affine import RandomAffine, RandomRotation
from greenload.stages.apply import Apply
from greenload.stages.base import Params, Stage
from greenload.stages.color import ColorJitter, RandomGrayscale
from greenload.stages.combinators import RandomApply, RandomChoice, RandomOrder
from greenload.stages.conversion import Normalize, ToDtype
from greenload.stages.cropping import CenterCrop, Pad, RandomCrop, RandomResizedCrop
from greenload.stages.dataset import Batch, Cache, Decode, Shuffle
from greenload.stages.filters import GaussianBlur, RandomErasing
from greenload.stages.geometry import RandomHorizontalFlip, RandomVerticalFlip, Resize
from greenload.stages.labels import OneHot
from greenload.stages.primitives import Primitive

STAGES: dict[str, type[Stage]] = {
    stage.__name__: stage
    for stage in (
        Shuffle,
        Decode,
        Resize,
        CenterCrop,
        RandomCrop,
        RandomResizedCrop,
        RandomHorizontalFlip,
        RandomVerticalFlip,
        RandomRotation,
        RandomAffine,
        Pad,
        ColorJitter,
        RandomGrayscale,
        GaussianBlur,
        RandomErasing,
        Normalize,
        ToDtype,
        Apply,
        RandomApply,
        RandomChoice,
        RandomOrder,
        OneHot,
        Cache,
        Batch,
    )
}
"""Every stage by name, as ``Pipeline.from_dict`` finds them."""

__all__ = [
    "STAGES",
    "Apply",
    "Batch",
    "Cache",
    "CenterCrop",
    "ColorJitter",
    "Decode",
    "GaussianBlur",
    "Normalize",
    "OneHot",
    "Pad",
    "Params",
    "Primitive",
    "RandomAffine",
    "RandomApply",
    "RandomChoice",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomOrder",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
    "Shuffle",
    "Stage",
    "ToDtype",
]
