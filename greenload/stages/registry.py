"""The stages of the package by name, as ``Pipeline.from_dict`` finds them."""

from __future__ import annotations

from collections.abc import Mapping

from greenload.public import is_public
from greenload.stages import (
    affine,
    apply,
    augmix,
    color,
    combinators,
    conversion,
    cropping,
    dataset,
    filters,
    geometry,
    labels,
    levels,
    mixing,
    perspective,
    policies,
)
from greenload.stages.base import Stage

_MODULES = (
    affine,
    apply,
    augmix,
    color,
    combinators,
    conversion,
    cropping,
    dataset,
    filters,
    geometry,
    labels,
    levels,
    mixing,
    perspective,
    policies,
)
_NAMED = {name: value for module in _MODULES for name, value in vars(module).items() if is_public(value)}

STAGES: Mapping[str, type[Stage]] = {
    name: value
    for name, value in sorted(_NAMED.items())
    if isinstance(value, type) and issubclass(value, Stage) and value is not Stage
}
"""Every public stage of the modules above, in alphabetical order."""
