"""RAPL's hard cases: each time the right joules, or a void window that says why. Never negative, zero or silent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from mount_namespaces import private_mounts

from greenload.energy.emulators.control import EmulatedMachine, attach
from greenload.energy.emulators.layout import Power, PowercapLayout
from greenload.energy.emulators.powercap import PowercapEmulator
from greenload.energy.emulators.replay_meter import ReplayMeter
from greenload.energy.meters.base import Channel, CounterMeter
from greenload.energy.meters.discover import discover
from greenload.energy.meters.rapl import find_rapl
from greenload.energy.sampler import Mark, Sampler, Window

pytestmark = pytest.mark.alone

SERVER_J = 262143.328850
PACKAGE, DRAM = "cpu:package-0", "dram:package-0"
TWO = ("package-0", "package-1")
GIB = 2**30


def meter_of(machine: EmulatedMachine, memory_bytes: int | None = None) -> CounterMeter:
    meter, _ = find_rapl(machine.root, memory_bytes=memory_bytes)
    assert meter is not None
    return meter


def mark(machine: EmulatedMachine, sampler: Sampler) -> Mark:
    """A mark just after the counters were refreshed: a busy machine may delay the emulator's writer."""
    machine.true_energy_j(machine.domains[0])
    return sampler.mark()


def spend(seconds: float = 0.15) -> None:
    time.sleep(seconds)


def true_j(machine: EmulatedMachine, window: Window, domain: str) -> float:
    return machine.true_between(window.start_ns, window.start_ns + window.wall_ns, domain)


def assert_right(machine: EmulatedMachine, window: Window, domains: Sequence[str] = (PACKAGE,)) -> None:
    for domain in domains:
        assert domain not in window.void, window.void[domain]
        assert window.energy_j[domain] == pytest.approx(true_j(machine, window, domain), rel=0.02, abs=0.2)


def assert_void(window: Window, domain: str, says: str) -> None:
    assert domain not in window.energy_j, window.energy_j[domain]
    assert says in window.void[domain]


@contextmanager
def ordinary_user() -> Iterator[None]:
    """No root: else a file's mode would stop nobody. All threads follow, the sampler's too."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that an ordinary user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="greenload-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("at_the_wrap", [0.0, SERVER_J])
def test_a_wrap_exactly_at_a_read(at_the_wrap: float) -> None:
    """The counter may show 0 or its greatest value there."""
    counter = Channel(PACKAGE, "measured", update_s=1e-6, wrap_j=SERVER_J)
    values = [SERVER_J - 0.9, SERVER_J - 0.5, at_the_wrap, 0.4, 0.7]
    with Sampler([ReplayMeter([counter], [{PACKAGE: value} for value in values])], period_s=60.0) as sampler:
        marks = []
        for _ in values[1:]:
            time.sleep(0.001)
            marks.append(sampler.mark())
    joules = [sampler.window(start, end).energy_j[PACKAGE] for start, end in pairwise(marks)]
    assert joules == pytest.approx([0.5, 0.4, 0.3])
    assert sampler.window(marks[0], marks[-1]).energy_j[PACKAGE] == pytest.approx(1.2)


def test_several_windows_open_across_one_wrap(tmp_path: Path) -> None:
    with (
        PowercapEmulator(tmp_path, PowercapLayout(start_j={PACKAGE: SERVER_J - 2.5})) as machine,
        Sampler([meter_of(machine)]) as sampler,
    ):
        marks = []
        for _ in range(5):
            marks.append(mark(machine, sampler))
            spend(0.1)
        assert int((tmp_path / "intel-rapl:0" / "energy_uj").read_text()) < 100e6, "it has wrapped"
        for start, end in combinations(marks, 2):
            assert_right(machine, sampler.window(start, end), (PACKAGE, DRAM))


def test_a_window_longer_than_several_wraps(tmp_path: Path) -> None:
    """The sampler has to poll by itself, and to say so where a busy machine didn't let it."""
    power = Power(idle_w=600.0)
    with PowercapEmulator(tmp_path, PowercapLayout(wrap_j={PACKAGE: 150.0}), power) as machine:
        for _ in range(6):
            with Sampler([meter_of(machine)]) as sampler:
                start = mark(machine, sampler)
                spend(0.6)
                window = sampler.window(start, mark(machine, sampler))
            assert true_j(machine, window, PACKAGE) > 2 * 150.0
            if PACKAGE in window.energy_j:
                assert_right(machine, window)
                return
            assert "may wrap unseen" in window.void[PACKAGE]
    pytest.skip("this machine is too busy to poll a counter that may wrap within 0.15 s")


