"""The batch: what is stored by one transaction and acknowledged after it, and the policy of when it is due.

An ack travels with what it acknowledges: a batch holds the chunks that its readings and rejections came in,
whole, so no later step can settle a delivery before its last reading is stored. Nothing here does I/O or
reads a clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.decode import Reading, Rejection
    from gateway.sparkplug.changes import Changes
    from runtime.mqtt.port import Chunk

_SMALL: Final = 8  # times it would be full
_ROW_BYTES: Final = 1_000_000  # brokers take packets of about 2 MB unless told otherwise
_READ_S: Final = 0.002  # what has gathered is read by then
_FEW_PER_S: Final = 2500  # messages; a batch costs as much as some hundred
_LONGER: Final = 5  # times, and no longer than:
_LONGEST_S: Final = 0.1
_LATELY: Final = 16  # batches
_OFTEN: Final = 6  # of them
_WINDOW: Final = 8  # messages; fewer are the same number by chance
_EVENT_BYTES: Final = 120  # what an event's names and times add to its row


@dataclass(slots=True)
class Batch:
    """Readings and rejections with the chunks they came in.

    Attributes:
        changes: what is stored beside them.
        due_after: so many chunks: the last has what came while nothing was read. 0 where none is known to.
        lingers: so many times as long as the policy says.
        opened_at: when its first chunk came, in seconds of a monotonic clock.
        size_bytes: of what came with its chunks, about.
    """

    readings: list[Reading] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    changes: list[Changes] = field(default_factory=list)
    due_after: int = 0
    lingers: float = 1.0
    opened_at: float = 0.0
    size_bytes: int = 0

    def __len__(self) -> int:
        """How many readings and rejections await their outcome: the unit of the accounting."""
        return len(self.readings) + len(self.rejections)


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When a batch is due: by count, by bytes, or when its first message has lingered long enough."""

    max_messages: int
    max_bytes: int
    linger_s: float

    def is_full(self, batch: Batch) -> bool:
        """Whether nothing more should be added."""
        return len(batch) >= self.max_messages or batch.size_bytes >= self.max_bytes

    def is_small(self, batch: Batch) -> bool:
        """Whether one like it would be far from full when it has lingered."""
        return len(batch) * _SMALL <= self.max_messages and batch.size_bytes * _SMALL <= self.max_bytes

    def parts(self, batch: Batch) -> Iterator[Sequence[Reading]]:
        """Cut the readings into what one transaction and one outbox row should hold.

        Most batches are one part. But a payload is taken whole, and may be an array of very many readings.
        """
        start = size = 0
        for i, reading in enumerate(batch.readings):
            size += len(reading.line) + _EVENT_BYTES
            if size > _ROW_BYTES and i > start:
                yield batch.readings[start:i]
                start, size = i, len(reading.line) + _EVENT_BYTES
        yield batch.readings[start:]

    def due_in(self, batch: Batch, now: float) -> float | None:
        """Seconds until the batch is due, 0 when it is; None while there is nothing in it."""
        if not batch.chunks:
            return None
        if self.is_full(batch) or 0 < batch.due_after <= len(batch.chunks):
            return 0.0
        linger_s = self.linger_s * batch.lingers + (_READ_S if batch.due_after else 0.0)
        return max(0.0, batch.opened_at + linger_s - now)


def longest_s(linger_s: float) -> float:
    """How long a batch lingers at most, in quiet hours, where it is to linger so long."""
    return max(linger_s, min(_LONGER * linger_s, _LONGEST_S))


class Patience:
    """How many times as long as the policy says the next batch may linger.

    Where several messages come, and not many, they wait for one another: each batch, and its row on its way
    into the views, costs more than they do. Nobody's wait gets longer than a moment by that: what is meant to
    linger for longer does it as it is.

    Brokers have so many messages under way at most, often a few dozen, and send no more before some are
    acknowledged. Then all of them are in the batch, the same number each time, and no wait brings another.
    That may be so by chance too: so batches linger as they are set then, and go on with it for as long as the
    number stays the same all the same.

    Args:
        policy: of batches.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        self._longer = longest_s(policy.linger_s) / policy.linger_s if policy.linger_s else 1.0
        self._lately: deque[int] = deque(maxlen=_LATELY)  # messages to be acknowledged, of each batch

    def after(self, batch: Batch, since_s: float) -> float:
        """To be asked after each batch.

        Args:
            batch: the last one.
            since_s: in which it came together.
        """
        if len(batch) >= _FEW_PER_S * since_s:
            self._lately.clear()
            return 1.0
        came = [delivery.qos for chunk in batch.chunks for delivery in chunk.deliveries]
        self._lately.append(len(came) - came.count(0))
        most = max(self._lately)
        if most >= _WINDOW and self._lately.count(most) >= _OFTEN:
            if 2 * max(self._lately[-1], self._lately[-2]) > most:
                return 1.0
            self._lately.clear()  # the less it lingers the less comes
        return 1.0 if len(came) < 2 else self._longer  # noqa: PLR2004  # one waits for nobody
