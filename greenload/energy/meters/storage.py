"""Which storage device holds some data, of what class it is, and what moving a byte costs there.

Below a file lie its mount, perhaps an overlay's or a loop device's own files, a partition, device mapper or RAID, and
at last disks. The kernel tells each layer: the device's number by stat(2), the file system by ``/proc/self/mountinfo``
(proc_pid_mountinfo(5)), the block devices by ``/sys/dev/block`` and ``slaves`` below it (ABI/stable/sysfs-block).

Joules per byte are those that a transfer adds to a drive's idle power: active power less idle power over the rate, of
data sheets and reviews. A data sheet's best rate isn't always reached, so the ranges are wide:

- NVMe: 3–8 W at 3–7 GB/s: 0.5–3 J/GB.
- SATA flash: 2–4 W, 0.3–1 W of it idle, at 0.5 GB/s: 2–7.5 J/GB.
- hard disks: 2–6 W over idle at 0.25 GB/s: 7.5–22.5 J/GB streaming; seeks of small files cost more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from greenload.system.kernel_files import kernel_text

# Of a drive with several controllers the kernel lists each path (nvme0c1n1) beside the drive itself (nvme0n1).
_NOT_STORAGE = re.compile(r"(sr|fd)\d+$|mmcblk\d+(boot|rpmb)|nvme\d+c\d+n\d+$")
_VIRTUAL_NAMES = ("vd", "xvd")
# Models that hypervisors and clouds give their volumes: neither the rotational flag nor the interface is the disk's.
_VIRTUAL_MODELS = re.compile(
    r"QEMU|VBOX|VMware|Virtual|PersistentDisk|nvme_card|Elastic Block Store|MSFT NVMe",
    re.IGNORECASE,
)
_NETWORK_DISKS = ("nbd", "rbd", "drbd")
_MEMORY_TYPES = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
_NETWORK_TYPES = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "ocfs2"}
    | {"orangefs", "pvfs2", "smb3", "smbfs", "virtiofs", "wekafs"}
)
_DEEPEST = 16
"""Layers below a file up to which its disks are looked for: a loop of links would have no end."""


@dataclass(frozen=True, slots=True)
class StorageClass:
    """Joules per GB (10⁹ bytes) moved, as a centre and the relative band that covers the published range."""

    name: str
    low_j_per_gb: float
    high_j_per_gb: float

    @property
    def j_per_byte(self) -> float:
        """The centre of the range, per byte."""
        return (self.low_j_per_gb + self.high_j_per_gb) / 2 / 1e9

    @property
    def systematic(self) -> float:
        """Half the range over its centre: centre × (1 ± systematic) is the published range."""
        return (self.high_j_per_gb - self.low_j_per_gb) / (self.high_j_per_gb + self.low_j_per_gb)


NVME = StorageClass("NVMe", 0.5, 3.0)
SATA = StorageClass("SATA flash", 2.0, 7.5)
FLASH = StorageClass("flash", 0.5, 7.5)
"""Flash behind another interface, as a memory card."""
DISK = StorageClass("hard disk", 7.5, 22.5)
UNKNOWN = StorageClass("virtual: flash or hard disk", 0.5, 22.5)
"""A virtual machine's disk doesn't tell what is under it: the range of all."""


def joint_class(classes: Iterable[StorageClass]) -> StorageClass | None:
    """The class of data that lies on any of several classes of device: the range of all; None of none."""
    distinct = sorted(set(classes), key=lambda storage: storage.name)
    if len(distinct) < 2:
        return distinct[0] if distinct else None
    return StorageClass(
        " or ".join(storage.name for storage in distinct),
        min(storage.low_j_per_gb for storage in distinct),
        max(storage.high_j_per_gb for storage in distinct),
    )


@dataclass(frozen=True, slots=True)
class Disk:
    """A block device that isn't made of others.

    Example:
        >>> Disk("nvme0n1", NVME, "Example 2 TB").storage.j_per_byte
        1.75e-09
    """

    name: str
    """The kernel's name, ``"nvme0n1"``."""
    storage: StorageClass | None
    """What moving a byte costs; None where it goes over a network to devices that aren't this machine's."""
    model: str = ""
    """What the maker or the hypervisor calls it; empty where it doesn't say."""


