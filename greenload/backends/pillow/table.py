"""What the Pillow backend does: each primitive as a function of one image, and how exactly."""

from __future__ import annotations

from greenload.backends import tolerances
from greenload.backends.base import ENCODED, FILTERED, UNKNOWN, BackendTable, TableRow, Tolerance, rows
from greenload.backends.pillow import choice, lowerings
from greenload.backends.pillow.lowerings import Lowering
from greenload.plans.steps import BackendTraits
from greenload.sources.formats.jpeg import PARTIAL
from greenload.specs import ImageSpec
from greenload.stages import primitives as p

# Pillow rounds to levels after each axis, so a value may be a whole level off. Over photographs and noise, with sides
# from 1 to 1,000 pixels, 0.3 was the most of any image's mean difference, and 0.1 is usual. A pattern of hard edges
# repeats few values: 0.45 was seen, and 0.96 where it is a few pixels wide.
_RESIZED = Tolerance(1.0, 0.5)
_NARROW_PX = 10
_RESIZED_NARROW = Tolerance(1.0, 1.0)
# It sums floats in double precision: the most seen was the rounding of the result, 6e-8 of values in 0 … 1.
_RESIZED_FLOATS = Tolerance(1e-7, 3e-8)

# A float32 sum that falls to the other side of a half: up to 3e-3 of an image's values were seen, 4e-3 in one of a few
# hundred. Floats: the most seen was 2.4e-6, from a matrix of factors up to 27, as three strong jitters make.
_RECOLORED = {"uint8": Tolerance(1.0, 5e-3), "float32": Tolerance(3e-6, 2e-7)}

_NUMPY = ("uint8", "int8", "float16", "float32")
"""Without ml_dtypes NumPy has no bfloat16."""


def _resized(primitive: p.Resize, spec: ImageSpec) -> Tolerance:
    if spec.dtype != "uint8":
        return _RESIZED_FLOATS
    narrow = any(side is not None and side < _NARROW_PX for side in (primitive.height, primitive.width))
    return _RESIZED_NARROW if narrow else _RESIZED


def _recolored(primitive: p.Color, spec: ImageSpec) -> Tolerance:
    return _RECOLORED[spec.dtype]


def _antialiased(primitive: p.Resize, spec: ImageSpec) -> bool:
    return primitive.antialias


# Pillow has no unbiased resize without antialiasing, and no warp or blur that is the formula's.
TABLE = BackendTable(
    "pillow",
    rows(
        TableRow(p.Decode, Lowering(lowerings.decode, lowerings.decode_params), ENCODED),
        TableRow(p.DecodeCrop, Lowering(lowerings.decode, lowerings.decode_crop_params), ENCODED),
        TableRow(p.Crop, Lowering(lowerings.crop, lowerings.crop_params), _NUMPY),
        TableRow(p.Pad, Lowering(lowerings.pad, lowerings.pad_params), _NUMPY),
        TableRow(p.Flip, Lowering(lowerings.flip, lowerings.flip_params), _NUMPY),
        TableRow(p.Erase, Lowering(lowerings.erase, lowerings.erase_params), _NUMPY),
        TableRow(
            p.Resize,
            Lowering(lowerings.resize, lowerings.size_params),
            FILTERED,
            tolerance=_resized,
            condition=_antialiased,
        ),
        TableRow(p.Color, Lowering(lowerings.color, lowerings.color_params), FILTERED, tolerance=_recolored),
        TableRow(p.Affine, Lowering(lowerings.affine), _NUMPY, to=_NUMPY, tolerance=tolerances.affine),
        TableRow(p.Choice, Lowering(choice.choice, choice.choice_params), _NUMPY),
        TableRow(p.Primitive, Lowering(choice.own, choice.own_params), _NUMPY, tolerance=UNKNOWN),
    ),
    kinds=("JPEG", PARTIAL, "PNG", "BMP", "WebP", "GIF", "palette BMP"),
    traits=BackendTraits(takes_batches=True),
    not_for_others=("WebP",),  # it may be built without libwebp
)
