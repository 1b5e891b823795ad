"""Which disk holds some data, through every layer there is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from greenload.energy.meters.base import channels_by_domain
from greenload.energy.meters.discover import discover
from greenload.energy.meters.storage import (
    DISK,
    FLASH,
    NVME,
    SATA,
    UNKNOWN,
    DataLocation,
    Disk,
    StorageClass,
    System,
    data_location,
    disk_at,
    joint_class,
    mount_of,
    mounts,
    physical_disks,
)


class Kernel:
    """A sysfs, mounts and device numbers that say what a test wants."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sys = root / "sys"
        for folder in ("block", "dev/block", "class/block", "devices"):
            (self.sys / folder).mkdir(parents=True)
        self.lines: list[str] = []
        self.numbers: dict[str, int] = {}

    def device(
        self, number: str, path: str, texts: Mapping[str, str] | None = None, slaves: tuple[str, ...] = ()
    ) -> Path:
        """A block device's folder below ``devices``, with its links."""
        entry = self.sys / "devices" / path
        entry.mkdir(parents=True, exist_ok=True)
        for name, text in (texts or {}).items():
            (entry / name).parent.mkdir(parents=True, exist_ok=True)
            (entry / name).write_text(text + "\n")
        for slave in slaves:
            (entry / "slaves").mkdir(exist_ok=True)
            (entry / "slaves" / slave).symlink_to((self.sys / "class/block" / slave).resolve())
        (self.sys / "dev/block" / number).symlink_to(entry)
        (self.sys / "class/block" / entry.name).symlink_to(entry)
        if not (entry / "partition").exists():
            (self.sys / "block" / entry.name).symlink_to(entry)
        return entry

    def mount(self, point: str, kind: str, source: str, number: str = "0:40", options: str = "rw") -> None:
        self.lines.append(
            f"{30 + len(self.lines)} 1 {number} / {point} rw,relatime shared:1 - {kind} {source} {options}"
        )
        major, minor = map(int, number.split(":"))
        self.numbers[point] = os.makedev(major, minor)

    @property
    def system(self) -> System:
        file = self.root / "mountinfo"
        file.write_text("\n".join(self.lines) + "\n")

        def number(path: str) -> int:
            inside = (point for point in self.numbers if f"{path}/".startswith(f"{point.rstrip('/')}/"))
            return self.numbers[max(inside, key=len)]

        return System(self.sys, file, number)

    def where(self, *paths: str) -> DataLocation:
        return data_location(paths, self.system)


REAL = {"queue/rotational": "0", "device/model": "Example 2 TB"}


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """An NVMe drive with two partitions, a SATA drive, and a hard disk."""
    made = Kernel(tmp_path.resolve())
    made.device("259:0", "pci0/nvme/nvme0/nvme0n1", {**REAL, "device/transport": "pcie"})
    made.device("259:1", "pci0/nvme/nvme0/nvme0n1/nvme0n1p1", {"partition": "1"})
    made.device("259:2", "pci0/nvme/nvme0/nvme0n1/nvme0n1p2", {"partition": "2"})
    made.device("8:0", "pci0/ata1/block/sda", REAL)
    made.device("8:16", "pci0/ata2/block/sdb", {**REAL, "queue/rotational": "1"})
    made.mount("/", "ext4", "/dev/nvme0n1p2", "259:2")
    return made


def test_a_file_on_a_partition_is_on_its_drive(kernel: Kernel) -> None:
    assert kernel.where("/data/train") == DataLocation((Disk("nvme0n1", NVME, "Example 2 TB"),))


def test_the_mount_that_holds_the_file_decides(kernel: Kernel) -> None:
    kernel.mount("/data", "xfs", "/dev/sdb", "8:16")
    kernel.mount("/data/fast", "xfs", "/dev/sda", "8:0")
    assert [disk.name for disk in kernel.where("/data/x").disks] == ["sdb"]
    assert [disk.name for disk in kernel.where("/data/fast/x").disks] == ["sda"]
    assert kernel.where("/database/x").name == "nvme0n1", "a mount holds what is below it, not what begins like it"
    both = kernel.where("/data/x", "/data/fast/x", "/data/fast/y")
    assert both.name == "all" and [disk.name for disk in both.disks] == ["sda", "sdb"]
    assert both.storage == StorageClass("SATA flash or hard disk", 2.0, 22.5)


def test_through_encryption_and_volumes(kernel: Kernel) -> None:
    kernel.device("252:0", "virtual/block/dm-0", slaves=("nvme0n1p1",))
    kernel.device("252:1", "virtual/block/dm-1", slaves=("dm-0",))
    kernel.mount("/home", "ext4", "/dev/mapper/vg-home", "252:1")
    assert kernel.where("/home/me/data").name == "nvme0n1"


