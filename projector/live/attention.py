"""When a device needs attention. Pure.

A device is silent when its newest reading is older than it ever should be: several times its usual
interval, and never less than a minute. The longer it has been silent *in its own measure* the more urgent
it is, so that a device that reports each second and has been quiet for ten minutes stands before one that
reports each hour and is late by half an hour. Then come those with messages rejected a moment ago, then all
others by name, so that a quiet list stands still.

Times are the devices' own: one whose clock is slow looks silent, and `docs/operating.md` says how to tell.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

FLOOR_MS: Final = 60_000
UNKNOWN_MS: Final = 900_000  # silent after so long, as long as its usual interval is not known
INTERVALS: Final = 4
_MINUTE_MS: Final = 60_000


def silent_after_ms(usual_ms: int | None) -> int:
    """How old a device's newest reading may be before it is called silent."""
    return UNKNOWN_MS if usual_ms is None else max(FLOOR_MS, INTERVALS * usual_ms)


def usual_ms(
    minutes: Sequence[int], *, first_seen_ms: int | None, last_seen_ms: int, samples: int
) -> int | None:
    """How long a device usually takes from one message to the next.

    The median distance of the minutes in which it sent, or of messages over its whole life when it sends
    too seldom for that.

    Args:
        minutes: epoch minutes with readings, ascending, of about an hour.
        first_seen_ms: its first reading; None when that is not known.
        last_seen_ms: its newest.
        samples: how many messages it has sent.
    """
    gaps = sorted(after - before for before, after in pairwise(minutes))
    if gaps:
        return gaps[(len(gaps) - 1) // 2] * _MINUTE_MS
    if first_seen_ms is None or samples < 2 or last_seen_ms <= first_seen_ms:  # noqa: PLR2004  # an interval has two ends
        return None
    return (last_seen_ms - first_seen_ms) // (samples - 1)
