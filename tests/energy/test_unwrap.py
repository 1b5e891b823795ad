"""Raw counters into joules."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenload.energy.meter import Channel
from greenload.energy.unwrap import Reset, unwrap

SERVER = Channel("cpu:package-0", "measured", update_s=0.001, wrap_j=262143.0)


@given(
    start_j=st.floats(0, 262142.9),
    steps=st.lists(st.tuples(st.floats(0.001, 60.0), st.floats(0.0, 1000.0)), max_size=60),
)
def test_any_monotone_sequence_gives_back_its_total(start_j: float, steps: list[tuple[float, float]]) -> None:
    """Whatever the power (up to 1 kW), the gaps (up to 60 s) and the number of wraps."""
    totals = [start_j]
    for gap_s, power_w in steps:
        totals.append(totals[-1] + gap_s * power_w)
    raw = [total % 262143.0 for total in totals]
    found = 0.0
    for (before, after), (gap_s, _) in zip(pairwise(raw), steps, strict=True):
        step = unwrap(SERVER, before, after, gap_s)
        assert not isinstance(step, Reset), step
        assert step >= 0
        found += step
    assert found == pytest.approx(totals[-1] - totals[0], abs=1e-6)


@given(before=st.floats(0, 262143.0), after=st.floats(0, 262143.0), gap_s=st.floats(0, 500))
def test_joules_are_never_negative_and_never_above_a_plausible_power(before: float, after: float, gap_s: float) -> None:
    step = unwrap(SERVER, before, after, gap_s)
    if not isinstance(step, Reset):
        assert 0 <= step <= 1000.0 * (gap_s + 0.11)


@pytest.mark.parametrize(
    ("channel", "before", "after", "gap_s", "says"),
    [
        (SERVER, 200000.0, 5.0, 0.25, "a wrap would mean"),
        (SERVER, 200000.0, 5.0, 0.0, "no time at all"),
        (SERVER, 5.0, 200000.0, 0.25, "jumped"),
        (SERVER, 5.0, 6.0, 300.0, "may wrap unseen"),
        (Channel("gpu:0", "measured"), 7.0, 6.0, 1.0, "doesn't wrap"),
    ],
)
def test_what_can_be_no_wrap_is_a_reset(channel: Channel, before: float, after: float, gap_s: float, says: str) -> None:
    step = unwrap(channel, before, after, gap_s)
    assert isinstance(step, Reset)
    assert says in step.reason
