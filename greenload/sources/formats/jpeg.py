"""Parses the headers of JPEG files (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
import struct
from dataclasses import replace

from greenload.sources.formats.base import FormatError, Header, Truncated, check_size

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame: SOF0 … SOF15 without DHT, JPG and DAC."""
# Baseline, extended and progressive with Huffman codes; extended and progressive with arithmetic ones.
_DECODED = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
_LOSSLESS = frozenset((0xC3, 0xC7, 0xCB, 0xCF))
PROGRESSIVE = frozenset((0xC2, 0xCA))
"""Markers of a progressive frame."""
ARITHMETIC = frozenset((0xC9, 0xCA))
"""Markers of a frame with arithmetic codes."""
# DHT, DAC, SOS, DQT, DNL, DRI, APP0 … APP15, COM
_SEGMENTS = frozenset((0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE))
PARTIAL = "partial progressive JPEG"
"""A progressive JPEG whose scans leave bits of its coefficients out, as where its last scans were dropped. Versions of
libjpeg-turbo differ in how they smooth what is coarse then."""
_COEFFICIENTS = 64  # of a block
_MOST_SCANS = 100  # encoders write about ten; each costs a pass over the whole image, so a few bytes could cost hours
ENDS_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""What a scan's data end at: neither a stuffed byte nor a restart marker."""

FILL_BYTES = re.compile(rb"\xff+")
"""What a marker begins with: any number of fill bytes."""
MOST_SEGMENTS = 4096
"""A JPEG may have so many segments: cameras write about ten, and a colour profile of 16 MB takes 255."""
EXIF = b"Exif\0\0"
"""What an EXIF segment begins with, after its marker and length."""
ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
"""Adobe's segment, of four inks that are stored as light. Put in front of all segments, it changes nothing where the
file has one of its own; else inks are read as in Adobe's files: without it decoders that use libjpeg differ."""


def parse(data: bytes) -> Header:
    """A JPEG's header, and whether its segments and scans follow each other up to its end marker.

    Within a scan only markers are looked for: no decoder refuses flipped bits. Decoders differ in which other damage
    they accept, and whether they reach a stray marker depends on the window that they decode; so everything that is out
    of order is refused. It costs about 1 % of decoding. Bytes behind the end marker are ignored.

    Raises:
        FormatError: it is cut, broken, or of a kind that isn't decoded.
    """
    at, end, scans, exif, segments = 2, len(data), _Scans(), None, 0
    frame: Header | None = None
    while at + 2 <= end:
        fill = FILL_BYTES.match(data, at)
        if fill is None:
            raise FormatError(f"broken JPEG: no marker at byte {at}")
        at = fill.end() - 1
        if at + 2 > end:
            break
        marker = data[at + 1]
        if marker == 0xD9 and frame and scans.count:
            return replace(frame, exif=exif, kind=PARTIAL if scans.partial() else frame.kind)
        if marker in (0xD9, 0xDA) and not frame:
            raise FormatError("broken JPEG: its image data begins before its size is given")
        segments += 1
        if segments > MOST_SEGMENTS:
            raise FormatError(f"broken JPEG: more than {MOST_SEGMENTS:,} segments")
        if marker not in FRAMES and marker not in _SEGMENTS:
            raise FormatError(f"broken JPEG: marker {marker:02X} out of place at byte {at}")
        if marker in FRAMES and frame:
            raise FormatError(f"broken JPEG: a second frame at byte {at}")
        if at + 4 > end:
            break
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2:
            raise FormatError(f"broken JPEG: a segment of {length} bytes at byte {at}")
        if marker in FRAMES:
            if at + 2 + length > end:
                break
            frame = _frame(data, at)
            scans.expect(data[at + 1], data[at + 10 : at + 2 + length : 3])
        elif marker == 0xE1 and data.startswith(EXIF, at + 4) and exif is None:
            exif = at + 4
        if marker == 0xDA:
            scans.begin(data[at + 4 : at + 2 + length])
        at += 2 + length
        if marker == 0xDA:
            at = scans.end(data, at)
    raise Truncated(f"truncated JPEG: it ends before its {'end marker' if frame else 'size is given'}")


class _Scans:
    """Counts scans, and finds where the data of each end and which bits those of a progressive image leave out."""

    def __init__(self) -> None:
        self.count = 0
        self._most = _MOST_SCANS
        self._components = 0
        self._missing: dict[int, bytearray] = {}  # low bits of each coefficient that no scan has sent, by component

    def expect(self, frame: int, components: bytes) -> None:
        """Note the frame header: its marker and its components' identifiers."""
        # Of a progressive image every component comes in several scans.
        if frame in PROGRESSIVE:
            self._missing = {identifier: bytearray(b"\xff" * _COEFFICIENTS) for identifier in components}
        else:
            self._components = len(components)

    def begin(self, header: bytes) -> None:
        """Note a scan's header: which coefficients of which components it sends, down to which bit."""
        if self._missing and len(header) > 3 and len(header) == 2 * header[0] + 4:
            first, last, bits = header[-3], header[-2], header[-1] & 15
            for identifier in header[1:-3:2]:
                if identifier in self._missing and first <= last < _COEFFICIENTS:
                    self._missing[identifier][first : last + 1] = bytes([bits]) * (last + 1 - first)

    def partial(self) -> bool:
        """Whether a progressive image's scans leave out bits of a coefficient."""
        return any(map(any, self._missing.values()))

    def end(self, data: bytes, start: int) -> int:
        """Where the marker is that ends the scan whose data begin at ``start``; the file's end if there is none."""
        self.count += 1
        if self.count == 1:
            header = start - 4 - 2 * self._components  # where a scan's header counts its components, if it has them all
            if self._components and data[header : header + 1] == bytes([self._components]):
                self._most = 1
        if self.count > self._most:
            raise FormatError(f"broken JPEG: another scan at byte {start}")
        marker = ENDS_SCAN.search(data, start)
        return marker.start() if marker else len(data)


def _frame(data: bytes, at: int) -> Header:
    precision, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
    if data[at + 1] not in _DECODED:
        kind = "lossless" if data[at + 1] in _LOSSLESS else "hierarchical"
        raise FormatError(f"{kind} JPEG is not supported: convert it to baseline JPEG or PNG")
    if precision != 8:
        raise FormatError(f"{precision}-bit JPEG is not supported: convert it to 8 bits a channel")
    if components not in (1, 3, 4):
        raise FormatError(f"JPEG of {components} components is not supported: convert it to grey or RGB")
    check_size("JPEG", height, width, components)
    return Header("JPEG", height, width, components=components)


def of_light(data: bytes) -> bytes:
    """A JPEG of four components, marked so that decoders read its inks as light."""
    return data[:2] + ADOBE + data[2:]
