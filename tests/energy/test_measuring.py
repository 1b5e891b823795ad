"""``measure`` around any code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from greenload.energy.emulator import PowercapEmulator
from greenload.energy.meter import Channel, ReplayMeter
from greenload.errors import MeterError
from greenload.measuring import measure


def test_measured_joules_with_provenance_and_interval(tmp_path: Path, burn: Callable[[float], None]) -> None:
    with PowercapEmulator(tmp_path) as machine, measure(powercap_root=tmp_path) as window:
        true = machine.true_energy_j("cpu:package-0")
        burn(0.3)
        true = machine.true_energy_j("cpu:package-0") - true
    figure = window.energy_j["cpu:package-0"]
    assert figure.value == pytest.approx(true, rel=0.1)
    assert figure.provenance == window.provenance["cpu:package-0"] == "measured"
    assert figure.value is not None and figure.low is not None and figure.high is not None
    assert 0 < figure.low < figure.value < figure.high
    assert window.wall_s >= 0.3 and 0.3 <= window.cpu_s < 1.0
    assert "cpu:package-0" in repr(window)


def test_modelled_joules_carry_their_band(tmp_path: Path) -> None:
    with measure(powercap_root=tmp_path / "none") as window:
        sum(range(100_000))
    figure = window.energy_j["cpu"]
    assert figure.provenance == "modelled" and figure.systematic >= 0.4
    assert figure.value == pytest.approx(2.76 * window.cpu_s)
    assert figure.low == figure.value == figure.high


def test_figures_are_there_when_the_block_raised_and_meters_are_closed() -> None:
    meter = ReplayMeter([Channel("gpu:0", "measured")], [{"gpu:0": value} for value in (1.0, 2.0, 5.0)])
    with pytest.raises(ValueError, match="mine"), measure((([meter]), [])) as window:
        raise ValueError("mine")
    assert window.energy_j["gpu:0"].value == 3.0
    assert meter.closed


def test_reading_too_soon_is_refused() -> None:
    with measure(([], [])) as window, pytest.raises(MeterError, match="after the with"):
        _ = window.cpu_s
    assert window.cpu_s >= 0


def test_a_missing_figure_says_why() -> None:
    meter = ReplayMeter([Channel("gpu:0", "measured")], [{"gpu:0": "the GPU is lost"}])
    with measure(([meter], [])) as window:
        pass
    assert window.void == {"gpu:0": "the GPU is lost"}
    with pytest.raises(MeterError, match="the GPU is lost"):
        _ = window.energy_j["gpu:0"]
    with pytest.raises(MeterError, match="no meter for 'cpu'"):
        _ = window.energy_j["cpu"]