def test_through_raid_to_all_its_disks(kernel: Kernel) -> None:
    kernel.device("9:0", "virtual/block/md0", slaves=("sda", "sdb"))
    kernel.mount("/raid", "ext4", "/dev/md0", "9:0")
    assert [disk.name for disk in kernel.where("/raid/x").disks] == ["sda", "sdb"]


def test_through_a_loop_device_to_the_disk_of_its_file(kernel: Kernel) -> None:
    kernel.mount("/data", "xfs", "/dev/sdb", "8:16")
    kernel.device("7:0", "virtual/block/loop0", {"loop/backing_file": "/data/image.squashfs"})
    kernel.mount("/snap", "squashfs", "/dev/loop0", "7:0")
    assert kernel.where("/snap/x").name == "sdb"


def test_a_loop_on_itself_ends(kernel: Kernel) -> None:
    kernel.device("7:0", "virtual/block/loop0", {"loop/backing_file": "/snap/image"})
    kernel.mount("/snap", "squashfs", "/dev/loop0", "7:0")
    assert not kernel.where("/snap/x").known and "layers deep" in kernel.where("/snap/x").why


def test_btrfs_numbers_are_its_own(kernel: Kernel) -> None:
    kernel.mount("/pool", "btrfs", "/dev/sdb", "0:51")
    assert kernel.where("/pool/x").name == "sdb"


def test_an_overlay_is_where_its_layer_is(kernel: Kernel) -> None:
    upper, lower = kernel.root / "upper", kernel.root / "lower"
    for layer in (upper, lower):
        (layer / "data").mkdir(parents=True)
    (upper / "data" / "new.jpg").touch()
    (lower / "data" / "old.jpg").touch()
    kernel.mount(str(upper), "ext4", "/dev/sda", "8:0")
    kernel.mount(str(lower), "ext4", "/dev/sdb", "8:16")
    kernel.mount("/merged", "overlay", "overlay", options=f"rw,lowerdir=/nowhere:{lower},upperdir={upper},workdir=/w")
    assert kernel.where("/merged/data/new.jpg").name == "sda"
    assert kernel.where("/merged/data/old.jpg").name == "sdb"
    kernel.mount("/hidden", "overlay", "overlay", options="rw,lowerdir=/on/the/host,upperdir=/on/the/host/too")
    hidden = kernel.where("/hidden/x")
    assert not hidden.known and "can't be seen from inside" in hidden.why


@pytest.mark.parametrize(
    ("kind", "source", "why"),
    [
        ("tmpfs", "tmpfs", "in memory (tmpfs)"),
        ("nfs4", "server:/export", "network file system (nfs4)"),
        ("fuse.sshfs", "me@server:/data", "network file system (fuse.sshfs)"),
    ],
)
def test_no_device_is_said_and_is_no_failure(kernel: Kernel, kind: str, source: str, why: str) -> None:
    kernel.mount("/there", kind, source)
    place = kernel.where("/there/x")
    assert place.disks == () and place.known and why in place.why and place.name == "" and place.storage is None


def test_what_names_no_device_is_a_failure_that_says_so(kernel: Kernel) -> None:
    kernel.mount("/tank", "zfs", "tank/data")
    assert not kernel.where("/tank/x").known and "file system (zfs) names no device" in kernel.where("/tank/x").why
    kernel.mount("/gone", "ext4", "/dev/gone", "8:99")
    assert not kernel.where("/gone/x").known and "8:99 is missing" in kernel.where("/gone/x").why
    assert not data_location([]).known


