"""TensorFlow and DALI, each imported when something of it is first used: many pipelines need only one of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any


class LazyModule:
    """A module that is imported when one of its attributes is first used.

    Args:
        name: what it is imported by.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # tools that look through a module's names mustn't import it
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)


if TYPE_CHECKING:
    import tensorflow as tf
    from nvidia.dali import fn, types
else:
    tf = LazyModule("tensorflow")
    fn = LazyModule("nvidia.dali.fn")
    types = LazyModule("nvidia.dali.types")

__all__ = ["fn", "tf", "types"]
