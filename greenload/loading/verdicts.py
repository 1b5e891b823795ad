"""Finds out whether a file decodes, and why not: before training, or when a record stopped it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from greenload.backends import registry
from greenload.backends.tables import read_in_tf_data, support
from greenload.backends.tf.truncation import decode_whole
from greenload.errors import RecordError
from greenload.sources import Source, formats
from greenload.sources.formats import Header
from greenload.specs import Truncation
from greenload.system import limits
from greenload.system.frameworks import tf
from greenload.system.workers import Workers

DECODES = "decodes now: it has changed, or what failed came later"


class Judge:
    """Finds out whether files decode, each by its own backend, or by one that agrees with that.

    Args:
        backend: the backend that is to load the records.
        max_bytes: the most bytes that decoding one may take.
        truncated: what is done about files that are cut off.
        readers: the backends that decode, by kind, what ``backend`` doesn't read, as ``Plan.readers``.
        threads: threads that look for reasons.
    """

    def __init__(
        self,
        backend: str,
        max_bytes: int,
        truncated: Truncation,
        readers: Mapping[str, str] | None,
        threads: int = 1,
    ) -> None:
        self.backend = backend
        self.max_bytes = max_bytes
        self.truncated = truncated
        self.readers = readers
        self.threads = threads
        self._looking = threading.Lock()
        self._decoding = registry.make_readers({kind: self.by(kind) for kind in formats.KINDS}, threads=1)

    def reasons(
        self, source: Source, indices: Sequence[int], look: Callable[[bytes], None] | None
    ) -> list[tuple[int, str]]:
        """``reason`` of some records, in order."""
        pool = Workers(min(self.threads, max(len(indices), 1)), "verify")
        try:
            tasks = [pool.submit(self.reason, source, index, look) for index in indices]
            return [(index, task.result()) for index, task in zip(indices, tasks, strict=True)]
        finally:
            pool.close(cancel=True)

    def opened(self, data: bytes) -> tuple[bytes, Header]:
        """A file as it is to be decoded, and its header.

        Raises:
            FormatError: its header or structure shows that it can't be decoded.
        """
        file, header = formats.opened(data, support(self.backend, self.readers), self.max_bytes, self.truncated)
        formats.verify(file, header)
        return file, header

    def passes(self, data: bytes) -> bool:
        """Whether a file that TensorFlow decodes is good: TensorFlow passes over some damage that others refuse."""
        try:
            file, header = self.opened(data)
        except formats.FormatError:
            return False
        # What TensorFlow decodes of a JPEG Pillow does too; not of a GIF or WebP.
        return header.kind == "JPEG" or not registry.get(self.by(header.kind)).refusal(file)

    def by(self, kind: str) -> str:
        """The backend that is to decode files of a kind."""
        return (self.readers or {}).get(kind, self.backend)

    def reason(self, source: Source, index: int, look: Callable[[bytes], None] | None = None) -> str:
        """Why a record can't be decoded, or that it can; ``look`` is called with a file that decodes.

        Raises:
            SourceError: nothing can be found out now: a limit of the process is reached.
        """
        try:
            data = source.read(index)
        except RecordError as error:
            return error.reason
        if not isinstance(data, bytes):
            return DECODES
        try:
            why = self._refusal(data, *self.opened(data))
        except formats.FormatError as error:
            return str(error)
        except MemoryError as error:
            raise limits.unreadable(source.name(index), limits.ran_out(error)) from None
        if look and not why:
            with self._looking:
                look(data)
        return why or DECODES

    def _refusal(self, data: bytes, file: bytes, header: Header) -> str:
        """Why a file of a kind that is read can't be decoded; empty if it can.

        Args:
            data: the record as it is stored.
            file: the file as it is to be decoded.
            header: of the file.
        """
        own = registry.get(self.by(header.kind)).refusal(file)
        if own is not None:
            return own
        if read_in_tf_data(header.kind):
            decodes = self._decodes_on_tensorflow(data)
        else:
            decodes = self._decodes_by_itself(file, header)
        sides = f"{header.width}×{header.height}"
        return "" if decodes else f"broken {header.format}: its header promises {sides} pixels that can't be decoded"

    def _decodes_on_tensorflow(self, data: bytes) -> bool:
        """Whether what TensorFlow's graph does with a file decodes it.

        Raises:
            MemoryError: there is too little memory to try.
        """
        try:
            decode_whole(tf.constant(data), None, self.max_bytes, self.truncated)
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(error.message) from None
        except tf.errors.OpError:
            return False
        return True

    def _decodes_by_itself(self, data: bytes, header: Header) -> bool:
        """Whether the backend that is to decode a file does so on the CPU.

        Raises:
            MemoryError: there is too little memory to tell.
        """
        try:
            self._decoding.pixels(data, header)
        except formats.FormatError:
            return False
        return True
