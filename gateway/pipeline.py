"""The path of a message on the write side: session → decode → door → batch → store → ack, then the relay.

Two kinds of tasks meet at the open batch. The intake takes chunks from the session, decodes them and adds
them; it waits while the batch is full. Writers take the batch when it is due and store it; while all of them
are busy the batch grows, so that batches are small when it is quiet and large when it is not. Nothing queues
anywhere else: what the intake does not take stays unacknowledged, and Receive Maximum keeps the rest in the
broker (promise 6).

Each batch takes its turn when it is taken (`gateway/turns.py`) and ends it when its chunks are acknowledged:
right after its COMMIT, and before the next batch may commit. So acks come in the order of receipt
(MQTT-4.6.0-2) and only after COMMIT (promise 1). Two batches may be under way; where the way to the database
is long (`gateway/trip.py`), as many more as have room in two full ones. So there is never more received and
not acknowledged than three full batches. What waits is in flight until its outcome is in the books.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from gateway.batcher import Batch, BatchPolicy, Patience
from gateway.conflicts import KeyWatch
from gateway.decode import Rejection
from gateway.decode.reading import as_kept
from gateway.decode.steps import finish
from gateway.door import REFUSALS, Door
from gateway.spool.chunks import Drained, Passed, Tracked
from gateway.spool.places import places_of
from runtime import faults
from runtime.logs import is_heard

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from gateway.decode import Decoder, Reading, Received
    from gateway.ledger import Ledger
    from gateway.relay import Relay
    from gateway.sparkplug.changes import Changes
    from gateway.sparkplug.host import Host
    from gateway.sparkplug.ticking import TickingSession
    from gateway.spool.entrance import Entrance
    from gateway.spool.places import Place
    from gateway.store import Store
    from gateway.transaction import Outcome
    from gateway.turns import Turn
    from runtime.logs import RateLimit
    from runtime.mqtt import Chunk, Session

log = structlog.get_logger()

_BESIDE = 2  # batches under way, however short the way

_STEP_BYTES = 32_768  # of payloads that are decoded at once
_LONG = 4096  # bytes of a payload that takes steps itself, of those that end a step

_MORE_COMES = 8  # messages while a batch lingered: so many will come while the next one does

_CLOCK_BACK = timedelta(seconds=1)  # arrival goes on from where it was; this much of it is worth a word


class Pipeline:
    """Wires the steps of one gateway."""

    def __init__(
        self,
        session: Session | Entrance | TickingSession,
        *,
        decoder: Decoder | Host,
        policy: BatchPolicy,
        store: Store,
        relay: Relay,
        ledger: Ledger,
        rejected: RateLimit,
        received: Received,
        now: Callable[[], datetime],
        writers: int,
        door: Door | None = None,
        take_changes: Callable[[], Changes | None] = lambda: None,
        gather: Callable[[float], None] = lambda _: None,
        entrance: Entrance | None = None,
    ) -> None:
        self._session = session
        self.decoder = decoder
        self._door = Door() if door is None else door
        self._take_changes = take_changes
        self._gather = gather
        self._is_quiet, self._gathers_on = True, False
        self._patience = Patience(policy)
        self._lingers, self._taken_at = 1.0, time.monotonic()
        self._entrance = entrance
        self._policy = policy
        self._store = store
        self._relay = relay
        self._ledger = ledger
        self._rejected = rejected
        self.keys = KeyWatch()
        self._received = received
        self._now = now
        self._writers = writers
        self._batch = Batch()
        self._taken = self._taken_bytes = 0
        self._draining = False
        self._added = asyncio.Event()
        self._removed = asyncio.Event()
        self._taking = asyncio.Lock()
        ledger.in_flight = lambda: len(self._batch) + self._taken
        ledger.waiting = lambda: bool(self._batch.chunks) + self._store.turns.under_way

    async def run(self, stop: asyncio.Event) -> None:
        """Take messages until told to stop, then store and acknowledge what was taken, and return."""
        async with asyncio.TaskGroup() as tasks:
            intake = tasks.create_task(self._take_in(), name="intake")
            writers = [tasks.create_task(self._write(), name=f"writer-{i}") for i in range(self._writers)]
            await stop.wait()
            left = self._session.stop_receiving()
            intake.cancel()
            await asyncio.wait([intake])  # what it has begun to add comes first
            for chunk in left:
                finish(self._adding(chunk))
            self._draining = True
            self._added.set()
            await self._finish(writers)

    async def _finish(self, writers: list[asyncio.Task[None]]) -> None:
        """Wait until what was taken is stored, or is in the spool and cannot be."""
        if self._entrance is None:
            await asyncio.wait(writers)
            return
        storing = asyncio.create_task(asyncio.wait(writers), name="storing")
        safe = asyncio.create_task(self._entrance.safe(), name="spool-safe")
        either: set[asyncio.Future[Any]] = {storing, safe}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not storing.done():
            for writer in writers:
                writer.cancel()
            await storing
            self._ledger.take_back(len(self._batch) + self._taken)
            self._batch, self._taken = Batch(), 0
            self._entrance.hand_back()
        safe.cancel()
        await asyncio.wait({safe})

    async def _take_in(self) -> None:
        while True:
            chunk = await self._session.receive()
            steps = self._adding(chunk)
            try:
                for _ in steps:
                    await asyncio.sleep(0)
            finally:  # also when this task is cancelled
                finish(steps)
            while self._policy.is_full(self._batch):
                self._removed.clear()
                await self._removed.wait()

    def _adding(self, chunk: Chunk) -> Generator[None, None, None]:  # noqa: C901, PLR0912  # every message takes this way
        """Decode a chunk into the open batch, in steps; a chunk is wholly in it or not at all."""
        batch = self._batch
        received, decoder = self._received, self.decoder
        self._note_time(chunk)
        if not batch.chunks:
            self._open(batch, chunk)
        decode = self._door.guarding(decoder.decode)
        stored = chunk.stored if isinstance(chunk, Drained) else None
        readings: list[Reading] = []
        rejections: list[Rejection] = []
        size = 0
        for delivery in chunk.deliveries:
            size += len(delivery.payload)
            if size > _STEP_BYTES:
                size = 0
                yield
                if len(delivery.payload) > _LONG:
                    yield from decoder.prepare(delivery)
            items = decode(delivery, received)
            if stored is not None:
                items = [item for item in items if not stored.has(item)]
            for item in as_kept(items) if delivery.retain else items:
                if isinstance(item, Rejection):
                    rejections.append(item)
                else:
                    readings.append(item)
        if batch is not self._batch:  # that one was taken meanwhile
            batch = self._batch
            self._open(batch, chunk)
        batch.readings += readings
        batch.rejections += rejections
        if isinstance(chunk, Tracked):
            chunk.last = received.last
        if changes := self._take_changes():
            batch.changes.append(changes)
        batch.size_bytes += chunk.size_bytes
        batch.chunks.append(chunk)
        for topic, name, reason in decoder.drops.news():
            log.warning("field_dropped", route=topic, field=name, reason=reason)
        self._ledger.receive(len(readings) + len(rejections))
        chunks, policy = len(batch.chunks), self._policy
        many = len(batch) >= _MORE_COMES and policy.is_small(batch)
        if many and chunks == batch.due_after and not isinstance(chunk, Drained):
            self._gathers_on = True
            self._gather(policy.linger_s * self._lingers)
        if chunks in {1, batch.due_after} or policy.is_full(batch):  # else it is due when it was
            self._added.set()

    def _open(self, batch: Batch, chunk: Chunk) -> None:
        """Note that a batch gets its first chunk; when it is quiet let all others gather, to be one chunk."""
        linger_s = self._policy.linger_s * batch.lingers
        batch.opened_at = time.monotonic()  # finer than the loop's clock
        if batch.due_after:
            batch.opened_at -= linger_s  # what has gathered began to come then
        elif self._is_quiet and not isinstance(chunk, Drained):
            batch.due_after = 2
            self._gather(linger_s)

    def _note_time(self, chunk: Chunk) -> None:
        """Begin to count times of arrival for a chunk."""
        received = self._received
        if isinstance(chunk, Drained):
            ahead = received.resume(datetime.fromisoformat(chunk.record.at), chunk.after)
        else:
            ahead = received.reach(self._now())
        if isinstance(chunk, Passed):
            chunk.at, chunk.after = received.at.isoformat(), received.last
        if ahead > _CLOCK_BACK:
            self._rejected("clock_went_back", by_s=round(ahead.total_seconds(), 1))

    async def _write(self) -> None:
        while (taken := await self._take_batch()) is not None:
            batch, turn = taken
            self._ledger.time_events(batch.readings)
            rejections = batch.rejections
            changes: list[Changes | Place] = [*batch.changes, *places_of(batch.chunks)]
            parts = list(self._policy.parts(batch))
            for part in parts:
                last = part is parts[-1]
                outcomes = await self._store.commit(part, rejections, turn, last=last, changes=changes)
                self._report(batch, part, outcomes)
                self._taken -= len(part) + len(rejections)
                rejections = []
            for chunk in batch.chunks:
                chunk.ack()
            turn.end()
            self._taken_bytes -= batch.size_bytes
            self._added.set()  # there is room for another
            asyncio.get_running_loop().call_soon(faults.point, "after_ack")  # after they are written

    async def _take_batch(self) -> tuple[Batch, Turn] | None:
        """Wait until the open batch is due and take it; None when draining has left nothing."""
        loop = asyncio.get_running_loop()
        async with self._taking:
            while True:
                self._added.clear()
                due_in = self._policy.due_in(self._batch, time.monotonic())
                if due_in == 0 or (self._draining and due_in is not None):
                    if self._has_room():
                        break
                    due_in = None
                elif self._draining:
                    return None
                timer = None if due_in is None else loop.call_later(due_in, self._added.set)
                await self._added.wait()
                if timer is not None:
                    timer.cancel()
            batch, now = self._batch, time.monotonic()
            self._lingers = self._patience.after(batch, now - self._taken_at)
            self._taken_at = now
            self._batch = Batch(due_after=int(self._gathers_on), lingers=self._lingers)
            self._is_quiet, self._gathers_on = self._policy.is_small(batch), False
            self._taken += len(batch)
            self._taken_bytes += batch.size_bytes
            self._removed.set()
            return batch, self._store.turns.take()

    def _has_room(self) -> bool:
        """Whether the open batch may be stored beside those that are under way."""
        under_way, policy = self._store.turns.under_way, self._policy
        return under_way < _BESIDE or (
            under_way <= self._store.trip.at_once(policy.linger_s)
            and self._taken + len(self._batch) <= _BESIDE * policy.max_messages
            and self._taken_bytes + self._batch.size_bytes <= _BESIDE * policy.max_bytes
        )

    def _report(self, batch: Batch, part: Sequence[Reading], outcomes: list[Outcome]) -> None:
        waited_s = time.monotonic() - batch.opened_at
        for outcome in outcomes:
            self._ledger.settle(outcome, waited_s)
            if outcome.appended is not None:
                self._relay.offer(outcome.appended)
            if is_heard("debug"):
                log.debug(
                    "batch_stored",
                    n=outcome.appended.n if outcome.appended else None,
                    committed=outcome.committed,
                    duplicates=outcome.duplicates,
                    dead_letters=len(outcome.dead_letters),
                    waited_ms=round(waited_s * 1000, 1),
                )
            letters = [letter.rejection for letter in outcome.dead_letters]
            conflicts = [letter for letter in letters if letter.reason == "conflict"]
            for device_id, key, topic in self.keys.look(part, conflicts):
                log.warning(
                    "key_never_changes",
                    device=device_id,
                    key=key,
                    route=self.decoder.route_of(topic),
                    add='key = ""',
                )
            for letter in outcome.dead_letters:
                rejection = letter.rejection
                if rejection.reason in REFUSALS:
                    continue  # each device was told of once
                self._rejected(
                    "message_rejected",
                    reason=rejection.reason,
                    topic=rejection.topic,
                    device=rejection.device_id,
                    detail=rejection.error,
                    dead_letter=letter.id,
                )
