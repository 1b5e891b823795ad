"""`greenload watch` on a script, and what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

WATCH = (sys.executable, "-m", "greenload", "watch")


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command's status and output."""
    given = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, cwd=cwd, env=given, input="input", capture_output=True, text=True, timeout=200)


def rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The steps of all datasets by name."""
    return {step["name"]: step for dataset in report["datasets"] for step in dataset["steps"]}
