"""How fast a spool fills and drains, over the last half minute. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_WINDOW_S: Final = 30.0
_LEAST_S: Final = 1.0


class Rates:
    """Counts by the second.

    Args:
        monotonic: seconds for measuring.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seconds: deque[list[float]] = deque()  # when, how many in, how many out

    def kept(self, messages: int) -> None:
        """Count messages that went in."""
        self._now()[1] += messages

    def drained(self, messages: int) -> None:
        """Count messages that came out."""
        self._now()[2] += messages

    def drains_in_s(self, messages: int) -> float | None:
        """How long so many take to come out, those that come meanwhile too; None when nobody can tell."""
        now = self._monotonic()
        of_late = [each for each in self._seconds if each[0] > now - _WINDOW_S]
        if not messages or not of_late:
            return None
        span_s = max(_LEAST_S, now - of_late[0][0])
        net = (sum(out for _, _, out in of_late) - sum(in_ for _, in_, _ in of_late)) / span_s
        return messages / net if net > 0 else None

    def _now(self) -> list[float]:
        now = float(int(self._monotonic()))
        if not self._seconds or self._seconds[-1][0] != now:
            self._seconds.append([now, 0, 0])
            while self._seconds[0][0] < now - _WINDOW_S:
                self._seconds.popleft()
        return self._seconds[-1]
