"""The count of fields that were left out, by name and reason: what is dropped is said (promise 4).

Names come from strangers: the first so many are told apart, and all later ones are `other`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from gateway.decode.names import MAX_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.decode.known import Room

MOST_NAMES: Final = 100
OTHER: Final = "other"
_MOST_ALIKE: Final = 100
_FEW: Final = 50  # fields


class Names:
    """Makes the names of what is left out of one message, from the first so many on all the same.

    A name of many levels is a text as long as all of them, and a message may have many.

    Args:
        room: bounds what they cost, a microsecond each.
    """

    __slots__ = ("_more", "_room")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._more = MOST_NAMES

    def of(self, prefix: str, name: object) -> str:
        """The name of a scalar."""
        self._room.spend(1)
        if not self._more:
            return OTHER
        self._more -= 1
        return f"{prefix}{name}"[:MAX_NAME]

    def within(self, prefix: str, name: object) -> str:
        """The prefix of what is in an object or array."""
        self._room.spend(1)
        return f"{prefix}{name}."[:MAX_NAME] if self._more else ""


class Alike:
    """Fields that messages of one shape leave out, each with a reason: those of all are counted as one.

    Attributes:
        fields: they.
        times: how many messages were not counted yet.
    """

    __slots__ = ("fields", "times")

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self.fields = fields
        self.times = 0


class Drops:
    """Counts.

    What a message leaves out it mostly leaves out again, so it is counted by messages until somebody asks.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._news: list[tuple[str, str, str]] = []
        self._alike: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
        self._again: list[tuple[str, Alike]] = []

    @property
    def counts(self) -> Counter[tuple[str, str, str]]:
        """By the route's topic, the field's name and the reason."""
        alike, self._alike = self._alike, {}
        for (topic, fields), times in alike.items():
            for name, reason in fields:
                self._count(topic, name, reason, times)
        again, self._again = self._again, []
        for topic, each in again:
            for name, reason in each.fields:
                self._count(topic, name, reason, each.times)
            each.times = 0
        return self._counts

    def again(self, topic: str, alike: Alike) -> None:
        """Count the fields of one message of a shape."""
        if not alike.times:
            self._again.append((topic, alike))
        alike.times += 1
        if len(self._again) > _MOST_ALIKE:
            _ = self.counts

    def add(self, topic: str, fields: Sequence[tuple[str, str]]) -> None:
        """Count the fields of one message."""
        if len(fields) > _FEW:
            for name, reason in fields:
                self._count(topic, name, reason, 1)
            return
        alike, key = self._alike, (topic, tuple(fields))
        alike[key] = alike.get(key, 0) + 1
        if len(alike) > _MOST_ALIKE:
            _ = self.counts

    def news(self) -> list[tuple[str, str, str]]:
        """Those that were counted for the first time since the last call."""
        if self._alike or self._again:
            _ = self.counts
        if not self._news:
            return []
        news, self._news = self._news, []
        return news

    def _count(self, topic: str, name: str, reason: str, times: int) -> None:
        counts = self._counts
        key = (topic, name[:MAX_NAME], reason)
        if key not in counts:
            if len(counts) >= MOST_NAMES:
                key = (topic, OTHER, reason)
            if key not in counts:
                self._news.append(key)
        counts[key] += times
