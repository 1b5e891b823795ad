"""Reads regular files only: reading a pipe could wait without end, and a device could fill memory."""

from __future__ import annotations

import errno
import os
import stat

_KINDS = {
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def special(mode: int) -> str:
    """What a file is that is neither regular nor a folder, by its mode; empty if it is either.

    Example:
        >>> special(os.stat("/dev/zero").st_mode)
        'a character device'
    """
    return _KINDS.get(stat.S_IFMT(mode), "")


def regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open a file that is regular, without waiting: an ``opener`` for ``open``.

    Args:
        path: the file, or a link to it.
        flags: of os.open.

    Returns:
        Its descriptor.

    Raises:
        OSError: it can't be opened, or isn't regular; ``strerror`` says what it is.

    Example:
        >>> with open("train.csv", opener=regular) as file: ...
    """
    try:
        number = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device that isn't there
            _refuse_special(path, os.stat(path).st_mode)
        raise
    try:
        _refuse_special(path, os.fstat(number).st_mode)
    except OSError:
        os.close(number)
        raise
    return number


def read(path: str | os.PathLike[str], limit: int) -> bytes:
    """A regular file's content, of as many bytes as the file's size: a file that the system generates on reading has
    size 0, and is empty here.

    Args:
        path: the file.
        limit: bytes that it may have at most.

    Raises:
        OSError: it can't be read, isn't regular, or is larger; ``strerror`` says so.
    """
    number = regular(path)
    try:
        size = os.fstat(number).st_size
        if size > limit:
            raise _too_large(path, limit)
        data = os.read(number, size)
        while len(data) < size and (more := os.read(number, size - len(data))):  # cut short at 2 GB
            data += more
        return data
    finally:
        os.close(number)


def read_any(path: str | os.PathLike[str], limit: int) -> bytes:
    """The content of a file that the user has named: also that of a pipe, as a shell's ``<(…)``.

    Args:
        path: the file, pipe or device.
        limit: bytes that it may give at most.

    Raises:
        OSError: it can't be read, or gives more; ``strerror`` says so.
    """
    if not special(os.stat(path).st_mode):
        return read(path, limit)
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise _too_large(path, limit)
    return data


def _refuse_special(path: str | os.PathLike[str], mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if kind := special(mode):
        raise OSError(errno.EINVAL, f"it is {kind}, and only regular files are read", os.fspath(path))


def _too_large(path: str | os.PathLike[str], limit: int) -> OSError:
    return OSError(errno.EFBIG, f"it holds more than the {limit / 1e6:.0f} MB that are read", os.fspath(path))
