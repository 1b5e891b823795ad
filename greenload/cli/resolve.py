"""Finds the pipelines, the plan, the ``tf.data.Dataset`` or the function that a command line names."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from greenload.cli import script
from greenload.errors import GreenloadError, UsageError
from greenload.planning.device_split import Split
from greenload.planning.saved import load_plan
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.profiling.tfdata.profile import is_dataset
from greenload.system.frameworks import tf
from greenload.text import error_line

READY = "greenload.pipelines"
"""The package of ready pipelines."""
PLAN_FILE = ".json"
"""How the name of a plan's file ends."""


def ready() -> list[str]:
    """The names of the ready pipelines: ``"imagenet:train"``, …"""
    names = []
    for info in pkgutil.iter_modules(importlib.import_module(READY).__path__):
        module = importlib.import_module(f"{READY}.{info.name}")
        names += [f"{info.name}:{name}" for name in getattr(module, "__all__", ())]
    return names


def find_pipeline(
    name: str,
    data: str | None = None,
    arguments: Sequence[str] = (),
    modules: dict[str, ModuleType] | None = None,
    *,
    plans: bool = False,
) -> Pipeline | Plan | Split | tf.data.Dataset:
    """The pipeline of a name, the plan, or the dataset.

    Args:
        name: a ready one's (``"imagenet:train"``), ``"path/to/file.py:name"`` or ``"package.module:name"``. What
            stands behind it is a ``Pipeline``, a ``tf.data.Dataset``, or a function that returns one. Or a plan's file,
            ``"plan.json"``, with ``plans``.
        data: the data folder, for a function that takes a parameter.
        arguments: the script's own, which it sees in ``sys.argv`` behind its name while it is imported and its function
            called. Flags that it defines with absl are parsed from them.
        modules: those imported before, by file or name, and this one afterwards: a file that gives several pipelines
            is run once.
        plans: whether a plan's file will do.

    Raises:
        UsageError: nothing of that name can be found or imported, it is no pipeline, it ended itself or refused its
            arguments, or the folder is missing or not wanted.
        ReportError: a plan's file is damaged, or of another version.
        SourceError: the source that a plan's file names is gone.
        BackendUnavailable: a backend that a plan's file names can't run here.

    Warns:
        UserWarning: it ran for seconds while it was imported.

    Example:
        >>> find_pipeline("imagenet:train", "data/sample")
    """
    origin, attribute = _parts_of(name)
    if name.endswith(PLAN_FILE) and (not attribute or os.path.isfile(name)):
        if not plans:
            raise UsageError(f"{name} is a plan's file, which greenload profile takes: name a pipeline here")
        return _saved_plan(name, data, arguments)
    if not attribute:
        raise UsageError(
            f"a pipeline is named MODULE:NAME or FILE.py:NAME, not {name!r}; ready ones: {', '.join(ready())}"
        )
    with script.running(origin, arguments):
        module = _module(origin, name, arguments, {} if modules is None else modules)
        return _taken(module, attribute, origin, name, data)


def _saved_plan(name: str, data: str | None, arguments: Sequence[str]) -> Plan:
    """The plan of a file."""
    if data is not None:
        raise UsageError(f"{name} is a plan, which names its data: leave --data out")
    if arguments:
        raise UsageError(f"{name} is a plan and takes no arguments: leave out what stands behind --")
    if not os.path.exists(name):
        raise UsageError(f"{name}: there is no such file to take a plan from")
    return load_plan(name)


