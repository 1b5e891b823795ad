"""The command top: what the steps of a running process's watched datasets do, interval by interval."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shlex
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greenload.cli.arguments import AddCommand, check_writable
from greenload.cli.output import OK, say, tell, write_json
from greenload.cli.quitting import Wait, quitting
from greenload.errors import ReportError, UsageError
from greenload.system import processes
from greenload.text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from greenload.profiling.in_place.live import Live
    from greenload.profiling.in_place.published import PublishedFile, PublishedPort
    from greenload.profiling.in_place.status import Status

INTERVAL_S = 2.0
"""Seconds between two tables."""
SILENCE_S = 10.0
"""A process that publishes says something every second: after so long without a word it can't."""
_SHOWN = 60
"""Characters of a command line in a list of processes."""
_DESCRIPTION = """It uses gl.watch(dataset), or is run by greenload watch. q or Ctrl-C ends this, and the last table
stays. GREENLOAD_STATUS=off in the training publishes nothing; an absolute path there, for both, names the folder."""
_BUFFERS_S = 10.0
"""Seconds of which the mean is that tells who waits for whom."""


def add_command(add: AddCommand) -> None:
    """Add the command to the parser."""
    summary = "follow a running training: what each step of its watched datasets costs now"
    top = add("top", _top, summary)
    top.description = f"{summary[0].upper()}{summary[1:]}. {_DESCRIPTION}"
    top.add_argument(
        "process",
        nargs="?",
        metavar="PID|[HOST]:PORT",
        help="the process, or the port of its EnergyCallback (default: the one that there is)",
    )
    top.add_argument(
        "--interval",
        type=_seconds,
        default=INTERVAL_S,
        metavar="SECONDS",
        help="time between two tables (default %(default)s)",
    )
    top.add_argument("--once", action="store_true", help="end after one table")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"must be 0.1 to 86400 seconds, not {text!r}")
    return value


@dataclass(frozen=True)
class _Span:
    """What a process said at the begin and at the end of an interval."""

    before: Status
    after: Status
    earlier: Status
    """From which on buffers are looked at: there are few looks in an interval."""

    def live(self) -> Live:
        from greenload.profiling.in_place.status import span

        return span(self.before, self.after)


def _top(options: argparse.Namespace) -> int:
    check_writable(options.json)
    source = _source(options.process)
    first = source.read()
    on_screen = not options.once and _is_screen()
    last: _Span | None = None
    ended = ""
    try:
        with quitting(keys=on_screen) as wait, _shown_on(on_screen) as show:
            for last in _spans(source, first, wait, options):
                show(_table(last))
                if options.once:
                    break
    except ReportError as error:
        if last is None:
            raise
        ended = str(error)
    finally:  # also where a signal ends it: what was measured is kept
        if last is not None:
            if on_screen:
                say(_table(last))
            write_json(options.json, _data(_Span(first, last.after, first), last))
    if ended:
        tell(f"greenload: {ended}")
    return OK


def _spans(
    source: PublishedFile | PublishedPort, first: Status, wait: Wait, options: argparse.Namespace
) -> Iterator[_Span]:
    """What a process does, interval by interval, until the user wants no more.

    Raises:
        Gone: it has ended.
    """
    from greenload.profiling.in_place.published import Gone, Idle

    before, heard_s, said = first, time.monotonic(), False
    past = deque([first])
    while wait(options.interval):
        try:
            after = source.read()
        except Idle:
            if options.once:
                raise
            continue  # as between two datasets of one training
        if (after.pid, after.identity) != (before.pid, before.identity):
            raise Gone(f"process {before.pid} has ended, and {source.name} is another's now")
        if after.time_s > before.time_s:
            while len(past) > 1 and past[0].time_s < after.time_s - max(_BUFFERS_S, options.interval):
                past.popleft()
            yield _Span(before, after, past[0])
            past.append(after)
            before, heard_s, said = after, time.monotonic(), False
        elif not said and time.monotonic() - heard_s > max(SILENCE_S, 3 * options.interval):
            silence = (
                f"{source.name} runs, but has said nothing for {time.monotonic() - heard_s:.0f} s: it is stopped, or a "
                "call holds its interpreter"
            )
            if options.once:
                raise Gone(silence)
            tell(f"greenload: {silence}")
            said = True


