"""Joules between two reads of a raw counter, which may have wrapped or been reset in between. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from greenload.energy.meters.base import Channel

REFRESH_SLACK_S = 0.1
"""A counter may be refreshed this late, so that a long time's joules seem to come in a short one."""
OUT_OF_ORDER_J = 1e-3
"""A fall this small is two reads that overtook each other, some counts of 15–61 µJ or one millijoule: no joules, no
reset. Taking a reset for it would cost no more than that."""


@dataclass(frozen=True, slots=True)
class Reset:
    """A step of a counter that can't be turned into joules, and why."""

    reason: str
    """What was seen, with the figures."""


def implausible(channel: Channel, energy_j: float, time_s: float) -> str:
    """Why so many joules in a time can't be believed; empty if they can. Pure.

    Example:
        >>> implausible(Channel("dram:package-0", "measured", max_power_w=32.0, limit="1 W per GiB"), 59.0, 1.0)
        '59.0 J in 1.000 s are more than 32 W (1 W per GiB)'
    """
    if energy_j <= channel.max_power_w * time_s:
        return ""
    limit = f" ({channel.limit})" if channel.limit else ""
    return f"{energy_j:.1f} J in {time_s:.3f} s are more than {channel.max_power_w:.0f} W{limit}"


def unwrap(channel: Channel, before_j: float, after_j: float, gap_s: float) -> float | Reset:
    """Joules between two reads of a raw counter.

    With ``d = after − before``: ``d`` if it didn't fall; ``d + wrap_j`` if it fell and could have wrapped. Either is
    believed only up to ``max_power_w · (gap_s + refresh)``, and only if no wrap can have passed unseen in the gap. A
    fall within ``OUT_OF_ORDER_J``, also back over a wrap, is no joules: go on from the earlier value.

    Args:
        channel: the counter's range, refresh time and greatest plausible power.
        before_j: the earlier raw value, in joules.
        after_j: the later one.
        gap_s: seconds between the reads.

    Returns:
        Joules, at least 0, or a :class:`Reset` that says why there are none.

    Example:
        >>> counter = Channel("cpu:package-0", "measured", wrap_j=262143.0)
        >>> unwrap(counter, 262140.0, 7.0, gap_s=0.2)
        10.0
        >>> unwrap(counter, 200.0, 7.0, gap_s=0.2)
        Reset(reason='the counter fell from 200.0 J to 7.0 J in 0.200 s: a wrap would mean 1309750 W, so it was reset')
    """
    limit_s = channel.max_gap_s
    # At the limit itself a whole range may have passed, and the counter would seem to stand still.
    if limit_s is not None and gap_s >= limit_s:
        if channel.sum_gap_s is not None:
            return Reset(f"power wasn't read for {gap_s:.1f} s, and is summed up over {limit_s:.1f} s at most")
        return Reset(f"the counter wasn't read for {gap_s:.1f} s, and may wrap unseen after {limit_s:.1f} s")
    believed_s = gap_s + channel.update_s + REFRESH_SLACK_S
    step_j = after_j - before_j
    if -OUT_OF_ORDER_J <= step_j < 0 or (channel.wrap_j is not None and 0 <= channel.wrap_j - step_j <= OUT_OF_ORDER_J):
        return 0.0
    if step_j >= 0:
        reason = implausible(channel, step_j, believed_s)
        return Reset(f"the counter jumped: {reason}") if reason else step_j
    fell = f"the counter fell from {before_j:.1f} J to {after_j:.1f} J in {gap_s:.3f} s"
    if channel.wrap_j is None:
        return Reset(f"{fell}: it doesn't wrap, so it was reset")
    step_j += channel.wrap_j
    if step_j >= 0 and not implausible(channel, step_j, believed_s):
        return step_j
    power = f"{step_j / gap_s:.0f} W" if gap_s > 0 else "no time at all"
    return Reset(f"{fell}: a wrap would mean {power}, so it was reset")
