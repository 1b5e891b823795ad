"""What of a function may run on other threads than the one whose clock is read: read from its definition."""

from __future__ import annotations

import functools
from typing import Any

from greenload.profiling.in_place.definitions import base, called_by, definition_named

_COSTLY = (
    "Decode", "Encode", "ReadFile", "PyFunc", "EagerPyFunc", "Parse", "Resize", "ScaleAndTranslate", "CropAndResize",
    "ImageProjectiveTransform", "AdjustHue", "AdjustSaturation", "NonMaxSuppression", "RegexReplace", "StringSplit",
    "MatMul", "BatchMatMul", "Einsum", "Conv", "DepthwiseConv", "FFT", "RFFT", "IRFFT", "STFT", "Svd", "Qr", "Cholesky",
)  # fmt: skip
"""Begins of the types of operations that take most of what a function of a dataset takes."""
_SPLIT = (
    "MatMul", "BatchMatMul", "Einsum", "Conv", "DepthwiseConv", "MaxPool", "AvgPool", "FFT", "IFFT", "RFFT", "IRFFT",
    "ScaleAndTranslate", "CropAndResize", "Transpose", "Softmax", "Bincount", "DenseBincount", "FusedBatchNorm",
    "ParseExample",
)  # fmt: skip
"""Begins of those that TensorFlow 2.21 splits among threads of its own, from some size on: seen on images of 1280².
Others keep to ``threading.max_intra_op_parallelism``, which is 1 in tf.data unless a user asks for more."""
BRANCHES = "may run on several threads at once: its CPU time is a lower bound"
SPLIT = "{} may run on other threads of TensorFlow's, whose time is missing here: its CPU time is a lower bound"


def note_of(definition: Any) -> str:
    """What a clock around a function can't see, as a sentence; empty where it sees all.

    Args:
        definition: its ``FunctionDef``.
    """
    types = _types(definition, set())
    split = sorted(kind for kind in types if kind.startswith(_SPLIT))
    if split:
        return SPLIT.format(", ".join(split))
    return BRANCHES if _branches(definition) else ""


def _types(definition: Any, seen: set[str]) -> set[str]:
    """The types of the operations of a function, and of those that it calls."""
    found = set()
    for node in definition.node_def:
        found.add(node.op)
        for name in called_by(node):
            called = definition_named(name)
            if called is not None and name not in seen:
                seen.add(name)
                found |= _types(called, seen)
    return found


def _branches(definition: Any) -> bool:
    """Whether two costly nodes don't wait for each other."""
    nodes = {node.name: node for node in definition.node_def}

    @functools.cache
    def before(name: str) -> frozenset[str]:
        """Costly nodes that a node waits for."""
        above = [base(given) for given in nodes[name].input if base(given) in nodes]
        return frozenset().union(*map(before, above), (one for one in above if one in costly))

    costly = {name for name, node in nodes.items() if _is_costly(node)}
    for name in nodes:  # in the order of the data, which keeps the recursion flat
        before(name)
    return any(
        one not in before(other) and other not in before(one) for one in costly for other in costly if one < other
    )


def _is_costly(node: Any) -> bool:
    if node.op.startswith(_COSTLY):
        return True
    called = [definition for name in called_by(node) if (definition := definition_named(name)) is not None]
    return any(kind.startswith(_COSTLY) for definition in called for kind in _types(definition, set()))
