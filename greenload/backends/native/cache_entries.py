"""What stores have kept below a folder, for people: a sub-folder for each key, with blocks and what they are of."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import stat
import struct
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.native import abi, library
from greenload.backends.native.store import BLOCKS, BLOCKS_VERSION, FACTS, KEY_BYTES, LOCK
from greenload.system import file_input, file_output, json_data

_KEY = re.compile(f"[0-9a-f]{{{2 * KEY_BYTES}}}")
_OWN_NAME = re.compile(r"[0-9a-f]{16}\.block(-\d+\.part)?")
"""Of blocks, and of those that are being written, as the kernel's ``block.cpp`` names them."""
_LOCK_BYTES = 8
_TOLD = ("source", "stages", "form", "when")
"""Fields of the file that says what blocks are of."""
_MAGIC = b"GLBLOCK\n"
_HEAD = struct.Struct("=8sII32sqqqq")
_ROW = np.dtype([("index", np.int64), ("offset", np.int64), ("length", np.int64), ("sums", np.uint32, 2)])


@dataclass(frozen=True)
class BlockInfo:
    """What the head of a block's file says."""

    key: bytes
    count: int
    """Samples of the source."""
    blobs: int
    table: int
    """Where its table begins."""
    size: int
    """Bytes of the file."""


@dataclass(frozen=True)
class CacheEntry:
    """What is kept of one source in one form."""

    key: str
    """64 hexadecimal digits: the sub-folder's name."""
    samples: int
    count: int
    """Samples of the source; 0 if no block says how many."""
    bytes: int
    """Of all files."""
    blocks: int
    unusable: tuple[str, ...]
    """Blocks whose head is damaged, or of another version, or that can't be read."""
    source: str
    """What it was made of; empty if nothing says so, as the following."""
    stages: str
    form: str
    when: str

    @property
    def whole(self) -> bool:
        """Whether all samples of the source are kept."""
        return self.samples == self.count > 0


@dataclass(frozen=True)
class Verified:
    """What a comparison of all checksums of one key found."""

    key: str
    sound: int
    damaged: int
    """Blobs."""
    unusable: tuple[tuple[str, str], ...]
    """Blocks that can't be used as a whole, and why."""


def entries_below(folder: Path) -> list[CacheEntry]:
    """What is kept below a folder, by key.

    Raises:
        OSError: the folder can't be read.
    """
    return [_kept(own) for own in _folders(folder)]


def verify(folder: Path, progress: Callable[[float], object] = lambda share: None) -> list[Verified]:
    """Read all blocks below a folder and compare every checksum.

    Args:
        folder: of stores.
        progress: is told which share of the bytes is done.

    Raises:
        OSError: the folder can't be read.
        BackendUnavailable: the kernel can't be loaded.
    """
    library.loaded()  # before it looks for blocks
    blocks = {own: _blocks(own) for own in _folders(folder)}
    total, done = sum(map(_size, (path for paths in blocks.values() for path in paths))), 0
    verified = []
    for own, paths in blocks.items():
        sound, damaged, unusable = 0, 0, []
        for path in paths:
            counts, reason = _check(path)
            sound, damaged = sound + counts[0], damaged + counts[1]
            if reason and os.path.lexists(path):  # else it was merged, or removed, in between
                unusable.append((path.name, reason))
            done += _size(path)
            progress(min(1.0, done / max(total, 1)))
        verified.append(Verified(own.name, sound, damaged, tuple(unusable)))
    return verified


def clear(folder: Path, keep: Collection[str] = ()) -> list[CacheEntry]:
    """Remove what is kept below a folder. Processes that use it keep what they have opened.

    Args:
        folder: of stores; files that are none of theirs stay, and links.
        keep: keys that stay.

    Returns:
        What was removed; the bytes are of that.

    Raises:
        OSError: something can't be removed.
    """
    removed = []
    for entry in entries_below(folder):
        own = folder / entry.key
        files = [path for path in sorted(own.iterdir()) if _is_own(path)] if entry.key not in keep else []
        total = sum(_size(path) for path in files if path.match(BLOCKS))
        for path in files:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds files of others
            own.rmdir()
        if files:
            removed.append(replace(entry, bytes=total))
    return removed


