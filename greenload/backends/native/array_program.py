"""What an array program is, and how the kernel reads it: instructions on numbered arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from greenload.backends.native.abi import ABI

KINDS = ("bool", "int64", "uint64", "float64")
"""The dtypes of arrays, in the order of ``kernel/array_program.h``."""


class Opcode(IntEnum):
    """What an instruction does: of ``kernel/array_program.h``."""

    CONSTANT = 0
    CAST = 1
    ADD = 2
    SUBTRACT = 3
    MULTIPLY = 4
    DIVIDE = 5
    FLOOR_DIVIDE = 6
    REMAINDER = 7
    LESS = 8
    LESS_EQUAL = 9
    EQUAL = 10
    NOT_EQUAL = 11
    AND = 12
    OR = 13
    XOR = 14
    MINIMUM = 15
    MAXIMUM = 16
    SHIFT_RIGHT = 17
    NEGATIVE = 18
    NOT = 19
    FLOOR = 20
    SQRT = 21
    RINT = 22
    WHERE = 23
    SLICE = 24
    SELECT = 25
    NEW_AXIS = 26
    CONCAT = 27
    TAKE = 28
    PICK = 29
    ANY = 30
    ARGMAX = 31
    ARGSORT = 32
    POSITIONS = 33
    COUNT_UP_TO = 34
    WALK = 35


@dataclass(frozen=True)
class Program:
    """A recorded function, as the operation reads it."""

    words: bytes
    dtypes: tuple[str, ...]
    """Of its results."""
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Instruction:
    """Values are numbered: the inputs first."""

    opcode: Opcode
    out: int
    arguments: tuple[int, ...]
    numbers: tuple[int, ...] = ()
    body: tuple[Instruction, ...] = ()
    entering: int = -1
    leaving: int = -1

    @property
    def uses(self) -> Iterator[int]:
        """The values that it reads, and its body."""
        yield from self.arguments
        for instruction in self.body:
            yield from instruction.uses
        if self.opcode is Opcode.WALK:
            yield self.leaving


def serialized(instructions: Sequence[Instruction], inputs: int, outputs: Sequence[int]) -> bytes:
    """A program as ``kernel/array_program.cc`` reads it, without instructions that no output needs.

    Args:
        instructions: in order.
        inputs: how many arrays it is given: the first values.
        outputs: values that it gives.
    """
    registers, kept = _Registers(inputs), set(outputs)
    words = _words(_needed(instructions, kept), kept, registers)
    head = [ABI, inputs, registers.count, len(outputs), *(registers.of[value] for value in outputs)]
    return np.array([*head, *words], np.int64).tobytes()


class _Registers:
    """Hands out registers to values, and those again whose values nothing needs any more."""

    def __init__(self, inputs: int) -> None:
        self.of = {value: value for value in range(inputs)}
        self.count = inputs
        self._free: list[int] = []

    def take(self, value: int) -> int:
        if not self._free:
            self._free.append(self.count)
            self.count += 1
        self.of[value] = self._free.pop()
        return self.of[value]

    def give_back(self, values: Iterable[int]) -> None:
        self._free += [self.of[value] for value in values]


def _needed(instructions: Sequence[Instruction], outputs: set[int]) -> list[Instruction]:
    needed, kept = set(outputs), []
    for instruction in reversed(instructions):
        if instruction.out in needed:
            needed.update(instruction.uses)
            kept.append(instruction)
    return kept[::-1]


def _words(instructions: Sequence[Instruction], kept: set[int], registers: _Registers) -> list[int]:
    """A number of instructions, and the words of each.

    Args:
        instructions: in order.
        kept: values that are needed behind them.
        registers: of values.
    """
    words = [len(instructions)]
    own = {instruction.out for instruction in instructions}
    last = {value: at for at, instruction in enumerate(instructions) for value in instruction.uses}
    for at, instruction in enumerate(instructions):
        numbers, body, inside = list(instruction.numbers), [], set[int]()
        if instruction.opcode is Opcode.WALK:
            entering, leaving = instruction.entering, instruction.leaving
            registers.take(entering)
            count, *body = _words(_needed(instruction.body, {leaving}), {leaving}, registers)
            numbers = [registers.of[entering], registers.of[leaving], count]
            inside = {entering} | ({leaving} & {inner.out for inner in instruction.body})
        out = registers.take(instruction.out)
        arguments = [registers.of[value] for value in instruction.arguments]
        words += [instruction.opcode, out, len(arguments), *arguments, len(numbers), *numbers, *body]
        done = {value for value in instruction.uses if value in own and last[value] == at and value not in kept}
        registers.give_back(sorted(inside | done))
    return words
