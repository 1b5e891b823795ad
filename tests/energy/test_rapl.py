"""Enumeration of powercap zones, and reading them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from greenload.energy.meters.pyrapl import fits
from greenload.energy.meters.rapl import find_rapl
from greenload.energy.meters.zones import POWERCAP_ROOT, read_text

MakeZones = Callable[[Mapping[str, str]], Path]


def usable(root: Path, read: Callable[[Path], str] = read_text) -> dict[str, str]:
    """Usable domains with the zone each is read from."""
    _, statuses = find_rapl(root, read)
    return {s.domain: Path(s.reason.split(",")[0]).parent.name for s in statuses if s.usable}


def test_dram_is_its_own_domain_and_core_is_part_of_its_package(make_zones: MakeZones) -> None:
    root = make_zones({"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:0:1": "dram"})
    assert usable(root) == {"cpu:package-0": "intel-rapl:0", "dram:package-0": "intel-rapl:0:1"}


def test_hexadecimal_numbers_and_gaps(make_zones: MakeZones) -> None:
    root = make_zones({"intel-rapl:2": "package-0", "intel-rapl:a": "package-1", "intel-rapl:a:1": "dram"})
    assert usable(root) == {
        "cpu:package-0": "intel-rapl:2",
        "cpu:package-1": "intel-rapl:a",
        "dram:package-1": "intel-rapl:a:1",
    }


def test_psys_and_mmio_copies_are_left_out_and_said(make_zones: MakeZones) -> None:
    root = make_zones(
        {
            "intel-rapl:0": "package-0",
            "intel-rapl:1": "psys",
            "intel-rapl-mmio:0": "package-0",
            "intel-rapl-mmio:0:0": "dram",
        }
    )
    assert usable(root) == {"cpu:package-0": "intel-rapl:0", "dram:package-0": "intel-rapl-mmio:0:0"}
    _, statuses = find_rapl(root)
    left_out = {s.domain: s.reason for s in statuses if not s.usable}
    assert set(left_out) == {"cpu:psys", "cpu:intel-rapl-mmio.0"}
    assert all("twice" in reason for reason in left_out.values())


def test_dies_that_mirror_one_counter_count_once(make_zones: MakeZones) -> None:
    zones = {"intel-rapl:0": "package-0-die-0", "intel-rapl:1": "package-0-die-1", "intel-rapl:2": "package-1-die-0"}
    root = make_zones(zones)
    assert len(usable(root)) == 3
    (root / "intel-rapl:1" / "energy_uj").write_text((root / "intel-rapl:0" / "energy_uj").read_text())
    assert set(usable(root)) == {"cpu:package-0-die-0", "cpu:package-1-die-0"}


def test_permission_denied_is_unusable_with_a_remedy_never_zero(make_zones: MakeZones) -> None:
    """An injected reader denies: tests may run as root, whom a file's mode doesn't stop."""

    def denied(path: Path) -> str:
        if path.name == "energy_uj" and ":1" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path)

    root = make_zones({"intel-rapl:0": "package-0", "intel-rapl:1": "package-1"})
    meter, statuses = find_rapl(root, denied)
    assert meter is not None
    assert set(meter.read().counter_j) == {"cpu:package-0"}
    (status,) = [s for s in statuses if not s.usable]
    assert status.domain == "cpu:package-1"
    assert "permission denied" in status.reason and "energy_uj" in status.reason
    assert "chmod a+r" in status.remedy


def test_a_copy_that_can_be_read_stands_for_a_package_that_cannot(make_zones: MakeZones) -> None:
    """The memory-mapped interface counts the same package; where it is denied, too, the first is named."""

    def denying(*parts: str) -> Callable[[Path], str]:
        def read(path: Path) -> str:
            if path.name == "energy_uj" and any(part in str(path) for part in parts):
                raise PermissionError(13, "Permission denied", str(path))
            return read_text(path)

        return read

    root = make_zones({"intel-rapl:0": "package-0", "intel-rapl:0:0": "dram", "intel-rapl-mmio:0": "package-0"})
    denied = denying("intel-rapl:0/energy_uj")
    assert usable(root, denied) == {"cpu:package-0": "intel-rapl-mmio:0", "dram:package-0": "intel-rapl:0:0"}
    (status,) = [one for one in find_rapl(root, denied)[1] if not one.usable]
    assert status.domain == "cpu:intel-rapl.0" and status.reason.endswith("adding it counts twice")
    assert status.reason.startswith(f"{root / 'intel-rapl:0'} can't be read, and {root / 'intel-rapl-mmio:0'}")
    for parts, left in ((("mmio",), "intel-rapl:0"), (("mmio", "intel-rapl:0/energy_uj"), None)):
        assert usable(root, denying(*parts)).get("cpu:package-0") == left
    both = find_rapl(root, denying("mmio", "intel-rapl:0/energy_uj"))[1]
    (package,) = [one for one in both if one.domain == "cpu:package-0"]
    assert f"{root / 'intel-rapl:0' / 'energy_uj'}: permission denied" in package.reason


def test_all_denied_is_no_meter(make_zones: MakeZones) -> None:
    def denied(path: Path) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path)

    meter, statuses = find_rapl(make_zones({"intel-rapl:0": "package-0"}), denied)
    assert meter is None
    assert [s.usable for s in statuses] == [False]


def test_a_masked_zone_is_named(make_zones: MakeZones) -> None:
    root = make_zones({"intel-rapl:0": "package-0"})
    (root / "intel-rapl:0" / "name").unlink()
    meter, (status,) = find_rapl(root)
    assert meter is None
    assert "intel-rapl:0" in status.reason and "container" in status.remedy


def test_no_powercap_at_all(tmp_path: Path) -> None:
    meter, (status,) = find_rapl(tmp_path / "none")
    assert meter is None
    assert not status.usable and "doesn't exist" in status.reason and status.remedy


def test_a_zone_that_vanishes_fails_alone(make_zones: MakeZones) -> None:
    root = make_zones({"intel-rapl:0": "package-0", "intel-rapl:1": "package-1"})
    meter, _ = find_rapl(root)
    assert meter is not None
    (root / "intel-rapl:1" / "energy_uj").unlink()
    reading = meter.read()
    assert set(reading.counter_j) == {"cpu:package-0"}
    assert "couldn't be read" in reading.failed["cpu:package-1"]


def test_a_die_that_vanishes_while_dies_are_compared_stops_nothing(make_zones: MakeZones) -> None:
    root = make_zones({"intel-rapl:0": "package-0-die-0", "intel-rapl:1": "package-0-die-1"})
    reads = []

    def vanishing(path: Path) -> str:
        reads.append(path)
        if path == root / "intel-rapl:1" / "energy_uj" and reads.count(path) > 1:
            raise OSError(19, "No such device", str(path))
        return read_text(path)

    meter, _ = find_rapl(root, vanishing)
    assert meter is not None
    reading = meter.read()
    assert (
        set(reading.counter_j) == {"cpu:package-0-die-0"} and "No such device" in reading.failed["cpu:package-0-die-1"]
    )


def test_microjoules_become_joules(make_zones: MakeZones) -> None:
    root = make_zones({"intel-rapl:0": "package-0"})
    (root / "intel-rapl:0" / "energy_uj").write_text("123456789\n")
    meter, _ = find_rapl(root)
    assert meter is not None
    assert meter.read().counter_j["cpu:package-0"] == 123.456789
    assert meter.channels[0].wrap_j == 262143.32885


@pytest.mark.parametrize(
    ("zone_ids", "expected"),
    [
        ({"cpu:package-0": "intel-rapl:0"}, True),
        ({"cpu:package-0": "intel-rapl:0", "dram:package-0": "intel-rapl:0:1"}, True),
        ({"cpu:package-0": "intel-rapl:0", "cpu:package-1": "intel-rapl:1", "dram:package-0": "intel-rapl:0:1"}, False),
        ({"cpu:package-0": "intel-rapl:a"}, False),
        ({"cpu:package-0-die-1": "intel-rapl:0"}, False),
        ({"cpu:package-0": "intel-rapl-mmio:0"}, False),
        ({"dram:package-0": "intel-rapl:0:1"}, False),
    ],
)
def test_pyrapl_is_used_only_where_its_layout_holds(zone_ids: dict[str, str], expected: bool) -> None:
    assert fits(zone_ids) is expected


def test_the_real_root_is_what_pyrapl_is_fixed_to() -> None:
    assert Path("/sys/class/powercap") == POWERCAP_ROOT
