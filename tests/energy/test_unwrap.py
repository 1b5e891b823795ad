"""Raw counters into joules."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenload.energy.meters.base import Channel
from greenload.energy.meters.unwrap import Reset, unwrap

SERVER = Channel("cpu:package-0", "measured", update_s=0.001, wrap_j=262143.0)


@given(
    wrap_uj=st.integers(10**6, 2**32 * 62),
    start=st.floats(0, 1, exclude_max=True),
    steps=st.lists(st.tuples(st.floats(0.001, 0.999), st.floats(0.0, 998.0)), max_size=60),
)
def test_any_monotone_sequence_is_recovered_to_the_microjoule(
    wrap_uj: int, start: float, steps: list[tuple[float, float]]
) -> None:
    """Whatever the range, the start, the power below 1 kW, and the gaps in which none can wrap unseen."""
    counter = Channel("cpu:package-0", "measured", update_s=0.001, wrap_j=wrap_uj / 1e6)
    assert counter.max_gap_s is not None
    gaps_s = [share * counter.max_gap_s for share, _ in steps]
    totals = [int(start * wrap_uj)]
    for gap_s, (_, power_w) in zip(gaps_s, steps, strict=True):
        totals.append(totals[-1] + int(gap_s * power_w * 1e6))
    shown_j = [total % wrap_uj / 1e6 for total in totals]
    for (before, after), (low, high), gap_s in zip(pairwise(shown_j), pairwise(totals), gaps_s, strict=True):
        step_j = unwrap(counter, before, after, gap_s)
        assert not isinstance(step_j, Reset), step_j
        assert round(step_j * 1e6) == high - low


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
        (SERVER, 5.0, 5.0, 262.143, "may wrap unseen"),
        (Channel("gpu:0", "measured"), 7.0, 6.0, 1.0, "doesn't wrap"),
    ],
)
def test_what_can_be_no_wrap_is_a_reset(channel: Channel, before: float, after: float, gap_s: float, says: str) -> None:
    step = unwrap(channel, before, after, gap_s)
    assert isinstance(step, Reset)
    assert says in step.reason
