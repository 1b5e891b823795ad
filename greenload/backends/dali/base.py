"""A primitive's lowering to DALI: a graph's operators, and those arguments that differ from image to image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.specs import ImageSpec
from greenload.stages import Params
from greenload.system.frameworks import fn, types

Node = Any
"""A node of a DALI graph."""


@dataclass(frozen=True)
class Target:
    """Where a graph runs."""

    gpu: int | None = None
    """The GPU's number; ``None`` for the CPU."""
    hw_decoder_load: float | None = None
    """The share of JPEGs that go to the GPU's fixed-function decoder; DALI's own choice if ``None``."""

    @property
    def device(self) -> str:
        """DALI's name for where pixels are worked on."""
        return "cpu" if self.gpu is None else "gpu"

    def decoding(self) -> dict[str, Any]:
        """The settings that make decoding equal on every backend: no EXIF rotation, libjpeg's fancy upsampling."""
        settings = {"output_type": types.RGB, "adjust_orientation": False}
        if self.gpu is None:
            return settings | {"device": "cpu"}
        share = {} if self.hw_decoder_load is None else {"hw_decoder_load": self.hw_decoder_load}
        return settings | {"device": "mixed", "jpeg_fancy_upsampling": True} | share


@dataclass(frozen=True)
class Argument:
    """One operator argument that differs from image to image, made from a stage's params."""

    name: str
    dtype: str
    take: Callable[[Params], NDArray[np.generic]]
    ndim: int = 1


@dataclass(frozen=True)
class Lowering:
    """A primitive as DALI operators: the arguments it is fed, and how the graph goes on from a node."""

    arguments: Callable[[Any, ImageSpec], tuple[Argument, ...]]
    build: Callable[[Any, ImageSpec, Node, Mapping[str, Node], Target], Node]


def always(*arguments: Argument) -> Callable[[Any, ImageSpec], tuple[Argument, ...]]:
    """The arguments of a lowering that is fed the same ones for each primitive and spec."""
    return lambda primitive, spec: arguments


APPLY = Argument("apply", "bool", lambda params: params["apply"], 0)
WINDOW = (
    Argument("start", "int32", lambda params: params["window"][:, :2]),
    Argument("shape", "int32", lambda params: params["window"][:, 2:]),
)

MOVED = ("uint8", "int8", "float16", "float32")
"""The dtypes that DALI moves: it has no bfloat16."""


_operators: Any = fn  # its stubs leave conditionals out


def split(node: Node, predicate: Node) -> tuple[Node, Node]:
    """The samples of a batch for which a condition holds, and the others."""
    yes, no = _operators._conditional.split(node, predicate=predicate, _if_stmt=True)
    return yes, no


def merge(yes: Node, no: Node, predicate: Node) -> Node:
    """A batch from what ``split`` gave."""
    return _operators._conditional.merge(yes, no, predicate=predicate)