def test_a_range_that_isnt_known_is_no_counter(make_zones: Callable[[dict[str, str]], Path]) -> None:
    """A range of 0 (seen in guests) would have the sampler poll without end."""
    root = make_zones({"intel-rapl:0": "package-0"})
    (root / "intel-rapl:0" / "max_energy_range_uj").write_text("0\n")
    meter, (status,) = find_rapl(root)
    assert meter is None and not status.usable and "max_energy_range_uj is 0" in status.reason


def test_a_reset_in_a_window(tmp_path: Path) -> None:
    """Of one counter only: the other one's figure stays."""
    with (
        PowercapEmulator(tmp_path, PowercapLayout(start_j=9000.0)) as machine,
        Sampler([meter_of(machine)]) as sampler,
    ):
        first = mark(machine, sampler)
        spend()
        machine.reset(PACKAGE)
        second = mark(machine, sampler)
        spend()
        third = mark(machine, sampler)
        for end in (second, third):
            assert_void(sampler.window(first, end), PACKAGE, "so it was reset")
            assert_right(machine, sampler.window(first, end), (DRAM,))
        assert_right(machine, sampler.window(second, third), (PACKAGE, DRAM))


def test_permission_denied_from_the_start(public: Path) -> None:
    with PowercapEmulator(public / "powercap", PowercapLayout(packages=TWO)) as machine:
        machine.deny()
        with ordinary_user():
            meter, statuses = find_rapl(machine.root)
            assert meter is None
            assert {s.domain for s in statuses} == {f"{kind}:{name}" for kind in ("cpu", "dram") for name in TWO}
            assert all("ermission denied" in s.reason and "chmod a+r" in s.remedy for s in statuses)
        machine.allow("package-1")
        with ordinary_user():
            meter, statuses = find_rapl(machine.root)
            assert meter is not None and {c.domain for c in meter.channels} == {"cpu:package-1", "dram:package-1"}


def test_permission_lost_in_a_run_and_given_back(public: Path) -> None:
    """Void where an edge couldn't be read; right across the gap, in which the counter went on."""
    with PowercapEmulator(public / "powercap") as machine:
        with ordinary_user(), Sampler([meter_of(machine)], period_s=0.02) as sampler:
            marks = []
            for order in (machine.deny, machine.allow, None):
                marks.append(sampler.mark())
                spend(0.5)
                if order is not None:
                    order(PACKAGE)
        before, denied, after = marks
        for pair in ((before, denied), (denied, after)):
            assert_void(sampler.window(*pair), PACKAGE, "ermission denied")
            assert_right(machine, sampler.window(*pair), (DRAM,))
        assert_right(machine, sampler.window(before, after), (PACKAGE, DRAM))


def test_without_powercap_the_cpu_is_modelled_and_its_counter_stated(tmp_path: Path) -> None:
    meters, statuses = discover(tmp_path / "none")
    (rapl,) = [status for status in statuses if status.meter == "rapl"]
    assert not rapl.usable and "doesn't exist" in rapl.reason
    provenance = {c.domain: c.provenance for meter in meters for c in meter.channels}
    assert provenance["cpu"] == provenance["dram"] == "modelled"


def test_one_socket_wraps_and_one_has_no_memory_counter(tmp_path: Path) -> None:
    layout = PowercapLayout(packages=TWO, dram=("package-0",), start_j={"cpu:package-1": SERVER_J - 1.0})
    with PowercapEmulator(tmp_path, layout) as machine:
        meter, statuses = find_rapl(tmp_path)
        assert meter is not None
        (missing,) = [status for status in statuses if not status.usable]
        assert missing.domain == "dram:package-1" and "has no dram zone" in missing.reason
        with Sampler([meter]) as sampler:
            start = mark(machine, sampler)
            spend(0.3)
            window = sampler.window(start, mark(machine, sampler))
    assert set(window.energy_j) == {PACKAGE, "cpu:package-1", DRAM}
    assert_right(machine, window, tuple(window.energy_j))


