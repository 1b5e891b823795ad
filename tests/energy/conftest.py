"""What the tests of meters share: work that burns CPU time, and a tree of zones without a writer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest


@pytest.fixture
def burn() -> Callable[[float], None]:
    """Uses some CPU seconds on one thread, however long that takes on a busy machine."""

    def run(cpu_s: float) -> None:
        end = time.thread_time() + cpu_s
        while time.thread_time() < end:
            sum(range(500))

    return run


@pytest.fixture
def make_zones(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    """Makes a powercap folder of zones that stand still: zone id (``intel-rapl:0:1``) to name."""

    def make(zones: Mapping[str, str]) -> Path:
        root = tmp_path / "powercap"
        for zone_id, name in zones.items():
            head, *numbers = zone_id.split(":")
            folder = root / head
            for index in range(len(numbers)):
                folder = folder / ":".join([head, *numbers[: index + 1]])
            folder.mkdir(parents=True)
            (folder / "name").write_text(name + "\n")
            (folder / "max_energy_range_uj").write_text("262143328850\n")
            (folder / "energy_uj").write_text(f"{abs(hash(zone_id)) % 10**9}\n")
            (root / zone_id).symlink_to(folder)
        return root

    return make