@dataclass(frozen=True, slots=True)
class DataLocation:
    """Where some data lies: the devices that hold it."""

    disks: tuple[Disk, ...] = ()
    """The devices, by name; none where `why` says so."""
    why: str = ""
    """Why there is no device: in memory, over a network, or unknown."""
    known: bool = True
    """Whether the lack of a device is a fact, as with memory, and not a failure to find it."""

    @property
    def name(self) -> str:
        """The device's name, ``"all"`` of several, ``""`` of none."""
        return "" if not self.disks else self.disks[0].name if len(self.disks) == 1 else "all"

    @property
    def storage(self) -> StorageClass | None:
        """The joint class of the devices; None where that of any isn't known."""
        classes = [disk.storage for disk in self.disks]
        return None if None in classes else joint_class(storage for storage in classes if storage is not None)


def device_number(path: str) -> int:
    """The number of the device that holds a file."""
    return os.stat(path).st_dev


@dataclass(frozen=True)
class System:
    """Where the kernel tells about mounts and devices; other paths in tests."""

    sys: Path = Path("/sys")
    mountinfo: Path = Path("/proc/self/mountinfo")
    device: Callable[[str], int] = device_number
    """stat(2)'s ``st_dev`` of a file."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    point: str
    type: str
    source: str
    options: Mapping[str, str]


def mounts(text: str) -> Iterator[Mount]:
    """The mounts of a mountinfo file, in order: a later one hides an earlier one of the same point.

    Example:
        >>> next(mounts("27 1 254:0 / /data rw shared:1 - ext4 /dev/vda rw,discard")).type
        'ext4'
    """
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        fields, rest = left.split(), right.split()
        if dash and len(fields) >= 5 and len(rest) >= 2:
            options = dict(option.partition("=")[::2] for option in _plain(rest[2]).split(",")) if len(rest) > 2 else {}
            yield Mount(_plain(fields[4]), rest[0], _plain(rest[1]), options)


def _plain(text: str) -> str:
    """mountinfo writes blanks and the like in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def mount_of(path: str, table: Sequence[Mount]) -> Mount | None:
    """The mount that holds an absolute path: the longest point before it, the last of those."""
    best = None
    for mount in table:
        inside = mount.point == "/" or path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def data_location(paths: Iterable[str | os.PathLike[str]], system: System | None = None) -> DataLocation:
    """What holds some files. A few will do, one for each folder or mount.

    Args:
        paths: files or folders; one that is missing leaves it unknown.
        system: where to look.

    Returns:
        The disks that hold them, through partitions, device mapper, RAID, loop devices and overlays.

    Example:
        >>> data_location(["data/train"]).name      # doctest: +SKIP
        'nvme0n1'
    """
    system = system or System()
    locations = [_locate(os.path.realpath(path), system, 0) for path in paths]
    if not locations:
        return DataLocation(why="no file is known to be read", known=False)
    unknown = [location for location in locations if not location.known]
    if unknown:
        return unknown[0]
    disks = {disk.name: disk for location in locations for disk in location.disks}
    if not disks:
        return locations[0]
    return DataLocation(tuple(disks[name] for name in sorted(disks)))


def _locate(path: str, system: System, depth: int) -> DataLocation:
    if depth > _DEEPEST:
        return DataLocation(why=f"{path}: its devices lie more than {_DEEPEST} layers deep", known=False)
    try:
        table = list(mounts(system.mountinfo.read_text(errors="surrogateescape")))
        number = system.device(path)
    except OSError as error:
        return DataLocation(why=f"{path}: the device that holds it can't be told ({error.strerror})", known=False)
    mount = mount_of(path, table)
    kind = mount.type if mount else ""
    if kind in _MEMORY_TYPES:
        return DataLocation(why=f"{path} is in memory ({kind})")
    if kind in _NETWORK_TYPES or (kind.startswith("fuse.") and mount and ":" in mount.source):
        return DataLocation(why=f"{path} is on a network file system ({kind}): the devices are not this machine's")
    if os.major(number):
        return _by_number(os.major(number), os.minor(number), system, depth)
    if mount and kind in ("overlay", "overlayfs"):
        return _in_overlay(path, mount, system, depth)
    if mount and mount.source.startswith("/dev/"):  # btrfs gives its subvolumes numbers of their own
        entry = system.sys / "class" / "block" / os.path.basename(os.path.realpath(mount.source))
        if entry.exists():
            return _below(entry.resolve(), system, depth)
    return DataLocation(why=f"{path}: its file system ({kind or 'unknown'}) names no device", known=False)


