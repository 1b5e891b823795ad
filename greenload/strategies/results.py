"""The file of a comparison: kept after every run, refused where it is of another comparison, and gone on from."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import os
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from greenload.errors import PipelineError, ReportError
from greenload.machine import machine
from greenload.plans.pipeline import Pipeline
from greenload.strategies.data import Comparison


def identity(strategies: Mapping[str, Pipeline], evaluate: Any, backend: Any, first_seed: int) -> dict[str, Any]:
    """What makes two comparisons the same, as JSON data: their runs may stand in one file.

    Args:
        strategies: pipelines by name; their own seeds don't matter.
        evaluate: what trains and scores.
        backend: as ``gl.load`` takes it.
        first_seed: of the first round.
    """
    facts = machine()
    return {
        "strategies": {name: _digest(_of_pipeline(pipeline)) for name, pipeline in strategies.items()},
        "evaluate": of_evaluation(evaluate),
        "backend": dict(backend) if isinstance(backend, Mapping) else backend,
        "first_seed": first_seed,
        "machine": f"{facts.cpu_model}, {facts.cpus} CPUs",
    }


def key_of(same: Mapping[str, Any]) -> str:
    """The fingerprint of an `identity`."""
    return _digest(same)


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:32]


def described(pipeline: Pipeline) -> dict[str, Any]:
    """The pipeline's ``to_dict()``; a stage that can't be described, as a function without a name, as it is shown."""
    empty = Pipeline(pipeline.source, seed=pipeline.seed).to_dict()
    stages = []
    for stage in pipeline.stages:
        try:
            stages.append(stage.to_dict())
        except PipelineError:
            stages.append({"stage": str(stage)})
    return empty | {"stages": stages}


def _of_pipeline(pipeline: Pipeline) -> dict[str, Any]:
    data = described(pipeline)
    functions = [_of_function(fn) for stage in pipeline.stages if callable(fn := getattr(stage, "fn", None))]
    return {"source": pipeline.source.fingerprint(), "stages": data["stages"], "functions": functions}


def of_evaluation(evaluate: Any) -> str:
    """What an evaluation is known by, so that an edited one is another.

    What its method ``to_dict`` gives where it has one, as the proxy has; else its name and source, with plain data
    that it holds: its fields or arguments, defaults, variables of functions around it, and fields of the object that it
    is a method of. What it calls, and variables of its module, are not looked at.
    """
    if evaluate is None:
        return ""
    if callable(to_dict := getattr(evaluate, "to_dict", None)):
        with contextlib.suppress(PipelineError):  # a function without a name, which can't be described
            return f"{type(evaluate).__qualname__} {_digest(to_dict())}"
    if isinstance(evaluate, functools.partial):
        return f"partial({of_evaluation(evaluate.func)}, {_plain([evaluate.args, evaluate.keywords])})"
    if inspect.isroutine(evaluate):
        return _of_function(evaluate)
    return f"{type(evaluate).__qualname__} {_digest([_fields(evaluate), _source(type(evaluate))])}"


def _of_function(fn: Callable[..., Any]) -> str:
    return f"{getattr(fn, '__qualname__', type(fn).__qualname__)} {_digest([_source(fn), _held(fn)])}"


_DEEPEST = 6  # objects in objects, which may lead back to the first


def _held(fn: Any, depth: int = 0) -> str:
    """Plain data that a function holds: variables of functions around it, defaults, and fields of its object."""
    bare = inspect.unwrap(getattr(fn, "__func__", fn))
    cells = []
    for cell in getattr(bare, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # not set yet
            cells.append(cell.cell_contents)
    held = [cells, getattr(bare, "__defaults__", None), getattr(bare, "__kwdefaults__", None)]
    owner = getattr(fn, "__self__", None) if inspect.ismethod(fn) else None
    return _plain([*held, owner], depth + 1)


def _fields(of: Any, depth: int = 0) -> str:
    """The fields of an object that are plain data."""
    if is_dataclass(of) and not isinstance(of, type):
        return _plain({one.name: getattr(of, one.name, None) for one in fields(of)}, depth + 1)
    return _plain(getattr(of, "__dict__", {}), depth + 1)


def _plain(value: Any, depth: int = 0) -> str:
    """Plain data as text, the same in every process; of anything else its type, and its fields as far as they are."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, np.ndarray | np.generic) and not np.asarray(value).dtype.hasobject:
        array = np.asarray(value)
        return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"
    kind = type(value).__qualname__
    if depth > _DEEPEST:
        return kind
    if isinstance(value, Mapping):
        return f"{kind}{sorted((_plain(key, depth + 1), _plain(one, depth + 1)) for key, one in value.items())}"
    if isinstance(value, list | tuple):
        return f"{kind}{[_plain(one, depth + 1) for one in value]}"
    if isinstance(value, set | frozenset):
        return f"{kind}{sorted(_plain(one, depth + 1) for one in value)}"
    if isinstance(value, Pipeline):
        return f"{kind} {_digest(_of_pipeline(value))}"
    if isinstance(value, os.PathLike):
        return f"{kind} {os.fspath(value)!r}"
    if inspect.isroutine(value):
        return f"{_source(value)} {_held(value, depth)}"
    if inspect.ismodule(value) or isinstance(value, type):
        return f"{kind} {value.__name__}"
    return f"{kind} {_fields(value, depth)}" if _of_user(type(value)) else kind


