"""Datasets with steps of known CPU time: clocks in place find what is burnt."""

from __future__ import annotations

import shutil

import pytest

import greenload as gl
from bench import known_steps
from greenload.backends.native.library import why_missing

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler: install g++"),
    pytest.mark.skipif(bool(why_missing()), reason=why_missing() or ""),
]
ROOM = {"half": 0.4e-3, "one": 0.4e-3, "source": 0.4e-3}
"""Seconds that a call takes beyond what it burns, at most, where it is a call into Python."""
GRAPH_S = 15e-6
"""The same of all others: the graph's own."""


@pytest.mark.alone
@pytest.mark.parametrize("shape", known_steps.SHAPES)
def test_clocks_in_place_find_what_steps_burn(shape: str) -> None:
    pytest.importorskip("tensorflow")
    known = known_steps.SHAPES[shape]()
    watched = gl.watch(known.dataset.take(12))
    before = [known_steps.burnt_s(number) for number in range(len(known.truth_s))]
    samples = sum(len(batch) for batch in watched)
    done = watched.watched.read().steps
    assert samples == 12 * known_steps.BATCH
    for number, (name, start_s) in enumerate(zip(known.truth_s, before, strict=True)):
        work, burnt_s = done[name], known_steps.burnt_s(number) - start_s
        assert work.calls > 0 and work.total_cpu_s is not None
        # One or two calls may be under way: burnt, but not counted.
        least, most = 1 - 3 / work.calls - 0.02, 1.1 + ROOM.get(name, GRAPH_S) * work.calls / burnt_s
        assert least <= work.total_cpu_s / burnt_s <= most, name
