"""How long a device usually pauses, learned from when its messages came. Pure.

Counted are pauses between messages of different minutes, by size, each size twice the one before. Usual is
the second longest of the last hundred or so: the longest may have been an outage, its own or ours. Not the
median, because a device that stores and forwards sends for minutes and then pauses for hours: most of its
pauses are short, and the long ones are usual. Three messages at boot are no pause at all.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FLOOR_S: Final = 180
UNKNOWN_S: Final = 86_400  # silent after so long, as long as its usual pause is not known
PAUSES: Final = 3
WINDOW: Final = 128  # pauses; at so many each count is halved

ARRIVALS: Final = 500  # so many are asked for to learn a pace

_SIZES: Final = 16  # from a minute to three weeks
_MINUTE_S: Final = 60
_TWICE: Final = 2
_BURST_S: Final = 600  # within which a burst goes on


def add_pause(pauses: bytearray | None, seconds: int) -> bytearray:
    """Count a pause; returns the counts, which are changed in place when there are any."""
    counts = bytearray(_SIZES) if pauses is None else pauses
    minutes = max(1, (seconds + _MINUTE_S // 2) // _MINUTE_S)
    counts[min(_SIZES - 1, (minutes - 1).bit_length())] += 1
    if sum(counts) >= WINDOW:
        counts[:] = bytes(each // 2 for each in counts)
    return counts


def pauses_between(arrivals: Iterable[int]) -> bytearray | None:
    """Count the pauses between arrivals, epoch seconds ascending; None without any."""
    pauses = None
    for before, after in pairwise(arrivals):
        if before // _MINUTE_S != after // _MINUTE_S:
            pauses = add_pause(pauses, after - before)
    return pauses


def pauses_shown(arrivals: Sequence[int]) -> bytearray | None:
    """Count the pauses that a device's newest messages show, the last of each minute in which it measured.

    Where most minutes of arrival brought more than one of these, the device stores and forwards, and they
    may show two bursts, or one: then one long pause is usual, and nothing is known without one.
    """
    pauses = pauses_between(arrivals)
    minutes = Counter(at // _MINUTE_S for at in arrivals)
    if pauses is None or _TWICE * sum(each == 1 for each in minutes.values()) >= len(minutes):
        return pauses
    longest = max(after - before for before, after in pairwise(arrivals))
    return add_pause(pauses, longest) if longest > _BURST_S else None


def usual_s(pauses: bytearray | None) -> int | None:
    """The longest pause that is usual, rounded up to a size; None when fewer than two are known."""
    longer = 0
    for size in range(_SIZES - 1, -1, -1) if pauses is not None else ():
        longer += pauses[size] if pauses is not None else 0
        if longer >= _TWICE:
            return _MINUTE_S << size
    return None


def silent_after_s(usual: int | None) -> int:
    """For how long a device may pause before it is called silent."""
    return UNKNOWN_S if usual is None else max(FLOOR_S, PAUSES * usual)
