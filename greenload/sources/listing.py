"""Lists the image files below a folder, and keeps lists of millions of paths in little memory.

A listing leaves out files for which ``is_litter`` holds; a path that a user names is used as it is.
"""

from __future__ import annotations

import itertools
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from numpy.typing import NDArray

from greenload.errors import SourceError
from greenload.system.json_data import shown
from greenload.system.notices import notify

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".mpo"),
    *(".png", ".apng", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp"),
)
"""Extensions of the kinds that ``Decode`` reads, in small letters: files with one count as images. A file's first bytes
decide its kind; a file of a kind that isn't read is refused by name."""
UNREAD = (
    *(".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".jxr", ".wdp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm", ".tga", ".pcx", ".sgi", ".xpm", ".xbm", ".qoi", ".flif", ".bpg"),
    *(".ico", ".icns", ".cur", ".psd", ".xcf", ".svg", ".eps", ".exr", ".hdr", ".dds", ".dcm"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw"),
)
"""Extensions of kinds of images that nothing here reads: files with one are left out, and a warning counts them."""
_UNREAD = frozenset(UNREAD)
_UNREAD_IN = re.compile(rb"\.(?:" + b"|".join(re.escape(name[1:].encode()) for name in UNREAD) + rb")")
CONVERT = "convert them to JPEG or PNG"
"""The remedy for files of ``UNREAD`` kinds."""

_LITTER = frozenset(
    {
        *("__macosx", "icon\r", "network trash folder", "temporary items"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
        *("@eadir", "@__thumb", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "lost+found", "__pycache__"),
    }
)
_SCHEMES = "s3 s3a s3n gs gcs http https ftp sftp hdfs viewfs abfs abfss adl az wasb wasbs r2 oss dbfs hf file"
_REMOTE = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*://|(?:{_SCHEMES.replace(' ', '|')}):/", re.IGNORECASE)


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name was left by a system or a program, and isn't the user's data.

    That is every name that begins with a dot (``.DS_Store``, ``._1.jpg``, ``.ipynb_checkpoints``, ``.thumbnails``,
    ``.Trash``), and, in small or capital letters, of macOS ``__MACOSX``, ``Icon`` and a carriage return, ``Network
    Trash Folder``, ``Temporary Items``; of Windows ``Thumbs.db``, ``ehthumbs.db``, ``desktop.ini``, ``$RECYCLE.BIN``,
    ``System Volume Information``; of Synology, QNAP and file systems ``@eaDir``, ``NAME@SynoEAStream``,
    ``NAME@SynoResource``, ``@__thumb``, ``@Recycle``, ``@Recently-Snapshot``, ``#recycle``, ``#snapshot``,
    ``lost+found``; and ``__pycache__``.
    """
    small = name.lower()
    return name.startswith(".") or small in _LITTER or small.endswith(("@synoeastream", "@synoresource"))


def is_remote(path: str) -> bool:
    """Whether a path is an address on another machine: ``s3://bucket/train``, ``https://host/a.jpg``."""
    return _REMOTE.match(path) is not None


def need_local(path: str) -> str:
    """A path as it is, if it isn't an address on another machine.

    Raises:
        SourceError: it is one, as ``s3://bucket/train``; names the remedy.
    """
    if not is_remote(path):
        return path
    scheme, _, rest = path.partition(":")
    match scheme.lower():
        case "file":
            remedy = f"write the path alone: /{rest.lstrip('/')}"
        case "http" | "https" | "ftp" | "sftp":
            remedy = "download it first, and name the file"
        case "gs" | "gcs":
            remedy = "copy it (gcloud storage cp -r) or mount the bucket (gcsfuse), and name the folder"
        case _:
            remedy = "copy it or mount it (for example with rclone mount), and name the folder"
    raise SourceError(
        f"{path}: samples are read from files of this machine, but this is an address: {remedy}; "
        "gl.profile also takes a tf.data.Dataset that reads from there"
    )


class Paths(Sequence[str]):
    """An immutable sequence of paths, held as one block of bytes: 60 bytes a path where a ``str`` takes 110.

    Args:
        paths: ``str``, ``bytes`` or path objects, in order.

    Raises:
        TypeError: a path is of another type.
        SourceError: a path can't be a file's.

    Example:
        >>> list(Paths(["a.jpg", "b.png"]))
        ['a.jpg', 'b.png']
    """

    __slots__ = ("blob", "offsets")

    blob: bytes
    """All paths in the file system's encoding, one after another."""
    offsets: NDArray[np.int64]
    """Where each path begins, and the end: int64 ``[n + 1]``."""

    def __init__(self, paths: Iterable[str | bytes | os.PathLike[str]]) -> None:
        blob, ends = bytearray(), array("q", [0])
        for path in paths:
            blob += _encoded(path)
            ends.append(len(blob))
        self.blob = bytes(blob)
        self.offsets = np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Paths: ...
    def __getitem__(self, index: int | slice) -> str | Paths:
        if isinstance(index, slice):
            return Paths(self[i] for i in range(*index.indices(len(self))))
        number = range(len(self))[index]
        return os.fsdecode(self.blob[self.offsets[number] : self.offsets[number + 1]])

    def __iter__(self) -> Iterator[str]:
        for begin, end in itertools.pairwise(self.offsets.tolist()):
            yield os.fsdecode(self.blob[begin:end])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Paths):
            return NotImplemented
        return self.blob == other.blob and np.array_equal(self.offsets, other.offsets)

    def __hash__(self) -> int:
        return hash((self.blob, len(self)))

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, itertools.islice(self, 3)))
        return f"Paths([{shown}, …], {len(self)} in all)" if len(self) > 3 else f"Paths([{shown}])"

    def printable(self) -> bool:
        """Whether all paths are text that can be shown."""
        return os.fsdecode(self.blob).isprintable()


