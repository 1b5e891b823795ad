"""Array programs: functions of ``Ops`` recorded once, and run as one operation of TensorFlow's graph.

An epoch's order, draws and params take hundreds of small operations of TensorFlow, which are copied, optimised and
placed anew at each start of an epoch, and cost a visit each in every batch. As one operation they cost next to nothing
of either. The bits are the same: ``kernel/array_program.cc`` computes as NumPy does.

Example:
    >>> def half(ops, x):
    ...     return [ops.floor(ops.f64(x) * 0.5)]
    >>> computed(half, tf.constant([3, 4]))
    [<tf.Tensor: shape=(2,), dtype=float64, numpy=array([1., 2.])>]
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from greenload.array_ops import TENSORFLOW, Array, Ops
from greenload.backends.native.array_program import KINDS, Instruction, Opcode, Program, serialized
from greenload.backends.native.op import operations

_BOOLS = frozenset({Opcode.AND, Opcode.OR, Opcode.EQUAL, Opcode.NOT_EQUAL})
_COMPARES = frozenset({Opcode.LESS, Opcode.LESS_EQUAL, Opcode.EQUAL, Opcode.NOT_EQUAL})
_NUMBERS = _COMPARES | {Opcode.ADD, Opcode.SUBTRACT, Opcode.MULTIPLY, Opcode.MINIMUM, Opcode.MAXIMUM}
_INTEGERS = _NUMBERS | {Opcode.FLOOR_DIVIDE, Opcode.REMAINDER, Opcode.XOR}
_THERE = {"bool": _BOOLS, "int64": _INTEGERS, "uint64": _INTEGERS, "float64": _NUMBERS | {Opcode.DIVIDE}}
"""Which instructions of two arrays there are, by dtype."""


_TO_THE_END = (1 << 62) - 1


class Recorded:
    """An array that a recorded function works on."""

    __array_ufunc__ = None  # so that an array of NumPy leaves an operation with this one to it

    def __init__(self, recorder: _Recorder, value: int, dtype: str, rank: int) -> None:
        self.recorder, self.value, self.dtype, self.rank = recorder, value, dtype, rank

    __hash__ = object.__hash__

    def _with(self, opcode: Opcode, other: Any, turned: bool = False) -> Recorded:
        other = self.recorder.like(other, self.dtype)
        return self.recorder.of_two(opcode, other, self) if turned else self.recorder.of_two(opcode, self, other)

    def __add__(self, other: Any) -> Recorded:
        return self._with(Opcode.ADD, other)

    def __radd__(self, other: Any) -> Recorded:
        return self._with(Opcode.ADD, other, turned=True)

    def __sub__(self, other: Any) -> Recorded:
        return self._with(Opcode.SUBTRACT, other)

    def __rsub__(self, other: Any) -> Recorded:
        return self._with(Opcode.SUBTRACT, other, turned=True)

    def __mul__(self, other: Any) -> Recorded:
        return self._with(Opcode.MULTIPLY, other)

    def __rmul__(self, other: Any) -> Recorded:
        return self._with(Opcode.MULTIPLY, other, turned=True)

    def __truediv__(self, other: Any) -> Recorded:
        return self._with(Opcode.DIVIDE, other)

    def __rtruediv__(self, other: Any) -> Recorded:
        return self._with(Opcode.DIVIDE, other, turned=True)

    def __floordiv__(self, other: Any) -> Recorded:
        return self._with(Opcode.FLOOR_DIVIDE, other)

    def __mod__(self, other: Any) -> Recorded:
        return self._with(Opcode.REMAINDER, other)

    def __lt__(self, other: Any) -> Recorded:
        return self._with(Opcode.LESS, other)

    def __gt__(self, other: Any) -> Recorded:
        return self._with(Opcode.LESS, other, turned=True)

    def __le__(self, other: Any) -> Recorded:
        return self._with(Opcode.LESS_EQUAL, other)

    def __ge__(self, other: Any) -> Recorded:
        return self._with(Opcode.LESS_EQUAL, other, turned=True)

    def __eq__(self, other: object) -> Recorded:  # type: ignore[override]  # as an array's
        return self._with(Opcode.EQUAL, other)

    def __ne__(self, other: object) -> Recorded:  # type: ignore[override]
        return self._with(Opcode.NOT_EQUAL, other)

    def __and__(self, other: Any) -> Recorded:
        return self._with(Opcode.AND, other)

    __rand__ = __and__

    def __or__(self, other: Any) -> Recorded:
        return self._with(Opcode.OR, other)

    __ror__ = __or__

    def __neg__(self) -> Recorded:
        return self.recorder.made(Opcode.NEGATIVE, self.dtype, self.rank, self)

    def __invert__(self) -> Recorded:
        return self.recorder.made(Opcode.NOT, "bool", self.rank, self)

    def __getitem__(self, item: Any) -> Recorded:
        items = list(item) if isinstance(item, tuple) else [item]
        taking = sum(one is not None and one is not Ellipsis for one in items)
        array, axis = self, 0
        for one in items:
            if one is Ellipsis:
                axis += self.rank - taking
            elif one is None:
                array = array.recorder.made(Opcode.NEW_AXIS, array.dtype, array.rank + 1, array, numbers=(axis,))
                axis += 1
            elif isinstance(one, slice):
                array = array._cut(axis, one)
                axis += 1
            else:
                where = axis, operator.index(one)
                array = array.recorder.made(Opcode.SELECT, array.dtype, array.rank - 1, array, numbers=where)
        return array

    def _cut(self, axis: int, part: slice) -> Recorded:
        if part.step is not None:
            raise TypeError("a recorded array has no slices with a step")
        if part.start is None and part.stop is None:
            return self
        end = _TO_THE_END if part.stop is None else operator.index(part.stop)
        numbers = axis, operator.index(part.start or 0), end
        return self.recorder.made(Opcode.SLICE, self.dtype, self.rank, self, numbers=numbers)

    def __bool__(self) -> bool:
        raise TypeError("a recorded array has no value yet: a function of Ops can't branch on one")

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("a recorded array can't be iterated")


class _Recorder(Ops):
    """``Ops`` that record what is done, in place of doing it. What is done twice is recorded once."""

    library: Any = None  # every operation that libraries call alike is here, too

    def __init__(self) -> None:
        self._count = 0
        self._instructions: list[Instruction] = []
        self._known: dict[Any, Recorded] = {}

    def input(self, dtype: str, rank: int) -> Recorded:
        """An array that the function is given."""
        return self._new(dtype, rank)

    def _new(self, dtype: str, rank: int) -> Recorded:
        self._count += 1
        return Recorded(self, self._count - 1, dtype, rank)

    def made(
        self, opcode: Opcode, dtype: str, rank: int, *arguments: Recorded, numbers: tuple[int, ...] = ()
    ) -> Recorded:
        """What an instruction gives."""
        if dtype not in KINDS:
            raise TypeError(f"an array program has no {dtype}")
        values = tuple(argument.value for argument in arguments)
        key = opcode, values, numbers
        if key not in self._known:
            out = self._new(dtype, rank)
            self._instructions.append(Instruction(opcode, out.value, values, numbers))
            self._known[key] = out
        return self._known[key]

    def constant(self, values: Any) -> Recorded:
        """An array that is known while it is recorded."""
        array = np.asarray(values)
        words = np.ascontiguousarray(array).astype("u8" if array.dtype == bool else array.dtype).reshape(-1)
        numbers = (KINDS.index(array.dtype.name), array.ndim, *array.shape, *words.view(np.int64).tolist())
        return self.made(Opcode.CONSTANT, array.dtype.name, array.ndim, numbers=numbers)

    def like(self, other: Any, dtype: str) -> Recorded:
        """An operand beside an array of a dtype: that dtype's where it is a number of Python."""
        if isinstance(other, Recorded):
            return other
        if isinstance(other, float) and dtype != "float64":
            raise TypeError(f"a recorded array of {dtype} stands beside the float {other!r}")
        return self.constant(np.asarray(other, dtype) if isinstance(other, bool | int | float) else other)

    def of_two(self, opcode: Opcode, a: Recorded, b: Recorded) -> Recorded:
        """What an instruction of two arrays gives."""
        if a.dtype != b.dtype or opcode not in _THERE[a.dtype]:
            raise TypeError(f"an array program has no {opcode.name} of {a.dtype} and {b.dtype}")
        return self.made(opcode, "bool" if opcode in _COMPARES else a.dtype, max(a.rank, b.rank), a, b)

    def cast(self, x: Array, dtype: str) -> Array:
        if not isinstance(x, Recorded):
            return self.constant(np.asarray(x).astype(dtype))
        if x.dtype == dtype:
            return x
        if dtype not in KINDS:
            raise TypeError(f"an array program has no {dtype}")
        return self.made(Opcode.CAST, dtype, x.rank, x, numbers=(KINDS.index(dtype),))

    def _one(self, opcode: Opcode, x: Array, dtype: str | None = None) -> Recorded:
        x = self._recorded(x)
        return self.made(opcode, dtype or x.dtype, x.rank, x)

    def _recorded(self, x: Array) -> Recorded:
        return x if isinstance(x, Recorded) else self.constant(x)

    def floor(self, x: Array) -> Array:
        return self._one(Opcode.FLOOR, x)

    def sqrt(self, x: Array) -> Array:
        return self._one(Opcode.SQRT, x)

    def rint(self, x: Array) -> Array:
        return self._one(Opcode.RINT, x)

    def argsort(self, x: Array) -> Array:
        return self._one(Opcode.ARGSORT, x, "int64")

    def _pair(self, x: Array, y: Array) -> tuple[Recorded, Recorded]:
        if isinstance(x, Recorded):
            return x, self.like(y, x.dtype)
        y = self._recorded(y)
        return self.like(x, y.dtype), y

    def minimum(self, x: Array, y: Array) -> Array:
        return self.of_two(Opcode.MINIMUM, *self._pair(x, y))

    def maximum(self, x: Array, y: Array) -> Array:
        return self.of_two(Opcode.MAXIMUM, *self._pair(x, y))

    def xor(self, x: Array, y: Array) -> Array:
        return self.of_two(Opcode.XOR, *self._pair(x, y))

    def shift_right(self, x: Array, bits: int) -> Array:
        x = self._recorded(x)
        return self.made(Opcode.SHIFT_RIGHT, x.dtype, x.rank, x, numbers=(bits,))

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        condition, (x, y) = self._recorded(condition), self._pair(x, y)
        if condition.dtype != "bool" or x.dtype != y.dtype:
            raise TypeError(f"an array program has no choice by {condition.dtype} between {x.dtype} and {y.dtype}")
        return self.made(Opcode.WHERE, x.dtype, max(condition.rank, x.rank, y.rank), condition, x, y)

    def concat(self, arrays: list[Array], axis: int) -> Array:
        parts = [self._recorded(array) for array in arrays]
        ((dtype, rank),) = {(part.dtype, part.rank) for part in parts}
        return self.made(Opcode.CONCAT, dtype, rank, *parts, numbers=(axis % rank,))

    def stack(self, arrays: list[Array], axis: int) -> Array:
        parts = [self._recorded(array) for array in arrays]
        place = axis % (parts[0].rank + 1)
        widened = [self.made(Opcode.NEW_AXIS, part.dtype, part.rank + 1, part, numbers=(place,)) for part in parts]
        return self.concat(widened, place)

    def any(self, x: Array, axis: int) -> Array:
        return self.made(Opcode.ANY, "bool", x.rank - 1, x, numbers=(axis % x.rank,))

    def argmax(self, x: Array, axis: int) -> Array:
        if x.dtype != "bool":
            raise TypeError(f"an array program has no argmax of {x.dtype}")
        return self.made(Opcode.ARGMAX, "int64", x.rank - 1, x, numbers=(axis % x.rank,))

    def pick(self, x: Array, position: Array) -> Array:
        x = self._recorded(x)
        return self.made(Opcode.PICK, x.dtype, position.rank, x, position)

    def take(self, x: Array, index: Array) -> Array:
        x = self._recorded(x)
        return self.made(Opcode.TAKE, x.dtype, index.rank + x.rank - 1, x, index)

    def positions(self, x: Array) -> Array:
        return self.made(Opcode.POSITIONS, "int64", 1, x)

    def count_up_to(self, levels: Array, x: Array) -> Array:
        return self.made(Opcode.COUNT_UP_TO, "int64", x.rank, self._recorded(levels), x)

    def walk(self, step: Any, x: Array, size: Array) -> Array:
        size = self._recorded(size)
        outside, known = self._instructions, self._known
        entering = self._new(x.dtype, x.rank)
        self._instructions, self._known = [], dict(known)  # what a step computes isn't there behind the walk
        leaving: Recorded = step(entering)
        body = tuple(self._instructions)
        self._instructions, self._known = outside, known
        out = self._new(leaving.dtype, leaving.rank)
        made = Instruction(Opcode.WALK, out.value, (x.value, size.value), (), body, entering.value, leaving.value)
        self._instructions.append(made)
        return out

    def program(self, inputs: int, outputs: Sequence[Recorded]) -> Program:
        """What was recorded, of so many inputs."""
        words = serialized(self._instructions, inputs, [output.value for output in outputs])
        return Program(words, tuple(one.dtype for one in outputs), tuple(one.rank for one in outputs))