@pytest.mark.parametrize(
    ("path", "texts", "found"),
    [
        ("pci0/nvme/nvme0/nvme0n1", {**REAL, "device/transport": "pcie"}, NVME),
        ("pci0/nvme/nvme0/nvme0n1", {**REAL, "device/nvme0/transport": "pcie"}, NVME),
        ("pci0/nvme/nvme0/nvme0n1", {**REAL, "device/transport": "tcp"}, None),
        ("virtual/nvme-subsys0/nvme0n1", {**REAL, "device/nvme1/transport": "rdma"}, None),
        ("pci0/nvme/nvme0/nvme0n1", {"device/model": "Amazon Elastic Block Store"}, UNKNOWN),
        ("pci0/nvme/nvme0/nvme0n1", {"device/model": "QEMU NVMe Ctrl"}, UNKNOWN),
        ("pci0/ata1/block/sda", REAL, SATA),
        ("pci0/ata1/block/sda", {**REAL, "queue/rotational": "1"}, DISK),
        ("pci0/ata1/block/sda", {"device/model": "VBOX HARDDISK", "queue/rotational": "1"}, UNKNOWN),
        ("pci0/virtio2/host0/block/sda", REAL, UNKNOWN),
        ("platform/host1/session1/target1/block/sda", REAL, None),
        ("pci0/host1/rport-1:0-2/block/sda", REAL, None),
        ("pci0/virtio1/block/vda", {"queue/rotational": "1"}, UNKNOWN),
        ("virtual/block/xvda", {}, UNKNOWN),
        ("virtual/block/nbd0", {}, None),
        ("virtual/block/rbd0", {}, None),
        ("pci0/mmc0/block/mmcblk0", REAL, FLASH),
    ],
)
def test_the_class_of_a_disk(tmp_path: Path, path: str, texts: dict[str, str], found: StorageClass | None) -> None:
    assert disk_at(Kernel(tmp_path.resolve()).device("8:0", path, texts)).storage is found


def test_only_physical_disks_count(tmp_path: Path) -> None:
    for name, rotational in (("nvme0n1", "0"), ("sda", "1"), ("sr0", "1"), ("mmcblk0boot0", "0")):
        (tmp_path / name / "device").mkdir(parents=True)
        (tmp_path / name / "queue").mkdir()
        (tmp_path / name / "queue" / "rotational").write_text(rotational + "\n")
    (tmp_path / "dm-0").mkdir()
    (tmp_path / "loop0").mkdir()
    assert physical_disks(tmp_path) == (Disk("nvme0n1", NVME), Disk("sda", DISK))
    (tmp_path / "nvme0c1n1" / "device").mkdir(parents=True)
    assert len(physical_disks(tmp_path)) == 2, "a path to a drive isn't another drive"
    assert physical_disks(tmp_path / "none") == ()


def test_a_joint_class_has_the_range_of_all() -> None:
    assert joint_class([]) is None and joint_class([NVME, NVME]) is NVME
    both = joint_class([NVME, DISK])
    assert both is not None and (both.low_j_per_gb, both.high_j_per_gb) == (0.5, 22.5)
    assert DataLocation((Disk("nvme0n1", NVME), Disk("nbd0", None))).storage is None, (
        "a part without a figure is no zero"
    )


def test_mounts_are_read_as_the_kernel_writes_them() -> None:
    text = r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue" + "\nnonsense\n"
    (mount,) = mounts(text)
    assert (mount.point, mount.type, mount.source) == ("/mnt 2", "ext3", "/dev/root")
    assert mount.options == {"rw": "", "errors": "continue"}
    assert mount_of("/mnt 2/x", [mount]) is mount and mount_of("/mnt 20", [mount]) is None


def test_here_a_file_is_on_one_of_the_disks() -> None:
    place = data_location([__file__])
    if not place.known or not place.disks:
        pytest.skip(f"no disk can be seen here: {place.why}")
    assert set(place.disks) <= set(physical_disks())


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mkfs.ext4") is None, reason="mounts: needs root and mkfs.ext4")
def test_a_real_loop_device_in_a_real_overlay(tmp_path: Path) -> None:
    here = data_location([tmp_path])
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    look = (
        "from greenload.energy.meters.storage import data_location; import sys; print(data_location(sys.argv[1:]).name)"
    )
    script = f"""set -e
    cd {tmp_path}; mkdir lower work upper merged; mount -o loop image lower; touch lower/old upper/new
    mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged
    {sys.executable} -c "{look}" lower/old; {sys.executable} -c "{look}" merged/old merged/new"""
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True)
    if "permission denied" in done.stderr or "failed to setup loop" in done.stderr or "Operation not" in done.stderr:
        pytest.skip(f"can't mount here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [here.name, here.name]


def test_discover_takes_the_disk_of_the_data(tmp_path: Path) -> None:
    place = data_location([tmp_path])
    meters, statuses = discover(tmp_path / "none", data=[tmp_path])
    found = [name for name in channels_by_domain(meters) if name.startswith("storage")]
    assert found == ([f"storage:{place.name}"] if place.storage else [])
    memory = Path("/dev/shm")
    if data_location([memory]).why:
        meters, statuses = discover(tmp_path / "none", data=[memory])
        assert not [name for name in channels_by_domain(meters) if name.startswith("storage")]
        assert any("no joules of storage: /dev/shm is in memory" in s.reason and not s.usable for s in statuses)
    meters, statuses = discover(tmp_path / "none", data=["/proc/self/io"])
    assert any("names no device: taken for any of this machine's disks" in status.reason for status in statuses)
