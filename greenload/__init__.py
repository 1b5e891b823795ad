"""greenload: energy-efficient data loading for deep learning.

Describe a preprocessing pipeline once; load it through tf.data or NVIDIA DALI with the same pixels; see what each of
its steps costs in CPU seconds and joules.

    import greenload as gl

    train = gl.Pipeline(
        gl.ImageFolder("data/train"), gl.Shuffle(), gl.Decode(), gl.RandomResizedCrop(224),
        gl.RandomHorizontalFlip(), gl.Batch(256), seed=7,
    )
    model.fit(gl.load(train), epochs=3)
    print(gl.profile(train))

Importing it loads neither TensorFlow nor DALI; names are resolved when first used.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"


def _modules() -> tuple[dict[str, str], list[str]]:
    """The module of each public name, and the rooms that are public as a whole, read from ``__init__.pyi``: ``from
    greenload.MODULE import NAME as NAME``, ``from greenload import ROOM as ROOM``."""
    lines = __spec__.loader.get_data(f"{__path__[0]}/__init__.pyi").decode().splitlines()
    imports = [line.split() for line in lines if line.startswith("from greenload")]
    modules = {name: module for _, module, _, name, *_ in imports}
    rooms = [name for name, module in modules.items() if module == __name__]
    return {name: module for name, module in modules.items() if module != __name__}, rooms


_MODULES, _ROOMS = _modules()

__all__ = [*sorted([*_MODULES, *_ROOMS]), "__version__"]


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'greenload' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
