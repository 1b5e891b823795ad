"""Which backend has a lowering for which primitive, and on which dtypes: what a plan asks before it names a backend.

A claim is kept to a tolerance that the backend states (``Backend.tolerance``); the conformance suite holds both to
each other. It stands below the plan, which knows no backend, and above the primitives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from greenload.specs import DTYPES, ImageSpec
from greenload.stages import primitives as p


@dataclass(frozen=True)
class Claim:
    """The images that a backend takes for a primitive."""

    dtypes: tuple[str, ...]
    """Of images that enter; ``"bytes"`` for encoded ones."""
    to: tuple[str, ...] = DTYPES
    """Of images that leave, for primitives that change it."""
    plain: bool = True
    """Whether ``Resize`` without antialiasing is taken too."""


_ENCODED = Claim(("bytes",))
_ANY = Claim(DTYPES)
_FILTERED = Claim(("uint8", "float32"))
_DALI_MOVES = Claim(("uint8", "int8", "float16", "float32"))
_DALI_CASTS = Claim(_DALI_MOVES.dtypes, _DALI_MOVES.dtypes)

_DALI: Mapping[type[p.Primitive], Claim] = {  # which has no bfloat16
    p.Decode: _ENCODED,
    p.DecodeCrop: _ENCODED,
    p.Crop: _DALI_MOVES,
    p.Pad: _DALI_MOVES,
    p.Flip: Claim(("uint8", "int8", "float32")),
    p.Erase: _DALI_MOVES,
    p.Resize: _FILTERED,
    p.Warp: _FILTERED,
    p.Color: _FILTERED,
    p.Blur: _FILTERED,
    p.Affine: _DALI_CASTS,
    p.FlipAffine: Claim(("uint8", "int8", "float32"), _DALI_CASTS.to),  # what Flip takes
}

# Without ml_dtypes NumPy has no bfloat16. Pillow has no unbiased resize without antialiasing, and no warp or blur that
# is the formula's.
_NUMPY = Claim(("uint8", "int8", "float16", "float32"))

_GPU_WEIGHTS = 1024  # DALI's GPU operator has room for so many of a blur's weights, times channels

CLAIMS: Mapping[str, Mapping[type[p.Primitive], Claim]] = {
    "tf": {
        p.Decode: _ENCODED,
        p.DecodeCrop: _ENCODED,
        p.Crop: _ANY,
        p.Pad: _ANY,
        p.Flip: _ANY,
        p.Erase: _ANY,
        p.Resize: _FILTERED,
        p.Warp: _FILTERED,
        p.Color: _FILTERED,
        p.Blur: _FILTERED,
        p.Affine: _ANY,
        p.Call: _ANY,
    },
    "dali-cpu": _DALI,
    "dali": _DALI,
    "pillow": {
        p.Decode: _ENCODED,
        p.DecodeCrop: _ENCODED,
        p.Crop: _NUMPY,
        p.Pad: _NUMPY,
        p.Flip: _NUMPY,
        p.Erase: _NUMPY,
        p.Resize: Claim(_FILTERED.dtypes, plain=False),
        p.Color: _FILTERED,
        p.Affine: Claim(_NUMPY.dtypes, _NUMPY.dtypes),
    },
}
"""By backend and primitive."""


def claimed(backend: str, primitive: p.Primitive, spec: ImageSpec) -> bool:
    """Whether a backend takes a primitive on images of ``spec``."""
    claim = CLAIMS[backend].get(type(primitive))
    if claim is None or spec.dtype not in claim.dtypes:
        return False
    if isinstance(primitive, p.Resize) and not (primitive.antialias or claim.plain):
        return False
    if isinstance(primitive, p.Blur) and backend == "dali":
        return max(primitive.height, primitive.width) * (spec.shape[-1] or 3) < _GPU_WEIGHTS
    return not isinstance(primitive, p.Affine) or primitive.dtype in claim.to


def others(primitive: p.Primitive, spec: ImageSpec) -> tuple[str, ...]:
    """The backends that take a primitive on images of ``spec``."""
    return tuple(name for name in CLAIMS if claimed(name, primitive, spec))
