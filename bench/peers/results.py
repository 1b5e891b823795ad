"""What windows say: CPU time an image, greenload's share of it, images per second; as rows and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.contest import Spread, cpu_s_per_image, ratios
from bench.peers import roster
from bench.peers.roster import OURS, Work
from bench.peers.running import PeerWindow


@dataclass(frozen=True)
class Result:
    """One contestant in one group."""

    group: str
    contestant: str
    work: Work
    cpu_ms: Spread
    """CPU milliseconds an image, worker processes included."""
    share: Spread | None
    """greenload's CPU time over this contestant's, round by round; ``None`` for greenload itself."""
    images_per_s: Spread

    @property
    def met(self) -> bool | None:
        """Whether greenload takes less than a contestant that does the same; ``None`` for the others."""
        return None if self.share is None or self.work.kind != "same" else self.share.median < 1.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self) | {"met": self.met}


def results(windows: Sequence[PeerWindow]) -> list[Result]:
    """A result for each contestant with settled windows, the cheapest of a group first."""
    found = []
    for group in dict.fromkeys(one.group for one in windows):
        names = dict.fromkeys(one.contestant for one in windows if one.group == group and one.settled)
        for name in names:
            try:
                share = None if name == OURS else Spread.of(ratios(windows, group, OURS, name))
            except ValueError:
                continue  # no round in which both settled
            cpu = cpu_s_per_image(windows, group, name)
            own = [one for one in windows if (one.group, one.contestant, one.settled) == (group, name, True)]
            pace = Spread.of([one.paced_images / one.wall_s for one in own])
            milliseconds = Spread(1e3 * cpu.median, 1e3 * cpu.low, 1e3 * cpu.high)
            found.append(Result(group, name, roster.named(name).groups[group], milliseconds, share, pace))
    order = {group: place for place, group in enumerate(roster.GROUPS)}
    return sorted(found, key=lambda one: (order[one.group], one.cpu_ms.median))


def restless(windows: Sequence[PeerWindow], found: Sequence[Result]) -> dict[str, str]:
    """Who has windows but no result, and why, by contestant."""
    measured = {(one.group, one.contestant) for one in found}
    lacking = dict.fromkeys((one.group, one.contestant) for one in windows)
    why = "in no round both it and greenload came to rest before and after their windows"
    return {f"{name}, {group}": why for group, name in lacking if (group, name) not in measured}


def table(found: Sequence[Result]) -> str:
    """Results as text."""
    cells = [("group", "contestant", "CPU ms/image", "greenload's share", "images/s", "", "work")]
    for one in found:
        share = "" if one.share is None else f"{one.share.median:.3f} ({one.share.low:.3f}–{one.share.high:.3f})"
        verdict = {True: "below", False: "NOT BELOW", None: ""}[one.met]
        cpu = f"{one.cpu_ms.median:.3f} ({one.cpu_ms.low:.3f}–{one.cpu_ms.high:.3f})"
        cells.append((one.group, one.contestant, cpu, share, f"{one.images_per_s.median:.0f}", verdict, one.work.label))
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells)
