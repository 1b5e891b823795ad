"""Puts back what running a dataset changes in the user's program: variables, tables, random generators."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from greenload.errors import GreenloadError
from greenload.profiling.tfdata.functions import operations_of, reachable_objects
from greenload.profiling.tfdata.graph import Node, function_wrappers, generator_of
from greenload.profiling.tfdata.walk import walk
from greenload.system.frameworks import tf
from greenload.system.random_states import Restore, put_back, python_states, variable_state

_FILLING = frozenset({"LookupTableInsertV2", "LookupTableRemoveV2", "LookupTableImportV2"})


@contextmanager
def states_kept(root: Node) -> Iterator[None]:
    """Put back what a dataset's functions refer to, also after an error: variables, tables, generators.

    Variables and tables are found in the functions' graphs and, as generators of random numbers, among what their
    Python code refers to. Tables are put back that a function fills.
    """
    with put_back(_states(root)):
        yield


def _states(root: Node) -> list[Restore]:
    roots, seen = [root], set[int]()
    restores: list[Restore] = []
    for dataset in roots:  # grows while it is read: functions may refer to datasets
        nodes = [node for node in dataset.nodes() if node.dataset is not None]
        for wrapper in (wrapper for node in nodes for wrapper in function_wrappers(node.dataset)):
            restores += _captured(wrapper.function, seen)
        objects = list(reachable_objects(*(function for node in nodes for function in _written(node))))
        restores += [restore for _, _, restore in python_states(objects)]
        for held in objects:
            restores += _of_object(held, seen)
            if isinstance(held, tf.data.Dataset) and id(held) not in seen and len(roots) < 16:
                seen.add(id(held))
                try:
                    roots.append(walk(held))
                except GreenloadError:
                    continue
    return restores


def _written(node: Node) -> list[Any]:
    """The Python functions of a node."""
    if node.kind == "from_generator":
        return [generator_of(node.dataset)]
    return [wrapper._func for wrapper in function_wrappers(node.dataset)]


def _captured(function: Any, seen: set[int]) -> list[Restore]:
    """The variables and tables that a traced function works on."""
    restores: list[Restore] = []
    others = set()
    for handle in getattr(function, "captured_inputs", ()):
        if handle.dtype != tf.resource or id(handle) in seen:
            continue
        seen.add(id(handle))
        data = getattr(handle, "_handle_data", None)
        if data is not None and len(data.shape_and_type) == 1:
            restores += variable_state(handle, data.shape_and_type[0].dtype)
        else:
            others.add(id(handle))
    if others and any(operation.op in _FILLING for operation in operations_of(function)):
        # A handle doesn't say what its table holds, and exporting it as another type ends the process.
        held = [table for table in gc.get_objects() if issubclass(type(table), _tables())]
        restores += [restore for table in held if id(table.resource_handle) in others for restore in _table(table)]
    return restores


def _tables() -> tuple[type, ...]:
    """Classes of the tables that change."""
    return tf.lookup.experimental.MutableHashTable, tf.lookup.experimental.DenseHashTable


def _of_object(held: Any, seen: set[int]) -> list[Restore]:
    """Of what Python code refers to: a variable, a table, TensorFlow's generators, the variables of a module."""
    variables = [held] if isinstance(held, tf.Variable) else []
    if isinstance(held, tf.random.Generator):
        variables = [held.state]
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(held, keras.layers.Layer | keras.Variable | keras.random.SeedGenerator):
        owned = held.variables if isinstance(held, keras.layers.Layer) else [getattr(held, "state", held)]
        variables = [value for variable in owned if isinstance(value := variable.value, tf.Variable)]
    elif isinstance(held, tf.Module):
        variables = list(held.variables)
    restores = []
    for variable in variables:
        if id(handle := variable.handle) not in seen:
            seen.add(id(handle))
            restores += variable_state(handle, variable.dtype)
    return restores + (_table(held) if issubclass(type(held), _tables()) else [])


def _table(table: Any) -> list[Restore]:
    try:
        exported = table.export()
    except (tf.errors.OpError, ValueError):
        return []  # made in another graph
    # Copies: what a dense table exports are its own buckets, which change with it.
    keys, values = (tf.constant(np.array(part.numpy()), part.dtype) for part in exported)
    handle = table.resource_handle
    return [lambda: tf.raw_ops.LookupTableImportV2(table_handle=handle, keys=keys, values=values)]
