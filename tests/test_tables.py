"""`docs/backends.md` says what the tables hold now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from greenload.backends.registry import BACKENDS
from greenload.stages.registry import STAGES

ROOT = Path(__file__).resolve().parent.parent
FRAMEWORKS = ("tensorflow", "nvidia", "PIL")
PRINT = f"""
import runpy, sys
for name in {FRAMEWORKS}:
    sys.modules[name] = None  # importing it fails
tables = runpy.run_path("tools/tables.py")
print(tables["text"](), end="")
"""


@pytest.fixture(scope="module")
def written() -> str:
    """What `make tables` would write, on a machine that has no framework."""
    done = subprocess.run([sys.executable, "-c", PRINT], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_file_is_what_the_tables_hold(written: str) -> None:
    file = ROOT / "docs" / "backends.md"
    kept = file.read_text(encoding="utf-8") if file.exists() else ""
    assert kept == written, "docs/backends.md is stale: run `make tables` and commit it"


def test_every_stage_and_backend_is_named(written: str) -> None:
    assert [name for name in STAGES if f"`{name}`" not in written] == []
    assert [name for name in BACKENDS if f"| `{name}` |" not in written] == []
