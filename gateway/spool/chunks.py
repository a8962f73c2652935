"""Chunks on their way past the spool, and out of it: each knows where in the spool it stands, if it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.spool.entry import Kept, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.spool.places import Stored
    from runtime.mqtt.port import Chunk, Delivery


class Tracked:
    """A chunk that the pipeline has, until it is settled.

    Args:
        settle: called once, when what it holds is stored.

    Attributes:
        given_at: when the pipeline got it, by a monotonic clock.
        settled: whether what it holds is stored.
        kept: whether it is in the spool.
        place: of its record there, in its run.
        seq: of the entry of which it is the last, once that is known; 0 for any other.
        last: the time of arrival that was given last when it had been read, to its end; None before.
    """

    def __init__(self, settle: Callable[[Tracked], None], given_at: float) -> None:
        self.given_at = given_at
        self.settled = False
        self.kept = False
        self.place = 0
        self.seq = 0
        self.last: str | None = None
        self._settle = settle

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """What it holds."""
        raise NotImplementedError

    def ack(self) -> None:
        """What it holds is stored."""
        if not self.settled:
            self.settled = True
            self._settle(self)


class Passed(Tracked):
    """A chunk as the session gave it.

    Attributes:
        chunk: the session's.
        at: what the clock said when it came, or was read.
        after: the time of arrival that was given last before it was read; None while it was not.
        since: the row of the stream from which on it may be stored; None while it was not read.
        connection: of the session, then.
        sessions_lost: likewise.
    """

    def __init__(
        self,
        chunk: Chunk,
        settle: Callable[[Tracked], None],
        *,
        at: str,
        given_at: float,
        connection: int,
        sessions_lost: int,
    ) -> None:
        super().__init__(settle, given_at)
        self.chunk = chunk
        self.at = at
        self.after: str | None = None
        self.since: int | None = None
        self.connection = connection
        self.sessions_lost = sessions_lost

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """The session's."""
        return self.chunk.deliveries

    @property
    def size_bytes(self) -> int:
        """The session's."""
        return self.chunk.size_bytes

    @property
    def is_being_read(self) -> bool:
        """Whether the pipeline is in the middle of it: what times of arrival it gives is not known yet."""
        return self.after is not None and self.last is None

    def record(self) -> Record:
        """What is kept of it; while it is being read nothing can be."""
        return Record(
            self.at,
            [Kept.of(delivery) for delivery in self.deliveries],
            self.connection,
            self.sessions_lost,
            self.after,
            self.last or "",
            self.since,
        )


class Drained(Tracked):
    """A record out of the spool.

    Attributes:
        record: as it was kept.
        run: whose it is.
        after: the time of arrival after which its own come; None where the last one's that was given counts.
        own: whether this very process has put it there.
        stored: what of it is stored already.
    """

    def __init__(
        self,
        record: Record,
        settle: Callable[[Tracked], None],
        *,
        run: str,
        place: int,
        after: str | None,
        own: bool,
        stored: Stored | None,
    ) -> None:
        super().__init__(settle, 0.0)
        self.record = record
        self.size_bytes = sum(100 + len(each.topic) + len(each.payload) for each in record.deliveries)
        self.run = run
        self.kept, self.place = True, place
        self.after = after
        self.own = own
        self.stored = stored

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """The record's."""
        return self.record.deliveries
