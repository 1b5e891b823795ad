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
    ),
    "plans.pipeline": ("Pipeline",),
    "plans.plan": ("Plan",),
    "planning.choose": ("make_plan",),
    "loading.iterate": ("Batches", "iterate"),
    "loading.load": ("Position", "Shard", "load"),
    "loading.verify": ("verify",),
    "loading.pack": ("pack",),
    "planning.split": ("Split", "split_for_device"),
    "energy.measure": ("measure",),
    "profiling.profile": ("profile",),
    "training.callback": ("EnergyCallback",),
    "profiling.calibration.calibrate": ("calibrate",),
    "report.data": ("Report",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*sorted(_HOME), "__version__"]

if TYPE_CHECKING:
    from typing import Any

    from greenload.energy.measure import measure as measure
    from greenload.errors import BackendUnavailable as BackendUnavailable
    from greenload.errors import GreenloadError as GreenloadError
    from greenload.errors import MeterError as MeterError
    from greenload.errors import PipelineError as PipelineError
    from greenload.errors import RecordError as RecordError
    from greenload.errors import ReportError as ReportError
    from greenload.errors import SourceError as SourceError
    from greenload.errors import UsageError as UsageError
    from greenload.loading.iterate import Batches as Batches
    from greenload.loading.iterate import iterate as iterate
    from greenload.loading.load import Position as Position
    from greenload.loading.load import Shard as Shard
    from greenload.loading.load import load as load
    from greenload.loading.pack import pack as pack
    from greenload.loading.verify import verify as verify
    from greenload.planning.choose import make_plan as make_plan
    from greenload.planning.split import Split as Split
    from greenload.planning.split import split_for_device as split_for_device
    from greenload.plans.pipeline import Pipeline as Pipeline
    from greenload.plans.plan import Plan as Plan
    from greenload.profiling.calibration.calibrate import calibrate as calibrate
    from greenload.profiling.profile import profile as profile
    from greenload.report.data import Report as Report
    from greenload.sources import TFDS as TFDS
    from greenload.sources import Arrays as Arrays
    from greenload.sources import Files as Files
    from greenload.sources import ImageFolder as ImageFolder
    from greenload.sources import TFRecords as TFRecords
    from greenload.sources import open_folder as open_folder
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
    from greenload.stages import Primitive as Primitive
    from greenload.stages import RandomAffine as RandomAffine
    from greenload.stages import RandomApply as RandomApply
    from greenload.stages import RandomChoice as RandomChoice
    from greenload.stages import RandomCrop as RandomCrop
    from greenload.stages import RandomErasing as RandomErasing
    from greenload.stages import RandomGrayscale as RandomGrayscale
    from greenload.stages import RandomHorizontalFlip as RandomHorizontalFlip
    from greenload.stages import RandomOrder as RandomOrder
    from greenload.stages import RandomResizedCrop as RandomResizedCrop
    from greenload.stages import RandomRotation as RandomRotation
    from greenload.stages import RandomVerticalFlip as RandomVerticalFlip
    from greenload.stages import Resize as Resize
    from greenload.stages import Shuffle as Shuffle
    from greenload.stages import Stage as Stage
    from greenload.stages import ToDtype as ToDtype
    from greenload.training.callback import EnergyCallback as EnergyCallback


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'greenload' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"greenload.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
