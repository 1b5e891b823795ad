"""greenload: energy-efficient data loading for deep learning.

Describe a preprocessing pipeline once; load it through tf.data or NVIDIA DALI with the same pixels; see what each of
its steps costs in CPU seconds and joules.

    import greenload as gl

    train = gl.Pipeline(
        gl.ImageFolder("data/train"), gl.Shuffle(), gl.Decode(), gl.RandomResizedCrop(224),
        gl.RandomHorizontalFlip(), gl.Batch(256), seed=7,
    )
    model.fit(gl.load(train), epochs=3)
    print(gl.profile(train))

Importing it loads neither TensorFlow nor DALI; names are resolved when first used.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # importing typing would take longer than all else here

__version__ = "0.1.0"

_HOMES = {
    "errors": (
        "BackendUnavailable",
        "GreenloadError",
        "MeterError",
        "PipelineError",
        "RecordError",
        "ReportError",
        "SourceError",
        "UsageError",
    ),
    "sources": ("Arrays", "Files", "ImageFolder", "TFDS", "TFRecords", "open_folder"),
    "stages": (
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
        "RandomAffine",
        "RandomCrop",
        "RandomErasing",
        "RandomGrayscale",
        "RandomHorizontalFlip",
        "RandomResizedCrop",
        "RandomRotation",
        "RandomVerticalFlip",
        "Resize",
        "Shuffle",
        "ToDtype",
    ),
    "pipeline": ("Pipeline",),
    "plan": ("Plan",),
    "planning": ("make_plan",),
    "iterating": ("Batches", "iterate"),
    "loading": ("Position", "Shard", "load"),
    "verifying": ("verify",),
    "packing": ("pack",),
    "splitting": ("Split", "split_for_device"),
    "measuring": ("measure",),
    "profiling": ("profile",),
    "training": ("EnergyCallback",),
    "calibrating": ("calibrate",),
    "report.data": ("Report",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*sorted(_HOME), "__version__"]

if TYPE_CHECKING:
    from typing import Any

    from greenload.calibrating import calibrate as calibrate
    from greenload.errors import BackendUnavailable as BackendUnavailable
    from greenload.errors import GreenloadError as GreenloadError
    from greenload.errors import MeterError as MeterError
    from greenload.errors import PipelineError as PipelineError
    from greenload.errors import RecordError as RecordError
    from greenload.errors import ReportError as ReportError
    from greenload.errors import SourceError as SourceError
    from greenload.errors import UsageError as UsageError
    from greenload.iterating import Batches as Batches
    from greenload.iterating import iterate as iterate
    from greenload.loading import Position as Position
    from greenload.loading import Shard as Shard
    from greenload.loading import load as load
    from greenload.measuring import measure as measure
    from greenload.packing import pack as pack
    from greenload.pipeline import Pipeline as Pipeline
    from greenload.plan import Plan as Plan
    from greenload.planning import make_plan as make_plan
    from greenload.profiling import profile as profile
    from greenload.report.data import Report as Report
    from greenload.sources import TFDS as TFDS
    from greenload.sources import Arrays as Arrays
    from greenload.sources import Files as Files
    from greenload.sources import ImageFolder as ImageFolder
    from greenload.sources import TFRecords as TFRecords
    from greenload.sources import open_folder as open_folder
    from greenload.splitting import Split as Split
    from greenload.splitting import split_for_device as split_for_device
    from greenload.stages import Apply as Apply
    from greenload.stages import Batch as Batch
    from greenload.stages import Cache as Cache
    from greenload.stages import CenterCrop as CenterCrop
    from greenload.stages import ColorJitter as ColorJitter
    from greenload.stages import Decode as Decode
    from greenload.stages import GaussianBlur as GaussianBlur
    from greenload.stages import Normalize as Normalize
    from greenload.stages import OneHot as OneHot
    from greenload.stages import Pad as Pad
    from greenload.stages import RandomAffine as RandomAffine
    from greenload.stages import RandomCrop as RandomCrop
    from greenload.stages import RandomErasing as RandomErasing
    from greenload.stages import RandomGrayscale as RandomGrayscale
    from greenload.stages import RandomHorizontalFlip as RandomHorizontalFlip
    from greenload.stages import RandomResizedCrop as RandomResizedCrop
    from greenload.stages import RandomRotation as RandomRotation
    from greenload.stages import RandomVerticalFlip as RandomVerticalFlip
    from greenload.stages import Resize as Resize
    from greenload.stages import Shuffle as Shuffle
    from greenload.stages import ToDtype as ToDtype
    from greenload.training import EnergyCallback as EnergyCallback
    from greenload.verifying import verify as verify


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'greenload' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"greenload.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
