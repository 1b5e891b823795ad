"""The stages of a pipeline: frozen data, named and behaving as in torchvision.transforms.v2."""

from __future__ import annotations

from greenload.stages.base import Params, Stage
from greenload.stages.flow import Batch, Cache, Decode, Shuffle
from greenload.stages.geometry import CenterCrop, RandomHorizontalFlip, RandomResizedCrop, Resize
from greenload.stages.values import Normalize, ToDtype

STAGES: dict[str, type[Stage]] = {
    stage.__name__: stage
    for stage in (
        Shuffle,
        Decode,
        Resize,
        CenterCrop,
        RandomResizedCrop,
        RandomHorizontalFlip,
        Normalize,
        ToDtype,
        Cache,
        Batch,
    )
}
"""Every stage by name, as ``Pipeline.from_dict`` finds them."""

__all__ = [
    "STAGES",
    "Batch",
    "Cache",
    "CenterCrop",
    "Decode",
    "Normalize",
    "Params",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "Resize",
    "Shuffle",
    "Stage",
    "ToDtype",
]
