"""The kernel's loops for AVX2 against its portable ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from greenload.backends.native import library

SUPPORT = Path(__file__).parent
BEGIN = """
import hashlib
import numpy as np
from greenload.backends.native.abi import *
from greenload.backends.native.library import *
digest, random = hashlib.sha256(), np.random.default_rng(5)
"""
END = """
print(version().split("; ")[1], digest.hexdigest())
"""


def check_same_bits(code: str, kinds: Sequence[str] = ("", "scalar")) -> None:
    """Assert that code puts the same bits into ``digest`` with AVX2 and without, each in a process of its own.

    Args:
        code: to run. It finds ``digest``, NumPy as ``np``, ``random`` and the names of
            ``greenload.backends.native.abi`` and ``.library``.
        kinds: of vectors, as ``GREENLOAD_NATIVE_SIMD`` names them; the empty one is the best that there is.
    """
    if not library.version().endswith("avx2"):
        pytest.skip("this processor has no AVX2")
    said = {}
    for forced in kinds:
        environment = {**os.environ, "GREENLOAD_NATIVE_SIMD": forced, "GREENLOAD_NATIVE_JPEG": "own"}
        paths = [str(SUPPORT), str(SUPPORT.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        command = [sys.executable, "-c", BEGIN + code + END]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        name, said[forced] = result.stdout.split()
        assert name == ("scalar" if forced == "scalar" else "avx2")
    assert len(set(said.values())) == 1
