"""Shows an emulated powercap folder to one command in place of the real one, by a private mount namespace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from greenload.errors import MeterError

SYSFS_CLASS = Path("/sys/class")


def mount_powercap() -> Path:
    """Cover ``/sys/class`` by a folder with the other classes linked back in, and give its empty ``powercap``.

    For a private mount namespace only (``unshare -m``): elsewhere it would hide the machine's counters from everyone.

    Raises:
        MeterError: this process shares its mounts with its parent, or may not mount.
    """
    try:
        # The parent's namespace, not the first process's: that one may be out of sight even for root.
        shared = os.readlink("/proc/self/ns/mnt") == os.readlink(f"/proc/{os.getppid()}/ns/mnt")
    except OSError as error:
        raise MeterError(
            f"covering /sys/class needs a mount namespace known to be private, and {error}: run it as root, "
            "directly under unshare -m"
        ) from error
    if shared:
        raise MeterError(
            "covering /sys/class needs a private mount namespace, and this process shares its parent's: run it as "
            "root, directly under unshare -m"
        )
    kept = Path(tempfile.mkdtemp(prefix="greenload-sys-class-"))
    _run("mount", "--bind", str(SYSFS_CLASS), str(kept))
    _run("mount", "-t", "tmpfs", "none", str(SYSFS_CLASS))
    for entry in kept.iterdir():
        if entry.name == "powercap" or not entry.is_dir():
            continue
        (SYSFS_CLASS / entry.name).mkdir()
        # Class entries are relative links (../../devices/…): they hold only at their own place.
        for link in (item for item in entry.iterdir() if item.is_symlink()):
            (SYSFS_CLASS / entry.name / link.name).symlink_to(os.readlink(link))
    _run("umount", str(kept))
    kept.rmdir()
    root = SYSFS_CLASS / "powercap"
    root.mkdir()
    return root


def _run(name: str, *arguments: str) -> None:
    program = shutil.which(name)
    if program is None:
        raise MeterError(f"covering /sys/class needs the program {name}, which isn't in PATH: install util-linux")
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise MeterError(
            f"{name} {' '.join(arguments)} failed: {done.stderr.strip()}: run as root, directly under unshare -m"
        )


def socket_names(cpu_root: Path = Path("/sys/devices/system/cpu")) -> list[str]:
    """Package zones that fit the machine's own sockets, as ``["package-0"]``: pyRAPL compares the two."""
    ids = {
        int((entry / "topology" / "physical_package_id").read_text())
        for entry in cpu_root.iterdir()
        if re.fullmatch(r"cpu\d+", entry.name) and (entry / "topology" / "physical_package_id").exists()
    }
    return [f"package-{number}" for number in sorted(ids)] or ["package-0"]
