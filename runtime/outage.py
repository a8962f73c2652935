"""What of an outage is worth a line: each reason once, and one now and then while it lasts. Pure."""

from __future__ import annotations

from typing import Final

_REMIND_S: Final = 60.0
_REASONS: Final = 10  # of one minute


class Outage:
    """How long a component has been waited for, by whomever, and what was said of it.

    Args:
        since: when that began, by the clock of those who wait.
    """

    def __init__(self, since: float) -> None:
        self.since = since
        self._told_at = since
        self._told: set[str] = set()

    def is_news(self, reason: str, now: float) -> bool:
        """Whether a reason is to be said: when it is new, and when nothing was said for a minute."""
        if now - self._told_at >= _REMIND_S:
            self._told.clear()
        if reason in self._told or len(self._told) >= _REASONS:
            return False
        self._told.add(reason)
        self._told_at = now
        return True
