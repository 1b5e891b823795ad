"""What users see: the names, their documentation, what importing costs, and errors as values."""

from __future__ import annotations

import doctest
import importlib
import inspect
import io
import pickle
import pkgutil
import pydoc
import re
import subprocess
import sys
import traceback
import typing
from pathlib import Path
from typing import Any

import pytest

import greenload as gl
from greenload import errors

STUB = Path(gl.__file__).with_suffix(".pyi").read_text()
NAMES = [
    "Apply",
    "Arrays",
    "AugMix",
    "AutoAugment",
    "BackendUnavailable",
    "Batch",
    "Batches",
    "Cache",
    "CenterCrop",
    "ColorJitter",
    "Comparison",
    "CutMix",
    "Decode",
    "Demand",
    "Echo",
    "EnergyCallback",
    "Files",
    "GaussianBlur",
    "GreenloadError",
    "ImageFolder",
    "Improvement",
    "MeterError",
    "MixUp",
    "Normalize",
    "OneHot",
    "Optimization",
    "Pad",
    "Pipeline",
    "PipelineError",
    "Plan",
    "Position",
    "Primitive",
    "Proxy",
    "RandAugment",
    "RandomAdjustSharpness",
    "RandomAffine",
    "RandomApply",
    "RandomAutocontrast",
    "RandomChoice",
    "RandomCrop",
    "RandomEqualize",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomInvert",
    "RandomOrder",
    "RandomPerspective",
    "RandomPosterize",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomSolarize",
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
    "TrivialAugmentWide",
    "UsageError",
    "calibrate",
    "compare",
    "demand",
    "iterate",
    "load",
    "load_plan",
    "make_plan",
    "measure",
    "open_folder",
    "optimize",
    "pack",
    "profile",
    "register_operations",
    "split_for_device",
    "verify",
    "watch",
]


def test_the_public_names_are_those_of_the_stub() -> None:
    """Type checkers follow the stub, so that every name in it, and no other, is what its line says."""
    lines = re.findall(r"^from (greenload\.[\w.]+) import (\w+) as (\w+)$", STUB, re.MULTILINE)
    assert [shown for _, _, shown in lines] == [name for _, name, _ in lines]
    rooms = re.findall(r"^from greenload import (\w+) as \1$", STUB, re.MULTILINE)
    assert sorted(name for _, name, _ in lines) == NAMES and STUB.count("import") == len(lines) + len(rooms)
    assert dir(gl) == sorted(gl.__all__) == sorted([*NAMES, *rooms, "__version__"])
    assert rooms == ["strategies"] and gl.strategies is importlib.import_module("greenload.strategies")
    for module, name, _ in lines:
        assert getattr(gl, name) is getattr(importlib.import_module(module), name)
    with pytest.raises(AttributeError, match="no attribute 'loud'"):
        _ = gl.loud


def test_public_objects_say_that_they_are_greenloads() -> None:
    """Tracebacks, pickles and ``help`` show no room of the package, so that what is in it can move."""
    for name in NAMES:
        value = getattr(gl, name)
        assert (value.__module__, value.__qualname__) == ("greenload", name)
    assert repr(gl.Resize) == "<class 'greenload.Resize'>"
    shown = "".join(traceback.format_exception(gl.PipelineError("a rule")))
    assert shown == "greenload.PipelineError: a rule\n"
    things = [value for module in modules() for value in vars(module).values() if hasattr(value, "__qualname__")]
    marked = {value.__qualname__ for value in things if getattr(value, "__module__", "") == "greenload"}
    assert marked - {"__getattr__", "__dir__", "_modules"} == {*NAMES}, "what is marked @public is a public name"


def test_what_looks_into_public_objects_finds_them() -> None:
    for name in NAMES:
        value = getattr(gl, name)
        if inspect.isclass(value):
            hints = typing.get_type_hints(value)
            assert set(value.__annotations__) <= set(hints), name
            assert not any(isinstance(hint, str | typing.ForwardRef) for hint in hints.values()), name
        else:
            assert f"def {name}(" in inspect.getsource(value)
        if not (inspect.isclass(value) and issubclass(value, Exception)):
            assert inspect.signature(value) is not None
        assert doctest.DocTestFinder().find(value, name, gl), name
    assert "def from_dict" in inspect.getsource(gl.Report.from_dict)
    assert typing.get_type_hints(gl.Report)["samples"] is int
    assert "class Pipeline(" in pydoc.render_doc(gl, renderer=pydoc.plaintext)


def test_public_values_come_out_of_pickles_in_another_process(tmp_path: Path, measured: gl.Report) -> None:
    """By the name that the package gives, before anything asked for it; and no room's name is in the pickle."""
    pipeline = gl.Pipeline(gl.Files(["a.jpg"]), gl.Shuffle(), gl.Decode(), gl.Resize((8, 8)), gl.Batch(2), seed=3)
    values = (pipeline, gl.make_plan(pipeline, "dali-cpu"), gl.Position(1, 2), gl.Shard(1, 4), measured, gl.load)
    data = pickle.dumps(values)
    (tmp_path / "values").write_bytes(data)
    script = f"""
import pickle, sys
pipeline, plan, position, shard, report, load = values = pickle.load(open({str(tmp_path / "values")!r}, "rb"))
import greenload as gl
assert load is gl.load and isinstance(report, gl.Report) and position == gl.Position(1, 2)
assert pipeline == gl.Pipeline.from_dict(pipeline.to_dict()) and plan.pipeline == pipeline
print(plan.describe())
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout.strip() == values[1].describe().strip()
    modules_of: dict[Any, str] = {}

    class Noted(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            found = super().find_class(module, name)
            modules_of[found] = module
            return found

    Noted(io.BytesIO(data)).load()
    shown = {modules_of[getattr(gl, name)] for name in NAMES if getattr(gl, name) in modules_of}
    assert shown == {"greenload"} and gl.Plan in modules_of and gl.Report in modules_of


def test_importing_is_quick_and_loads_nothing() -> None:
    script = "import time; t = time.perf_counter(); import greenload; print(time.perf_counter() - t); import sys;"
    script += "print([name for name in ('numpy', 'typing', 'tensorflow') if name in sys.modules])"
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True) for _ in range(3)
    ]
    seconds, loaded = zip(*(run.stdout.splitlines() for run in runs), strict=True)
    assert set(loaded) == {"[]"} and min(map(float, seconds)) < 0.3


@pytest.mark.slow
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
        if name.startswith("_") or getattr(value, "__module__", None) not in (module.__name__, "greenload"):
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
