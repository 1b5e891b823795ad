"""The arguments of `compare`, checked before minutes of work are spent on them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from greenload import scalars
from greenload.energy.domains import Domain
from greenload.energy.meters.discover import discover
from greenload.errors import GreenloadError, PipelineError, UsageError
from greenload.planning.choose import make_plan
from greenload.plans.pipeline import Pipeline
from greenload.strategies.limits import OF_LOADERS, Limit, parse_limit
from greenload.strategies.proxy import Proxy
from greenload.strategies.records import DECIDING_KINDS, ENOUGH_RUNS, Evaluates
from greenload.text import printable

_UNITS = {"h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0}
_TIME = re.compile(r"\s*(?:(?P<number>\d+\.?\d*|\.\d+)\s*(?P<unit>h|min|m|s)\s*)")


def checked_strategies(given: Any, backend: Any) -> dict[str, Pipeline]:
    """Strategies by name: two or more, over the same samples, that the backend can run.

    Raises:
        UsageError: they are fewer, no pipelines, or of different sources.
        PipelineError: one doesn't fit its samples, their labels, or the backend; names it.
    """
    if not isinstance(given, Mapping):
        raise UsageError(f"strategies are pipelines by name, as {{'plain': train}}, found {type(given).__name__}")
    if len(given) < 2:
        raise UsageError(f"a comparison is of two strategies or more, found {len(given)}: add another")
    strategies: dict[str, Pipeline] = {}
    for name, pipeline in given.items():
        if not isinstance(name, str) or not name.strip() or printable(name) != name:
            raise UsageError(f"a strategy's name is a printable text, found {name!r}: name it so")
        if not isinstance(pipeline, Pipeline):
            raise UsageError(
                f"a strategy is a Pipeline, but {name} is of type {type(pipeline).__name__}: give its pipeline"
            )
        strategies[name] = pipeline
    first, *others = strategies
    source = strategies[first].source
    for name in others:
        if strategies[name].source.fingerprint() != source.fingerprint():
            raise UsageError(
                f"strategies are compared on the same samples, but the source of {name} isn't that of {first}: "
                "give both the same"
            )
    for name, pipeline in strategies.items():
        try:
            pipeline.check_labels()
            make_plan(pipeline, backend)
        except GreenloadError as error:
            kind = PipelineError if isinstance(error, PipelineError) else UsageError
            raise kind(f"strategy {name}: {error}") from None
    return strategies


def checked_seconds(budget: Any) -> float | None:
    """A time as seconds: ``"15min"``, ``"1h 30min"``, ``90``; None stays.

    Raises:
        UsageError: it isn't one, or isn't positive.

    Example:
        >>> checked_seconds("1h 30min"), checked_seconds(90)
        (5400.0, 90.0)
    """
    if budget is None:
        return None
    seconds = scalars.number(budget)
    if isinstance(budget, str):
        end, seconds = 0, 0.0
        while match := _TIME.match(budget, end):
            seconds += float(match["number"]) * _UNITS[match["unit"]]
            end = match.end()
        if end < len(budget) or not end:
            seconds = scalars.number(float(budget)) if re.fullmatch(r"\s*\d+\.?\d*\s*", budget) else None
    if seconds is None or not 0 < seconds < 1e9:
        raise UsageError(f"a budget is a time, as 15min or 900 seconds, found {budget!r}: give one")
    return seconds


def checked_evaluate(evaluate: Any) -> Any:
    """What trains and scores: called with a dataset and a seed, or with a method ``run``; None stays.

    Raises:
        UsageError: it is neither, or doesn't take these arguments.
    """
    if evaluate is None:
        return None
    called: Callable[..., Any]
    given: tuple[Any, ...]
    if isinstance(evaluate, type):
        raise UsageError(f"evaluate is a function or an object, found the class {evaluate.__name__}: make one of it")
    if isinstance(evaluate, Evaluates):
        called, given, what = evaluate.run, (None, 0, "auto"), "evaluate.run(pipeline, seed, backend)"
    elif callable(evaluate):
        called, given, what = evaluate, (None, 0), "evaluate(dataset, seed)"
    else:
        raise UsageError(
            f"evaluate is a function of a dataset and a seed, or has a method run, found {type(evaluate).__name__}: "
            "give one"
        )
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):  # of some functions written in C nobody knows it
        return evaluate
    try:
        signature.bind(*given)
    except TypeError as error:
        raise UsageError(f"{what} is how it is called, but it takes {signature}: {error}") from None
    return evaluate


def check_counters(limits: Sequence[Limit], evaluate: Any) -> None:
    """Refuse a limit in joules of runs that nothing will tell.

    Args:
        limits: parsed.
        evaluate: checked; what measures itself, but for the proxy, may have a meter of its own.

    Raises:
        UsageError: no counter of processors, memory or GPUs reads here.
    """
    limit = next((limit for limit in limits if limit.quantity == "energy" and not limit.reference), None)
    if limit is None or (isinstance(evaluate, Evaluates) and not isinstance(evaluate, Proxy)) or counters_read():
        return
    raise UsageError(
        f"{limit.rule} is in joules, but no counter reads them here (greenload doctor says why): limit cpu_s, or "
        "energy by a multiple of a strategy"
    )


def counters_read() -> bool:
    """Whether a counter reads joules of processors, memory or GPUs."""
    meters, statuses = discover()
    for meter in meters:
        meter.close()
    return any(
        status.usable and status.provenance == "measured" and Domain.parse(status.domain).kind in DECIDING_KINDS
        for status in statuses
    )


def checked_limits(limits: Any, at_least: Any, names: Sequence[str], evaluates: bool) -> tuple[Limit, ...]:
    """Limits, parsed.

    Args:
        limits: texts, or one.
        at_least: the least score; None for none.
        names: of the strategies.
        evaluates: whether there are runs.

    Raises:
        UsageError: one isn't a limit, names no strategy, or is of runs where there are none.
    """
    texts = (limits,) if isinstance(limits, str) else scalars.several(limits)
    if texts is None:
        raise UsageError(f"limits are texts, as ('energy<=1.2*plain',), found {limits!r}: give a list of them")
    parsed = [parse_limit(text, names) for text in texts]
    if at_least is not None:
        least = scalars.number(at_least)
        if least is None:
            raise UsageError(f"at_least is a score, found {at_least!r}: give a number")
        parsed.append(parse_limit(f"score>={least!r}", names))
    unjudged = next((limit for limit in parsed if limit.of_runs), None)
    if unjudged is not None and not evaluates:
        raise UsageError(
            f"{unjudged.rule} is a limit on whole runs, but nothing is evaluated: give evaluate, or limit the loader's "
            f"costs: {', '.join(OF_LOADERS)}"
        )
    return tuple(parsed)


def checked_seeds(seeds: Any, first_seed: Any) -> tuple[int, int]:
    """How many seeds each strategy runs with at least, and the first.

    Raises:
        UsageError: they are fewer than three, or no whole numbers.
    """
    count, first = scalars.whole(seeds), scalars.whole(first_seed)
    if count is None or not ENOUGH_RUNS <= count <= 1000:
        few = count is not None and count < ENOUGH_RUNS
        remedy = "fewer tell nothing apart" if few else "give one"
        raise UsageError(f"seeds is a whole number from {ENOUGH_RUNS} to 1,000, found {seeds!r}: {remedy}")
    if first is None or not 0 <= first < 2**31:
        raise UsageError(f"first_seed is a whole number from 0 below 2^31, found {first_seed!r}: give one")
    return count, first


def checked_confidence(confidence: Any) -> float:
    """The confidence of intervals.

    Raises:
        UsageError: it isn't from 0.5 to below 1.
    """
    share = scalars.number(confidence)
    if share is None or not 0.5 <= share < 1:
        raise UsageError(f"confidence is a share from 0.5 to below 1, found {confidence!r}: 0.95 is usual")
    return share


def checked_demand(demand: Any) -> float | None:
    """Images a second that a model takes; None stays.

    Raises:
        UsageError: it isn't a positive number.
    """
    if demand is None:
        return None
    number = scalars.number(demand)
    if number is None or number <= 0:
        raise UsageError(f"demand is the images a second that the model takes, found {demand!r}: give a number above 0")
    return number
