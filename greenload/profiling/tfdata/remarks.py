"""Finds random numbers that are drawn less often than a user thinks: frozen by a cache, or drawn while tracing."""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from greenload.energy.figures import Figure
from greenload.profiling.tfdata.functions import (
    attribute_or_none,
    calls_python,
    draws_random,
    is_framework,
    operations_of,
    reachable_objects,
)
from greenload.profiling.tfdata.graph import STORES, Node, generator_of
from greenload.profiling.tfdata.names import installed
from greenload.report.data import Advice
from greenload.system.frameworks import tf
from greenload.system.random_states import put_back, python_states

_TRACED = frozenset({"map", "filter", "flat_map", "interleave", "take_while"})
_TRACES, _TRACES_S = 8, 1.0
"""Times that a function is traced to see other numbers, at most, and after how many seconds no more."""
_SOURCES: Mapping[str, str] = {
    "random": "Python's random",
    "numpy.random": "NumPy's random",
    "secrets": "Python's secrets",
    "uuid": "Python's uuid",
    "time": "the clock",
    "datetime": "the clock",
}
"""What gives other numbers each time, by module."""
_MAKERS = (np.random.default_rng, np.random.RandomState, np.random.Generator, random.Random)
"""What makes a generator, which may be given a seed."""


def call_text(node: Node) -> str:
    """A node as its user would call it: ``"map(parse) at train.py:31"``."""
    if node.call:
        name = node.call.partition(" ")[0]
        return f"{name} at {node.where}" if node.where else name
    size = node.parameters.get("buffer_size", "")
    called = f"shuffle({size})" if node.kind == "shuffle" else f"{node.kind}({node.row})"
    called = node.kind if node.row == node.kind != "shuffle" else called
    return f"{called} at {node.where}" if node.where else called


def drawn_while_traced(root: Node) -> dict[Node, tuple[str, ...]]:
    """Nodes whose function draws a number in Python or NumPy while it is traced, and from whose generator.

    Functions that refer to such a generator, to what can make one, to the clock, or to packages that may do so, are
    traced some more times. The generators' states are compared, and put back; so are the graphs' constants, which
    show what was drawn from a generator that the function made itself.
    """
    drawn = {}
    for node in root.nodes():
        if node.dataset is None or node.kind not in _TRACED or not node.inputs:
            continue
        objects = list(reachable_objects(node.function._func))
        sources = tuple(dict.fromkeys(filter(None, map(_source, objects))))
        if (sources or any(map(_is_package, objects))) and (whose := _drawn(node, objects, sources)):
            drawn[node] = whose
    return drawn


def remarks(root: Node, drawn: Mapping[Node, tuple[str, ...]]) -> tuple[Advice, ...]:
    """What to say of random numbers that are frozen.

    Args:
        root: the dataset.
        drawn: what `drawn_while_traced` found.
    """
    traced = [(f"Draw the random numbers of {node.row} in TensorFlow", _traced(node, drawn[node])) for node in drawn]
    texts = dict.fromkeys((*traced, *_frozen(root, drawn)))
    return tuple(itertools.starmap(_remark, texts))


def _frozen(root: Node, drawn: Mapping[Node, object]) -> Iterator[tuple[str, str]]:
    """Title and detail of what stands in front of a cache."""
    line = list(root.nodes())
    told: set[Node] = set()
    for store in line:
        if store.kind not in STORES or not store.inputs:
            continue
        write = f".{store.kind}()"
        for node in store.nodes():
            if node in told or node in drawn or node.looked or node is store:
                continue
            if how := _random(node):
                told.add(node)
                source = node.kind in ("from_generator", "random")
                frozen = (
                    f"{call_text(node)} draws random numbers in front of {write}, which freezes them: every epoch after"
                    " the first gets what the first one drew;"
                    if how == "draws"
                    else f"{call_text(node)} may draw random numbers in front of {write}, which would freeze them:"
                    " every epoch after the first would get what the first one drew; if it draws,"
                )
                yield (
                    f"Leave out the {store.kind} behind {node.row}"
                    if source
                    else f"Move {node.row} behind the {store.kind}",
                    f"{frozen} {'leave it out' if source else f'write {write} before it'}",
                )
            elif node.kind == "shuffle" and node.parameters.get("reshuffle_each_iteration") is not False:
                told.add(node)
                if not any(later.kind == "shuffle" for later in line[line.index(store) :]):
                    size = node.parameters.get("buffer_size", "")
                    stands, mend = f"{call_text(node)} stands", f"write it behind {write}"
                    if node.call:  # the user never wrote a shuffle
                        stands, mend = (
                            f"{call_text(node)} shuffles",
                            f"pass it shuffle=False, and write .shuffle({size})",
                        )
                        mend += f" behind {write}"
                    yield (
                        f"Shuffle behind the {store.kind}",
                        f"{stands} in front of {write}, which freezes its order: every epoch has the first one's;"
                        f" {mend}",
                    )


