"""The kernel's loops for AVX2 against its portable ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from greenload.backends.native import library

SUPPORT = Path(__file__).parent
BEGIN = """
import hashlib
import numpy as np
from greenload.backends.native.library import *
digest, random = hashlib.sha256(), np.random.default_rng(5)
"""
END = """
print(version().split("; ")[1], digest.hexdigest())
"""


def check_same_bits(code: str) -> None:
    """Assert that code puts the same bits into ``digest`` with AVX2 and without, each in a process of its own.

    It finds ``digest``, NumPy as ``np``, ``random`` and the names of ``greenload.backends.native.library``.
    """
    if not library.version().endswith("avx2"):
        pytest.skip("this processor has no AVX2")
    said = {}
    for forced in ("", "scalar"):
        environment = {**os.environ, "GREENLOAD_NATIVE_SIMD": forced, "GREENLOAD_NATIVE_JPEG": "own"}
        paths = [str(SUPPORT), str(SUPPORT.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        command = [sys.executable, "-c", BEGIN + code + END]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        name, digest = result.stdout.split()
        said[name] = digest
    assert set(said) == {"avx2", "scalar"}
    assert said["avx2"] == said["scalar"]
