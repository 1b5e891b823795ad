"""What users see: the names, their documentation, what importing costs, and errors as values."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import greenload as gl
from greenload import errors

NAMES = [
    "Apply",
    "Arrays",
    "BackendUnavailable",
    "Batch",
    "Batches",
    "Cache",
    "CenterCrop",
    "ColorJitter",
    "Decode",
    "EnergyCallback",
    "Files",
    "GaussianBlur",
    "GreenloadError",
    "ImageFolder",
    "MeterError",
    "Normalize",
    "OneHot",
    "Pad",
    "Pipeline",
    "PipelineError",
    "Plan",
    "Position",
    "Primitive",
    "RandomAffine",
    "RandomApply",
    "RandomChoice",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomOrder",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "RecordError",
    "Report",
    "ReportError",
    "Resize",
    "Shard",
    "Shuffle",
    "SourceError",
    "Split",
    "Stage",
    "TFDS",
    "TFRecords",
    "ToDtype",
    "UsageError",
    "__version__",
    "calibrate",
    "iterate",
    "load",
    "make_plan",
    "measure",
    "open_folder",
    "pack",
    "profile",
    "split_for_device",
    "verify",
]


def test_the_public_names_are_these() -> None:
    assert sorted(gl.__all__) == NAMES
    assert dir(gl) == gl.__all__ or sorted(dir(gl)) == NAMES
    for name in NAMES:
        assert getattr(gl, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'loud'"):
        _ = gl.loud


def test_type_checkers_see_the_same_names() -> None:
    source = inspect.getsource(gl)
    for name in NAMES:
        if name != "__version__":
            assert f"import {name} as {name}" in source


def test_importing_loads_no_framework() -> None:
    script = """
import sys
import greenload as gl
names = ("tensorflow", "keras", "nvidia.dali", "scipy", "PIL", "pynvml", "pyRAPL", "jax")
heavy = [m for m in names if m in sys.modules]
assert not heavy, heavy
pipeline = gl.Pipeline(gl.Files(["a.jpg"]), gl.Shuffle(), gl.Decode(), gl.RandomResizedCrop(8), gl.Batch(2))
str(gl.make_plan(pipeline, "dali-cpu")), gl.Position, gl.Shard, gl.load
heavy = [m for m in ("tensorflow", "keras", "nvidia.dali") if m in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def modules() -> list[Any]:
    found = [gl]
    for info in pkgutil.walk_packages(gl.__path__, "greenload."):
        if not info.name.endswith("__main__"):
            found.append(importlib.import_module(info.name))
    return [module for module in found if Path(module.__file__).read_text().strip()]


def undocumented(module: Any) -> list[str]:
    lacking = [] if module.__doc__ else [module.__name__]
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        if not value.__doc__ or value.__doc__.startswith(f"{name}("):  # a dataclass writes that by itself
            lacking.append(f"{module.__name__}.{name}")
        if inspect.isclass(value):
            for member, function in vars(value).items():
                target = function.fget if isinstance(function, property) else function
                if member.startswith("_") or not inspect.isfunction(target):
                    continue
                inherited = any(getattr(getattr(base, member, None), "__doc__", None) for base in value.__mro__[1:])
                if not target.__doc__ and not inherited:
                    lacking.append(f"{module.__name__}.{name}.{member}")
    return lacking


def test_everything_public_is_documented() -> None:
    lacking = [name for module in modules() for name in undocumented(module)]
    # Ops and its two namespaces: each operation is its name
    lacking = [name for name in lacking if not name.startswith("greenload.array_ops.Ops.")]
    assert lacking == []


def test_every_error_is_one_of_the_hierarchy() -> None:
    kinds = [v for v in vars(errors).values() if inspect.isclass(v) and issubclass(v, Exception)]
    assert len(kinds) <= 8
    for kind in kinds:
        assert issubclass(kind, gl.GreenloadError)
        assert kind.__name__ in (errors.__doc__ or "")
    assert issubclass(gl.RecordError, gl.SourceError)
    for kind in (gl.PipelineError, gl.ReportError, gl.UsageError):
        assert issubclass(kind, ValueError)


def test_errors_survive_pickling() -> None:
    for error in (
        gl.PipelineError("a rule"),
        gl.SourceError("a path"),
        gl.BackendUnavailable("why"),
        gl.MeterError("x"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))
    record = pickle.loads(pickle.dumps(gl.RecordError("a: b.jpg", "is cut")))
    assert (record.path, record.reason, str(record)) == ("a: b.jpg", "is cut", "a: b.jpg: is cut")


def test_no_module_is_long() -> None:
    for module in modules():
        assert len(inspect.getsource(module).splitlines()) <= 400, module.__name__
