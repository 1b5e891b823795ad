"""What is found on a machine, and what takes its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from greenload.energy.emulators.replay_meter import ReplayMeter
from greenload.energy.meters.base import Channel, Meter, channels_by_domain
from greenload.energy.meters.discover import discover
from greenload.energy.meters.storage import DataLocation
from greenload.errors import MeterError


def kinds(meters: list[Meter]) -> dict[str, str]:
    return {domain: channel.provenance for domain, channel in channels_by_domain(meters).items()}


def test_without_any_counter_cpu_and_dram_are_modelled(tmp_path: Path) -> None:
    meters, statuses = discover(tmp_path / "none", block_root=tmp_path / "none")
    assert kinds(meters) == {"cpu": "modelled", "dram": "modelled"}
    missing = [s for s in statuses if s.domain == "cpu" and not s.usable]
    assert missing and missing[0].provenance == "measured" and missing[0].remedy


def test_a_kind_that_is_measured_is_not_modelled(make_zones: Callable[[Mapping[str, str]], Path]) -> None:
    root = make_zones({"intel-rapl:0": "package-0"})
    meters, _ = discover(root, block_root=root / "none")
    assert kinds(meters) == {"cpu:package-0": "measured", "dram": "modelled"}


def test_one_folder_of_data_is_one_path_and_not_its_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[object]] = []

    def data_location(paths: list[object], _: object) -> DataLocation:
        asked.append(paths)
        return DataLocation(why="a test's", known=True)

    monkeypatch.setattr("greenload.energy.meters.discover.data_location", data_location)
    for data in ("data/train", tmp_path, ["data/train", tmp_path], iter(["data/train"])):
        discover(tmp_path / "none", data=data)
    assert asked == [["data/train"], [tmp_path], ["data/train", tmp_path], ["data/train"]]


def test_every_status_can_be_shown(tmp_path: Path) -> None:
    _, statuses = discover()
    for status in statuses:
        assert re.fullmatch(r"(cpu|dram|gpu|storage)(:[A-Za-z0-9_.-]+)?", status.domain)
        assert status.reason and "\n" not in status.reason + status.remedy
        assert status.meter in ("rapl", "nvml", "model", "process")
    assert {"cpu", "dram"} <= {s.domain.split(":")[0] for s in statuses if s.usable}


def test_a_replayed_meter_needs_readings_and_repeats_its_last() -> None:
    with pytest.raises(MeterError, match="at least one"):
        ReplayMeter([], [])
    meter = ReplayMeter([Channel("gpu:0", "measured")], [{"gpu:0": 1.0}, {"gpu:0": "lost"}])
    assert meter.read().counter_j == {"gpu:0": 1.0}
    assert meter.read().failed == meter.read().failed == {"gpu:0": "lost"}