def _random(node: Node) -> str:
    """Whether a node gives other elements each time it is iterated over: it ``"draws"``, it ``"may"``, or empty."""
    if node.kind == "random":
        return "draws" if getattr(node.dataset, "_rerandomize", False) else ""
    if draws_random(node):
        return "draws"
    function = None
    if node.kind == "from_generator":
        function = generator_of(node.dataset)
    elif node.dataset is not None and calls_python(node):
        function = node.function._func
    if function is None:
        return ""
    objects = list(reachable_objects(function))
    generators = [value for value in objects if _is_random(value)]
    makes = any(value is maker for value in objects for maker in _MAKERS)
    if not generators and not makes:
        return ""
    # A generator that is made inside may have a seed. Python's and NumPy's modules both have a function "random", which
    # is met wherever ``np.random`` is named.
    common = {id(attribute_or_none(value.random, "__self__")) for value in (random, np.random)}
    unsure = [
        isinstance(value, ModuleType) or id(value) in common or attribute_or_none(value, "__name__") == "random"
        for value in generators
    ]
    return "may" if makes and all(unsure) else "draws"


def _traced(node: Node, whose: tuple[str, ...]) -> str:
    return (
        f"{call_text(node)} draws from {' and '.join(whose)} while TensorFlow traces it, once: the draw is frozen, the"
        " same for all samples in all epochs; draw with tf.random or a Keras layer, or call it by tf.numpy_function"
    )


def _remark(title: str, detail: str) -> Advice:
    """Advice that saves nothing: what is trained on is what it changes."""
    return Advice(title=title, detail=detail, method="estimate", saves_cpu_s_per_sample=Figure.missing())


def _is_random(value: Any) -> bool:
    """Whether something is a generator of random numbers in Python, or a module or a method of one."""
    if isinstance(value, ModuleType):
        return value is random or value is np.random
    kinds = (random.Random, np.random.RandomState, np.random.Generator)
    return isinstance(value, kinds) or isinstance(attribute_or_none(value, "__self__"), kinds)


def _is_package(value: Any) -> bool:
    """Whether something belongs to an installed package that may draw by itself, as SciPy or a package of images."""
    name = value.__name__ if isinstance(value, ModuleType) else str(attribute_or_none(value, "__module__") or "")
    return bool(name) and not is_framework(name) and installed(getattr(sys.modules.get(name), "__file__", None) or "")


def _source(value: Any) -> str:
    """What a function that refers to something may draw from: ``"NumPy's random"``; empty for most."""
    if value is os.urandom:
        return "os.urandom"
    name = (
        value.__name__
        if isinstance(value, ModuleType)
        else str(attribute_or_none(value, "__module__") or type(value).__module__)
    )
    return next((said for module, said in _SOURCES.items() if name == module or name.startswith(f"{module}.")), "")


def _drawn(node: Node, objects: list[Any], sources: tuple[str, ...]) -> tuple[str, ...]:
    """From whose random a node's function draws while it is traced.

    Args:
        node: whose function.
        objects: what that refers to.
        sources: what it may draw from without that a generator's state changes.
    """
    states = python_states(objects)
    with put_back([restore for _, _, restore in states]):
        before = [read() for _, read, _ in states]
        first, start = _trace(node), time.monotonic()
        changed = [whose for (whose, read, _), old in zip(states, before, strict=True) if read() != old]
        if changed or first is None:
            return tuple(dict.fromkeys(changed))
        for traced in range(_TRACES):  # small numbers may be drawn twice alike
            if _trace(node) != first:
                return (" or ".join(sources) or "a package's random",)
            if traced and time.monotonic() - start > _TRACES_S:
                break
    return ()


def _trace(node: Node) -> list[tuple[str, bytes]] | None:
    """Trace a node's function once more, and what it decorates with ``tf.function``, too; it isn't run.

    Returns:
        The operations of its graph, each with the constant that it holds; None where tracing it again raises.
    """
    from tensorflow.python.data.ops import structured_function

    eager = tf.config.functions_run_eagerly()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tf.config.run_functions_eagerly(True)  # those inside a trace are then traced with it
            traced = structured_function.StructuredFunctionWrapper(
                node.function._func, "greenload", dataset=node.inputs[0].dataset, add_to_graph=False
            )
        return [
            (
                operation.op,
                operation.attr["value"].tensor.SerializeToString(deterministic=True)
                if operation.op == "Const"
                else b"",
            )
            for operation in operations_of(traced.function)
        ]
    except Exception:  # what a user's function raises when it is traced again, as where it makes variables
        return None
    finally:
        tf.config.run_functions_eagerly(eager)