def _of_user(kind: type) -> bool:
    """Whether a type is neither of Python nor of a framework, whose objects hold counters and caches."""
    module = sys.modules.get(kind.__module__)
    path = getattr(module, "__file__", None) or ""
    return kind.__module__ == "__main__" or (bool(path) and not any(one in path for one in _LIBRARIES))


_LIBRARIES = ("site-packages", "dist-packages", sysconfig.get_paths()["stdlib"])


def _source(of: Any) -> str:
    """Source text; where there is none, as of what was typed in, the compiled code."""
    try:
        return inspect.getsource(of)
    except (OSError, TypeError):
        code = getattr(of, "__code__", None)
        return (
            ""
            if code is None
            else f"{code.co_code.hex()} {code.co_names} {[c for c in code.co_consts if not inspect.iscode(c)]}"
        )


def resume(path: str | os.PathLike[str] | None, same: Mapping[str, Any]) -> Comparison | None:
    """What a file holds of this comparison; None where there is no such file yet.

    Args:
        path: of the file; None where nothing is kept.
        same: the comparison's `identity`.

    Raises:
        ReportError: the file is damaged, can't be read, or is of another comparison; says how they differ.
    """
    if path is None or not os.path.exists(path):
        return None
    try:
        kept = Comparison.load(path)
    except ReportError as error:
        raise ReportError(f"{error}; or name another file for this comparison") from None
    if kept.key != key_of(same):
        raise ReportError(
            f"{os.fspath(path)}: its runs are of another comparison: {_difference(kept.settings.get('same'), same)}; "
            "name another file, or remove this one"
        )
    return kept


def _difference(there: Any, here: Mapping[str, Any]) -> str:
    """In what the two comparisons differ first."""
    there = there if isinstance(there, Mapping) else {}
    theirs, ours = there.get("strategies"), here["strategies"]
    if isinstance(theirs, Mapping) and set(theirs) != set(ours):
        return f"of {', '.join(map(str, theirs))}, here {', '.join(ours)}"
    if isinstance(theirs, Mapping):
        changed = [name for name in ours if theirs[name] != ours[name]]
        if changed:
            return f"{', '.join(changed)} was another pipeline, or its source has changed"
    for name in ("backend", "first_seed", "machine"):
        if there.get(name) != here[name]:
            return f"{name} was {there.get(name)!r}, here {here[name]!r}"
    return "evaluate was another, or was edited"
