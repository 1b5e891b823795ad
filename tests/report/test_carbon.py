"""Grams of CO₂e from joules: figures worked out by hand, what is left out, and what is refused."""

from __future__ import annotations

import json
import math

import pytest

from greenload.energy.figures import Figure
from greenload.energy.meters.base import COUNTS_TWICE, MeterStatus
from greenload.errors import UsageError
from greenload.report.carbon import GIVEN, WORLD, Carbon, estimate_carbon


def measured(value: float, half: float = 0.0) -> Figure:
    return Figure(value, value - half, value + half, "measured")


def status(domain: str, reason: str = "none here", usable: bool = False) -> MeterStatus:
    return MeterStatus(domain, "measured", usable, reason, "", "rapl")


def test_36_millijoules_are_ten_watt_hours_a_million() -> None:
    """0.036 J × 10⁶ = 36 kJ = 0.01 kWh; at 475 g/kWh 4.75 g, in a facility of PUE 1.2 5.7 g."""
    found = estimate_carbon({"cpu:package-0": measured(0.036, 0.0036)}, ())
    assert found.g_per_million_samples.value == pytest.approx(4.75)
    assert found.g_per_million_samples.half_width == pytest.approx(0.475)
    assert (found.g_per_kwh, found.factor, found.pue) == (475.0, WORLD, 1.0)
    found = estimate_carbon({"cpu:package-0": measured(0.036)}, (), g_per_kwh=50, pue=1.2)
    assert found.g_per_million_samples.value == pytest.approx(0.6)
    assert found.factor == GIVEN


def test_domains_add_up_and_keep_their_interval_provenance_and_band() -> None:
    joules = {
        "cpu:package-0": measured(0.018, 0.003),
        "cpu:package-1": measured(0.009, 0.004),
        "dram": Figure(0.009, 0.009, 0.009, "modelled", systematic=0.4),
    }
    found = estimate_carbon(joules, (), g_per_kwh=100)
    grams = found.g_per_million_samples
    assert grams.value == pytest.approx(1.0) and found.domains == tuple(joules)
    assert grams.half_width == pytest.approx(0.007 / 0.036), "sockets share their errors"
    assert found.measured_share == pytest.approx(0.75)
    assert grams.provenance == "modelled"
    assert grams.systematic == pytest.approx(0.1), "40 % of a quarter of the joules"


def test_a_whole_machines_model_is_not_added_to_its_parts() -> None:
    joules = {"cpu": Figure(9.0, 9.0, 9.0, "modelled", 0.5), "cpu:package-0": measured(0.036)}
    found = estimate_carbon(joules, ())
    assert found.domains == ("cpu:package-0",) and found.g_per_million_samples.value == pytest.approx(4.75)


def test_what_is_missing_is_named_and_never_zero() -> None:
    joules = {"cpu:package-0": measured(0.036), "dram:package-0": Figure.missing()}
    meters = (
        status("cpu:package-0", "readable", usable=True),
        status("cpu:package-1", "permission denied"),
        status("cpu:psys", f"contains other zones: {COUNTS_TWICE}"),
        status("gpu", "no NVIDIA driver is loaded"),
    )
    found = estimate_carbon(joules, meters)
    assert found.missing == (
        "dram:package-0: no figure in this profile",
        "cpu:package-1: permission denied",
        "gpu: no NVIDIA driver is loaded",
        "storage: no meter",
    )
    assert found.g_per_million_samples.value == pytest.approx(4.75)


def test_a_model_of_the_whole_kind_covers_its_unreadable_parts() -> None:
    names = ("cpu", "dram", "gpu:0", "storage:vda")
    found = estimate_carbon(
        {name: measured(0.01) for name in names}, (status("cpu:package-0"), status("cpu"), status("gpu:1"))
    )
    assert found.missing == ("gpu:1: none here",)


def test_nothing_known_is_missing() -> None:
    found = estimate_carbon({"cpu": Figure.missing("modelled", 0.5)}, ())
    assert found.measured_share is None
    assert found.g_per_million_samples.value is None and "cpu: no figure in this profile" in found.missing


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_a_factor_is_positive(factor: float) -> None:
    with pytest.raises(UsageError, match="grid factor is a positive number"):
        estimate_carbon({}, (), g_per_kwh=factor)


@pytest.mark.parametrize("pue", [0.99, 0.0, -1.2, math.nan, math.inf])
def test_a_pue_is_one_or_more(pue: float) -> None:
    with pytest.raises(UsageError, match="a PUE is 1 or more"):
        estimate_carbon({}, (), pue=pue)


def test_it_comes_back_from_json() -> None:
    found = estimate_carbon({"cpu:package-0": measured(0.036, 0.001)}, (status("gpu"),), g_per_kwh=33.5, pue=1.1)
    assert Carbon.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    earlier = found.to_dict()
    assert earlier.pop("measured_share") == 1.0 and Carbon.from_dict(earlier).measured_share is None