def _in_overlay(path: str, mount: Mount, system: System, depth: int) -> DataLocation:
    """The layer of an overlay that holds a file, where its folders can be seen from here."""
    inner = os.path.relpath(path, mount.point)
    layers = [mount.options.get("upperdir", ""), *mount.options.get("lowerdir", "").split(":")]
    for layer in filter(None, layers):
        if os.path.lexists(inside := os.path.join(layer, inner)):
            return _locate(os.path.realpath(inside), system, depth + 1)
    return DataLocation(why=f"{path}: is in an overlay whose layers can't be seen from inside", known=False)


def _by_number(major: int, minor: int, system: System, depth: int) -> DataLocation:
    entry = system.sys / "dev" / "block" / f"{major}:{minor}"
    if not entry.exists():
        return DataLocation(why=f"{entry} is missing: the device can't be told", known=False)
    return _below(entry.resolve(), system, depth)


def _below(entry: Path, system: System, depth: int) -> DataLocation:
    """The disks below a block device's folder."""
    if depth > _DEEPEST:
        return DataLocation(why=f"{entry.name}: its devices lie more than {_DEEPEST} layers deep", known=False)
    if (entry / "partition").exists():
        return _below(entry.parent, system, depth + 1)
    slaves = sorted((entry / "slaves").iterdir()) if (entry / "slaves").is_dir() else []
    if slaves:
        locations = [_below(slave.resolve(), system, depth + 1) for slave in slaves]
        without_disk = next((location for location in locations if not location.disks), None)
        disks = {disk for location in locations for disk in location.disks}
        return without_disk or DataLocation(tuple(sorted(disks, key=lambda disk: disk.name)))
    backing = kernel_text(entry / "loop" / "backing_file").strip()
    if backing:
        return _locate(backing, system, depth + 1)
    if entry.name.startswith(("ram", "zram")):
        return DataLocation(why=f"{entry.name} is in memory")
    return DataLocation((disk_at(entry),))


def disk_at(entry: Path) -> Disk:
    """The disk of a folder of ``/sys/block``, with its class.

    The rotational flag and the interface are believed of real disks only: hypervisors set them as they like, and clouds
    show volumes over a network as NVMe drives.
    """
    name, model = entry.name, kernel_text(entry / "device" / "model").strip()
    parents = f"{entry.resolve()}/"
    # With several paths to a drive, its controllers lie below the subsystem that the device link leads to.
    transports = [
        kernel_text(file).strip() for kind in ("transport", "nvme*/transport") for file in (entry / "device").glob(kind)
    ]
    fabric = any(transport != "pcie" for transport in transports)
    if name.startswith(_NETWORK_DISKS) or fabric or re.search(r"/session\d+/|/rport-", parents):
        return Disk(name, None, model)
    if name.startswith(_VIRTUAL_NAMES) or "/virtio" in parents or _VIRTUAL_MODELS.search(model):
        return Disk(name, UNKNOWN, model)
    if name.startswith("nvme"):
        return Disk(name, NVME, model)
    if kernel_text(entry / "queue" / "rotational").strip() == "1":
        return Disk(name, DISK, model)
    return Disk(name, SATA if name.startswith("sd") else FLASH, model)


def physical_disks(block_root: Path = Path("/sys/block")) -> tuple[Disk, ...]:
    """The machine's disks, by name.

    A disk, also a virtual machine's, has a ``device`` link; loop, ram, zram, md and dm devices have none, and counting
    them beside the disk they live on would count bytes twice.
    """
    if not block_root.is_dir():
        return ()
    entries = (entry for entry in sorted(block_root.iterdir()) if not _NOT_STORAGE.match(entry.name))
    return tuple(disk_at(entry) for entry in entries if (entry / "device").exists())