@pytest.mark.parametrize(
    ("layout", "domains"),
    [
        (PowercapLayout(psys=True), {PACKAGE, DRAM}),
        (PowercapLayout(mmio=True), {PACKAGE, DRAM}),
        (
            PowercapLayout(packages=("package-0-die-0", "package-0-die-1"), dram=False, mirrored=True),
            {"cpu:package-0-die-0"},
        ),
        (
            PowercapLayout(packages=("package-0-die-0", "package-0-die-1"), mirrored=True),
            {"cpu:package-0-die-0", "dram:package-0-die-0"},
        ),
        (
            PowercapLayout(
                packages=tuple(f"package-{n}" for n in range(4)), numbers=(1, 10, 13, 15), dram=False, psys=True
            ),
            {f"cpu:package-{n}" for n in range(4)},
        ),
    ],
    ids=["psys", "mmio", "mirrored-dies", "mirrored-dram", "a-to-f-with-gaps"],
)
def test_each_joule_counts_once(tmp_path: Path, layout: PowercapLayout, domains: set[str]) -> None:
    """The counters' sum is what the machine's parts drew, and who is left out is named."""
    with PowercapEmulator(tmp_path, layout) as machine:
        meter, statuses = find_rapl(tmp_path)
        assert meter is not None
        with Sampler([meter]) as sampler:
            start = mark(machine, sampler)
            spend(0.2)
            window = sampler.window(start, mark(machine, sampler))
    assert set(window.energy_j) == domains == set(layout.domains)
    assert_right(machine, window, tuple(domains))
    top = [zone for zone in layout.zones() if zone.name not in ("core", "dram")]
    left_out = [status for status in statuses if not status.usable]
    assert all("counts twice" in status.reason for status in left_out)
    assert len(left_out) >= len(top) - sum(domain.startswith("cpu:") for domain in domains)


@pytest.mark.parametrize("seen", [True, False], ids=["polled-meanwhile", "between-two-reads"])
def test_a_package_goes_offline_and_comes_back(tmp_path: Path, seen: bool) -> None:
    """It comes back a plausible joule further: only that its files are others tells that joules are missing."""
    with (
        PowercapEmulator(tmp_path, PowercapLayout(packages=TWO, start_j=50.0)) as machine,
        Sampler([meter_of(machine)], period_s=60.0) as sampler,
    ):
        before = mark(machine, sampler)
        spend()
        machine.offline("package-1")
        if seen:
            away = mark(machine, sampler)
            assert_void(sampler.window(before, away), "cpu:package-1", "No such file")
            assert_void(sampler.window(before, away), "dram:package-1", "No such file")
        machine.online("package-1", start_j=52.0)
        back = mark(machine, sampler)
        spend()
        after = mark(machine, sampler)
        for end in (back, after):
            assert_void(sampler.window(before, end), "cpu:package-1", "was removed and came back")
            assert_right(machine, sampler.window(before, end), (PACKAGE, DRAM))
        assert_right(machine, sampler.window(back, after), ("cpu:package-1", "dram:package-1"))


def test_implausible_watts_of_memory_are_void(tmp_path: Path) -> None:
    """Four times what 40 GiB draw, as a kernel shows that doesn't know the memory's energy unit."""
    with PowercapEmulator(tmp_path, PowercapLayout(), Power(dram_idle_w=4 * 15.0)) as machine:
        windows = {}
        for gib in (40, 400):
            with Sampler([meter_of(machine, gib * GIB)]) as sampler:
                start = mark(machine, sampler)
                spend(0.3)
                windows[gib] = sampler.window(start, mark(machine, sampler))
        assert_void(windows[40], DRAM, "1 W for each of 40.0 GiB")
        assert "wrong energy unit" in windows[40].void[DRAM]
        assert_right(machine, windows[40])
        assert_right(machine, windows[400], (PACKAGE, DRAM))


