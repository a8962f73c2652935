"""When a simulated message is due: the clock of an open loop. Pure."""

from __future__ import annotations

import math

TICK_S = 0.005


class Pace:
    """How many messages are due, by the clock alone.

    Args:
        rate: messages a second.
        messages: how many are due in total, or None.
        seconds: how long messages fall due, or None.

    Attributes:
        total: how many will have fallen due at the end, or None when there is no end.
    """

    def __init__(self, rate: float, *, messages: int | None = None, seconds: float | None = None) -> None:
        self.rate = rate
        self._seconds = math.inf if seconds is None else seconds
        limits = [messages, None if seconds is None else max(1, round(seconds * rate))]
        self.total = min((limit for limit in limits if limit is not None), default=None)

    def due(self, elapsed_s: float) -> int:
        """How many messages are due this long after the start; the first one is due at once."""
        count = int(min(elapsed_s, self._seconds) * self.rate) + 1
        return count if self.total is None else min(count, self.total)

    def over(self, elapsed_s: float, made: int) -> bool:
        """Whether no further message is going to be made."""
        return elapsed_s >= self._seconds or (self.total is not None and made >= self.total)

    def next_in(self, elapsed_s: float, made: int) -> float:
        """Seconds until the message after those made is due, or until it is over; at least one tick."""
        until = min(made / self.rate, self._seconds) - elapsed_s
        return max(until, TICK_S)
