"""One run: a strategy's dataset is loaded, trained on and scored, while the meters run."""

from __future__ import annotations

import gc
import os
import sysconfig
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from greenload import scalars
from greenload.energy.domains import Domain
from greenload.energy.figures import Figure, scale
from greenload.energy.measure import measure
from greenload.errors import GreenloadError, UsageError
from greenload.loading.load import load
from greenload.plans.pipeline import Pipeline
from greenload.strategies.records import DECIDING_KINDS, Evaluates, Run
from greenload.text import error_line, one_line

Evaluate = Callable[[Any, int], float] | Evaluates
"""A function of a dataset and a seed that gives a score; or what builds and measures its run itself."""

_OWN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_INSTALLED = tuple(
    os.path.join(path, "")
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
    if (path := sysconfig.get_path(name)) is not None
)


def labels_warning(strategies: Mapping[str, Pipeline], evaluate: Evaluate | None) -> str:
    """What to say where strategies hand over labels of different forms to one function; empty where they don't.

    A model's loss takes one form: a class's number, or a number for each class. What builds its own runs knows better.
    """
    forms: dict[str, list[str]] = {}
    for name, pipeline in strategies.items():
        shape = "×".join(map(str, pipeline.label.shape))
        forms.setdefault(f"{shape} numbers" if shape else "a class's number", []).append(name)
    if len(forms) < 2 or evaluate is None or isinstance(evaluate, Evaluates):
        return ""
    told = "; ".join(f"{', '.join(names)}: {form}" for form, names in forms.items())
    said = f"labels of the strategies differ in form, and a loss takes one form ({told})"
    return f"{said}: put gl.OneHot into those without"


def with_seed(pipeline: Pipeline, seed: int) -> Pipeline:
    """The pipeline with another seed."""
    return Pipeline(pipeline.source, *pipeline.stages, seed=seed)


def evaluated(evaluate: Evaluate, name: str, pipeline: Pipeline, seed: int, backend: Any) -> Run:
    """Train and score a strategy once. What ``evaluate`` raises is kept as the run's reason; interrupts pass.

    Args:
        evaluate: what trains and scores.
        name: the strategy's.
        pipeline: the strategy.
        seed: of the pipeline and the model.
        backend: as ``gl.load`` takes it.
    """
    seeded, began_s = with_seed(pipeline, seed), time.monotonic()
    score, failed, told = None, "", None
    gc.collect()  # what the run before left behind is no cost of this one
    with measure() as window:
        try:
            if isinstance(evaluate, Evaluates):
                told = evaluate.run(seeded, seed, backend)
                given = told.score
            else:
                given = evaluate(load(seeded, backend), seed)
            score = checked_score(given)
        except GreenloadError as error:
            failed = one_line(error)
        except Exception as error:
            failed = f"{error_line(error)}{_place(error)}"
    seconds = time.monotonic() - began_s
    if told is None or failed:
        joules, modelled = counted(window.energy_j)
        cpu_s, loader_cpu_s = window.cpu_s, None
    else:
        part = told.cpu_s / window.cpu_s if window.cpu_s else 0.0
        joules, modelled = counted(completed(told.energy_j, window.energy_j, part))
        cpu_s, loader_cpu_s = told.cpu_s, told.loader_cpu_s
    return Run(
        strategy=name,
        seed=seed,
        score=score,
        failed=failed,
        seconds=seconds,
        cpu_s=max(0.0, float(cpu_s)),
        loader_cpu_s=None if loader_cpu_s is None else max(0.0, float(loader_cpu_s)),
        energy_j=joules,
        modelled=modelled,
    )


def _place(error: BaseException) -> str:
    """Where the user's own code was when it failed: ``" (train.py:12)"``; empty where none of it was there.

    It is the innermost frame whose file is neither greenload's, nor an installed package's, nor Python's own.
    """
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not file.startswith((_OWN, *_INSTALLED, "<frozen")):
            place = f" ({os.path.basename(file)}:{line})"
    return place


def completed(told: Mapping[str, Any], window: Mapping[str, Figure], part: float) -> dict[str, Any]:
    """What a run measured of itself, with modelled joules of processors where a counter reads only GPUs.

    A strategy's loader works on processors, so a training's joules without theirs would leave out what differs.

    Args:
        told: joules by domain, as numbers or figures.
        window: figures of the time around the run.
        part: of the window's CPU seconds, those that the run told, by which the model's joules are shared.
    """
    kinds = {Domain.parse(domain).kind for domain in told}
    lacking = {"cpu", "dram"} if told and "cpu" not in kinds else set()
    modelled = {
        domain: scale(figure, part)
        for domain, figure in window.items()
        if Domain.parse(domain).kind in lacking and domain not in told and figure.provenance == "modelled"
    }
    return {**told, **modelled}


def checked_score(given: Any) -> float:
    """A score as a Python number; also of a tensor without dimensions.

    Raises:
        UsageError: it is none, or isn't finite.
    """
    plain = given.numpy() if hasattr(given, "numpy") else given
    score = scalars.number(plain)
    if score is None:
        raise UsageError(f"evaluate returns a finite number, higher is better, found {one_line(repr(given), 80)}")
    return score


def counted(energy_j: Mapping[str, Any]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Joules of processors, memory and GPUs by domain, and which of them are modelled; nothing where no counter reads.

    Args:
        energy_j: figures, or numbers, which are taken for measured.
    """
    joules: dict[str, float] = {}
    modelled = []
    for domain, found in energy_j.items():
        value = found.value if isinstance(found, Figure) else float(found)
        if value is None or Domain.parse(domain).kind not in DECIDING_KINDS:
            continue
        joules[domain] = max(0.0, value)
        if isinstance(found, Figure) and found.provenance == "modelled":
            modelled.append(domain)
    return ({}, ()) if len(modelled) == len(joules) else (joules, tuple(modelled))
