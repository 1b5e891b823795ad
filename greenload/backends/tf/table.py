"""What the tf backend does: each primitive as TensorFlow ops on one image (or, for values, a batch), how exactly."""

from __future__ import annotations

import numpy as np

from greenload.backends import tolerances
from greenload.backends.base import ENCODED, FILTERED, UNKNOWN, BackendTable, TableRow, Tolerance, rows
from greenload.backends.tf import choice, decode, filters, lowerings
from greenload.plans.steps import TF_DATA
from greenload.sources.formats.jpeg import PARTIAL
from greenload.specs import DTYPES, ImageSpec
from greenload.stages import primitives as p

_RESIZED = {"uint8": Tolerance(1.0, 0.25), "float32": Tolerance(4e-5, 3e-6)}
# float32 weights put a value that lies on a rounding boundary to either side; in an image of few levels that resizing
# shrinks by a whole factor a sixth of all values do. Colours and filters have such ties rarely: up to 7e-4 of an
# image's values were seen, and one of a few hundred makes 5e-3. float32: the most seen was 2.5e-7.
_FILTERED = {"uint8": Tolerance(1.0, 5e-3), "float32": Tolerance(1e-6, 2e-7)}
# Warping counts positions in float32: over noise, values were off by up to 3e-7 of their range times the longer side
# (8e-7 where a map enlarges tenfold), by a sixth of it in the mean; sides from 32 to 3,000.
_PER_SIDE = 1e-6
_UNKNOWN_SIDE = 1000


def _resized(primitive: p.Resize, spec: ImageSpec) -> Tolerance:
    return _RESIZED[spec.dtype]


def _filtered(primitive: p.Primitive, spec: ImageSpec) -> Tolerance:
    return _FILTERED[spec.dtype]


def _warped(primitive: p.Warp, spec: ImageSpec) -> Tolerance:
    largest = tolerances.largest(spec.dtype)
    reach = max(largest, abs(primitive.fill), abs(largest - primitive.fill))
    error = reach * (2e-6 + _PER_SIDE * max(side or _UNKNOWN_SIDE for side in spec.image_shape[:2]))
    if spec.dtype == "uint8":
        return Tolerance(float(np.ceil(error)), 5e-3 + error / 5)
    return Tolerance(error, error / 5)


TABLE = BackendTable(
    TF_DATA,
    rows(
        TableRow(p.Decode, decode.decode, ENCODED),
        TableRow(p.DecodeCrop, decode.decode_crop, ENCODED),
        TableRow(p.Crop, lowerings.crop, DTYPES),
        TableRow(p.Pad, lowerings.pad, DTYPES),
        TableRow(p.Flip, lowerings.flip, DTYPES),
        TableRow(p.Erase, filters.erase, DTYPES),
        TableRow(p.Resize, lowerings.resize, FILTERED, tolerance=_resized),
        TableRow(p.Warp, filters.warp, FILTERED, tolerance=_warped),
        TableRow(p.Color, filters.color, FILTERED, tolerance=_filtered),
        TableRow(p.Blur, filters.blur, FILTERED, tolerance=_filtered),
        TableRow(p.Affine, lowerings.affine, DTYPES, tolerance=tolerances.affine),
        TableRow(p.Call, filters.call, DTYPES),
        TableRow(p.Choice, choice.choice, DTYPES),
        TableRow(p.Primitive, filters.own, DTYPES, tolerance=UNKNOWN),
    ),
    kinds=("JPEG", PARTIAL, "PNG", "16-bit PNG", "BMP", "WebP", "GIF"),
)
