"""Finds the image and the label in many ``tf.train.Example`` messages at once, without TensorFlow.

An Example is a map from keys to lists of bytes, integers or floats, in protocol buffers' wire format
(tensorflow/core/example/example.proto and feature.proto):

    Example = 0A length Features      Features = (0A length Entry)*      Entry = 0A length key, 12 length Feature
    Feature = 0A length BytesList | 12 length FloatList | 1A length Int64List
    BytesList = (0A length bytes)*    Int64List = 0A length varint* | (08 varint)*

Messages of this usual form are parsed side by side, one step for all; other messages one by one. The bytes of images
aren't read. A SequenceExample (0A length context, 12 length feature_lists) begins like an Example; its second field
distinguishes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FIELD_1, _FIELD_2, _FIELD_3, _VARINT_1 = 0x0A, 0x12, 0x1A, 0x08
_MOST_FIELDS = 1 << 16  # of one message: Examples have tens, and a list of images as many as it has images
_KINDS = {1: "bytes", 2: "float", 3: "int64"}

_FEATURE_LISTS = _FIELD_2
"""The tag of a SequenceExample's frames. Its context has an Example's tag and form; an Example has no such field."""

Buffer = NDArray[np.uint8]


class ExampleError(Exception):
    """A message is no Example, or lacks the image or label. Callers turn it into an error that names the record."""


@dataclass(frozen=True)
class ImageColumns:
    """Where the images of many messages are, and their labels."""

    starts: NDArray[np.int64]
    """Where each image begins in the buffer, int64 ``[n]``."""
    lengths: NDArray[np.int64]
    """Bytes of each image, int64 ``[n]``; −1 where the message is bad: ``locate`` raises the reason."""
    labels: NDArray[np.int64]
    """int64 ``[n]``; 0 where none were looked for."""


def columns(
    data: Buffer, starts: NDArray[np.int64], lengths: NDArray[np.int64], image: str, label: str | None
) -> ImageColumns:
    """Find the image and the label in each of many messages.

    Args:
        data: the bytes of all messages, uint8 ``[bytes]``.
        starts: where each message begins, int64 ``[n]``.
        lengths: bytes of each message, int64 ``[n]``; all lie within ``data``.
        image: the key of the image, one value of bytes.
        label: the key of the label, one integer; ``None`` to look for none.
    """
    walk = _Walk(data, starts, lengths, image.encode(), None if label is None else label.encode())
    if len(data):
        walk.run()
    for index in np.flatnonzero(~walk.done & (lengths > 0)).tolist():
        begin, length = int(starts[index]), int(lengths[index])
        try:
            at, size, number = locate(data[begin : begin + length].tobytes(), image, label)
        except ExampleError:
            at, size, number = -begin, -1, 0
        walk.image_at[index], walk.image_bytes[index], walk.labels[index] = begin + at, size, number
    return ImageColumns(walk.image_at, walk.image_bytes, walk.labels)


class _Walk:
    """Parses messages of the usual form, all at once; ``done`` says which messages have this form."""

    def __init__(
        self, data: Buffer, starts: NDArray[np.int64], lengths: NDArray[np.int64], image: bytes, label: bytes | None
    ) -> None:
        self._data, self._image, self._label = data, image, label
        self._starts, self._lengths = starts, lengths
        self.image_at = np.zeros(len(starts), np.int64)
        self.image_bytes = np.full(len(starts), -1, np.int64)
        self.labels = np.zeros(len(starts), np.int64)
        self.done = np.zeros(len(starts), bool)

    def run(self) -> None:
        rows = np.arange(len(self._starts))
        ends = self._starts + self._lengths
        cursor, fits = self._open(self._starts, ends, _FIELD_1, whole=True)
        rows, cursor, ends = rows[fits], cursor[fits], ends[fits]
        seen = np.zeros(len(self.done), np.int64)
        wanted = 3 if self._label is not None else 1
        while len(rows):
            entry, fits = self._open(cursor, ends, _FIELD_1)
            entry_end = entry + self._size
            key, well = self._open(entry, entry_end, _FIELD_1)
            fits &= well
            key_bytes = self._size
            value, well = self._open(key + key_bytes, entry_end, _FIELD_2, whole=True)
            fits &= well
            rows, key, key_bytes, value, entry_end, ends = (
                column[fits] for column in (rows, key, key_bytes, value, entry_end, ends)
            )
            unread = np.ones(len(rows), bool)
            for mark, name, take in ((1, self._image, self._take_image), (2, self._label, self._take_label)):
                if name is not None and len(rows):
                    at = np.flatnonzero(self._equal(key, key_bytes, name))
                    taken = take(rows[at], value[at], entry_end[at])
                    # A message with a key twice is parsed by itself.
                    taken &= seen[rows[at]] & mark == 0
                    seen[rows[at]] |= mark
                    unread[at] = taken
            finished = unread & (entry_end >= ends)
            self.done[rows[finished]] = seen[rows[finished]] == wanted
            going = unread & ~finished
            rows, cursor, ends = rows[going], entry_end[going], ends[going]

    def _byte(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._data[np.clip(at, 0, len(self._data) - 1)].astype(np.int64)

    def _varint(self, at: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The number at a byte, and the byte behind it. Ten bytes at most; the top bits wrap, as in int64."""
        value, behind = np.zeros(len(at), np.int64), at + 1
        going = np.ones(len(at), bool)
        for k in range(10):
            byte = self._byte(at + k)
            value = np.where(going, value | ((byte & 0x7F) << (7 * k)), value)
            going = going & (byte >= 0x80)
            if not going.any():
                break
            behind = behind + going
        return value, behind

    def _open(
        self, at: NDArray[np.int64], ends: NDArray[np.int64], tag: int, *, whole: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Enter the field at a byte: where its content begins (``_size`` holds the content's bytes), and whether it has
        this tag and ends within the field around it (``whole``: at the end of that field)."""
        size, content = self._varint(at + 1)
        self._size = size
        fits: NDArray[np.bool_] = (self._byte(at) == tag) & (size >= 0) & (at < ends) & (size <= ends - content)
        if whole:
            fits = fits & (size == ends - content)
        return content, fits

    def _equal(self, at: NDArray[np.int64], size: NDArray[np.int64], name: bytes) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = size == len(name)
        for k, byte in enumerate(name):
            same = same & (self._byte(at + k) == byte)
        return same

    def _take_image(self, rows: NDArray[np.int64], at: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
        values, fits = self._open(at, ends, _FIELD_1, whole=True)
        content, well = self._open(values, ends, _FIELD_1, whole=True)
        self.image_at[rows], self.image_bytes[rows] = content, self._size
        taken: NDArray[np.bool_] = fits & well & (self._size > 0)
        return taken

    def _take_label(self, rows: NDArray[np.int64], at: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
        values, fits = self._open(at, ends, _FIELD_3, whole=True)
        packed, together = self._open(values, ends, _FIELD_1, whole=True)
        apart = self._byte(values) == _VARINT_1
        number, behind = self._varint(np.where(together, packed, values + 1))
        self.labels[rows] = number
        taken: NDArray[np.bool_] = fits & (together | apart) & (behind == ends)
        return taken


def locate(message: bytes, image: str, label: str | None) -> tuple[int, int, int]:
    """Where the image of one message begins, its bytes, and the label.

    Raises:
        ExampleError: it is no Example, or doesn't hold them as one value each.
    """
    features = _features(message)
    if image not in features:
        raise ExampleError(f"has no {image!r}; its keys: {_shown(features)}")
    kind, begin, end = features[image]
    spans = [(a, b) for number, a, b in _fields(message, begin, end) if number == 1] if kind == 1 else []
    if len(spans) != 1 or spans[0][0] == spans[0][1]:
        raise ExampleError(f"must have one image in {image!r}, not {len(spans)} values of {_KINDS.get(kind, 'none')}")
    if label is None:
        return spans[0][0], spans[0][1] - spans[0][0], 0
    if label not in features:
        raise ExampleError(f"has no {label!r}; its keys: {_shown(features)}")
    kind, begin, end = features[label]
    numbers = list(_integers(message, begin, end)) if kind == 3 else []
    if len(numbers) != 1:
        raise ExampleError(
            f"must have one integer in {label!r}, not {len(numbers)} integers in a list of {_KINDS.get(kind, 'none')}"
        )
    return spans[0][0], spans[0][1] - spans[0][0], numbers[0]


def keys(message: bytes) -> dict[str, str]:
    """The keys of one message and what their values are: ``"bytes"``, ``"float"``, ``"int64"``, or ``""``.

    Raises:
        ExampleError: it is no Example.
    """
    return {key: _KINDS.get(kind, "") for key, (kind, _, _) in sorted(_features(message).items())}


def serialize(image: bytes, label: int) -> bytes:
    """One Example with ``"image"`` and ``"label"``."""
    number = _written(label & ((1 << 64) - 1))
    values = {
        b"image": _field(_FIELD_1, _field(_FIELD_1, image)),
        b"label": _field(_FIELD_3, _field(_FIELD_1, number)),
    }
    entries = [_field(_FIELD_1, _field(_FIELD_1, key) + _field(_FIELD_2, value)) for key, value in values.items()]
    return _field(_FIELD_1, b"".join(entries))


def _field(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + _written(len(content)) + content


def _written(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _shown(features: dict[str, tuple[int, int, int]]) -> str:
    return ", ".join(map(repr, sorted(features))) or "none"


def _features(message: bytes) -> dict[str, tuple[int, int, int]]:
    features: dict[str, tuple[int, int, int]] = {}
    for tag, begin, end in _tagged(message, 0, len(message)):
        if tag == _FEATURE_LISTS:
            raise ExampleError(
                "is a tf.train.SequenceExample, whose frames (feature_lists) would be ignored: write each frame as a "
                "tf.train.Example, or load it with a tf.data.Dataset of your own"
            )
        for inner, a, b in _fields(message, begin, end) if tag >> 3 == 1 else ():
            if inner == 1:
                entry = {n: (p, q) for n, p, q in _fields(message, a, b)}
                key = message[slice(*entry.get(1, (0, 0)))].decode(errors="backslashreplace")
                kinds = list(_fields(message, *entry[2])) if 2 in entry else []
                features[key] = kinds[-1] if kinds else (0, 0, 0)
    return features


def _integers(message: bytes, begin: int, end: int) -> Iterator[int]:
    for number, a, b in _fields(message, begin, end):
        while number == 1 and a < b:
            value, a = _read(message, a, b)
            yield value - (1 << 64) if value >= 1 << 63 else value


def _fields(message: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Each field's number, and where its content begins and ends; a varint's content is its own bytes."""
    for tag, begin, behind in _tagged(message, at, end):
        yield tag >> 3, begin, behind


def _tagged(message: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Each field's tag, its number and type, and where its content begins and ends."""
    seen = 0
    while at < end:
        tag, at = _read(message, at, end)
        seen += 1
        if tag < 8 or seen > _MOST_FIELDS:  # number 0 is none: what is read are zeros, or anything but messages
            raise ExampleError(f"is no Example: {'field 0' if tag < 8 else 'too many fields'} at byte {at - 1}")
        match tag & 7:
            case 0:
                _, behind = _read(message, at, end)
            case 1:
                behind = at + 8
            case 2:
                size, at = _read(message, at, end)
                behind = at + size
            case 5:
                behind = at + 4
            case kind:
                raise ExampleError(f"is no Example: byte {at} begins a field of unknown type {kind}")
        if behind > end:
            raise ExampleError(f"is no Example: the field at byte {at} ends beyond what holds it")
        yield tag, at, behind
        at = behind


def _read(message: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for k in range(10):
        if at + k >= end:
            break
        value |= (message[at + k] & 0x7F) << (7 * k)
        if message[at + k] < 0x80:
            return value & ((1 << 64) - 1), at + k + 1
    raise ExampleError(f"is no Example: the number at byte {at} doesn't end")
