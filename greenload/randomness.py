"""Randomness as data: a counter-based hash and a keyed permutation, the same numbers in NumPy and in TensorFlow.

A draw is a pure function of ``(seed, epoch, index, stage key, repeat, position)``: no state, so it is the same at any
thread count, batch size, shard or resume, and on every backend. The hash is the finaliser of SplitMix64 (Steele, Lea
and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; constants of David Stafford's "Mix13"),
applied once per word of the counter. The order of an epoch is a Feistel network over ``Z_a × Z_b`` with cycle walking
(Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002): a bijection on ``0 … n−1`` that needs no
buffer.

Every function takes ``ops``, the namespace of array operations, of ``greenload.array_ops``: both give the same bits.

Example:
    >>> uniforms(base(seed=7, epoch=0, index=np.arange(3)), stage_key("RandomHorizontalFlip", 0), 1).shape
    (3, 1)
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenload.array_ops import NUMPY, Array, Ops

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, the increment of SplitMix64
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
# With 8 rounds some of the 120 orders of 5 elements come up visibly too often; 10 pass a chi-square test over all.
_ROUNDS = 12
_GROUP = 4  # blocks that an order by blocks mixes: as many samples as a shuffle buffer of a thousand, at 256 a block


def _mix_int(x: int) -> int:
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return x ^ (x >> 31)


def _constant(value: int, ops: Ops) -> Array:
    return ops.u64(np.uint64(value))


def mix(x: Array, ops: Ops = NUMPY) -> Array:
    """One step of SplitMix64: a bijection on 64-bit words whose output bits all depend on all input bits.

    Args:
        x: uint64, any shape.
        ops: the array namespace.

    Returns:
        uint64, the shape of ``x``.
    """
    x = x + _constant(_GOLDEN, ops)
    x = ops.xor(x, ops.shift_right(x, 30)) * _constant(_MIX_1, ops)
    x = ops.xor(x, ops.shift_right(x, 27)) * _constant(_MIX_2, ops)
    return ops.xor(x, ops.shift_right(x, 31))


def stage_key(name: str, occurrence: int) -> int:
    """The 64-bit key of a stage: its type's name and how many of that type stand before it.

    Adding a stage of another type changes no other stage's key, hence no other stage's draws (``stages.base.keys_of``).
    """
    digest = hashlib.blake2b(f"{name}/{occurrence}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def base(seed: int, epoch: Array, index: Array, repeat: Array = 0, ops: Ops = NUMPY) -> Array:
    """The word from which all draws of a sample in an epoch derive.

    Args:
        seed: any Python integer; taken modulo 2^64.
        epoch: integer scalar, or the shape of ``index``.
        index: the samples' indices in the source, any shape.
        repeat: counts the times a sample is augmented anew within one epoch, from 0: an integer, or integers of the
            shape of ``index``.
        ops: the array namespace.

    Returns:
        uint64, the shape of ``index``.
    """
    word = _mix_int(seed & _MASK)
    if isinstance(repeat, int):
        keyed = _constant(_mix_int(word ^ repeat), ops)
    else:
        keyed = mix(ops.xor(_constant(word, ops), ops.u64(repeat)), ops)
    return mix(ops.xor(mix(ops.xor(keyed, ops.u64(epoch)), ops), ops.u64(index)), ops)


def uniforms(words: Array, key: int, count: int, ops: Ops = NUMPY) -> Array:
    """``count`` independent uniforms of one stage for each sample.

    Args:
        words: ``base(…)``, uint64 of shape ``[…]``.
        key: the stage's key.
        count: how many numbers the stage needs.
        ops: the array namespace.

    Returns:
        float64 of shape ``[…, count]`` in ``[0, 1)``, multiples of 2^-53.
    """
    keyed = mix(ops.xor(words, _constant(key, ops)), ops)
    counters = ops.u64(np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN))
    bits = ops.shift_right(mix(keyed[..., None] + counters, ops), 11)
    return ops.f64(ops.i64(bits)) * 2.0**-53


BETA_STEPS = 4096
"""How many steps ``beta`` divides 0 … 1 into."""


def beta(uniforms: Array, alpha: float, ops: Ops = NUMPY, other: float | None = None) -> Array:
    """Draws of the distribution Beta(alpha, other), each rounded to the nearest multiple of 1 / ``BETA_STEPS``.

    A uniform ``u`` becomes the largest ``k / BETA_STEPS`` for which ``F((k − ½) / BETA_STEPS) ≤ u``, where ``F`` is the
    distribution function. That is the inverse of ``F`` at ``u``, rounded, and takes comparisons with a table alone.

    Args:
        uniforms: float64 ``[n]`` in ``[0, 1)``.
        alpha: the distribution's first parameter, above zero.
        ops: the array namespace.
        other: its second; the same if not given.

    Returns:
        float64 ``[n]`` in ``[0, 1]``.
    """
    bounds = _beta_bounds(alpha, alpha if other is None else other)
    return ops.f64(ops.count_up_to(bounds, uniforms)) * (1.0 / BETA_STEPS)


@functools.lru_cache(64)
def _beta_bounds(alpha: float, other: float) -> NDArray[np.float64]:
    """Where one multiple ends and the next begins: the distribution function half-way between them, ascending."""
    from scipy.special import betainc

    bounds: NDArray[np.float64] = betainc(alpha, other, (np.arange(BETA_STEPS) + 0.5) / BETA_STEPS)
    # Versions of SciPy may differ in the last bits: rounded, all draw the same.
    bounds = np.rint(bounds * 2.0**40) * 2.0**-40
    bounds.flags.writeable = False
    return bounds


def permute(position: Array, size: int, seed: int, epoch: Array, ops: Ops = NUMPY, block: int | None = None) -> Array:
    """Which sample stands at a position of an epoch's shuffled order.

    Args:
        position: integers in ``[0, size)``, any shape with at least one dimension.
        size: how many samples there are, a Python integer of at least 1.
        seed: the pipeline's seed.
        epoch: integer scalar.
        ops: the array namespace.
        block: keep about so many neighbouring samples together, as ``Blocks`` says; ``None`` to shuffle all alike.

    Returns:
        int64 of the shape of ``position``; over all positions each of ``0 … size−1`` once.

    Example:
        >>> sorted(permute(np.arange(5), 5, seed=1, epoch=0).tolist())
        [0, 1, 2, 3, 4]
    """
    if size == 1:
        return ops.i64(position)
    if block is not None:
        return _permute_blocks(position, size, Blocks.of(size, block), seed, epoch, ops)
    return ops.i64(_bijection(ops.u64(position), size, _keys(_epoch_word(seed, epoch, 0, ops), ops), ops))


@dataclass(frozen=True)
class Blocks:
    """How an order by blocks divides its samples: ``groups`` groups of ``per_group`` blocks of ``length`` samples.

    Blocks are shuffled anew each epoch; within a group all samples are mixed. The last block lacks a few samples, fewer
    than there are blocks: their positions get others, by walking on, so that the order stays a bijection.
    """

    length: int
    per_group: int
    groups: int

    @classmethod
    def of(cls, size: int, block: int) -> Blocks:
        """For ``size`` samples, in blocks of about ``block``."""
        groups = max(1, round(size / (block * _GROUP)))
        per_group = _GROUP if groups > 1 else max(1, round(size / block))
        return cls(-(-size // (groups * per_group)), per_group, groups)

    @property
    def group(self) -> int:
        """Positions that a group takes: their samples lie together."""
        return self.length * self.per_group


def _permute_blocks(position: Array, size: int, blocks: Blocks, seed: int, epoch: Array, ops: Ops) -> Array:
    of_blocks = _keys(_epoch_word(seed, epoch, 1, ops), ops)
    of_groups = _epoch_word(seed, epoch, 2, ops)
    group, length, per_group = (_constant(n, ops) for n in (blocks.group, blocks.length, blocks.per_group))

    def step(x: Array) -> Array:
        number = x // group
        keys = _keys(mix(ops.xor(of_groups, number), ops)[..., None], ops)
        mixed = _bijection(x % group, blocks.group, keys, ops)
        slot = number * per_group + mixed // length
        return _bijection(slot, blocks.groups * blocks.per_group, of_blocks, ops) * length + mixed % length

    return ops.i64(ops.walk(step, ops.u64(position), _constant(size, ops)))


def _epoch_word(seed: int, epoch: Array, use: int, ops: Ops) -> Array:
    return mix(ops.xor(_constant(_mix_int(seed & _MASK) ^ stage_key("Shuffle", use), ops), ops.u64(epoch)), ops)


def _keys(word: Array, ops: Ops) -> Array:
    """A key for each round in the last dimension, from a word, or from words ``[…, 1]``."""
    return mix(word + ops.u64(np.arange(1, _ROUNDS + 1, dtype=np.uint64) * np.uint64(_GOLDEN)), ops)


def _bijection(x: Array, size: int, keys: Array, ops: Ops) -> Array:
    """A keyed bijection on ``0 … size−1``; ``keys`` ``[rounds]`` for all, or ``[…, rounds]`` one row an ``x``."""
    if size == 1:
        return x
    rows = int(np.ceil(np.sqrt(size)))
    columns = -(-size // rows)  # rows × columns exceeds size by less than rows: a walk of one step is rare
    a, b = _constant(rows, ops), _constant(columns, ops)

    def step(x: Array) -> Array:
        left, right = x // b, x % b
        for r in range(_ROUNDS):
            if r % 2 == 0:
                left = (left + mix(ops.xor(right, keys[..., r]), ops) % a) % a
            else:
                right = (right + mix(ops.xor(left, keys[..., r]), ops) % b) % b
        return left * b + right

    return ops.walk(step, x, _constant(size, ops))