def find_function(
    name: str, arguments: Sequence[str] = (), modules: dict[str, ModuleType] | None = None
) -> Callable[..., Any]:
    """The function of a name: ``"path/to/file.py:name"`` or ``"package.module:name"``.

    Args:
        name: of the function.
        arguments: the script's own, as `find_pipeline` takes them.
        modules: as `find_pipeline` takes them.

    Raises:
        UsageError: nothing of that name can be found or imported, or it can't be called.

    Example:
        >>> find_function("train.py:accuracy")
    """
    origin, attribute = _parts_of(name)
    if not attribute:
        raise UsageError(f"a function is named MODULE:NAME or FILE.py:NAME, not {name!r}")
    with script.running(origin, arguments):
        module = _module(origin, name, arguments, {} if modules is None else modules)
    function: Any = getattr(module, attribute, None)
    if not callable(function):
        names = [
            n for n, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        hint = f"; it has {', '.join(names)}" if names else ""
        what = f"no function {attribute!r}" if function is None else f"{attribute!r}, which can't be called"
        raise UsageError(f"{origin} has {what}{hint}")
    return function  # type: ignore[no-any-return]


def _parts_of(name: str) -> tuple[str, str]:
    """The file or module, and the name in it; empty where either is missing."""
    origin, _, attribute = name.rpartition(":")
    return (origin, attribute) if origin and attribute else ("", "")


def _module(origin: str, name: str, arguments: Sequence[str], modules: dict[str, ModuleType]) -> ModuleType:
    """The module of a name, imported with its own flags, or as it was imported before."""
    if origin in modules:
        return modules[origin]
    known = script.flags()
    with script.timed(origin):
        module = _from_file(origin) if origin.endswith(".py") else _from_package(origin, name)
    if arguments and module.__name__.startswith(f"{READY}."):
        raise UsageError(f"{name} is a ready pipeline and takes no arguments: leave out what stands behind --")
    script.parse_flags(module, known)
    modules[origin] = module
    return module


def _taken(module: ModuleType, attribute: str, origin: str, name: str, data: str | None) -> Any:
    value: Any = getattr(module, attribute, None)
    if value is None:
        candidates = [n for n, value in vars(module).items() if not n.startswith("_") and _fits(value, module)]
        hint = f"; it has {', '.join(candidates)}" if candidates else ""
        raise UsageError(f"{origin} has no pipeline {attribute!r}{hint}")
    if callable(value) and not _is_pipeline(value):
        value = _call(value, name, data)
    elif data is not None:
        raise UsageError(f"{name} is a finished pipeline and takes no data folder: leave --data out")
    if not _is_pipeline(value):
        several = " (take one of them)" if isinstance(value, tuple | list | dict) else ""
        raise UsageError(
            f"{name} must be a greenload.Pipeline, a tf.data.Dataset, or a function that returns one, "
            f"not {type(value).__name__}{several}"
        )
    return value


def _is_pipeline(value: object) -> bool:
    return isinstance(value, Pipeline | Split) or is_dataset(value)


def _fits(value: object, module: ModuleType) -> bool:
    """Whether it may be meant: a pipeline, or a function of the module's own that needs a data folder at most."""
    if _is_pipeline(value):
        return True
    if not inspect.isfunction(value) or value.__module__ != module.__name__:
        return False
    empty, several = inspect.Parameter.empty, (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(value).parameters.values()
    return sum(one.default is empty and one.kind not in several for one in parameters) <= 1


def _from_file(path: str) -> ModuleType:
    if not os.path.isfile(path):
        raise UsageError(f"{path}: there is no such file to take a pipeline from")
    name = f"_pipeline_file_{os.path.splitext(os.path.basename(path))[0]}"  # must hide no module of that name
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: can't be loaded as Python")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    # The files beside it can be imported as if it were run, now and when its functions are called.
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        spec.loader.exec_module(module)
    except GreenloadError:
        raise
    except Exception as error:  # a user's file may raise anything; it is named, in one line
        raise UsageError(f"{path}: doesn't import: {error_line(error)}") from error
    return module


def _from_package(origin: str, name: str) -> ModuleType:
    for full in (f"{READY}.{origin}", origin):
        try:
            if (spec := importlib.util.find_spec(full)) is not None:
                sys.argv[0] = spec.origin or full
                return importlib.import_module(full)
        except ModuleNotFoundError as error:
            if error.name and not full.startswith(error.name):
                raise UsageError(f"{name}: {full} doesn't import: {error_line(error)}") from error
        except GreenloadError:
            raise
        except Exception as error:  # a user's module may raise anything, too
            raise UsageError(f"{name}: {full} doesn't import: {error_line(error)}") from error
    raise UsageError(f"{name}: there is no ready pipeline and no module of that name; ready ones: {', '.join(ready())}")


def _call(function: object, name: str, data: str | None) -> object:
    assert callable(function)
    parameters = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if not parameters and data is not None:
        raise UsageError(f"{name} takes no data folder: leave --data out")
    if parameters and data is None and parameters[0].default is inspect.Parameter.empty:
        raise UsageError(f"{name} needs a data folder: pass --data FOLDER (greenload sample FOLDER makes one to try)")
    try:
        made: object = function(data) if parameters and data is not None else function()
    except GreenloadError:
        raise
    except Exception as error:  # so may a user's function
        raise UsageError(f"{name} failed: {error_line(error)}") from error
    return made
