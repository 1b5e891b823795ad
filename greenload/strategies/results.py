"""The file of a comparison: kept after every run, refused where it is of another comparison, and gone on from."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any

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

    What its method ``to_dict`` gives where it has one, as the proxy has; else its name and source, with its fields or
    arguments. What it calls is not looked at.
    """
    if evaluate is None:
        return ""
    if callable(to_dict := getattr(evaluate, "to_dict", None)):
        with contextlib.suppress(PipelineError):  # a function without a name, which can't be described
            return f"{type(evaluate).__qualname__} {_digest(to_dict())}"
    if isinstance(evaluate, functools.partial):
        return f"partial({of_evaluation(evaluate.func)}, {evaluate.args!r}, {evaluate.keywords!r})"
    if is_dataclass(evaluate) and not isinstance(evaluate, type):
        return f"{type(evaluate).__qualname__} {_digest([repr(evaluate), _source(type(evaluate))])}"
    if inspect.isroutine(evaluate):
        return _of_function(evaluate)
    return f"{type(evaluate).__qualname__} {_digest(_source(type(evaluate)))}"


def _of_function(fn: Callable[..., Any]) -> str:
    return f"{getattr(fn, '__qualname__', type(fn).__qualname__)} {_digest(_source(fn))}"


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
