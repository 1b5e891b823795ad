"""Memory that is free in the C library's heap goes back to the system."""

import ctypes
import platform

import pytest

from greenload.system import heap

MIB = 1 << 20


def resident_bytes() -> int:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can give memory back")
def test_gives_back_what_lies_free_between_what_is_in_use() -> None:
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    size = 64 << 10  # below what glibc maps, and gives back, by itself
    blocks = [library.malloc(size) for _ in range(64 * MIB // size)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    last = blocks.pop()  # holds the heap's end in place
    for block in blocks:
        library.free(block)
    before = resident_bytes()
    heap.give_back()
    assert before - resident_bytes() > 48 * MIB
    library.free(last)


def test_does_nothing_where_the_c_library_cant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    heap.give_back()
