"""What has come by, bounded: every topic is counted, and of each the last payloads are kept.

How many of them depends on how many topics there are. While what is kept fits into the bound, that is eight
a topic. Then topics of which a hundred alike are kept already keep half as many, down to one, and then the
others too; at last they keep none.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

_MAX_BYTES: Final = 15_000_000
_MAX_TOPICS: Final = 50_000
_PER_TOPIC: Final = 8
_PER_LOOK: Final = 100  # topics alike that keep payloads whatever there is
_SAMPLE_BYTES: Final = 180  # of the objects around a payload
_DIGITS: Final = re.compile(r"[0-9a-fA-F]*[0-9][0-9a-fA-F]*")


class Sample(NamedTuple):
    """A message.

    Attributes:
        at: when it came, UTC.
        retained: whether it is an old one, which the broker had kept.
    """

    topic: str
    payload: bytes
    at: datetime
    retained: bool = False

    @property
    def qos(self) -> int:
        """As it was listened for."""
        return 0

    @property
    def retain(self) -> bool:
        """The same, as deliveries call it."""
        return self.retained

    @property
    def duplicate(self) -> bool:
        """Nothing is delivered twice at QoS 0."""
        return False

    @property
    def user_properties(self) -> tuple[tuple[str, str], ...]:
        """None are kept."""
        return ()


class Topic:
    """One topic.

    Attributes:
        count: messages.
        samples: the last of them.
        first: whether it is one of the first that look alike, which keep more.
    """

    __slots__ = ("count", "first", "samples")

    def __init__(self) -> None:
        self.count = 0
        self.first = True
        self.samples: list[Sample] = []


class Heard:
    """Everything that has come by.

    Args:
        max_bytes: of payloads that are kept.

    Attributes:
        topics: by name.
        messages: how many came.
        retained: of them old ones, which the broker had kept.
        empty: of them without a payload, by which a retained one is cleared.
        beyond: of them by topics that are too many to be kept.
        dropped: how many more came faster than they were looked at.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self.topics: dict[str, Topic] = {}
        self.messages = 0
        self.retained = 0
        self.empty = 0
        self.beyond = 0
        self.dropped = 0
        self._looks: Counter[str] = Counter()
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._per_topic = self._others = _PER_TOPIC

    def add(self, sample: Sample) -> None:
        """Take a message."""
        self.messages += 1
        self.retained += sample.retained
        if not sample.payload:
            self.empty += 1
            return
        topic = self.topics.get(sample.topic)
        if topic is None:
            if len(self.topics) >= _MAX_TOPICS:
                self.beyond += 1
                return
            topic = self.topics[sample.topic] = Topic()
        topic.count += 1
        if not topic.samples and not self._may_begin(sample, topic):
            return
        if len(topic.samples) >= self._allowed(topic):
            self._size_bytes -= _size(topic.samples.pop(0))
        topic.samples.append(sample)
        self._size_bytes += _size(sample)
        while self._size_bytes > self._max_bytes and (self._others > 1 or self._per_topic > 1):
            if self._others > 1:
                self._others //= 2
            else:
                self._per_topic //= 2
            self._trim()

    def samples(self) -> list[Sample]:
        """What is kept of all topics, by topic."""
        return [sample for name in sorted(self.topics) for sample in self.topics[name].samples]

    def _allowed(self, topic: Topic) -> int:
        return self._per_topic if topic.first else min(self._others, self._per_topic)

    def _may_begin(self, sample: Sample, topic: Topic) -> bool:
        look = _DIGITS.sub("0", sample.topic)
        full = self._size_bytes + _size(sample) > self._max_bytes
        if full and self._others == 1 and self._looks[look] >= _PER_LOOK:
            return False
        if full and self._size_bytes > 2 * self._max_bytes:
            return False
        self._looks[look] += 1
        topic.first = self._looks[look] <= _PER_LOOK
        return True

    def _trim(self) -> None:
        for topic in self.topics.values():
            while len(topic.samples) > self._allowed(topic):
                self._size_bytes -= _size(topic.samples.pop(0))


def _size(sample: Sample) -> int:
    return len(sample.payload) + _SAMPLE_BYTES
