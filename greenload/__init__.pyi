# The public names, here alone. Type checkers and editors read this file; __init__.py finds each name's module in it. A
# class or function among them is marked with @public where it is defined.
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
from greenload.loading.load import load as load
from greenload.loading.pack import pack as pack
from greenload.loading.verify import verify as verify
from greenload.planning.choose import make_plan as make_plan
from greenload.planning.split import Split as Split
from greenload.planning.split import split_for_device as split_for_device
from greenload.plans.order import Position as Position
from greenload.plans.order import Shard as Shard
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
from greenload.training.callback import EnergyCallback as EnergyCallback

__version__: str
__all__: list[str]