def recorded(function: Callable[..., Sequence[Array]], inputs: Sequence[tuple[str, int]]) -> Program:
    """A function as a program.

    Args:
        function: of ``ops`` and arrays, to arrays.
        inputs: dtype, ``"int64"`` or ``"float64"``, and rank of each array.

    Raises:
        TypeError: it does what no array program can.
    """
    recorder = _Recorder()
    arrays = [recorder.input(*given) for given in inputs]
    outputs = [recorder._recorded(array) for array in function(recorder, *arrays)]
    return recorder.program(len(inputs), outputs)


def computed(function: Callable[..., Sequence[Array]], *inputs: Any) -> list[Any]:
    """What a function gives of tensors, as one operation; as TensorFlow's own where it does what no array program can,
    as the stage of a user may: raise to a power, call ``ops.library``.

    Args:
        function: of ``ops`` and arrays, to arrays.
        inputs: int64 or float64, of known rank.

    Returns:
        Tensors of known rank.
    """
    try:
        program = recorded(function, [(tensor.dtype.name, tensor.shape.rank) for tensor in inputs])
    except Exception:  # whatever such a stage meets; if it is at fault itself, TensorFlow says so
        return list(function(TENSORFLOW, *inputs))
    outputs = operations().greenload_arrays(inputs=inputs, outputs_types=program.dtypes, program=program.words)
    for output, rank in zip(outputs, program.ranks, strict=True):
        output.set_shape([None] * rank)
    return list(outputs)
