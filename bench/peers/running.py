"""A contestant's process, and windows of several of them in turns."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.by_hand import Workload
from bench.contest import Window, same_looks
from bench.peers import environments, roster
from bench.peers.roster import OURS, Contestant

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 300.0
"""Seconds until a process that doesn't answer is given up; Numba's compiling and a cache's filling take the longest."""


class Failed(Exception):
    """A contestant can't run, or has ended; the message says why."""


@dataclass(frozen=True)
class PeerWindow(Window):
    """A window of which wall time counts a part: the batches that were held ready at its beginning are left out."""

    paced_images: int
    """Images that passed within ``wall_s``."""


class Running:
    """A process that makes batches when asked: ``bench.peers.worker``."""

    def __init__(
        self, contestant: Contestant, group: str, work: Workload, scratch: Path, patience_s: float = PATIENCE_S
    ) -> None:
        self.contestant, self._patience_s = contestant, patience_s
        scratch.mkdir(parents=True, exist_ok=True)
        task, self._log = scratch / "task.json", scratch / "stderr"
        task.write_text(
            json.dumps({"contestant": contestant.name, "group": group, "work": asdict(work), "scratch": str(scratch)})
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(interpreter(contestant)), "-m", "bench.peers.worker", str(task)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=scratch,
                env={**os.environ, **ENVIRONMENT},
                start_new_session=True,
            )
        try:
            self.versions: dict[str, str] = self._answer()["versions"]
        except BaseException:
            self.close()
            raise

    def ask(self, question: str, images: int) -> dict[str, Any]:
        """What the worker answers to ``look`` or ``run``.

        Raises:
            Failed: it has ended, or doesn't answer.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which the missing answer shows
            self._process.stdin.write(f"{question} {images}\n".encode())
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        output = self._process.stdout
        assert output is not None
        if not select.select([output], [], [], self._patience_s)[0]:
            raise Failed(f"it didn't answer within {self._patience_s:.0f} s")
        line = output.readline()
        if not line:
            raise Failed(f"its process has ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"

    def close(self) -> None:
        """End the process and its workers."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()


ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
"""What all contestants find in their environment, beyond the caller's."""


def interpreter(contestant: Contestant) -> Path:
    """The Python that a contestant runs in.

    Raises:
        Failed: its environment isn't there.
    """
    if contestant.environment == roster.OWN:
        return Path(sys.executable)
    if why := environments.missing(contestant.environment):
        raise Failed(why)
    return environments.named(contestant.environment).python


@dataclass
class Found:
    """What a contest has found so far."""

    windows: list[PeerWindow] = field(default_factory=list)
    looks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By group and contestant: what batches are."""
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    """By contestant and package."""
    left_out: dict[str, str] = field(default_factory=dict)
    """By contestant: why it doesn't take part any more."""


def contest(
    groups: Sequence[str],
    contestants: Sequence[Contestant],
    work: Workload,
    scratch: Path,
    *,
    builds: int,
    rounds: int,
    images: int,
    note: Callable[[str], None] = lambda text: None,
    patience_s: float = PATIENCE_S,
) -> Found:
    """Run contestants in turns, group by group; those that can't are left out, with the reason.

    Each build starts every process anew. In a round each makes one window, in shuffled order, while the others rest.

    Args:
        groups: of ``roster.GROUPS``.
        contestants: greenload among them, which the others' batches are compared with.
        work: the photographs, and with what means they are loaded.
        scratch: a folder for what contestants keep on disk.
        builds: how often all are started.
        rounds: windows of each in a build.
        images: in a window, at least; whole batches.
        note: told what runs now.
        patience_s: seconds until a process that doesn't answer is given up.
    """
    found, order = Found(), random.Random(0)
    for group in groups:
        for build in range(builds):
            with ExitStack() as stack:
                running = []
                for one in roster.of_group(group, contestants):
                    if one.name not in found.left_out:
                        note(f"{group}: build {build + 1} of {builds}: {one.name} starts")
                        with _left_out_if_it_fails(one, found, note):
                            started = Running(one, group, work, scratch / f"{group}-{build}-{len(running)}", patience_s)
                            stack.callback(started.close)
                            if build == 0:
                                _look(found, started, group, 2 * len(work.paths))
                            running.append(started)
                for turn in range(build * rounds, (build + 1) * rounds):
                    note(f"{group}: round {turn + 1} of {builds * rounds}")
                    order.shuffle(running)
                    for started in running:
                        one = started.contestant
                        if one.name not in found.left_out:
                            with _left_out_if_it_fails(one, found, note):
                                answer = started.ask("run", images)
                                found.windows.append(PeerWindow(group, one.name, build, turn, **answer))
    return found


@contextmanager
def _left_out_if_it_fails(one: Contestant, found: Found, note: Callable[[str], None]) -> Iterator[None]:
    """What goes wrong with a contestant is noted, and is the reason why it is left out."""
    try:
        yield
    except (Failed, ValueError) as error:
        found.left_out[one.name] = str(error)
        note(f"{one.name} is left out: {error}")


def _look(found: Found, started: Running, group: str, images: int) -> None:
    """Keep what a contestant's batches are, and the versions of what makes them.

    Raises:
        ValueError: they aren't what greenload's are.
    """
    name = started.contestant.name
    found.versions[name] = started.versions
    looks = found.looks.setdefault(group, {})
    looks[name] = started.ask("look", images)
    if name != OURS and OURS in looks:
        same_looks(group, {OURS: looks[OURS], name: looks[name]}, images, ours=OURS)
