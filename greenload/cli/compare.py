"""The command compare: what each of several augmentation strategies costs and scores, and which to choose."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from greenload.cli import interrupt
from greenload.cli.arguments import (
    AddCommand,
    check_outputs,
    positive_int,
    prepare_imports,
    share_argument,
)
from greenload.cli.gate_options import add_gates, gates, of_comparisons, status
from greenload.cli.output import FAILED, OK, fail, present, progress, quiet_tensorflow
from greenload.errors import UsageError
from greenload.text import printable, shortened

if TYPE_CHECKING:
    from greenload.strategies.data import Comparison

COMPARE = "compare"
_STRATEGY = (
    "two or more pipelines, each as profile names one, with or without a name of its own: "
    "train.py:plain, light=train.py:randaugment; what stands behind -- are the file's own arguments"
)
_BUDGET = (
    "how long it may take, 15min, 2h or 90s (default: SEEDS runs of each); or a rule, repeatable: status 1 if the "
    "recommended strategy exceeds it: 'energy<=1200', 'strategies.mixup.score>=0.9'"
)
_TEXT = 40
"""Characters of what runs now: beside it bar, share and time stand on 80 columns."""
_PROXY = (
    "train the built-in small model on the pipelines' own data; its settings are samples, size, epochs and batch "
    "(epochs=10,samples=5000)"
)


def add_command(add: AddCommand) -> None:
    """Add the command to the parser."""
    compare = add(COMPARE, _compare, "what augmentation strategies cost and score, and which to choose")
    compare.add_argument("strategies", nargs="+", metavar="[NAME=]PIPELINE", help=_STRATEGY)
    compare.add_argument("--data", metavar="FOLDER", help="the data folder, for pipelines that take one")
    compare.add_argument("--backend", default="auto", help="auto, tf, dali-cpu, pillow or native (default %(default)s)")
    scored = compare.add_mutually_exclusive_group()
    scored.add_argument(
        "--evaluate", metavar="FILE:FUNCTION", help="a function of a tf.data.Dataset and a seed that gives a score"
    )
    scored.add_argument("--proxy", nargs="?", const="", metavar="SETTINGS", help=_PROXY)
    compare.add_argument(
        "--seeds",
        type=positive_int,
        default=3,
        metavar="N",
        help="runs of each strategy at least (default %(default)s)",
    )
    compare.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="RULE",
        help="what the recommended strategy must keep to: 'energy<=1.2*plain', 'images_per_s>=2000'; repeatable",
    )
    compare.add_argument("--at-least", type=float, metavar="SCORE", help="the least score of the recommended strategy")
    compare.add_argument(
        "--demand", type=_rate, metavar="N/s", help="images per second that the model takes: which strategies starve it"
    )
    compare.add_argument(
        "--confidence", type=share_argument, default=0.95, metavar="SHARE", help="of the intervals (default 95%%)"
    )
    compare.add_argument(
        "--precision", type=share_argument, metavar="5%", help="of the loaders' profiles, as profile --precision"
    )
    add_gates(compare, _BUDGET, "TIME|RULE")
    compare.add_argument("--html", metavar="FILE", help="write the comparison as a web page")


def _rate(text: str) -> float:
    """Images a second, as ``2000`` or ``2000/s``."""
    try:
        value = float(text.removesuffix("/s"))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number of images per second, not {text!r}")
    return value


def _compare(options: argparse.Namespace) -> int:
    check_outputs(options)
    budget = _take_time(options)
    asked = gates(options, of_comparisons)
    comparison = asked.judged(_compared(options, budget))
    present(options, comparison.save, comparison.html, comparison.render())
    judged = status(comparison.checks, options.strict)
    return judged or _nothing_holds(comparison, options)


def _nothing_holds(comparison: Comparison, options: argparse.Namespace) -> int:
    """The status where no strategy can be taken: runs were asked for and none is recommended, or all break a limit."""
    if comparison.recommended is not None:
        return OK
    if options.evaluate is not None or options.proxy is not None:
        return fail(f"no recommendation: {comparison.reason}", FAILED)
    broken = {limit.strategy for limit in comparison.limits if not limit.kept}
    if comparison.limits and all(card.strategy in broken for card in comparison.cards):
        return fail(f"no strategy keeps to {' and '.join(options.limit)}", FAILED)
    return OK


def _take_time(options: argparse.Namespace) -> str | None:
    """The budget that is a time; what is left of the option are rules."""
    times = [text for text in options.budget if not {"<", ">"} & set(text)]
    if len(times) > 1:
        raise UsageError(f"a comparison has one budget of time, found {' and '.join(times)}: leave one out")
    options.budget = [text for text in options.budget if text not in times]
    return times[0] if times else None


def _compared(options: argparse.Namespace, budget: str | None) -> Comparison:
    functions = [options.evaluate] if options.evaluate is not None else []
    named = _names(options.strategies)
    prepare_imports(*named.values(), *functions)
    modules: dict[str, ModuleType] = {}
    strategies = _strategies(named, options, modules)
    evaluate = _evaluation(options, modules)
    quiet_tensorflow()
    from greenload.strategies.compare import compare

    interrupt.left = _left(options.json)
    with progress("starting") as update:
        comparison = compare(
            strategies,
            evaluate=evaluate,
            seeds=options.seeds,
            budget=budget,
            limits=tuple(options.limit),
            at_least=options.at_least,
            demand=options.demand,
            backend=options.backend,
            confidence=options.confidence,
            precision=options.precision,
            out=options.json,
            progress=lambda share, text: update(share, shortened(text, _TEXT)),
        )
    interrupt.left = ""
    return comparison


def _left(file: str | None) -> str:
    """What an interrupt leaves."""
    if file is None:
        return "nothing was kept: with --json FILE the same command would go on from it"
    return f"what was measured is kept in {printable(file)}: the same command goes on from it"


def _names(given: list[str]) -> dict[str, str]:
    """Pipelines as they were named, by the strategies' names."""
    if len(given) < 2:  # said before a framework is imported
        raise UsageError(f"a comparison is of two strategies or more, found {len(given)}: add another")
    pairs = [_named(text) for text in given]
    short = [pipeline.rpartition(":")[2] for _, pipeline in pairs]
    own = [
        name or (last if short.count(last) == 1 else pipeline)
        for (name, pipeline), last in zip(pairs, short, strict=True)
    ]
    twice = next((name for name in own if own.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"strategies have a name each, found {twice!r} twice: name one as OTHER=PIPELINE")
    return dict(zip(own, (pipeline for _, pipeline in pairs), strict=True))


def _named(text: str) -> tuple[str, str]:
    """A strategy's own name, empty where it has none, and its pipeline as it was named."""
    name, sign, pipeline = text.partition("=")
    return (name, pipeline) if sign and name and pipeline else ("", text)


def _strategies(
    named: Mapping[str, str], options: argparse.Namespace, modules: dict[str, ModuleType]
) -> dict[str, Any]:
    from greenload.cli.resolve import find_pipeline

    return {
        name: find_pipeline(pipeline, options.data, options.script_arguments, modules)
        for name, pipeline in named.items()
    }


def _evaluation(options: argparse.Namespace, modules: dict[str, ModuleType]) -> Any:
    """What scores a strategy; None where costs alone are asked for."""
    if options.evaluate is not None:
        from greenload.cli.resolve import find_function

        return find_function(options.evaluate, options.script_arguments, modules)
    return None if options.proxy is None else _proxy(options.proxy)


def _proxy(settings: str) -> Any:
    from greenload.strategies.proxy import Proxy

    numbers: dict[str, Any] = {}
    for part in settings.split(",") if settings else []:
        name, _, value = part.partition("=")
        if name not in ("samples", "size", "epochs", "batch") or not value.isdecimal():
            raise UsageError(
                f"--proxy takes samples, size, epochs and batch, each a whole number, as epochs=10,samples=5000, "
                f"found {part!r}: write it so"
            )
        numbers[name] = int(value)
    return Proxy(**numbers)
