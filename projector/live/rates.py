"""Rates from counters that are read about once a second. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_S: Final = 60.0  # a plant whose devices report each few seconds has a rate too
SERIES: Final = 60


class Rate:
    """How fast a counter grows.

    Attributes:
        series: growth a second between one look and the next, oldest first, of the last minute of looks.
    """

    def __init__(self) -> None:
        self.series: deque[float] = deque(maxlen=SERIES)
        self._looks: deque[tuple[float, int]] = deque()

    def add(self, at_s: float, count: int) -> None:
        """Note what the counter shows. One that went back starts anew.

        Args:
            at_s: of a clock that never goes back.
            count: the counter.
        """
        if self._looks:
            before_s, before = self._looks[-1]
            if at_s <= before_s:
                return
            if count < before:
                self._looks.clear()
            else:
                self.series.append(round((count - before) / (at_s - before_s), 1))
        self._looks.append((at_s, count))
        while at_s - self._looks[0][0] > WINDOW_S:
            self._looks.popleft()

    @property
    def span_s(self) -> float:
        """Over how many seconds `per_s` is."""
        return round(self._looks[-1][0] - self._looks[0][0], 1) if self._looks else 0.0

    @property
    def per_s(self) -> float | None:
        """Over a minute, or what there is of it; None before the second look."""
        if len(self._looks) < 2:  # noqa: PLR2004  # a rate has two ends
            return None
        (first_s, first), (last_s, last) = self._looks[0], self._looks[-1]
        return round((last - first) / (last_s - first_s), 3)
