"""Computes CRC-32C in NumPy, of many ranges of bytes at once, and masks it as TFRecord files do.

The polynomial is Castagnoli's, 0x1EDC6F41, reflected 0x82F63B78, with initial value and final XOR 0xFFFFFFFF (RFC 3720,
appendix B.4). A CRC is linear over bits, so a range is cut into lanes, whose CRCs are computed side by side and then
joined in pairs: the CRC of ``a + b`` is that of ``a`` moved on by the bytes of ``b``, XOR that of ``b`` (as zlib's
``crc32_combine`` does).
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
_ONES = 0xFFFFFFFF
_LANE = 64  # bytes
_MASK_DELTA = 0xA282EAD8  # TensorFlow's core/lib/hash/crc32c.h: a CRC of data that holds CRCs is a poor one
_LANES_AT_ONCE = 1 << 17  # 8 MB of bytes


def masked(crc: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """CRCs as TFRecord files hold them: turned right by 15 bits, plus a constant."""
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(_MASK_DELTA)


def crc32c_of(data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.uint32]:
    """The CRC-32C of many ranges of one buffer.

    Args:
        data: uint8 ``[bytes]``.
        starts: where each range begins, int64 ``[n]``.
        lengths: bytes of each range, int64 ``[n]``; all lie within ``data``.

    Returns:
        uint32 ``[n]``.
    """
    crcs = np.zeros(len(starts), np.uint32)
    # Ranges of about one length together: each is padded with leading zeros, which change nothing.
    doublings = np.ceil(np.log2(np.maximum(1, -(-lengths // _LANE)))).astype(np.int64)
    for doubling in np.unique(doublings):
        ranges = np.flatnonzero(doublings == doubling)
        at_once = max(1, _LANES_AT_ONCE >> int(doubling))
        for begin in range(0, len(ranges), at_once):
            some = ranges[begin : begin + at_once]
            crcs[some] = _raw(data, starts[some], lengths[some], 1 << int(doubling))
    return crcs ^ _moved_on(np.full(len(starts), _ONES, np.uint32), lengths) ^ np.uint32(_ONES)


def _raw(
    data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64], lanes: int
) -> NDArray[np.uint32]:
    """CRCs without initial and final value."""
    width = lanes * _LANE if lanes > 1 else -(-int(lengths.max()) // 4) * 4
    padded = np.zeros((len(starts), width), np.uint8)
    if lanes == 1 and (lengths == lengths[0]).all():  # headers: a loop over them would take most of an index's time
        padded[:, width - int(lengths[0]) :] = data[starts[:, None] + np.arange(lengths[0])]
    else:
        for row, start, length in zip(padded, starts.tolist(), lengths.tolist(), strict=True):
            row[width - length :] = data[start : start + length]
    words = padded.view("<u4").reshape(len(starts) * lanes, -1)
    state = np.zeros(len(words), np.uint32)
    low, high = _word_tables()
    for column in range(words.shape[1]):
        state ^= words[:, column]
        state = low[state & np.uint32(0xFFFF)] ^ high[state >> np.uint32(16)]
    joined, span = state.reshape(len(starts), lanes), _LANE
    while joined.shape[1] > 1:
        joined = _through(_zeros_tables(span.bit_length() - 1), joined[:, 0::2]) ^ joined[:, 1::2]
        span *= 2
    return np.ascontiguousarray(joined).reshape(-1)


@functools.cache
def _byte_table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint32(1)) ^ np.uint32(_POLYNOMIAL), table >> np.uint32(1))
    return table


def _zero_byte(state: NDArray[np.uint32]) -> NDArray[np.uint32]:
    after: NDArray[np.uint32] = _byte_table()[state & np.uint32(0xFF)] ^ (state >> np.uint32(8))
    return after


@functools.cache
def _word_tables() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """What four more bytes make of a state's lower and upper half."""
    halves = np.arange(1 << 16, dtype=np.uint32)
    low, high = halves, halves << np.uint32(16)
    for _ in range(4):
        low, high = _zero_byte(low), _zero_byte(high)
    return low, high


@functools.cache
def _zeros_tables(power: int) -> NDArray[np.uint32]:
    """What ``2^power`` zero bytes make of each of a state's four bytes: uint32 ``[4, 256]``."""
    bytes_ = np.arange(256, dtype=np.uint32)
    each = np.stack([bytes_ << np.uint32(8 * i) for i in range(4)])
    if power == 0:
        return _zero_byte(each)
    half = _zeros_tables(power - 1)
    return _through(half, _through(half, each))


def _through(tables: NDArray[np.uint32], state: NDArray[np.uint32]) -> NDArray[np.uint32]:
    moved: NDArray[np.uint32] = tables[0][state & np.uint32(0xFF)]
    for i in range(1, 4):
        moved = moved ^ tables[i][(state >> np.uint32(8 * i)) & np.uint32(0xFF)]
    return moved


def _moved_on(state: NDArray[np.uint32], lengths: NDArray[np.int64]) -> NDArray[np.uint32]:
    """States after as many zero bytes as each is to have."""
    for power in range(int(lengths.max(initial=0)).bit_length()):
        state = np.where((lengths >> power) & 1, _through(_zeros_tables(power), state), state)
    return state
