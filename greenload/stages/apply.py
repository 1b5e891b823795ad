"""The stage that calls a user's own function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.array_ops import NUMPY, Array, Ops
from greenload.errors import PipelineError
from greenload.public import public
from greenload.specs import DTYPES, ImageSpec
from greenload.stages import primitives as pixels
from greenload.stages.arguments import importable_name, imported, need_decoded
from greenload.stages.base import Params, Stage
from greenload.stages.primitives import Primitive
from greenload.stages.reference import as_dtype


@public
@dataclass(frozen=True)
class Apply(Stage):
    """Any function of one image, or of a batch where it stands after ``Batch``: for what no stage does.

    On the ``tf`` backend it is traced into the graph, as ``tf.data.Dataset.map`` does with a function: it takes a
    tensor ``[height, width, channels]`` (or ``[batch, …]``) and returns one, in TensorFlow's operations. Other backends
    can't run it and refuse the pipeline by name. It must be deterministic: greenload can't repeat random numbers drawn
    inside it, for an epoch, a resume or a cache.

    Two stages are equal if they call the same function object. ``to_dict`` needs a function that can be imported (one
    defined at the top of a module) and stores its name; ``from_dict`` imports it: only read descriptions you trust.

    Args:
        fn: the function, or its name as ``"package.module:function"``.
        shape: ``(height, width, channels)`` of an image that it returns, ``None`` for what differs from image to image;
            the shape that enters if not given.
        dtype: the dtype that it returns; the one that enters if not given.

    Example:
        >>> def posterize(image):
        ...     return tf.bitwise.bitwise_and(image, tf.constant(0b11100000, tf.uint8))
        >>> Pipeline(source, Decode(), Resize((64, 64)), Apply(posterize), Batch(32))
    """

    fn: Callable[[Any], Any]
    shape: tuple[int | None, int | None, int | None] | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        fn: Any = self.fn
        if isinstance(fn, str):
            object.__setattr__(self, "fn", _imported(fn))
        elif not callable(fn):
            raise PipelineError(f"Apply: fn must be a function or its name 'package.module:function', not {fn!r}")
        if self.shape is not None:
            shape: Any = self.shape
            sides = tuple(n if n is None else scalars.whole(n) or 0 for n in scalars.several(shape) or ())
            if len(sides) != 3 or not all(n is None or n >= 1 for n in sides):
                raise PipelineError(
                    f"Apply: shape must be (height, width, channels), each a positive integer or None, not {shape!r}"
                )
            object.__setattr__(self, "shape", sides)
        if self.dtype is not None and self.dtype not in DTYPES:
            raise PipelineError(f"Apply: dtype must be one of {', '.join(map(repr, DTYPES))}, not {self.dtype!r}")

    @property
    def name(self) -> str:
        """The function's name, as a plan shows it."""
        return str(getattr(self.fn, "__qualname__", type(self.fn).__name__))

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_decoded(self, spec)
        shape = spec.shape if self.shape is None else (*spec.shape[:-3], *self.shape)
        return ImageSpec(shape, self.dtype or spec.dtype, spec.layout)

    def out_size(self, params: Params, height: Array, width: Array, ops: Ops = NUMPY) -> tuple[Array, Array]:
        rows, columns, _ = self.shape or (None, None, None)
        return (
            height if rows is None else height * 0 + rows,
            width if columns is None else width * 0 + columns,
        )

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.Call(self.fn),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        given = image.astype(np.float32) if image.dtype == np.float64 else image
        result = np.asarray(self.fn(given))
        return as_dtype(result.astype(np.float64), "float32") if result.dtype == np.float32 else result

    def to_dict(self) -> dict[str, Any]:
        """``fn`` by its name, ``shape`` and ``dtype``.

        Raises:
            PipelineError: the function has no name by which it can be imported.
        """
        shape = None if self.shape is None else list(self.shape)
        return {"stage": "Apply", "fn": importable_name(str(self), self.fn), "shape": shape, "dtype": self.dtype}

    def __str__(self) -> str:
        more = "".join(f", {k}={v!r}" for k, v in (("shape", self.shape), ("dtype", self.dtype)) if v is not None)
        return f"Apply({self.name}{more})"


def _imported(name: str) -> Any:
    function = imported(name)
    if not callable(function):
        raise PipelineError(
            f"Apply: fn must be a function or the name of one that can be imported, 'package.module:function', "
            f"not {name!r}"
        )
    return function
