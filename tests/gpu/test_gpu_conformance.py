"""The conformance suite that every backend passes, on a GPU. What it uses of each tolerance is printed (``-s``)."""

from __future__ import annotations

import os

import numpy as np
import pytest

from greenload.backends import registry
from greenload.stages import Stage

suite = pytest.importorskip("conformance", reason="the suite needs a package that isn't installed")
BACKEND = "dali-cpu" if os.environ.get("GREENLOAD_GPU_REHEARSAL") == "1" else "dali"
CASES = suite.cases()
pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True, scope="module")
def _gpu() -> None:
    found = registry.get(BACKEND).availability()
    if not found.usable:
        pytest.skip(f"{found.detail}; {found.remedy}")


@pytest.mark.parametrize(
    "stages", list(dict.fromkeys(case.stages for case in CASES)), ids=lambda stages: " ".join(map(str, stages))[:70]
)
def test_the_reference_is_kept(stages: tuple[Stage, ...]) -> None:
    beyond, shares = [], {}
    for case in CASES:
        if case.stages != stages or not suite.taken(BACKEND, case):
            continue
        found, stated = suite.difference(BACKEND, case)
        for name, share in found.share_of(stated).items():
            shares[name] = max(shares.get(name, 0.0), share)
        if not found.within(stated):
            beyond.append(f"{case}: {found} is beyond {stated}")
    if not shares:
        pytest.skip(f"{BACKEND} doesn't support {' '.join(map(str, stages))}")
    used = ", ".join(f"{name} {share:.2g}" for name, share in shares.items())
    print(f"\n{' '.join(map(str, stages))}: of what is stated {used}")
    assert not beyond, "\n".join(beyond)
    assert np.isfinite(list(shares.values())).all()
