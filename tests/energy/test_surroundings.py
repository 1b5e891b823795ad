"""Containers, virtual machines and shares of CPUs, from trees of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from greenload.energy.meters.discover import discover
from greenload.energy.meters.model import VCPU_IDLE_W, ModelMeter
from greenload.energy.meters.rapl import RaplMeter, find_rapl
from greenload.energy.meters.surroundings import Surroundings, look
from greenload.energy.meters.zones import read_text
from greenload.machine import usable_cpus

CPUINFO = "processor\t: 0\nmodel name\t: Example 9000\nflags\t\t: fpu sse avx2{}\n"


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


BARE = {"proc/cpuinfo": CPUINFO.format("")}
GUEST = {"proc/cpuinfo": CPUINFO.format(" hypervisor")}
LOADED = {"sys/module/intel_rapl_msr/initstate": "live"}


@pytest.mark.parametrize(
    ("files", "environ", "powercap", "wanted"),
    [
        (BARE, {}, True, "modprobe intel_rapl_msr"),
        (BARE, {}, False, "built without powercap"),
        ({**BARE, **LOADED}, {}, True, "doesn't know this processor (Example 9000)"),
        (GUEST, {}, True, "virtual machine (its maker isn't named)"),
        ({**GUEST, "sys/class/dmi/id/sys_vendor": "QEMU\n"}, {}, False, "virtual machine (QEMU)"),
        ({**GUEST, ".dockerenv": ""}, {}, False, "virtual machine"),
        ({**BARE, ".dockerenv": ""}, {}, True, "container (Docker)"),
        ({**BARE, "run/.containerenv": ""}, {}, True, "container (Podman)"),
        ({**BARE, "run/systemd/container": "lxc\n"}, {}, False, "container (lxc)"),
        ({**BARE, "run/host/container-manager": "systemd-nspawn\n"}, {}, True, "container (systemd-nspawn)"),
        ({**BARE, "proc/1/cgroup": "0::/system.slice/docker-1f.scope\n"}, {}, True, "container (Docker)"),
        ({**BARE, "proc/1/cgroup": "0::/init.scope\n"}, {}, True, "modprobe intel_rapl_msr"),
        (BARE, {"container": "lxc"}, True, "container (lxc)"),
        (BARE, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True, "container (Kubernetes)"),
    ],
)
def test_what_is_in_the_way_of_counters_is_told_apart(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: Mapping[str, str],
    environ: Mapping[str, str],
    powercap: bool,
    wanted: str,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    root = tree(tmp_path, files)
    remedy = look(root, environ).rapl_remedy(powercap)
    assert wanted in remedy and "\n" not in remedy
    assert ("modprobe" in remedy) == (wanted.startswith("modprobe"))
    folder = root / "sys/class/powercap"
    if powercap:
        folder.mkdir(parents=True)
    _, statuses = discover(folder, environ=environ, block_root=root / "none", root=root)
    assert remedy in [status.remedy for status in statuses if status.domain == "cpu" and not status.usable]


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64")])
def test_other_systems_and_processors_have_none(system: str, machine: str) -> None:
    remedy = Surroundings(system, machine, "", "", "", driver=False).rapl_remedy(False)
    assert "modprobe" not in remedy and (machine if system == "Linux" else system) in remedy


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "25000 100000\n"}, 0.25),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n"}, 0.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "75000 100000\n"}, 0.75),
        ({"proc/self/cgroup": "0::/not/seen/here\n", "sys/fs/cgroup/cpu.max": "30000 100000\n"}, 0.3),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/1f\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/cpu.max": "what\n"}, None),
    ],
)
def test_the_least_quota_of_nested_groups_counts(
    tmp_path: Path, files: Mapping[str, str], wanted: float | None
) -> None:
    assert usable_cpus(tree(tmp_path, files)) == (len(os.sched_getaffinity(0)) if wanted is None else wanted)


def test_the_modelled_idle_power_is_of_the_cpus_that_may_be_used(tmp_path: Path) -> None:
    def idle_w() -> float:
        meters, _ = discover(tmp_path / "none", environ={}, block_root=tmp_path / "none", root=tmp_path)
        (model,) = [meter for meter in meters if isinstance(meter, ModelMeter)]
        assert any(f"the {usable_cpus(tmp_path):g} CPUs" in status.reason for status in model.statuses())
        return model.idle_power_w()["cpu"]

    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert idle_w() == pytest.approx(VCPU_IDLE_W)
        tree(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"})
        assert idle_w() == pytest.approx(VCPU_IDLE_W / 2)
    finally:
        os.sched_setaffinity(0, before)


def test_zones_of_one_name_count_both_where_their_counters_differ(
    make_zones: Callable[[Mapping[str, str]], Path],
) -> None:
    names = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "dram", "intel-rapl:1": "package-0"}
    root = make_zones({**names, "intel-rapl:1:0": "dram", "intel-rapl-mmio:0": "package-0"})

    def found() -> tuple[RaplMeter, list[str]]:
        meter, statuses = find_rapl(root, read_text)
        assert meter is not None
        return meter, [status.reason for status in statuses if not status.usable]

    for number, path in enumerate(sorted(root.glob("intel-rapl:*/**/energy_uj"))):
        path.write_text(f"{1000 + number}\n")
    meter, left_out = found()
    assert set(meter.read().counter_j) == {
        *("cpu:package-0", "dram:package-0", "cpu:intel-rapl.1", "dram:intel-rapl.1"),
    }
    assert len(left_out) == 1 and "intel-rapl-mmio:0 repeats" in left_out[0]

    for path in root.glob("intel-rapl:*/**/energy_uj"):
        path.write_text("1000\n" if path.parent.name.count(":") == 1 else "10\n")
    meter, left_out = found()
    assert set(meter.read().counter_j) == {"cpu:package-0", "dram:package-0"}
    assert sum("mirrors" in reason for reason in left_out) == 2
