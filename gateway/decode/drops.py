"""The count of fields that were left out, by name and reason: what is dropped is said (promise 4).

Names come from strangers: the first so many are told apart, and all later ones are `other`.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from gateway.decode.names import MAX_NAME

_MOST_NAMES: Final = 100
OTHER: Final = "other"


class Drops:
    """Counts.

    Attributes:
        counts: by the route's topic, the field's name and the reason.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self._news: list[tuple[str, str, str]] = []

    def add(self, topic: str, fields: list[tuple[str, str]]) -> None:
        """Count the fields of one message."""
        for name, reason in fields:
            key = (topic, name[:MAX_NAME], reason)
            if key not in self.counts:
                if len(self.counts) >= _MOST_NAMES:
                    key = (topic, OTHER, reason)
                if key not in self.counts:
                    self._news.append(key)
            self.counts[key] += 1

    def news(self) -> list[tuple[str, str, str]]:
        """Those that were counted for the first time since the last call."""
        if not self._news:
            return []
        news, self._news = self._news, []
        return news
