"""Where messages come in: past the spool as a rule, through it while PostgreSQL takes none.

Stands between the session and the pipeline. As long as batches are stored, a chunk is passed on and its
acknowledgement back. When the oldest that the pipeline has is not stored within `spool.after`, everything it
has goes into the spool, in order, and so does all that comes from then on; each is acknowledged to the broker
when it is durable there (`keeping`). The pipeline keeps what it has and goes on trying to store it; what it
wants next it gets out of the spool, oldest first (`draining`). What it has stored is removed there. So there
is one path to the database, whatever came which way: dedup, conflicts, dead letters, edge nodes of Sparkplug
and the registry's door see messages once, in order of arrival, and as of the time at which they came.

When the pipeline has got everything and stores again, nothing new is appended any more; what has come
meanwhile is passed on, and then whatever comes. A server that has been too slow again within a minute has to
store something out of the spool in time first, lest messages go back and forth with every batch. Only one of
the two, pipeline or spool, ever listens to the session.

Killed at any instant: what was acknowledged is stored, or in the spool, or both. Whichever it is, the place
of what is stored was noted with it (`places`). Only a COMMIT that was sent before its messages were in the
spool says nothing of places; so what the pipeline had then is looked for among the rows of the stream, and
the dead letters, when it is read again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from gateway.spool.chunks import Drained, Passed, Tracked
from gateway.spool.draining import Draining
from gateway.spool.keeping import Keeping
from gateway.spool.places import Left
from gateway.spool.rates import Rates
from gateway.spool.signal import Signal
from runtime.logs import RateLimit
from runtime.mqtt.port import SessionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.spool.places import Known
    from gateway.spool.shelf import Shelf
    from runtime.http import Health
    from runtime.mqtt import Chunk, Message, Session

log = structlog.get_logger()

_TOLD_S: Final = 60.0  # between two lines that say the same
_WARY_S: Final = 60.0  # who has to be spooled for again so soon has to be seen to be fast


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
        missing: of its own, such as were dropped or could not be read any more.
        spooling: whether messages go through the spool now.
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
        self.spooled = self.kept = self.drained = self.dropped = self.missing = 0
        self.next_n: Callable[[], int] = lambda: 1
        self.counted: Callable[[], None] = lambda: None
        self.rates = Rates(monotonic)
        self.spooling = at_once or bool(shelf.extent.first)
        self._session = session
        self._after_s = after_s
        self._health = health
        self._now = now
        self._monotonic = monotonic
        self._warn = RateLimit(log.warning, lines=1, interval_s=_TOLD_S)
        self._signal = Signal()
        self._keeping = Keeping(
            shelf, self._signal, monotonic, kept=self._keep, drop=self._drop if drops else None, say=self._say
        )
        self._draining = Draining(
            shelf,
            self._signal,
            may_read=lambda: self.spooling and not self._stuck and not self._keeping.behind,
            settle=self._settle,
        )
        self._listening = asyncio.Lock()
        self._wait: asyncio.Timeout | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._in_flight: deque[Tracked] = deque()
        self._overtaken: deque[Passed] = deque()  # came while the last entries were on their way
        self._stuck = self.spooling  # the pipeline stores nothing
        self._is_wary = False  # lest it goes back and forth with each batch of a slow server
        self._direct_at = -_WARY_S
        self._stopping = False
        self._label: tuple[str, int, int] = ("", 0, 0)
        self._connections = self._sessions_lost = 0
        self._status = self._relabelled(self._label)
        if shelf.extent.messages:
            log.info("spool_found", messages=shelf.extent.messages, oldest=shelf.extent.oldest)
        if self.spooling:
            self._say()

    @property
    def why_full(self) -> str:
        """Why nothing more is taken; empty while it is."""
        return self._keeping.why_full

    @property
    def is_stuck(self) -> bool:
        """Whether nothing is stored, and all goes into the spool."""
        return self.spooling and self._stuck

    @property
    def left(self) -> Left:
        """What there is beside what the pipeline is about to store, for PostgreSQL to know with that."""
        messages = self._draining.unread if self.spooling else 0
        if messages <= 0:
            return Left()
        return Left(messages, self.shelf.extent.oldest, self.rates.drains_in_s(messages))

    @property
    def status(self) -> SessionStatus:
        """The session's state when the chunk came that was received last."""
        if not self.spooling:
            status = self._session.status
            self._status = self._relabelled(("", status.connections, status.sessions_lost))
        return self._status

    def learn(self, known: Known) -> None:
        """PostgreSQL answers, and can be asked; nothing of runs of before is read earlier."""
        self._draining.learn(known)
        self._stuck = False
        self._watch()
        self._signal.tell()

    async def receive(self) -> Chunk:
        """Wait for the next chunk, from wherever it comes."""
        while True:
            if self._overtaken:
                return self._pass(self._overtaken.popleft())
            if not self.spooling:
                if (chunk := await self._listen(spooling=False)) is not None:
                    if self._is_direct():
                        return self._pass(chunk)
                    self._keeping.add([chunk])
            elif (drained := self._draining.give()) is not None:
                return self._give(drained)
            elif self._stuck or self._is_wary or self._keeping.behind or not self._draining.has_given_all:
                await self._signal.wait()
            else:
                self._keeping.held = True
                if self._keeping.busy:
                    await self._signal.wait()
                else:
                    self._go_on_directly()

    def stop_receiving(self) -> Sequence[Chunk]:
        """Take no more; returns what is to be stored now, unless it goes into the spool."""
        self._stopping = True
        left = [self._arrived(chunk) for chunk in self._session.stop_receiving()]
        if self.spooling:
            self._keeping.add(left)
            left = []
        else:
            left[:0] = self._overtaken
            self._overtaken.clear()
        self._keeping.hurry()
        return [self._pass(chunk) for chunk in left]

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish, as the session does."""
        await self._session.publish(messages)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen_on(), name="spool-listen")
            tasks.create_task(self._keeping.run(), name="spool-keep")
            tasks.create_task(self._draining.run(), name="spool-drain")

    async def safe(self) -> None:
        """Wait, after `stop_receiving`, until all that the pipeline has is in the spool and not stored."""
        while not (self.is_stuck and self._keeping.is_idle):
            await self._signal.wait()

    async def flushed(self) -> None:
        """Wait, after `stop_receiving`, until all that was taken is durable, or there is no room for it."""
        while self.spooling and not self._keeping.is_idle and not self.why_full:
            await self._signal.wait()
        await self._draining.finish()

    async def emptied(self) -> None:
        """Wait until everything that was in the spool is stored."""
        while self.spooling or self._in_flight:
            await self._signal.wait()

    def hand_back(self) -> None:
        """What the pipeline has is left to the spool."""
        for chunk in self._in_flight:
            if not isinstance(chunk, Drained) or chunk.own:
                self.spooled += len(chunk.deliveries)
        self._in_flight.clear()

    def _pass(self, passed: Passed) -> Passed:
        self._fly(passed)
        return passed

    def _give(self, drained: Drained) -> Drained:
        if drained.own:
            self.spooled -= len(drained.deliveries)
        record, run = drained.record, "" if drained.own else drained.run
        self._status = self._relabelled((run, record.connection, record.sessions_lost))
        self._fly(drained)
        return drained

    def _fly(self, chunk: Tracked) -> None:
        chunk.given_at = self._monotonic()
        self._in_flight.append(chunk)
        self._watch()

    def _relabelled(self, label: tuple[str, int, int]) -> SessionStatus:
        """The status of the session of which a chunk is: of another process, it is another connection."""
        status = self._session.status
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
        if chunk.kept:
            self._count_drained(chunk)
        if chunk.seq:
            self._draining.settled(chunk.seq)
        if isinstance(chunk, Drained) and self._monotonic() - chunk.given_at < self._after_s:
            self._is_wary = False
        if self._stuck:
            self._stuck = False
            self._watch()
        if self.spooling or chunk.kept:
            self._signal.tell()

    def _count_drained(self, chunk: Tracked) -> None:
        self.drained += len(chunk.deliveries)
        self.rates.drained(len(chunk.deliveries))

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
            self._stuck, self._keeping.held = True, False
            self._signal.tell()
        else:
            self._begin()

    def _begin(self) -> None:
        """From now on everything goes into the spool, what the pipeline has first."""
        self.spooling = self._stuck = True
        has = [chunk for chunk in self._in_flight if isinstance(chunk, Passed) and not chunk.kept]
        self._is_wary = self._monotonic() - self._direct_at < _WARY_S
        self._draining.skip()
        self._keeping.begin(has, since=self.next_n())
        self._keeping.add(self._overtaken)
        self._overtaken.clear()
        self._interrupt()
        messages = sum(len(chunk.deliveries) for chunk in has)
        log.warning("spooling", after_s=self._after_s, in_flight=messages)

    def _go_on_directly(self) -> None:
        self.spooling, self._direct_at = False, self._monotonic()
        self._overtaken.extend(self._keeping.take_back())
        self.missing += self.spooled  # what is neither here nor there
        self.spooled = 0
        self._interrupt()
        self._say()
        self._signal.tell()
        log.info("spool_drained", drained=self.drained)

    def _is_direct(self) -> bool:
        """Whether messages go past the spool now; asked again after a wait."""
        return not self.spooling

    def _interrupt(self) -> None:
        """Whoever listens to the session is to look around."""
        if self._wait is not None:
            self._wait.reschedule(asyncio.get_running_loop().time())

    async def _listen_on(self) -> None:
        while True:
            if not self.spooling or self._stopping or not self._keeping.has_room:
                await self._signal.wait()
            elif (chunk := await self._listen(spooling=True)) is not None:
                if self._is_direct():
                    self._overtaken.append(chunk)
                    self._signal.tell()
                else:
                    self._keeping.add([chunk])

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

    def _keep(self, chunks: list[Passed], seq: int) -> None:
        """Chunks are durable, and can be acknowledged."""
        given = chunks[0].since is not None
        messages = sum(len(chunk.deliveries) for chunk in chunks)
        self.kept += messages
        self.rates.kept(messages)
        self._draining.note(seq, messages, given=given)
        if given:
            chunks[-1].seq = seq
            if chunks[-1].settled:
                self._draining.settled(seq)
        else:
            self.spooled += messages
            self.counted()
        for chunk in chunks:
            chunk.kept = True
            if chunk.settled:
                self._count_drained(chunk)
            chunk.chunk.ack()

    async def _drop(self) -> bool:
        """Drop the oldest that nobody is at; whether there was one."""
        seq, messages = await self._draining.drop()
        if seq:
            self.dropped += messages
            if seq > self._draining.found:
                self.spooled -= messages
                self.missing += messages
            self._warn("spool_dropped_oldest", messages=messages, dropped=self.dropped)
        return seq > 0

    def _say(self) -> None:
        """Say what there is in the spool."""
        extent = self.shelf.extent
        note = None
        if self.spooling and not self.why_full:
            since = f", the oldest since {extent.oldest[:19]}Z" if extent.oldest else ""
            note = f"{extent.messages:,} messages{since}"
        self._health.excuse("postgres", excused=note is not None)
        self._health.note("spool", note)
        self._health.set("spool", f"full: {self.why_full}" if self.why_full else None)
