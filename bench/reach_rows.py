"""The rows of ``bench.reach``: what was asked, and what was measured beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.contest import Row, Spread, Window, cpu_s_per_image, ratios
from bench.reach_pace import Pace, gains
from bench.reach_subjects import (
    ANTIALIASED,
    CACHED,
    CACHED_FLOAT,
    CACHED_UINT8,
    COPIES,
    COPY,
    DISK,
    EVALUATION,
    FLOAT,
    FLOOR,
    FORMER,
    GREENLOAD,
    HALF,
    OPENCV,
    PACKED,
    PLAIN,
    RAM,
    SHARES,
    SMALL,
    STREAMING,
    TEXTBOOK,
    TUNED,
)

EPOCHS = 90
PACE_LEAST, HALF_REACH, EPOCHS_REACH = 1.6, 1.05, 0.06


@dataclass(frozen=True)
class Asked:
    """The CPU time of one contestant over that of another."""

    group: str
    ours: str
    theirs: str
    reach: float | None
    text: str = ""
    """In place of their names."""


ASKED = (
    Asked(PLAIN, GREENLOAD, TUNED, 0.62),
    Asked(ANTIALIASED, GREENLOAD, TUNED, 0.30),
    Asked(PLAIN, GREENLOAD, FLOOR, 0.75),
    Asked(ANTIALIASED, GREENLOAD, FLOOR, 0.75, f"greenload over {FLOOR}, which doesn't antialias"),
    Asked(PLAIN, PACKED, TUNED, 0.45, "from pack --transcode over hand-tuned on plain files"),
    Asked(ANTIALIASED, PACKED, TUNED, 0.23, "from pack --transcode over hand-tuned on plain files"),
    Asked(CACHED, RAM, OPENCV, 0.85),
    Asked(CACHED, RAM, COPY, None, f"{RAM} over {COPY} (moonshot: 2)"),
    Asked(CACHED, DISK, RAM, 1.2),
    *(Asked(CACHED, name, STREAMING, 1.0) for name in (DISK, *SHARES)),
    Asked(SMALL, GREENLOAD, TUNED, 0.15),
    Asked(SMALL, GREENLOAD, FORMER, 0.6, "greenload over pillow, which auto chose before"),
    Asked(FLOAT, GREENLOAD, TEXTBOOK, 0.40),
    Asked(EVALUATION, GREENLOAD, TUNED, 0.35, "greenload over tf.data's antialiased resize"),
)


HOW = (
    "CPU times are of the whole process, user and system, from settled window to settled window; all use two threads.",
    "hand-tuned: tf.data that decodes just the window, INTEGER_ACCURATE, on a private pool; windows are drawn alike.",
    f"{FLOOR}, OpenCV from RAM, copying: no framework, two Python threads, buffers used again; never antialiased.",
    "Shares of a set are of its bytes as YCbCr planes, in which a cache keeps a set that fits.",
    f"{EPOCHS} epochs in all: the first is run, on the set listed {COPIES} times; the others, and all of the "
    "textbook's, cost what windows say. Planning and building graphs are left out.",
    "peak memory: VmHWM of processes of their own. A cache's is what it adds to the pipeline, less the bytes it keeps.",
    "images per second: wall time, once the batches held ready are used up; nothing else may run on the machine.",
    "own clocks: the kernel in one thread, beside itself built with a clock that stands still and costs nothing.",
)
"""What the rows mean."""


@dataclass(frozen=True)
class Preparation:
    """A first epoch, which fills an empty cache."""

    contestant: str
    turn: int
    images: int
    cpu_s: float
    """Of the process, from its first batch to its last; planning and building the graph left out."""
    wall_s: float


def compared(windows: Sequence[Window]) -> tuple[list[Row], list[str]]:
    """A row for each of ``ASKED`` that was measured, and for half a set; and what could not be, of groups that ran."""
    groups = {window.group for window in windows}
    rows, lacking = [], []
    for asked in (one for one in ASKED if one.group in groups):
        text = f"{asked.group}: {asked.text or f'{asked.ours} over {asked.theirs}'}"
        try:
            rows.append(Row(text, "×", Spread.of(ratios(windows, asked.group, asked.ours, asked.theirs)), asked.reach))
        except ValueError:  # no round has both
            lacking.append(text)
    if over := half_over_mean(windows):
        text = f"{CACHED}: {HALF} over the mean of {RAM} and {STREAMING}"
        rows.append(Row(text, "×", Spread.of(over), HALF_REACH))
    return rows, lacking


def half_over_mean(windows: Sequence[Window]) -> list[float]:
    """What half a set in the cache costs over the mean of all and none of it, a ratio a round."""
    costs = {(w.contestant, w.round): w.cpu_s / w.images for w in windows if w.group == CACHED and w.settled}
    rounds = sorted({k for _, k in costs})
    names = HALF, RAM, STREAMING
    whole = [k for k in rounds if all((name, k) in costs for name in names)]
    return [2 * costs[HALF, k] / (costs[RAM, k] + costs[STREAMING, k]) for k in whole]


def in_all(windows: Sequence[Window], preparations: Sequence[Preparation]) -> list[Row]:
    """90 epochs of greenload, the first with an empty cache, over 90 of the textbook's.

    The first epoch was run as it is; the other 89 are taken to cost what windows on later epochs cost, and the
    textbook's epochs what its windows cost. Each first epoch is put together with the windows of one build.
    """
    rows = []
    for name, text in ((CACHED_FLOAT, "float32"), (CACHED_UINT8, "uint8, normalised on the accelerator")):
        first = {one.turn: one.cpu_s / one.images for one in preparations if one.contestant == name}
        costs = {(w.contestant, w.round): w for w in windows if w.group == FLOAT and w.settled}
        shares = []
        for (contestant, k), window in costs.items():
            textbook = costs.get((TEXTBOOK, k))
            if contestant == name and textbook is not None and window.build in first:
                ours = first[window.build] + (EPOCHS - 1) * window.cpu_s / window.images
                shares.append(ours / (EPOCHS * textbook.cpu_s / textbook.images))
        if shares:
            what = f"{EPOCHS} epochs in all, preparation included: cached, {text}, over {TEXTBOOK}"
            rows.append(Row(what, "×", Spread.of(shares), EPOCHS_REACH))
        if first:
            spread = Spread.of([cost * 1e3 for cost in first.values()])
            rows.append(Row(f"first epoch, which fills the cache: {text}", "ms/image", spread))
    return rows


def costs(windows: Sequence[Window]) -> list[Row]:
    """What an image costs each contestant."""
    rows = []
    for group, name in dict.fromkeys((window.group, window.contestant) for window in windows if window.settled):
        cost = cpu_s_per_image(windows, group, name)
        rows.append(Row(f"{group}: {name}", "ms/image", Spread(cost.median * 1e3, cost.low * 1e3, cost.high * 1e3)))
    return rows


def speeds(paces: Sequence[Pace]) -> list[Row]:
    """Images per second against hand-tuned tf.data, and of each."""
    rows = []
    for group in dict.fromkeys(pace.group for pace in paces):
        gain = Spread.of(gains(list(paces), group, GREENLOAD, TUNED))
        rows.append(Row(f"{group}: images per second, greenload over {TUNED}", "×", gain, least=PACE_LEAST))
        for name in (GREENLOAD, TUNED):
            each = [pace.images_per_s for pace in paces if (pace.group, pace.contestant) == (group, name)]
            rows.append(Row(f"{group}: {name}", "images/s", Spread.of(each)))
    return rows


def curve(windows: Sequence[Window]) -> list[str]:
    """What an image of a later epoch costs, by how much of the set the cache may keep."""
    present = {window.contestant for window in windows if window.group == CACHED and window.settled}
    lines = []
    for place, whole in (("in RAM", RAM), ("on disk", DISK)):
        names = [whole, *(name for name, (_, where) in SHARES.items() if where == place), STREAMING]
        measured = [name for name in names if name in present]
        points = [f"{name} {cpu_s_per_image(windows, CACHED, name).median * 1e3:.3f}" for name in measured]
        if points:
            lines.append(f"CPU ms an image of later epochs, cache {place}: {'; '.join(points)}")
    return lines
