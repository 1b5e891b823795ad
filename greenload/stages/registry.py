"""The stages of the package by name, as ``Pipeline.from_dict`` finds them."""

from __future__ import annotations

from collections.abc import Mapping

from greenload import stages
from greenload.public import is_public
from greenload.stages.base import Stage

_NAMED = {name: value for name, value in vars(stages).items() if is_public(value)}

STAGES: Mapping[str, type[Stage]] = {
    name: value
    for name, value in sorted(_NAMED.items())
    if isinstance(value, type) and issubclass(value, Stage) and value is not Stage
}
"""Every public stage of the room, in alphabetical order."""
