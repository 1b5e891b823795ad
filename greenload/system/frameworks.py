"""TensorFlow and DALI, each imported when something of it is first used: many pipelines need only one of them."""

from __future__ import annotations

import gc
import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any


def imported(name: str) -> ModuleType:
    """A framework, imported without garbage collection, which frees nothing there and takes a fifth of the time.

    Raises:
        ImportError: it can't be imported.
    """
    if name in sys.modules or not gc.isenabled():
        return importlib.import_module(name)
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.enable()


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
        return getattr(imported(self._name), attribute)


if TYPE_CHECKING:
    import tensorflow as tf
    from nvidia.dali import fn, types
else:
    tf = LazyModule("tensorflow")
    fn = LazyModule("nvidia.dali.fn")
    types = LazyModule("nvidia.dali.types")

__all__ = ["fn", "imported", "tf", "types"]
