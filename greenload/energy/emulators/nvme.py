"""An emulated NVMe drive: its declared power, and a disk whose statistics advance as it is read.

It is for tests, and for trying declared power on machines without such a drive. Its Identify Controller bytes, which an
ioctl gives, are written out here once more, from the specification's tables, so that they don't share a mistake with
the parser.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DeclaredState:
    """A power state to declare, in the descriptor's own units (NVM Express Base Specification 2.0, figure 276)."""

    mp: int
    """Maximum power, in 0.01 W, or 0.0001 W with ``mxps``."""
    mxps: int = 0
    nops: int = 0
    """1 where it serves no reads and writes."""
    enlat_us: int = 0
    exlat_us: int = 0
    idlp: int = 0
    ips: int = 0
    """0 not reported, 1 in 0.0001 W, 2 in 0.01 W."""
    actp: int = 0
    apw: int = 0
    aps: int = 0
    """The unit of ``actp``, as ``ips`` is of ``idlp``."""


def descriptor(state: DeclaredState) -> bytes:
    """The 32 bytes of a power state, bit by bit."""
    bits = state.mp
    for first, value in (
        (24, state.mxps),
        (25, state.nops),
        (32, state.enlat_us),
        (64, state.exlat_us),
        (128, state.idlp),
        (150, state.ips),
        (160, state.actp),
        (176, state.apw),
        (182, state.aps),
    ):
        bits |= value << first
    return bits.to_bytes(32, "little")


def identify_bytes(model: str, states: Sequence[DeclaredState]) -> bytes:
    """An Identify Controller data structure of 4096 bytes."""
    data = bytearray(4096)
    data[4:24] = b"S0NGREENLOAD".ljust(20)
    data[24:64] = model.encode("ascii").ljust(40)
    data[263] = len(states) - 1
    data[2048 : 2048 + 32 * len(states)] = b"".join(map(descriptor, states))
    return bytes(data)


class EmulatedDrive:
    """A drive as the kernel shows it: ``block/NAME/stat`` below a folder, a device file, an ioctl.

    Args:
        root: an empty folder; ``sys`` and ``dev`` are made in it.
        model: what it calls itself.
        states: the power states that it declares.
        name: the kernel's name of the drive.

    Example:
        >>> drive = EmulatedDrive(folder, "Example 2 TB", [DeclaredState(mp=850, actp=620, aps=2)])  # doctest: +SKIP
        >>> identify(drive.device, drive.ioctl).states[0].active_w                              # doctest: +SKIP
        6.2
    """

    def __init__(self, root: Path, model: str, states: Sequence[DeclaredState], name: str = "nvme0n1") -> None:
        self.sys_root, self.dev_root = root / "sys", root / "dev"
        self.name = name
        self.data = identify_bytes(model, states)
        self.status = 0
        """The NVMe status that the ioctl returns."""
        entry = self.sys_root / "block" / name
        (entry / "queue").mkdir(parents=True)
        (entry / "device").mkdir()
        (entry / "queue" / "rotational").write_text("0\n")
        (entry / "device" / "model").write_text(f"{model}\n")
        (entry / "device" / "transport").write_text("pcie\n")
        self.dev_root.mkdir()
        self.device = self.dev_root / name
        self.device.touch()
        self._read_bytes, self._busy_s = 0, 0.0
        self.transfer(0, 0.0)

    def transfer(self, read_bytes: int, busy_s: float) -> None:
        """Let it read so many bytes, for any process, in so much time."""
        self._read_bytes += read_bytes
        self._busy_s += busy_s
        sectors, busy_ms = self._read_bytes // 512, round(self._busy_s * 1e3)
        # reads, merged, sectors, ms; writes alike; in flight, busy ms, queued ms; discards; flushes
        fields = (sectors // 8, 0, sectors, busy_ms, 0, 0, 0, 0, 0, busy_ms, busy_ms, 0, 0, 0, 0, 0, 0)
        new = self.sys_root / "block" / self.name / "stat.new"
        new.write_text(" ".join(map(str, fields)) + "\n")
        new.rename(new.with_suffix(""))

    def ioctl(self, handle: int, request: int, command: bytearray) -> int:
        """What the kernel does with NVME_IOCTL_ADMIN_CMD: checks the command, and fills the buffer that it names."""
        if request != 0xC0484E41 or len(command) != 72:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        opcode, cdw10 = command[0], int.from_bytes(command[40:44], "little")
        if (opcode, cdw10) != (0x06, 0x01):
            return 0x2002  # Invalid Field in Command, do not retry
        if not self.status:
            address, length = int.from_bytes(command[24:32], "little"), int.from_bytes(command[36:40], "little")
            ctypes.memmove(address, self.data, min(length, len(self.data)))
        return self.status