def _source(process: str | None) -> PublishedFile | PublishedPort:
    from greenload.profiling.in_place.published import PublishedPort, find

    if process is not None and not (process.isascii() and process.isdigit()):
        with contextlib.suppress(UsageError):
            if ":" in process:
                return PublishedPort.parse(process)
        raise UsageError(f"a process is a PID, or HOST:PORT as 127.0.0.1:9464, found {process!r}")
    files = find()
    if process is not None:
        for file in files:
            if file.pid == int(process):
                return file
        raise ReportError(_unpublished(process))
    if not files:
        raise ReportError(
            "no process of this user tells what its datasets do: use gl.watch(dataset) in one that runs, run its "
            "script by greenload watch, or name the port of an EnergyCallback: greenload top :9464"
        )
    if len(files) > 1:
        named = "; ".join(f"{file.pid} {_command(file)}" for file in files)
        raise UsageError(f"{len(files)} processes tell what their datasets do: name one of {named}")
    return files[0]


def _unpublished(pid: str) -> str:
    if not processes.identity(int(pid)):
        return f"no process {pid} runs: leave it out to see which there are"
    return (
        f"process {pid} tells nothing of its datasets: use gl.watch(dataset) in it, or run it by greenload watch, as "
        "this user, and without GREENLOAD_STATUS=off"
    )


def _command(file: PublishedFile) -> str:
    try:
        command = shlex.join(file.read().command)
    except ReportError:
        return "?"
    return command if len(command) <= _SHOWN else f"{command[:_SHOWN]}…"


def _is_screen() -> bool:
    """Whether standard output is a terminal on which a table can be replaced."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")


@contextlib.contextmanager
def _shown_on(screen: bool) -> Iterator[Any]:
    """Shows a table after the other: in place on a terminal, whose content comes back; else below each other."""
    if not screen:
        yield say
        return
    from rich.console import Console
    from rich.live import Live as Screen
    from rich.text import Text

    console = Console()
    waiting = Text("waiting for the first interval; q ends", "dim")
    with Screen(waiting, console=console, screen=True, auto_refresh=False, redirect_stderr=False) as shown:
        shown.refresh()
        yield lambda table: shown.update(table, refresh=True)


def _table(span: _Span) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from greenload.profiling.in_place.live_table import render_live
    from greenload.report.columns import Sentence

    status, live = span.after, span.live()
    age = _duration(status.written - status.started)
    when = time.strftime("%H:%M:%S", time.localtime(status.written))
    command = printable(shlex.join(status.command))
    title = Sentence(Text.assemble((f"process {status.pid}", "bold"), f": {command} · {age} · {when}"))
    lines: list[RenderableType] = [title, render_live(live)]
    lines += [Sentence(sentence) for sentence in _waiting(span)]
    lines += [Sentence(printable(note), "dim") for note in (*_machine_watts(span, live), *status.notes)]
    return Group(*lines, "")


def _waiting(span: _Span) -> Iterator[str]:
    """Who waits for whom, where the runtime tells."""
    from greenload.profiling.in_place.model import verdict

    before = {each.number: each.model for each in span.earlier.datasets}
    for dataset in span.after.datasets:
        seconds = span.after.time_s - span.earlier.time_s
        if said := verdict(before.get(dataset.number, {}), dataset.model, seconds):
            yield printable(f"{dataset.name or 'dataset'}: {said}")


def _machine_watts(span: _Span, live: Live) -> Iterator[str]:
    """What meters say of the whole machine, where its idle power isn't known, and so no step's joules are."""
    before, after = span.before.energy, span.after.energy
    for domain, count in after.items():
        if domain in before and domain not in live.energy_j and count.seconds > before[domain].seconds:
            watts = (count.joules - before[domain].joules) / (count.seconds - before[domain].seconds)
            yield (f"{domain}: {watts:,.1f} W {count.provenance} of the whole machine, with its idle power")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(0, int(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _data(whole: _Span, last: _Span) -> dict[str, Any]:
    """What was seen, as JSON data: of all the time, and of the last interval."""
    status = whole.after
    return {
        "process": {"pid": status.pid, "command": list(status.command), "machine": dict(status.machine)},
        "whole": whole.live().to_dict(),
        "last": last.live().to_dict(),
    }
