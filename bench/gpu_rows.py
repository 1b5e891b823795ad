"""What ``bench.gpu`` measured, as rows: medians, the table, and what they say of its reach."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

WITHIN = 0.03
"""How far greenload may lie behind hand-written DALI, as a share of it."""
GREENLOAD, BY_HAND, IN_TENSORFLOW = "greenload", "handwritten", "tensorflow"


@dataclass(frozen=True)
class Setting:
    """One configuration that both contestants run."""

    batch: int
    dtype: str
    hw_load: float | None
    augmented: bool = False

    def __str__(self) -> str:
        load = "-" if self.hw_load is None else f"{self.hw_load:g}"
        more = ", augmented" if self.augmented else ""
        return f"batch {self.batch}, {self.dtype}, hardware decoder {load}{more}"


@dataclass(frozen=True)
class Window:
    """What one contestant did in one window."""

    contestant: str
    setting: Setting
    round: int
    images: int
    wall_s: float
    host_cpu_s: float
    gpu_energy_j: float | None
    gpu_jpeg_engine_percent: float | None


def summary(windows: list[Window], idle: float | None) -> list[dict[str, Any]]:
    """Medians over rounds, a row a setting and contestant."""
    rows = []
    for setting in dict.fromkeys(window.setting for window in windows):
        for name in (GREENLOAD, BY_HAND, IN_TENSORFLOW):
            mine = [w for w in windows if w.setting == setting and w.contestant == name]
            if not mine:
                continue
            gross = [w.gpu_energy_j / w.images for w in mine if w.gpu_energy_j is not None]
            net = [
                (w.gpu_energy_j - idle * w.wall_s) / w.images
                for w in mine
                if w.gpu_energy_j is not None and idle is not None
            ]
            rows.append(
                {
                    "setting": asdict(setting),
                    "contestant": name,
                    "images_per_s": statistics.median(w.images / w.wall_s for w in mine),
                    "host_cpu_s_per_image": statistics.median(w.host_cpu_s / w.images for w in mine),
                    "gpu_j_per_image": statistics.median(gross) if gross else None,
                    "gpu_j_per_image_net_of_idle": statistics.median(net) if net else None,
                }
            )
    return rows


def reach(rows: list[dict[str, Any]], why_not: dict[str, str], on_gpu: bool) -> list[str]:
    """A line for each contestant and setting: whether it is within ``WITHIN`` of hand-written DALI, or why that isn't
    known.

    Args:
        rows: as ``summary`` gives them.
        why_not: why contestants were left out, by name.
        on_gpu: whether it was on a GPU: nothing else counts.
    """
    lines = []
    for name in (GREENLOAD, IN_TENSORFLOW):
        if name in why_not:
            lines.append(f"{name} against {BY_HAND}: not run: {why_not[name]}")
        for row in (row for row in rows if row["contestant"] == name):
            other = next(r for r in rows if r["contestant"] == BY_HAND and r["setting"] == row["setting"])
            found = []
            for key, unit, sign in (("images_per_s", "images/s", 1), ("gpu_j_per_image", "joules", -1)):
                if not on_gpu:
                    found.append(f"{unit} not run: no GPU")
                elif row[key] is None or other[key] is None:
                    found.append(f"{unit} not run: no energy counter")
                else:
                    ratio = row[key] / other[key]
                    met = ratio >= 1 - WITHIN if sign > 0 else ratio <= 1 + WITHIN
                    bound = f"at least {1 - WITHIN:.2f}" if sign > 0 else f"at most {1 + WITHIN:.2f}"
                    found.append(f"{unit} {ratio:.3f} ({bound}: {'met' if met else 'MISSED'})")
            lines.append(f"{name} against {BY_HAND}, {Setting(**row['setting'])}: {', '.join(found)}")
    return lines


def table(rows: list[dict[str, Any]]) -> str:
    """The summary as text."""
    lines = ["batch dtype    work         hw contestant    images/s host CPU ms   GPU mJ   net mJ"]
    for row in rows:
        setting = row["setting"]
        load = "-" if setting["hw_load"] is None else f"{setting['hw_load']:g}"
        joules = [row["gpu_j_per_image"], row["gpu_j_per_image_net_of_idle"]]
        shown = ["-" if value is None else f"{value * 1e3:.3f}" for value in joules]
        lines.append(
            f"{setting['batch']:>5} {setting['dtype']:8} {'augmented' if setting['augmented'] else 'plain':9} "
            f"{load:>5} {row['contestant']:12} {row['images_per_s']:>9.0f} "
            f"{row['host_cpu_s_per_image'] * 1e3:>11.4f} {shown[0]:>8} {shown[1]:>8}"
        )
    return "\n".join([*lines, "per image; net: less the GPU's idle power"])