def test_a_counter_that_stands_still(tmp_path: Path) -> None:
    with (
        PowercapEmulator(tmp_path) as machine,
        Sampler([meter_of(machine)], period_s=0.05) as sampler,
    ):
        before = mark(machine, sampler)
        spend()
        machine.freeze(PACKAGE)
        frozen = mark(machine, sampler)
        spend(1.2)
        still = mark(machine, sampler)
        machine.thaw(PACKAGE)
        after = mark(machine, sampler)
        assert_right(machine, sampler.window(before, frozen), (PACKAGE, DRAM))
        assert PACKAGE in sampler.window(frozen, still).void
        assert_void(sampler.window(before, still), PACKAGE, "stood still")
        assert_right(machine, sampler.window(frozen, still), (DRAM,))
        assert_right(machine, sampler.window(before, after), (PACKAGE, DRAM))


@pytest.mark.parametrize("text", ["", "\n", "-1\n", "nan\n", "12 34\n", "9" * 400, "1" * 5000])
def test_what_is_no_count_is_a_failed_read(make_zones: Callable[[dict[str, str]], Path], text: str) -> None:
    root = make_zones({"intel-rapl:0": "package-0", "intel-rapl:1": "package-1"})
    meter, _ = find_rapl(root)
    assert meter is not None
    (root / "intel-rapl:1" / "energy_uj").write_text(text)
    reading = meter.read()
    assert set(reading.counter_j) == {PACKAGE}
    assert "couldn't be read" in reading.failed["cpu:package-1"]


CHECK = """
import json, time
from greenload.energy.meters.discover import discover
from greenload.energy.emulators.control import attach
from greenload.energy.sampler import Sampler

machine = attach()
meters, _ = discover()
rapl = meters[0]
found = {"reader": rapl.reader}

def mark():
    machine.true_energy_j("cpu:package-0")
    return sampler.mark()

def window(name, order=None, *arguments):
    start = mark()
    time.sleep(0.1)
    if order is not None:
        order(*arguments)
    time.sleep(0.1)
    cut = sampler.window(start, mark())
    end_ns = cut.start_ns + cut.wall_ns
    found[name] = {
        domain: [cut.energy_j.get(domain), machine.true_between(cut.start_ns, end_ns, domain), cut.void.get(domain, "")]
        for domain in ("cpu:package-0", "dram:package-0")
    }

machine.jump(262143.328850 - 1.0, "cpu:package-0")
with Sampler(meters) as sampler:
    window("wrap")
    window("reset", machine.reset, "cpu:package-0")
    window("denied", machine.deny, "cpu:package-0")
    window("offline", machine.offline, "package-0")
    window("returned", machine.online, "package-0")
    window("after")
print(json.dumps(found))
"""


@pytest.mark.skipif(not private_mounts(), reason="needs root and a private mount namespace (unshare -m)")
def test_hard_cases_at_the_real_path_through_pyrapl(tmp_path: Path) -> None:
    """pyRAPL keeps its files open: it reads on when permission is lost, as it would with the kernel's."""
    pytest.importorskip("pyRAPL")
    emulator = [
        "unshare",
        "-m",
        sys.executable,
        "-m",
        "greenload.energy.emulators.powercap",
        "--state",
        str(tmp_path / "state"),
    ]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [*emulator, sys.executable, "-c", CHECK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("reader") == "pyRAPL"
    for name in ("wrap", "denied", "after"):
        for domain, (joules, true, void) in found[name].items():
            assert joules == pytest.approx(true, rel=0.02, abs=0.2), (name, domain, void)
    for name, says in (("reset", "so it was reset"), ("offline", "No such file"), ("returned", "No such file")):
        joules, _, void = found[name][PACKAGE]
        assert joules is None and says in void
    joules, true, _ = found["reset"][DRAM]
    assert joules == pytest.approx(true, rel=0.02, abs=0.2)
    assert attach(tmp_path / "state").true_energy_j(PACKAGE) > 5.0, "the truth is kept"
