"""Has something done right after a module is imported, by whoever imports it, without importing it earlier."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def after_import(name: str, then: Callable[[ModuleType], None]) -> None:
    """Call a function with a module, once: now if it is imported, else as soon as it is.

    Args:
        name: of the module, as ``"tensorflow.python.data.ops.dataset_ops"``.
        then: gets the module. What it raises passes on to whoever imports the module.
    """
    if (module := sys.modules.get(name)) is not None:
        then(module)
    else:
        sys.meta_path.insert(0, _Finder(name, then))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module as the other finders do, and has its loader tell when it is there."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: Any = None) -> ModuleSpec | None:
        if name != self._name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)  # the others find it
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            _tell(spec.loader, self._then)
        return spec


def _tell(loader: Any, then: Callable[[ModuleType], None]) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module  # it is the class's again
        execute(module)
        then(module)

    loader.exec_module = exec_module
