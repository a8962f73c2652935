"""Follows every gateway's stream from where it was at the start, a new one from its first row.

Rows come by themselves as the topic brings them (`take`). What had been committed a turn ago and did not
come, because the broker was away or lost it, is read, and all there is after it, so that what comes then
follows. Where rows are gone, or are of another history, time begins anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from contract.events import GATEWAY_STREAMS
from contract.order import microseconds
from projector.ahead import Ahead
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from contract.events import Event, EventBatch
    from projector.outbox import Outbox, Position

PAGE_EVENTS: Final = 4000
LOOKS: Final = 5  # a turn, while more has come than is held


class Rows:
    """The rows of all streams, each once and in order.

    Args:
        outbox: for what does not come by itself.
        hear: told a stream, when its row was received in epoch seconds, and the row's events.
        begin_anew: told a stream of which rows were passed over.
        expect: told a stream that was there at the start, and when its newest row was written, epoch seconds.
        replays: whether dead letters that were replayed are heard too.
        page_events: about so many are heard before others have their turn; a row is the least.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        hear: Callable[[int, int, Sequence[Event]], None],
        begin_anew: Callable[[int], None],
        expect: Callable[[int, int], None],
        replays: bool = False,
        page_events: int = PAGE_EVENTS,
    ) -> None:
        self._outbox = outbox
        self._hear = hear
        self._begin_anew = begin_anew
        self._expect = expect
        self._replays = replays
        self._page_events = page_events
        self._streams: dict[int, _Stream] = {}
        self._has_looked = False

    def take(self, rows: Sequence[EventBatch]) -> None:
        """Take consecutive rows of one stream; what does not follow what was taken is left to the outbox."""
        stream = self._streams.get(rows[0].stream)
        if stream is None or rows[0].epoch != stream.epoch:
            return
        if rows[0].n > stream.end + 1:
            stream.ahead.hold(rows)
            return
        self._follow(stream, rows)
        self._follow(stream, stream.ahead.after(stream.end))

    async def catch_up(self) -> None:
        """Read what had been committed at the last call and has not come since, or is known to be missing.

        Raises:
            Retry: PostgreSQL is away; what was read stays taken.
        """
        for _ in range(LOOKS):
            await self._look()
            if not any(stream.ahead for stream in self._streams.values()):
                break

    async def _look(self) -> None:
        ends = {number: stream.end for number, stream in self._streams.items()}
        for number, position in (await self._outbox.positions()).items():
            stream = self._streams.get(number)
            if stream is None:
                if number < GATEWAY_STREAMS or self._replays:
                    self._meet(number, position)
                continue
            if stream.epoch != position.epoch or ends[number] > position.head:
                self._pass_over(number, position)
                continue
            if position.head <= stream.end:
                stream.ahead.clear()  # rows that PostgreSQL does not know are none of ours
            is_behind = stream.end < stream.head or stream.ahead
            stream.head = position.head
            if is_behind and not await self._read(number, stream):
                self._pass_over(number, position)
        self._has_looked = True

    def _meet(self, number: int, position: Position) -> None:
        self._streams[number] = _Stream(position.epoch, 0 if self._has_looked else position.head)
        if not self._has_looked and position.head_at is not None:
            self._expect(number, microseconds(position.head_at) // 1_000_000)

    async def _read(self, number: int, stream: _Stream) -> bool:
        """Take the rows up to the head; returns whether they were there."""
        while stream.end < stream.head:
            after = stream.end
            try:
                page = await self._outbox.page(number, after, self._page_events)
            except Reject:  # a row that holds no events: the views say so
                stream.end = max(stream.end, after + 1)
                continue
            if stream.end == after:
                if not page.rows or page.rows[0].n != after + 1 or page.rows[0].epoch != stream.epoch:
                    return False
                self.take(page.rows)
        return True

    def _follow(self, stream: _Stream, rows: Sequence[EventBatch]) -> None:
        for row in rows:
            if row.n == stream.end + 1:
                stream.end = row.n
                received_at = _received_at(row)
                if received_at is not None:
                    self._hear(row.stream, received_at, row.events)

    def _pass_over(self, number: int, position: Position) -> None:
        self._streams[number] = _Stream(position.epoch, position.head)
        self._begin_anew(number)


class _Stream:
    """Where we are on a stream: its last row taken, and the last committed when last looked."""

    def __init__(self, epoch: str, head: int) -> None:
        self.epoch = epoch
        self.end = self.head = head
        self.ahead = Ahead()


def _received_at(row: EventBatch) -> int | None:
    """When the last event of a row was received; None without one that says so."""
    try:
        return microseconds(row.events[-1].received_at) // 1_000_000
    except (IndexError, ValueError):
        return None