def _is_own(path: Path) -> bool:
    """Whether a file below a key is one that stores make. A block is known by its name, which no damage changes, or by
    how it begins."""
    if not _is_file(path):
        return False
    if path.name == LOCK:
        return _size(path) in (0, _LOCK_BYTES)
    if path.name == FACTS:
        told = _told(path)
        return told.keys() >= {*_TOLD}
    if _OWN_NAME.fullmatch(path.name) or file_output.PARTIAL.fullmatch(path.name):
        return True
    try:
        return path.match(BLOCKS) and _begin(path).startswith(_MAGIC)
    except OSError:  # what can't be read isn't known
        return False


def block_info(path: Path) -> BlockInfo | None:
    """What the head of a block's file says; None where it is none of this version.

    Raises:
        OSError: it can't be read, or is no regular file.
    """
    return _info(_begin(path))


def _begin(path: Path) -> bytes:
    with open(path, "rb", opener=file_input.regular) as file:
        return file.read(_HEAD.size)


def _info(head: bytes) -> BlockInfo | None:
    if len(head) < _HEAD.size:
        return None
    magic, version, _, key, count, blobs, table, size = _HEAD.unpack(head)
    return BlockInfo(key, count, blobs, table, size) if (magic, version) == (_MAGIC, BLOCKS_VERSION) else None


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _KEY.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
    return [folder / name for name in sorted(names)]


def _blocks(own: Path) -> list[Path]:
    return sorted(own.glob(BLOCKS))


def _is_file(path: Path) -> bool:
    """Whether it is a regular file; a link to one isn't."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:  # it was removed in between
        return False


def _kept(own: Path) -> CacheEntry:
    paths = _blocks(own)
    parts: dict[int, list[NDArray[np.int64]]] = defaultdict(list)
    unusable = []
    for path in paths:
        try:
            info = block_info(path) if _is_file(path) or not os.path.lexists(path) else None
            if info is None or info.key.hex() != own.name or not _fits(info, path.stat().st_size):
                unusable.append(path.name)
            else:
                parts[info.count].append(_indices(path, info))
        except FileNotFoundError:  # it was merged in between
            pass
        except OSError:
            unusable.append(path.name)
    samples = {count: len(np.unique(np.concatenate(indices))) for count, indices in parts.items()}
    count = max(samples, key=samples.__getitem__, default=0)
    total = sum(map(_size, paths))
    return CacheEntry(own.name, samples.get(count, 0), count, total, len(paths), tuple(unusable), **_facts(own / FACTS))


def _fits(info: BlockInfo, size: int) -> bool:
    return info.size == size and info.blobs > 0 and 0 < info.table == size - info.blobs * _ROW.itemsize


def _indices(path: Path, info: BlockInfo) -> NDArray[np.int64]:
    with path.open("rb") as file:
        file.seek(info.table)
        rows = file.read(info.blobs * _ROW.itemsize)
    indices: NDArray[np.int64] = np.frombuffer(rows, _ROW)["index"]
    return indices


def _facts(path: Path) -> dict[str, str]:
    given = _told(path)
    facts = {name: given.get(name, "") for name in _TOLD}
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value) for name, value in facts.items()
    }


def _told(path: Path) -> dict[str, Any]:
    """What a file says of blocks; nothing where it doesn't."""
    try:
        given = json_data.load(path).plain()
    except (OSError, json_data.DataError):
        return {}
    return given if isinstance(given, dict) else {}


def _size(path: Path) -> int:
    """Bytes of a regular file; 0 of what is none."""
    with contextlib.suppress(OSError):
        return path.lstat().st_size if _is_file(path) else 0
    return 0


def _check(path: Path) -> tuple[tuple[int, int], str]:
    sound, damaged = ctypes.c_int64(), ctypes.c_int64()
    reason = ctypes.create_string_buffer(abi.REASON_BYTES)
    if library.loaded().gl_block_check(os.fsencode(path), ctypes.byref(sound), ctypes.byref(damaged), reason):
        return (sound.value, damaged.value), ""
    return (0, 0), reason.value.decode(errors="replace")
