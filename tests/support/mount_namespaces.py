"""Whether a test may have a mount namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess


def private_mounts() -> bool:
    """Whether a private mount namespace can be had: root, and the unshare and mount programs."""
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None or shutil.which("mount") is None:
        return False
    program = [unshare, "-m", "mount", "-t", "tmpfs", "none", "/sys/class"]
    return subprocess.run(program, capture_output=True).returncode == 0
