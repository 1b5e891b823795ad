"""The stages of a pipeline: frozen data, named and behaving as in torchvision.transforms.v2."""

from __future__ import annotations

from greenload.stages.affine import RandomAffine as RandomAffine
from greenload.stages.affine import RandomRotation as RandomRotation
from greenload.stages.apply import Apply as Apply
from greenload.stages.augmix import AugMix as AugMix
from greenload.stages.autoaugment import AutoAugment as AutoAugment
from greenload.stages.base import Params as Params
from greenload.stages.base import Stage as Stage
from greenload.stages.color import ColorJitter as ColorJitter
from greenload.stages.color import RandomGrayscale as RandomGrayscale
from greenload.stages.combinators import RandomApply as RandomApply
from greenload.stages.combinators import RandomChoice as RandomChoice
from greenload.stages.combinators import RandomOrder as RandomOrder
from greenload.stages.conversion import Normalize as Normalize
from greenload.stages.conversion import ToDtype as ToDtype
from greenload.stages.cropping import CenterCrop as CenterCrop
from greenload.stages.cropping import Pad as Pad
from greenload.stages.cropping import RandomCrop as RandomCrop
from greenload.stages.cropping import RandomResizedCrop as RandomResizedCrop
from greenload.stages.dataset import Batch as Batch
from greenload.stages.dataset import Cache as Cache
from greenload.stages.dataset import Decode as Decode
from greenload.stages.dataset import Echo as Echo
from greenload.stages.dataset import Shuffle as Shuffle
from greenload.stages.filters import GaussianBlur as GaussianBlur
from greenload.stages.filters import RandomAdjustSharpness as RandomAdjustSharpness
from greenload.stages.filters import RandomErasing as RandomErasing
from greenload.stages.geometry import RandomHorizontalFlip as RandomHorizontalFlip
from greenload.stages.geometry import RandomVerticalFlip as RandomVerticalFlip
from greenload.stages.geometry import Resize as Resize
from greenload.stages.labels import OneHot as OneHot
from greenload.stages.levels import RandomAutocontrast as RandomAutocontrast
from greenload.stages.levels import RandomEqualize as RandomEqualize
from greenload.stages.levels import RandomInvert as RandomInvert
from greenload.stages.levels import RandomPosterize as RandomPosterize
from greenload.stages.levels import RandomSolarize as RandomSolarize
from greenload.stages.mixing import CutMix as CutMix
from greenload.stages.mixing import MixUp as MixUp
from greenload.stages.perspective import RandomPerspective as RandomPerspective
from greenload.stages.policies import RandAugment as RandAugment
from greenload.stages.policies import TrivialAugmentWide as TrivialAugmentWide
from greenload.stages.primitives import Primitive as Primitive