def need_all_local(paths: Paths) -> None:
    """Make sure that no path is an address on another machine.

    Raises:
        SourceError: one is; names the first.
    """
    if b":/" in paths.blob:
        for path in paths:
            need_local(path)


def _encoded(path: str | bytes | os.PathLike[str]) -> bytes:
    """A path in the file system's encoding."""
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise SourceError(
            f"{shown(path)}: a path is text that can be encoded, but this is not: {error.reason}"
        ) from None
    if b"\0" in encoded:
        raise SourceError(f"{shown(path)}: a path holds no zero byte, but this does: correct it")
    return encoded


def scan(folder: str) -> Iterator[os.DirEntry[str]]:
    """A folder's entries, in no order, one at a time: a list of a million would take a third of a gigabyte.

    Raises:
        SourceError: it can't be read.
    """
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        remedy = "change its permissions" if isinstance(error, PermissionError) else "name another"
        raise SourceError(f"{folder}: the folder can't be read: {error.strerror}; {remedy}") from None


@dataclass(frozen=True)
class Images:
    """The image files below a folder."""

    paths: list[str] = field(default_factory=list)
    """Files with one of ``EXTENSIONS``, in no order."""
    unread: Counter[str] = field(default_factory=Counter)
    """How many files have each of ``UNREAD``."""


def images_below(folder: str) -> Images:
    """The image files below a folder, at any depth, without those for which ``is_litter`` holds.

    Follows links, but not in circles.

    Raises:
        SourceError: a folder can't be read.
    """
    images, pending = Images(), [(folder, frozenset[str]())]
    while pending:
        below, above = pending.pop()
        real = os.path.realpath(below)
        if real in above:
            continue  # a link back to a folder that it lies in
        for entry in scan(below):
            extension = os.path.splitext(entry.name)[1].lower()
            if is_litter(entry.name):
                continue
            if is_folder(entry):
                pending.append((entry.path, above | {real}))
            elif extension in EXTENSIONS:
                images.paths.append(entry.path)
            elif extension in _UNREAD:
                images.unread[extension] += 1
    return images


def shown_unread(unread: Mapping[str, int]) -> str:
    """How many files there are of each kind that nothing reads: ``"12 .heic, 1 .avif"``."""
    return ", ".join(
        f"{count:,} {kind}" for kind, count in sorted(unread.items(), key=lambda item: (-item[1], item[0]))
    )


def warn_of_unread_names(where: str, paths: Paths) -> None:
    """Warn of paths whose extensions are of kinds that nothing here reads. They stay: a file's bytes decide."""
    if not _UNREAD_IN.search(paths.blob.lower()):
        return  # in a tenth of the time that each path takes
    extensions = (os.path.splitext(path)[1].lower() for path in paths)
    unread = Counter(extension for extension in extensions if extension in _UNREAD)
    if unread:
        notify(
            f"{where}: {unread.total():,} of {len(paths):,} files have names of kinds that nothing here reads "
            f"({shown_unread(unread)}) and will stop loading if they are of them: {CONVERT}"
        )


def warn_of_unread(where: str, unread: Mapping[str, int]) -> None:
    """Warn of files that were left out, if there are any."""
    if unread:
        count = sum(unread.values())
        files = "1 file of a kind" if count == 1 else f"{count:,} files of kinds"
        notify(f"{where}: left out {files} that nothing here reads ({shown_unread(unread)}): {CONVERT}")


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself
