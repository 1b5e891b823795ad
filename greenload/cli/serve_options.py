"""The option ``--serve``: a profile that Prometheus can scrape."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

from greenload.cli import interrupt
from greenload.cli.output import tell
from greenload.errors import UsageError

if TYPE_CHECKING:
    from greenload.energy.meters.base import MeterStatus
    from greenload.energy.sampler import Sampler
    from greenload.report.prometheus import Metrics, Server

_STOPS = (signal.SIGINT, signal.SIGTERM)


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--serve",
        nargs="?",
        const="9464",
        type=_address,
        default=None,
        metavar="[HOST:]PORT",
        help="for Prometheus: serve progress and counters at /metrics, then the figures until interrupted (port 9464)",
    )


@dataclass(frozen=True)
class Serving:
    """A running endpoint and what it shows."""

    metrics: Metrics
    server: Server

    @contextmanager
    def watch(self, sampler: Sampler, statuses: Sequence[MeterStatus]) -> Iterator[None]:
        """Show the counters of the profile's own sampler while it runs, and then what they said last."""
        self.metrics.attach(sampler, statuses)
        try:
            yield
        finally:
            self.metrics.detach()

    def until_interrupted(self) -> None:
        """Serve on until Ctrl-C, or until SIGTERM, by which services are stopped."""
        signals: SimpleQueue[int] = SimpleQueue()  # unlike an Event it may be filled by a handler at any time
        interrupt.expected = True
        main = threading.current_thread() is threading.main_thread()
        before = {number: signal.signal(number, lambda stop, _: signals.put(stop)) for number in _STOPS} if main else {}
        try:
            tell(f"serving {self.server.url} until interrupted")
            signals.get()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def serving(address: str | None) -> Iterator[Serving | None]:
    """Serve how far the profile is; None where no address was given.

    Raises:
        UsageError: it can't be served there; before any work.
    """
    if address is None:
        yield None
        return
    from greenload.report.prometheus import Metrics, serve

    metrics = Metrics()
    metrics.progress(0.0)
    with serve(metrics, address) as server:
        tell(f"serving {server.url}")
        yield Serving(metrics, server)


def _address(text: str) -> str:
    from greenload.system.endpoint import parse_address

    try:
        parse_address(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(f"{error}; before a pipeline's name write --serve=9464") from None
    return text
