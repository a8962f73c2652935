"""Which devices need attention, most urgent first. Pure.

A device is silent when its newest reading is older than it ever should be: several times its usual
interval, and never less than a minute. The longer it has been silent *in its own measure* the more urgent
it is, so that a device that reports each second and has been quiet for ten minutes stands before one that
reports each hour and is late by half an hour. Then come those with messages rejected a moment ago, then all
others by name, so that a quiet list stands still.

Times are the devices' own: one whose clock is slow looks silent, and `docs/operating.md` says how to tell.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FLOOR_MS: Final = 60_000
UNKNOWN_MS: Final = 900_000  # silent after so long, as long as its usual interval is not known
INTERVALS: Final = 4
_MINUTE_MS: Final = 60_000


class Ranking(NamedTuple):
    """Devices in order of attention: `silent` silent ones, `rejected` rejected ones, then all others."""

    ids: list[str]
    silent: int
    rejected: int


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


def suspects(seen: Mapping[str, int], now_ms: int) -> list[str]:
    """Devices that may be silent, the latest to fall silent first."""
    late = [(at, id_) for id_, at in seen.items() if now_ms - at > FLOOR_MS]
    return [id_ for _, id_ in sorted(late, reverse=True)]


def rank(
    seen: Mapping[str, int], usual: Callable[[str], int | None], rejected: Mapping[str, int], now_ms: int
) -> Ranking:
    """Rank devices.

    Args:
        seen: device → its newest reading, epoch milliseconds.
        usual: gives a device's usual interval.
        rejected: device → messages rejected a moment ago.
        now_ms: the time.
    """
    silence = {
        id_: (now_ms - seen[id_]) / limit
        for id_ in suspects(seen, now_ms)
        if now_ms - seen[id_] > (limit := silent_after_ms(usual(id_)))
    }
    silent = sorted(silence, key=lambda id_: (-silence[id_], id_))
    # By powers of two, so that devices do not change places with every single message.
    refused = sorted(
        (id_ for id_ in rejected if id_ in seen and id_ not in silence),
        key=lambda id_: (-rejected[id_].bit_length(), id_),
    )
    urgent = {*silence, *refused}
    return Ranking([*silent, *refused, *sorted(seen.keys() - urgent)], len(silent), len(refused))
