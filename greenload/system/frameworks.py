"""Packages that only some pipelines need. TensorFlow and DALI are imported when something of them is first used."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from greenload.errors import BackendUnavailable


def imported(name: str) -> ModuleType:
    """A framework, imported without garbage collection, which frees nothing there and takes a fifth of the time.

    Raises:
        ImportError: it can't be imported.
    """
    if name in sys.modules or not gc.isenabled():
        return importlib.import_module(name)
    _importing.add(name)
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.enable()
        _importing.discard(name)


_importing: set[str] = set()


def _enable_in_child() -> None:
    """A process forked by another thread meanwhile lacks the thread that would turn garbage collection on again."""
    if _importing:
        _importing.clear()
        gc.enable()


os.register_at_fork(after_in_child=_enable_in_child)


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


@contextmanager
def imports_of_extra(extra: str, what: str, error: type[Exception] = BackendUnavailable) -> Iterator[None]:
    """Imports in its block a package that only some uses need: where it is missing, the error names the remedy.

    Args:
        extra: of greenload, with which the package is installed.
        what: is in need of it; begins the error's text.
        error: to raise.
    """
    try:
        yield
    except ImportError as missing:
        raise error(f"{what} ({missing}): pip install 'greenload[{extra}]'") from None


if TYPE_CHECKING:
    import tensorflow as tf
    from nvidia.dali import fn, types
else:
    tf = LazyModule("tensorflow")
    fn = LazyModule("nvidia.dali.fn")
    types = LazyModule("nvidia.dali.types")

__all__ = ["fn", "imported", "imports_of_extra", "tf", "types"]
