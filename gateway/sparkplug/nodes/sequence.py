"""The numbers of an edge node's messages (3.0.0 §6.4.15): who comes before its turn waits for it. Pure.

A birth of the edge node has 0, each message of it and of its devices one more, and 255 is followed by 0. MQTT
keeps the order of one topic only, and a node has several. A number that is behind is one as well that is far
ahead: it may be of the next session, whose birth is still to come.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from gateway.sparkplug.messages import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.sparkplug.messages import Message


class Turn(Enum):
    """When a message is to be looked at."""

    NOW = "now"
    UNKNOWN = "unknown"  # what comes next is not known
    WAITS = "waits"


class Sequence:
    """Of one edge node.

    Attributes:
        next: the number that is expected; None while it is not known.
    """

    def __init__(self) -> None:
        self.next: int | None = None
        self._waiting: dict[int, list[Message]] = {}

    @property
    def all(self) -> list[Message]:
        """Those that wait, in the order of their numbers."""
        first = self.next or 0
        order = sorted(self._waiting, key=lambda seq: (seq - first) % NUMBERS)
        return [each for seq in order for each in self._waiting[seq]]

    @property
    def first(self) -> float | None:
        """When the first came that waits, in seconds of the monotonic clock."""
        return min((each.heard for some in self._waiting.values() for each in some), default=None)

    @property
    def first_at(self) -> str:
        """The same in the contract's form; after all times when none waits."""
        return min((each.at for some in self._waiting.values() for each in some), default="~")

    @property
    def missing(self) -> set[int]:
        """The numbers that have not come, up to the last that waits."""
        first = self.next or 0
        through = max(((seq - first) % NUMBERS for seq in self._waiting), default=0)
        return {(first + i) % NUMBERS for i in range(through)} - self._waiting.keys()

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def turn(self, message: Message) -> Turn:
        """Whether it is the turn of a message; one that waits is kept."""
        if self.next is None:
            return Turn.UNKNOWN
        if message.seq == self.next:
            self.passed(message)
            return Turn.NOW
        self._waiting.setdefault(message.seq, []).append(message)
        return Turn.WAITS

    def passed(self, message: Message) -> None:
        """The next is the one after this."""
        self.next = message.following

    def ready(self) -> Iterator[Message]:
        """Those that have waited and whose turn it is."""
        while self.next is not None and (some := self._waiting.pop(self.next, None)):
            self.next = (self.next + 1) % NUMBERS
            yield from some

    def flush(self) -> list[Message]:
        """All that wait; they wait no more."""
        found = self.all
        self._waiting.clear()
        return found
