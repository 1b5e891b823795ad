"""Serves short answers over HTTP, with bounds on connections, on bytes read and on waiting.

Any client that reaches the server may open connections and send nothing, or take a byte a second; a training process
that serves must keep its files, threads and memory nevertheless. So one thread serves all connections, each has a
deadline, and one more than `MOST` ends the oldest.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException, parse_headers

from greenload.errors import UsageError
from greenload.system import limits

LOOPBACK = "127.0.0.1"
MOST = 16
"""Connections at one time."""
LONGEST_S = 10.0
"""Seconds for a whole request to arrive, and again for its answer to be sent: as Prometheus waits for a scrape."""
MOST_BYTES = 16_384
"""Of a request line and its headers together."""
_LINGER_S = 1.0
"""Seconds after an answer in which the client may still send: a connection closed earlier could lose the answer."""
_REQUEST = re.compile(rb"([!-~]+) ([!-~]+) HTTP/1\.\d\r?\n")
_END = re.compile(rb"\r?\n\r?\n")

Answer = Callable[[str, Mapping[str, str]], tuple[Mapping[str, str], bytes]]
"""From a request's target and headers to an answer's headers and body."""


@dataclass
class _Connection:
    """The bytes received from a client, and those still to be sent to it."""

    until_s: float
    received: bytes = b""
    to_send: memoryview = field(default_factory=lambda: memoryview(b""))
    answered: bool = False


class Endpoint:
    """Answers GET and HEAD until it is closed, in a daemon thread of its own. Prints nothing.

    Args:
        host: name or address to listen on.
        port: the port; 0 for any free one.
        answer: gives the answers, in that thread; what it raises is answered with status 500.

    Raises:
        OSError: it can't listen there.
        OverflowError: the port is out of range.
    """

    def __init__(self, host: str, port: int, answer: Answer) -> None:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self._listener = socket.create_server(address[:2], family=family, backlog=128)
        self._listener.setblocking(False)
        self.server_address: tuple[str, int] = self._listener.getsockname()[:2]
        """Address and port."""
        self._answer = answer
        self._open: dict[socket.socket, _Connection] = {}
        self._stop, self._stopped = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._stop, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self._serve, daemon=True, name="greenload-endpoint")
        try:
            limits.start(self.thread)
        except BaseException:
            self._selector.close()
            self._listener.close()
            os.close(self._stop)
            os.close(self._stopped)
            raise

    def close(self) -> None:
        """Stop serving at once. Calling it twice is harmless."""
        if self._stopped >= 0:
            stopped, self._stopped = self._stopped, -1
            os.close(stopped)
        if threading.current_thread() is not self.thread:  # garbage may be collected in any thread
            self.thread.join()

    def _serve(self) -> None:
        try:
            while True:
                for key, _ in self._selector.select(self._wait_s()):
                    if key.fileobj is self._listener:
                        self._accept()
                    elif isinstance(key.fileobj, socket.socket):
                        self._go_on(key.fileobj)
                    else:
                        return
                now_s = time.monotonic()
                for client in [client for client, state in self._open.items() if state.until_s <= now_s]:
                    self._end(client)
        finally:
            for client in list(self._open):
                self._end(client)
            self._selector.close()
            self._listener.close()
            os.close(self._stop)

    def _wait_s(self) -> float | None:
        """Seconds until the next deadline; ``None`` without a connection."""
        if not self._open:
            return None
        return max(0.0, min(state.until_s for state in self._open.values()) - time.monotonic())

    def _accept(self) -> None:
        if len(self._open) >= MOST:
            self._end(next(iter(self._open)))
        try:
            client, _ = self._listener.accept()
        except OSError:
            time.sleep(0.1)  # no file is free: the connection stays in the queue, and would be asked for at once
            return
        client.setblocking(False)
        self._open[client] = _Connection(time.monotonic() + LONGEST_S)
        self._selector.register(client, selectors.EVENT_READ)

    def _go_on(self, client: socket.socket) -> None:
        """Read from a client, or send to it, as much as is possible now."""
        state = self._open.get(client)
        if state is None:
            return  # ended for a new one
        try:
            if state.to_send:
                state.to_send = state.to_send[client.send(state.to_send) :]
                if not state.to_send:
                    client.shutdown(socket.SHUT_WR)
                    self._selector.modify(client, selectors.EVENT_READ)
                    state.until_s = min(state.until_s, time.monotonic() + _LINGER_S)
                return
            received = client.recv(MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._end(client)
        elif not state.answered:
            state.received += received
            if answer := self._answered(state.received):
                state.to_send, state.answered, state.received = memoryview(answer), True, b""
                state.until_s = time.monotonic() + LONGEST_S
                self._selector.modify(client, selectors.EVENT_WRITE)

    def _answered(self, received: bytes) -> bytes:
        """The answer to a request; empty while the request isn't whole."""
        begin = _REQUEST.match(received)
        end = _END.search(received)
        if begin is None:
            whole = b"\n" in received or len(received) > MOST_BYTES
            return _message(HTTPStatus.BAD_REQUEST) if whole else b""
        if (end.end() if end else len(received)) > MOST_BYTES:
            return _message(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if end is None:
            return b""
        method, target = begin[1].decode(), begin[2].decode()
        if method not in ("GET", "HEAD"):
            return _message(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"})
        try:
            asked = parse_headers(io.BytesIO(received[begin.end() : end.end()]))
        except HTTPException:
            return _message(HTTPStatus.BAD_REQUEST)
        try:
            headers, body = self._answer(target, dict(asked.items()))
        except Exception:  # the next scrape may succeed, and the training goes on
            return _message(HTTPStatus.INTERNAL_SERVER_ERROR)
        return _message(HTTPStatus.OK, headers, body, head=method == "HEAD")

    def _end(self, client: socket.socket) -> None:
        del self._open[client]
        self._selector.unregister(client)
        with contextlib.suppress(OSError):
            client.close()


def _message(
    status: HTTPStatus, headers: Mapping[str, str] | None = None, body: bytes = b"", *, head: bool = False
) -> bytes:
    fields = {**(headers or {}), "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + (b"" if head else body)


def parse_address(address: int | str) -> tuple[str, int]:
    """Host and port of ``9464``, ``"9464"``, ``"localhost:9464"`` or ``"[::1]:9464"``.

    Raises:
        UsageError: it is none of these.
    """
    host, _, port = str(address).rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65536) or (
        ":" in host and host[0] + host[-1] != "[]"
    ):
        raise UsageError(f"an address to serve on is PORT or HOST:PORT, as 9464 or 0.0.0.0:9464, found {address!r}")
    return host.strip("[]") or LOOPBACK, int(port)
