"""Random numbers that are drawn less often than their user thinks: frozen by a cache, or drawn while tracing."""

from __future__ import annotations

import itertools
import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from greenload.datasets.graph import STORES, Node, generator_of
from greenload.datasets.names import installed
from greenload.datasets.operations import calls_python, draws
from greenload.datasets.reach import attribute, is_framework, reachable
from greenload.energy.figures import Figure
from greenload.random_states import put_back, python_states
from greenload.report.data import Advice

_TRACED = frozenset({"map", "filter", "flat_map", "interleave", "take_while"})


def at(node: Node) -> str:
    """A node as its user would call it: ``"map(parse) at train.py:31"``."""
    if node.call:
        return f"{node.call.partition(' ')[0]} at {node.where}"
    called = f"{node.kind}({node.name})" if node.name != node.kind else node.kind
    return f"{called} at {node.where}" if node.where else called


def drawn_while_traced(root: Node) -> dict[Node, tuple[str, ...]]:
    """Nodes whose function draws from Python's or NumPy's random while it is traced, and from whose.

    Functions that refer to such a generator, or to packages that may have one, are traced once more, and the
    generators' states compared; they are put back.
    """
    found = {}
    for node in root.nodes():
        if node.dataset is None or node.kind not in _TRACED or not node.inputs:
            continue
        objects = list(reachable(node.function._func))
        if any(_is_random(one) or _is_package(one) for one in objects) and (whose := _drawn(node, objects)):
            found[node] = whose
    return found


def remarks(root: Node, drawn: Mapping[Node, tuple[str, ...]]) -> tuple[Advice, ...]:
    """What to say of random numbers that are frozen.

    Args:
        root: the dataset.
        drawn: what `drawn_while_traced` found.
    """
    traced = [(f"Draw the random numbers of {node.name} in TensorFlow", _traced(node, drawn[node])) for node in drawn]
    found = dict.fromkeys((*traced, *_frozen(root, drawn)))
    return tuple(itertools.starmap(_remark, found))


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
            if _random(node):
                told.add(node)
                source = node.kind in ("from_generator", "random")
                yield (
                    f"Leave out the {store.kind} behind {node.name}"
                    if source
                    else f"Move {node.name} behind the {store.kind}",
                    f"{at(node)} draws random numbers in front of {write}, which freezes them: every epoch after the"
                    f" first gets what the first one drew; {'leave it out' if source else f'write {write} before it'}",
                )
            elif node.kind == "shuffle" and node.parameters.get("reshuffle_each_iteration") is not False:
                told.add(node)
                if not any(one.kind == "shuffle" for one in line[line.index(store) :]):
                    yield (
                        f"Shuffle behind the {store.kind}",
                        f"shuffle({node.parameters.get('buffer_size', '')}) stands in front of {write}, which freezes"
                        f" its order: every epoch has the first one's; write it behind {write}",
                    )


def _random(node: Node) -> bool:
    """Whether a node gives other elements each time it is iterated over, because it draws."""
    if node.kind == "random":
        return bool(getattr(node.dataset, "_rerandomize", False))
    if draws(node):
        return True
    if node.kind == "from_generator":
        return any(map(_is_random, reachable(generator_of(node.dataset))))
    return node.dataset is not None and calls_python(node) and any(map(_is_random, reachable(node.function._func)))


def _traced(node: Node, whose: tuple[str, ...]) -> str:
    return (
        f"{at(node)} draws from {' and '.join(whose)} while TensorFlow traces it, once: the draw is frozen, the same"
        " for all samples in all epochs; draw with tf.random or a Keras layer, or call it by tf.numpy_function"
    )


def _remark(title: str, detail: str) -> Advice:
    """Advice that saves nothing: what is trained on is what it changes."""
    return Advice(title=title, detail=detail, method="estimate", saves_cpu_s_per_sample=Figure.missing())


def _is_random(one: Any) -> bool:
    """Whether something is a generator of random numbers in Python, or a module or a method of one."""
    if isinstance(one, ModuleType):
        return one is random or one is np.random
    kinds = (random.Random, np.random.RandomState, np.random.Generator)
    return isinstance(one, kinds) or isinstance(attribute(one, "__self__"), kinds)


def _is_package(one: Any) -> bool:
    """Whether something belongs to an installed package that may draw by itself, as SciPy or a package of images."""
    name = one.__name__ if isinstance(one, ModuleType) else str(attribute(one, "__module__") or "")
    return bool(name) and not is_framework(name) and installed(getattr(sys.modules.get(name), "__file__", None) or "")


def _drawn(node: Node, objects: list[Any]) -> tuple[str, ...]:
    """From whose random a node's function draws while it is traced."""
    states = python_states(objects)
    with put_back([restore for _, _, restore in states]):
        before = [read() for _, read, _ in states]
        _trace(node)
        changed = [whose for (whose, read, _), old in zip(states, before, strict=True) if read() != old]
    return tuple(dict.fromkeys(changed))


def _trace(node: Node) -> None:
    """Trace a node's function once more, and what it decorates with ``tf.function``, too; it isn't run."""
    import tensorflow as tf
    from tensorflow.python.data.ops import structured_function

    eager = tf.config.functions_run_eagerly()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tf.config.run_functions_eagerly(True)  # those inside a trace are then traced with it
            structured_function.StructuredFunctionWrapper(
                node.function._func, "greenload", dataset=node.inputs[0].dataset, add_to_graph=False
            )
    except Exception:  # what a user's function raises when it is traced again, as where it makes variables
        return
    finally:
        tf.config.run_functions_eagerly(eager)
