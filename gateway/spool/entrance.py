"""Where messages come in: past the spool as a rule, through it while PostgreSQL takes none.

Stands between the session and the pipeline. As long as batches are stored, a chunk is passed on and its
acknowledgement back. When the oldest that the pipeline has is not stored within `spool.after`, everything it
has goes into the spool, in order, and so does all that comes from then on; each is acknowledged to the broker
when it is durable there. The pipeline keeps what it has and goes on trying to store it; what it wants next it
gets out of the spool, oldest first. What it has stored is removed there. So there is one path to the
database, whatever came which way: dedup, conflicts, dead letters, edge nodes of Sparkplug and the registry's
door see messages once, in order of arrival, and as of the time at which they came.

When the pipeline has got everything and stores again, nothing new is appended any more; what has come
meanwhile is passed on, and then whatever comes. Only one of the two, pipeline or spool, ever listens to the
session.

Killed at any instant: what was acknowledged is stored, or in the spool, or both. Whichever it is, the place
of what is stored was noted with it (`places`). Only a COMMIT that was sent before its messages were in the
spool says nothing of places; so what the pipeline had then is looked for in the rows of the stream before it
is read again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog

from gateway.spool.chunks import Drained, Passed, Tracked
from gateway.spool.entry import Kept, Record
from gateway.spool.file import Full
from gateway.spool.places import Left, Place
from gateway.spool.rates import Rates
from gateway.spool.shelf import Unusable
from runtime.mqtt.port import SessionStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gateway.spool.file import Entry
    from gateway.spool.shelf import Shelf
    from runtime.http import Health
    from runtime.mqtt import Chunk, Message, Session

    Stored = Callable[[int, str, str], Awaitable[bool]]

log = structlog.get_logger()

_LINGER_S: Final = 0.1  # of what becomes durable together, when it is little
_ENTRY_MESSAGES: Final = 1000
_ENTRY_BYTES: Final = 1_000_000
_WAITING_BYTES: Final = 4_000_000  # taken from the session and not yet durable; the rest stays in the broker
_READ_AHEAD_BYTES: Final = 2_000_000
_FORGET_S: Final = 1.0
_AGAIN_S: Final = 1.0
_DROPPED_TOLD_S: Final = 60.0


class Entrance:
    """The part of a session that the pipeline uses; see `runtime.mqtt.Session`.

    Args:
        session: from which chunks come.
        shelf: the spool.
        after_s: how long storing may take before it is used.
        drops: whether the oldest is dropped when there is no room; else nothing more is taken.
        health: of this process; PostgreSQL that is away is no reason while the spool works.
        at_once: whether it is used from the start, because PostgreSQL is away.

    Attributes:
        spooled: messages of this process that are in the spool and nowhere else.
        kept: messages that it has put there.
        drained: messages that have come out of it, and are stored.
        dropped: messages that were dropped for want of room.
        dropped_own: of these, such as this process had put there.
        why_full: why nothing more is taken; empty while it is.
        spooling: whether messages go through the spool now.
        left: what there still is, for PostgreSQL to know.
        rates: at which messages go in and come out.
        next_n: tells the number of the stream's next row, as far as is known.
        counted: called when more is in the spool.
    """

    def __init__(
        self,
        session: Session,
        shelf: Shelf,
        *,
        after_s: float,
        health: Health,
        drops: bool = False,
        at_once: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shelf = shelf
        self.spooled = self.kept = self.drained = self.dropped = self.dropped_own = 0
        self.why_full = ""
        self.left = Left()
        self.next_n: Callable[[], int] = lambda: 1
        self.counted: Callable[[], None] = lambda: None
        self.rates = Rates(monotonic)
        self._session = session
        self._after_s = after_s
        self._health = health
        self._drops = drops
        self._now = now
        self._monotonic = monotonic
        self._positions: dict[str, Place] | None = None  # before PostgreSQL was asked nothing is read
        self._stored: Stored | None = None
        self._found = shelf.extent.last
        self._run_read = ""
        self._listening = asyncio.Lock()
        self._wait: asyncio.Timeout | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._in_flight: deque[Tracked] = deque()
        self._overtaken: deque[Passed] = deque()  # came while the last entries were on their way
        self._waiting: deque[Passed] = deque()  # to become durable
        self._waiting_bytes = 0
        self._behind = 0  # of these, how many the pipeline has as well
        self._ahead: deque[Drained] = deque()
        self._ahead_bytes = 0
        self._place = 0
        self._read_to = 0
        self._last = shelf.extent.last
        self._done = self._forgotten = 0
        self._stopping = False
        self._appending = False
        self._changed = asyncio.Event()
        self._status = SessionStatus()
        self._connections = self._sessions_lost = 0
        self._label: tuple[str, int, int] = ("", 0, 0)
        self.spooling = at_once or bool(shelf.extent.first)
        self._stuck = self.spooling
        self._closing = False
        self._told_dropped = 0.0
        if self.spooling:
            self._forgotten = max(0, shelf.extent.first - 1)
            self._say()
        if shelf.extent.messages:
            log.info("spool_found", messages=shelf.extent.messages, oldest=shelf.extent.oldest)

    @property
    def status(self) -> SessionStatus:
        """The session's state when the chunk came that was received last."""
        return self._status if self.spooling else self._relabelled()

    @property
    def messages(self) -> int:
        """In the spool, whoever has put them there; those that are being stored too."""
        return self.shelf.extent.messages

    def learn(self, positions: dict[str, Place], stored: Stored) -> None:
        """Take over how far runs of before are drained; nothing is read earlier.

        Args:
            positions: by run.
            stored: asks whether rows of the stream from one on have anything that came after one time, until
                another.
        """
        self._positions, self._stored = positions, stored
        self._stuck = False
        self._watch()
        self._tell()

    async def receive(self) -> Chunk:
        """Wait for the next chunk, from wherever it comes."""
        while True:
            if self._overtaken:
                return self._passed(self._overtaken.popleft())
            if not self.spooling:
                if (chunk := await self._listen(spooling=False)) is not None:
                    if self._is_direct():
                        return self._passed(chunk)
                    self._take(chunk)
            elif self._ahead:
                return self._give(self._ahead.popleft())
            elif self._has_all() and not self._stuck:
                self._closing = True
                if not self._appending:
                    self._go_on_directly()
                    continue
                await self._change()
            else:
                await self._change()

    def stop_receiving(self) -> Sequence[Chunk]:
        """Take no more; returns what is to be stored now, unless it goes into the spool."""
        self._stopping = True
        left = [self._arrived(chunk) for chunk in self._session.stop_receiving()]
        if self.spooling:
            for chunk in left:
                self._take(chunk)
            left = []
        else:
            left[:0] = self._overtaken
            self._overtaken.clear()
        self._tell()
        return [self._passed(chunk) for chunk in left]

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish, as the session does."""
        await self._session.publish(messages)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen_on(), name="spool-listen")
            tasks.create_task(self._append_on(), name="spool-append")
            tasks.create_task(self._read_on(), name="spool-read")
            tasks.create_task(self._forget_on(), name="spool-forget")

    async def safe(self) -> None:
        """Wait, after `stop_receiving`, until all that the pipeline has is in the spool and not stored."""
        while not (self.spooling and self._stuck and not self._waiting and not self._appending):
            await self._change()

    async def flushed(self) -> None:
        """Wait, after `stop_receiving`, until all that was taken is durable, or there is no room for it."""
        while self.spooling and (self._waiting or self._appending) and not self.why_full:
            await self._change()
        if self._done > self._forgotten:
            await self._forget()

    async def emptied(self) -> None:
        """Wait until everything that was in the spool is stored."""
        while self.spooling or self._in_flight:
            await self._change()

    def hand_back(self) -> None:
        """What the pipeline has is left to the spool."""
        for chunk in self._in_flight:
            if not isinstance(chunk, Drained) or chunk.own:
                self.spooled += len(chunk.deliveries)
        self._in_flight.clear()

    def _passed(self, passed: Passed) -> Passed:
        passed.given_at = self._monotonic()
        self._in_flight.append(passed)
        self._watch()
        return passed

    def _give(self, drained: Drained) -> Drained:
        self._ahead_bytes -= drained.size_bytes
        drained.given_at = self._monotonic()
        self._in_flight.append(drained)
        if drained.own:
            self.spooled -= len(drained.deliveries)
        label = (drained.run, drained.record.connection, drained.record.sessions_lost)
        self._status = self._relabelled(label)
        self._watch()
        self._tell()
        return drained

    def _relabelled(self, label: tuple[str, int, int] | None = None) -> SessionStatus:
        """The status of the session of which a chunk is: of another process, it is another connection."""
        status = self._session.status
        label = label or (self.shelf.run, status.connections, status.sessions_lost)
        if label != self._label:
            before, self._label = self._label, label
            self._connections += 1
            self._sessions_lost += label[0] != before[0] or label[2] != before[2]
        return SessionStatus(
            connected=self.spooling or status.connected,
            reason=status.reason,
            connections=self._connections,
            sessions_lost=self._sessions_lost,
        )

    def _settle(self, chunk: Tracked) -> None:
        """The pipeline has stored a chunk, in order."""
        while self._in_flight and self._in_flight[0].settled:
            self._in_flight.popleft()
        if isinstance(chunk, Passed):
            chunk.chunk.ack()
        if chunk.run:
            self.drained += len(chunk.deliveries)
            self.rates.drained(len(chunk.deliveries))
        if chunk.seq:
            self._done = max(self._done, chunk.seq)
        if self._stuck:
            self._stuck = False
            self._watch()
        if self.spooling or chunk.run:
            self._tell()

    def _watch(self) -> None:
        """See to it that somebody looks when the oldest has taken too long."""
        if self._timer is None and self._in_flight and not self._stuck:
            self._timer = asyncio.get_running_loop().call_later(self._after_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._in_flight or self._stuck:
            return
        waited_s = self._monotonic() - self._in_flight[0].given_at
        if waited_s < self._after_s:
            self._timer = asyncio.get_running_loop().call_later(self._after_s - waited_s, self._look)
        elif self.spooling:
            self._stuck, self._closing = True, False
            self._tell()
        else:
            self._begin()

    def _begin(self) -> None:
        """From now on everything goes into the spool, what the pipeline has first."""
        self.spooling = self._stuck = True
        has = [chunk for chunk in self._in_flight if isinstance(chunk, Passed) and not chunk.run]
        self._behind = len(has)
        self._waiting.extend([*has, *self._overtaken])
        self._overtaken.clear()
        self._waiting_bytes += sum(chunk.size_bytes for chunk in self._waiting)
        self._read_to = self._last
        for chunk in has:
            self._place += 1
            chunk.run, chunk.place = self.shelf.run, self._place
            chunk.since = self.next_n()
        self._interrupt()
        self._tell()
        log.warning("spooling", after_s=self._after_s, in_flight=sum(len(chunk.deliveries) for chunk in has))

    def _is_direct(self) -> bool:
        """Whether messages go past the spool now; asked again after a wait."""
        return not self.spooling

    def _has_all(self) -> bool:
        """Whether the pipeline has got everything that is durable."""
        return not self._behind and self._read_to >= self._last

    def _go_on_directly(self) -> None:
        self.spooling = self._closing = False
        self._overtaken.extend(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._interrupt()
        self._tell()
        self._say()
        log.info("spool_drained", drained=self.drained)

    def _interrupt(self) -> None:
        """Whoever listens to the session is to look around."""
        if self._wait is not None:
            self._wait.reschedule(asyncio.get_running_loop().time())

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> None:
        await self._changed.wait()

    async def _listen(self, *, spooling: bool) -> Passed | None:
        """The session's next chunk; None when it is the other's to listen now."""
        async with self._listening:
            if self.spooling is not spooling:
                return None
            try:
                async with asyncio.timeout(None) as self._wait:
                    chunk = await self._session.receive()
            except TimeoutError:
                return None
            finally:
                self._wait = None
        return self._arrived(chunk)

    def _arrived(self, chunk: Chunk) -> Passed:
        status = self._session.status
        return Passed(
            chunk,
            self._settle,
            at=self._now().isoformat(),
            given_at=self._monotonic(),
            connection=status.connections,
            sessions_lost=status.sessions_lost,
        )

    def _take(self, chunk: Passed) -> None:
        self._waiting.append(chunk)
        self._waiting_bytes += chunk.size_bytes
        self._tell()

    async def _listen_on(self) -> None:
        while True:
            if not self.spooling or self._stopping or self._waiting_bytes >= _WAITING_BYTES:
                await self._change()
            elif (chunk := await self._listen(spooling=True)) is not None:
                if self._is_direct():
                    self._overtaken.append(chunk)
                    self._tell()
                else:
                    self._take(chunk)

    async def _append_on(self) -> None:
        while True:
            if not self.spooling or not self._waiting or (self._closing and not self._behind):
                await self._change()
                continue
            await self._linger()
            if not self._is_direct() and self._waiting and (self._behind or not self._closing):
                self._appending = True
                try:
                    await self._append(self._cut())
                finally:
                    self._appending = False
                    self._tell()

    async def _linger(self) -> None:
        """Let more come before it is made durable, unless much is there."""
        due = self._waiting[0].given_at + _LINGER_S
        while (
            self._waiting_bytes < _ENTRY_BYTES
            and not self._stopping
            and not self._behind
            and not self._closing
            and self.spooling
            and (left_s := due - self._monotonic()) > 0
        ):
            try:
                async with asyncio.timeout(left_s):
                    await self._change()
            except TimeoutError:
                return

    def _cut(self) -> list[Passed]:
        """The chunks of the next entry: either such as the pipeline has, or others."""
        at_most = self._behind or len(self._waiting)
        messages = size = count = 0
        for chunk in islice(self._waiting, at_most):
            messages += len(chunk.deliveries)
            size += chunk.size_bytes
            if count and (messages > _ENTRY_MESSAGES or size > _ENTRY_BYTES):
                break
            count += 1
        cut = [self._waiting.popleft() for _ in range(count)]
        self._waiting_bytes -= sum(chunk.size_bytes for chunk in cut)
        return cut

    async def _append(self, chunks: list[Passed]) -> None:
        has = self._behind > 0
        left = [chunk for chunk in chunks if not chunk.settled]
        if left:
            for chunk in left:
                if not chunk.run:
                    self._place += 1
                    chunk.run, chunk.place = self.shelf.run, self._place
            seq = await self._make_durable(left)
            if not seq and not has:
                for chunk in left:
                    chunk.run, chunk.place = "", 0
                self._waiting.extendleft(reversed(left))
                self._waiting_bytes += sum(chunk.size_bytes for chunk in left)
                return
            self._appended(left, seq, has=has)
        if has:
            self._behind -= len(chunks)
        self._say()

    def _appended(self, chunks: list[Passed], seq: int, *, has: bool) -> None:
        """Chunks are durable, and can be acknowledged."""
        self._last = max(self._last, seq)
        messages = sum(len(chunk.deliveries) for chunk in chunks)
        self.kept += messages
        self.rates.kept(messages)
        if has:
            self._read_to = max(self._read_to, seq)
            chunks[-1].seq = seq
            if chunks[-1].settled:
                self._done = max(self._done, seq)
        else:
            self.spooled += messages
            self.counted()
        for chunk in chunks:
            chunk.chunk.ack()

    def _record(self, chunk: Passed) -> Record:
        return Record(
            chunk.at,
            [Kept.of(delivery) for delivery in chunk.deliveries],
            chunk.connection,
            chunk.sessions_lost,
            chunk.after,
            chunk.last,
            chunk.since,
        )

    async def _make_durable(self, chunks: list[Passed]) -> int:
        """Append, waiting or dropping for as long as there is no room; 0 when it is no longer needed."""
        records = [self._record(chunk) for chunk in chunks]
        while not (self._closing and not self._behind) and not all(chunk.settled for chunk in chunks):
            try:
                seq = await self.shelf.append(records, place=chunks[-1].place)
            except (Full, Unusable) as error:
                if isinstance(error, Full) and self._drops and await self._drop():
                    continue
                if not self.why_full:
                    log.error("spool_takes_no_more", reason=str(error))  # noqa: TRY400  # no defect
                self.why_full = str(error)
                self._say()
                self._tell()
                await asyncio.sleep(_AGAIN_S)
            else:
                if self.why_full:
                    log.info("spool_takes_again")
                self.why_full = ""
                return seq
        self.why_full = ""
        return 0

    async def _drop(self) -> bool:
        """Drop the oldest that nobody is at."""
        seq, messages = await self.shelf.drop_oldest(self._read_to)
        if not seq:
            return False
        self._read_to = seq
        self.dropped += messages
        if seq > self._found:
            self.spooled -= messages
            self.dropped_own += messages
        now = self._monotonic()
        if now - self._told_dropped >= _DROPPED_TOLD_S:
            self._told_dropped = now
            log.error("spool_dropped_oldest", messages=messages, dropped=self.dropped)
        return True

    async def _read_on(self) -> None:
        while True:
            ready = self.spooling and not self._behind and self._positions is not None
            if not ready or self._ahead_bytes >= _READ_AHEAD_BYTES or self._read_to >= self._last:
                await self._change()
                continue
            try:
                await self._read()
            except Unusable as unusable:
                log.error("spool_unreadable", reason=str(unusable))  # noqa: TRY400  # no defect
                await asyncio.sleep(_AGAIN_S)

    async def _read(self) -> None:
        found = await self.shelf.read(self._read_to)
        if found is None:  # what was there is damaged, or gone
            self._read_to = self._last
            self._tell()
            return
        entry, records = found
        read = [
            self._drained(entry, place, record)
            for place, record in enumerate(records, entry.place - len(records) + 1)
            if not await self._is_stored(entry.run, place, record)
        ]
        if read:
            read[-1].seq = entry.seq
        else:
            self._done = max(self._done, entry.seq)
        self._read_to = entry.seq
        self._ahead.extend(read)
        self._ahead_bytes += sum(chunk.size_bytes for chunk in read)
        self._tell()

    def _drained(self, entry: Entry, place: int, record: Record) -> Drained:
        own = entry.run == self.shelf.run
        after = record.after
        if after is None and not own and entry.run != self._run_read:
            position = (self._positions or {}).get(entry.run)
            after = position.last if position else ""  # as if the run went on
        self._run_read = entry.run
        return Drained(record, self._settle, run=entry.run, place=place, after=after, own=own)

    async def _is_stored(self, run: str, place: int, record: Record) -> bool:
        """Whether a record of another process is, which could not remove it any more."""
        if run == self.shelf.run:
            return False
        assert self._positions is not None
        assert self._stored is not None
        position = self._positions.get(run)
        if position is not None and place <= position.place:
            return True
        if record.since is None or record.after is None:
            return False
        return await self._stored(record.since, record.after, record.last)

    async def _forget_on(self) -> None:
        while True:
            if self._done <= self._forgotten:
                await self._change()
                continue
            if self._done < self._last:
                await asyncio.sleep(_FORGET_S)
            await self._forget()

    async def _forget(self) -> None:
        done = self._done
        await self.shelf.forget(done)
        self._forgotten = done
        self._say()

    def _say(self) -> None:
        """Say what there is in the spool."""
        extent = self.shelf.extent
        self.left = Left(extent.messages, extent.oldest, self.rates.drains_in_s(extent.messages))
        note = None
        if self.spooling and not self.why_full:
            since = f", the oldest since {extent.oldest[:19]}Z" if extent.oldest else ""
            note = f"{extent.messages:,} messages{since}"
        self._health.excuse("postgres", excused=note is not None)
        self._health.note("spool", note)
        self._health.set("spool", f"full: {self.why_full}" if self.why_full else None)
