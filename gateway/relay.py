"""The relay: committed outbox rows to the internal topic, in order, each at least once.

In the steady state a row goes out from memory right after its COMMIT. The table is read at a start, after the
broker was away longer than memory holds, and when a row is missing, because a COMMIT's fate was unknown or a
row was stored by a predecessor. The internal topic is a hint: readers take what they miss from the table, so
nothing here decides what is trimmed.

A failover can lose rows that were published. The stream then goes on from where it ends, with numbers that
were used before, and so does the relay.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NamedTuple

import structlog

from contract.events import wrap
from contract.topics import stream_topic
from runtime import faults
from runtime.errors import Reject
from runtime.mqtt import Disconnected, Message
from runtime.postgres import keep_asking, load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import asyncpg

    from gateway.lease import Lease
    from gateway.ledger import Ledger
    from gateway.transaction import Appended
    from runtime.http import Health
    from runtime.mqtt import Session

log = structlog.get_logger()
queries = load_queries("gateway")

_HELD_BYTES = 16_000_000
_PAGE_ROWS = 20
_RUN_ROWS = 50
_PATIENCE_S = 1.0
_ATTEMPTS = 5


class _Row(NamedTuple):
    n: int
    payload: bytes
    created_at: datetime


class Relay:
    """Publishes one stream."""

    def __init__(
        self,
        session: Session,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        lease: Lease,
        topic_prefix: str,
        ledger: Ledger,
        health: Health,
    ) -> None:
        self._session = session
        self._pool = pool
        self._lease = lease
        self._topic = stream_topic(topic_prefix, lease.stream)
        self._ledger = ledger
        self._health = health
        self._held: dict[int, _Row] = {}
        self._held_bytes = 0
        self._next = 1
        self._head = 0
        self._missing_since: float | None = None
        self._rewinds = 0
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()

    def start_after(self, published: int, head: int) -> None:
        """Set where a predecessor ended: what it stored and did not publish is read from the table."""
        self._next = min(published, head) + 1
        self._head = head

    def go_back(self, head: int) -> None:
        """The stream ends here now: what was beyond is no more, and other rows will have its numbers."""
        self._rewinds += 1
        self._next = min(self._next, head + 1)
        self._head = head
        self._held.clear()
        self._held_bytes = 0
        self._changed.set()

    @property
    def published(self) -> int:
        """The last position that the broker has acknowledged."""
        return self._next - 1

    @property
    def behind(self) -> int:
        """Rows committed and not yet published."""
        return self._head - self.published

    def offer(self, row: Appended) -> None:
        """Hand over a row that was just committed; what memory cannot hold is read from the table later."""
        if row.n < self._next:
            return  # it was read from the table meanwhile
        self._head = max(self._head, row.n)
        self._drained.clear()
        if self._held_bytes + len(row.payload) <= _HELD_BYTES:
            self._held[row.n] = _Row(row.n, row.payload, row.created_at)
            self._held_bytes += len(row.payload)
        self._changed.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            rows = self._take_held() or await self._wait_or_read()
            if rows:
                await self._publish(rows)

    async def drained(self) -> None:
        """Wait until everything committed has been published."""
        await self._drained.wait()

    def _take_held(self) -> list[_Row]:
        rows: list[_Row] = []
        while len(rows) < _RUN_ROWS and (row := self._held.pop(self._next + len(rows), None)) is not None:
            rows.append(row)
            self._held_bytes -= len(row.payload)
        return rows

    async def _wait_or_read(self) -> list[_Row]:
        self._changed.clear()
        if self._head < self._next:
            self._missing_since = None
            self._drained.set()
            await self._changed.wait()
            return []
        # The next row is committed but not here. A neighbour's commit may be about to hand it over; not for
        # ever, though.
        now = asyncio.get_running_loop().time()
        if self._missing_since is None:
            self._missing_since = now
        patience = self._missing_since + _PATIENCE_S - now if self._held else 0
        if patience <= 0:
            return await self._read()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._changed.wait()
        return []

    async def _read(self) -> list[_Row]:
        rewinds = self._rewinds
        records = await keep_asking(
            lambda: self._pool.fetch(queries.read_outbox, self._lease.stream, self._next, _PAGE_ROWS),
            self._health,
        )
        if rewinds != self._rewinds:
            return []  # a page of the history before
        if not records or records[0]["n"] != self._next:
            oldest = records[0]["n"] if records else self._head + 1
            log.warning(
                "outbox_rows_trimmed_unpublished",
                stream=self._lease.stream,
                first=self._next,
                last=oldest - 1,
            )
            self._next = oldest
        return [_Row(*record) for record in records]

    async def _publish(self, rows: Sequence[_Row]) -> None:
        messages = [
            Message(
                self._topic,
                wrap(
                    row.payload,
                    stream=self._lease.stream,
                    n=row.n,
                    epoch=self._lease.epoch,
                    created_at=row.created_at,
                    key=self._lease.key,
                ),
            )
            for row in rows
        ]
        done = failures = 0
        rewinds = self._rewinds
        while done < len(messages):
            await self._session.connected()
            try:
                await self._session.publish(messages[done:])
                done = len(messages)
            except Disconnected as lost:
                done += lost.acknowledged
                failures = 0 if lost.acknowledged else failures + 1
                if failures == _ATTEMPTS:
                    # A broker on MQTT 3.1.1 answers a message that it does not take by closing.
                    log.warning("event_batch_passed_over", stream=self._lease.stream, n=rows[done].n)
                    done, failures = done + 1, 0
            except Reject as refused:
                # Readers fill the gap from the table, so refusing to go on would only add lag.
                log.warning("event_batch_refused", stream=self._lease.stream, detail=refused.detail)
                done = len(messages)
        faults.point("after_publish")
        if self._rewinds != rewinds:
            return
        for row in rows:  # one that was read from the table may have been handed over as well
            if held := self._held.pop(row.n, None):
                self._held_bytes -= len(held.payload)
        self._next = rows[-1].n + 1
        self._missing_since = None
        self._ledger.publish(rows[-1].created_at)
