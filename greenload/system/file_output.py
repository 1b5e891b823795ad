"""Writes files whole: under another name first, so that a full disk or a signal leaves the old content."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time

PARTIAL = re.compile(r"\.greenload-[0-9a-f]{16}\.partial")
"""The names that files have while they are written."""
_OLD_S = 3600.0  # after which a file under such a name is what a killed writer left: writing takes seconds
_ELSEWHERE = "choose another path"
_REMEDIES = {
    errno.ENOSPC: f"free some space, or {_ELSEWHERE}",
    errno.EDQUOT: f"free some space, or {_ELSEWHERE}",
    errno.EISDIR: "name a file in it",
    errno.ENOENT: f"make its folder, or {_ELSEWHERE}",
}
_NO_NEW_NAMES = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)  # a folder's, or of a file that is mounted


def write(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write a file that holds all of the data afterwards, or, where that fails, its old content.

    The data are written to a new file in the same folder, and to the disk, before that file takes the old one's name.
    Owner and permissions of the old file are kept; those of a new file are the umask's. A symbolic link stays, and the
    file that it points to is replaced; other hard links keep the old content. What is no regular file, as
    ``/dev/stdout`` or a pipe, is written in place; so is a file whose folder takes no new names, or whose owner can't
    be kept, once there is room for the data.

    Args:
        path: the file.
        data: text is written as UTF-8.

    Raises:
        OSError: it can't be written; names the path. `why` says what helps.

    Example:
        >>> write("report.json", "{}\\n")
    """
    content = data.encode() if isinstance(data, str) else data
    try:
        _write(os.fspath(path), content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def why(error: OSError) -> str:
    """The text of an error of writing, with the remedy.

    Example:
        >>> why(OSError(errno.ENOSPC, "No space left on device"))
        'No space left on device; free some space, or choose another path'
    """
    return f"{error.strerror or error}; {_REMEDIES.get(error.errno or 0, _ELSEWHERE)}"


def replace(path: str, data: bytes, like: os.stat_result | None = None) -> None:
    """Put a new file in the place of one, or of a symbolic link, by writing it under another name first.

    Args:
        path: the file; must not be a folder.
        data: what the new file holds.
        like: the file whose owner and permissions it gets; the umask decides if not given.

    Raises:
        OSError: it can't be written; nothing is left behind.
    """
    folder = os.path.dirname(path) or "."
    sweep(folder, PARTIAL)
    partial = os.path.join(folder, f".greenload-{secrets.token_hex(8)}.partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    number = os.open(partial, flags, 0o666 if like is None else 0o600)
    try:
        with open(number, "wb") as file:
            if like is not None:
                made = os.fstat(number)
                if (made.st_uid, made.st_gid) != (like.st_uid, like.st_gid):
                    os.fchown(number, like.st_uid, like.st_gid)
                os.fchmod(number, stat.S_IMODE(like.st_mode))
            file.write(data)
            file.flush()
            os.fsync(number)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def sweep(folder: str, names: re.Pattern[str]) -> None:
    """Remove the files of a name pattern in a folder that are older than an hour: killed writers left them."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if names.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD_S:
                        os.unlink(entry.path)


def to_disk(path: str | os.PathLike[str]) -> None:
    """Bring a file's bytes to the disk.

    Raises:
        OSError: they don't get there.
    """
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _write(path: str, data: bytes) -> None:
    target = os.path.realpath(path)
    try:
        state = os.stat(path)
    except FileNotFoundError:
        replace(target, data)
        return
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    stream = _stream(state)
    if stream is not None:
        with open(os.dup(stream), "wb") as file:
            file.write(data)
    elif not stat.S_ISREG(state.st_mode) or not _is(target, state):  # as what is reached through /proc/self/fd
        with open(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY), "wb") as file:
            file.write(data)
    elif not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    else:
        try:
            replace(target, data, state)
        except OSError as error:
            if error.errno not in _NO_NEW_NAMES:
                raise
            _write_over(target, data)


def _stream(state: os.stat_result) -> int | None:
    """Standard output or error, where one of them is a file: opened once more, each would overwrite the other."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(number), state):
                return number
    return None


def _is(path: str, state: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), state)
    except OSError:
        return False


def _write_over(path: str, data: bytes) -> None:
    """Write a file in place, once the disk has room for all of it."""
    with open(os.open(path, os.O_RDWR | os.O_CLOEXEC), "wb") as file:
        number = file.fileno()
        held = os.fstat(number).st_size
        try:
            os.posix_fallocate(number, 0, max(1, len(data)))
        except OSError as error:
            os.ftruncate(number, held)
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that reserves nothing
                raise
        file.write(data)
        file.flush()
        os.ftruncate(number, len(data))
        os.fsync(number)
