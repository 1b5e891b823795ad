"""From raw counters to joules: a fall is a wrap, a reset, or nothing to trust. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from greenload.energy.meter import Channel

REFRESH_SLACK_S = 0.1
"""A counter may be refreshed this late, so that a long time's joules seem to come in a short one."""


@dataclass(frozen=True, slots=True)
class Reset:
    """A step of a counter that can't be turned into joules, and why."""

    reason: str
    """What was seen, with the figures."""


def unwrap(channel: Channel, before_j: float, after_j: float, gap_s: float) -> float | Reset:
    """Joules between two reads of a raw counter.

    With ``d = after − before``: ``d`` if it didn't fall; ``d + wrap_j`` if it fell and could have wrapped. Either is
    believed only up to ``max_power_w · (gap_s + refresh)``, and only if no wrap can have passed unseen in the gap.

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
    if limit_s is not None and gap_s > limit_s:
        return Reset(f"the counter wasn't read for {gap_s:.1f} s, and may wrap unseen after {limit_s:.1f} s")
    believed_j = channel.max_power_w * (gap_s + channel.update_s + REFRESH_SLACK_S)
    step_j = after_j - before_j
    if step_j >= 0:
        if step_j <= believed_j:
            return step_j
        return Reset(f"the counter jumped by {step_j:.1f} J in {gap_s:.3f} s, more than {channel.max_power_w:.0f} W")
    fell = f"the counter fell from {before_j:.1f} J to {after_j:.1f} J in {gap_s:.3f} s"
    if channel.wrap_j is None:
        return Reset(f"{fell}: it doesn't wrap, so it was reset")
    step_j += channel.wrap_j
    if 0 <= step_j <= believed_j:
        return step_j
    power = f"{step_j / gap_s:.0f} W" if gap_s > 0 else "no time at all"
    return Reset(f"{fell}: a wrap would mean {power}, so it was reset")
