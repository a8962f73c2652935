"""Whatever PostgreSQL, power and broker do, in any order: what was taken is stored once, as it came."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter, deque
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import Received
from gateway.spool import keeping
from gateway.spool.chunks import Drained, Passed
from gateway.spool.entrance import Entrance
from gateway.spool.entry import Kept
from gateway.spool.places import Place, places_of
from gateway.spool.shelf import Shelf
from gateway.spool.signal import Signal
from runtime.http import Health
from runtime.mqtt.port import SessionStatus
from runtime.settings import Spool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.spool.places import Known
    from runtime.mqtt import Chunk, Session

AFTER_S = 0.01
STEPS = st.lists(
    st.sampled_from(["send", "send", "send", "shut", "open", "pass", "kill", "stop"]), min_size=1, max_size=30
)


class Delivered:
    """What one read of the socket brought."""

    size_bytes = 100

    def __init__(self, broker: Broker, numbers: Sequence[int]) -> None:
        self.deliveries = [Kept("t", str(number).encode(), 1) for number in numbers]
        self.numbers = numbers
        self._broker = broker

    def ack(self) -> None:
        self._broker.ack(self)


class Broker:
    """Delivers again what was not acknowledged when a session ended."""

    status = SessionStatus(connected=True)

    def __init__(self) -> None:
        self.sent = 0
        self.again: set[int] = set()
        self._queue: deque[Delivered] = deque()
        self._unacked: dict[int, Delivered] = {}
        self._arrived = asyncio.Event()

    def send(self) -> None:
        numbers = [self.sent, self.sent + 1]
        self.sent += 2
        self._queue.append(Delivered(self, numbers))
        self._arrived.set()

    def ack(self, chunk: Delivered) -> None:
        self._unacked.pop(chunk.numbers[0], None)

    def lose(self) -> None:
        """The gateway is gone: what it has not acknowledged comes first, as another delivery."""
        left = [Delivered(self, chunk.numbers) for _, chunk in sorted(self._unacked.items())]
        self.again.update(number for chunk in left for number in chunk.numbers)
        self._unacked.clear()
        self._queue.extendleft(reversed(left))
        self._arrived.set()

    async def receive(self) -> Delivered:
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        chunk = self._queue.popleft()
        self._unacked[chunk.numbers[0]] = chunk
        return chunk

    def stop_receiving(self) -> list[Delivered]:
        return []


class Database:
    """Stores when it is open; what it has stored it knows, and how far runs are drained."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int]] = []
        self.places: dict[str, Place] = {}
        self.open = asyncio.Event()
        self.changed = Signal()

    async def place(self, run: str) -> Place | None:
        await self.open.wait()
        await asyncio.sleep(0.001)
        return self.places.get(run)

    async def stored(self, records: Sequence[Any]) -> StoredRows:
        await self.open.wait()
        flown = any(each.since is not None for each in records)
        return StoredRows(frozenset(at for at, _ in self.rows) if flown else frozenset())


class StoredRows:
    """Times of arrival that there are."""

    def __init__(self, times: frozenset[str]) -> None:
        self._times = times

    def __bool__(self) -> bool:
        return bool(self._times)

    def has(self, at: str) -> bool:
        return at in self._times


class Process:
    """A gateway: an entrance, and a pipeline that stores a few chunks at a time."""

    def __init__(self, broker: Broker, database: Database, folder: Path) -> None:
        spool = msgspec.structs.replace(Spool(), path=str(folder), min_free_bytes="1")
        self.shelf = Shelf(spool)
        self.entrance = Entrance(
            cast("Session", broker),
            self.shelf,
            after_s=AFTER_S,
            health=Health(),
            at_once=not database.open.is_set(),
        )
        self._database = database
        self._next: asyncio.Task[Chunk] | None = None
        self._received = Received.of(datetime.now(UTC))
        self._tasks = [asyncio.create_task(self.entrance.run()), asyncio.create_task(self._store_on())]
        self._learning = asyncio.create_task(self._learn())

    async def kill(self) -> None:
        tasks = [*self._tasks, self._learning, *([self._next] if self._next else [])]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self.shelf.close()

    async def stop(self) -> None:
        """As SIGTERM does: what the pipeline has is stored or safe, and what was taken is durable."""
        self.entrance.stop_receiving()
        self._tasks[1].cancel()
        if not self._database.open.is_set():
            await self.entrance.flushed()
        await self.kill()

    async def _learn(self) -> None:
        await self._database.open.wait()
        self.entrance.learn(cast("Known", self._database))

    async def _store_on(self) -> None:
        while True:
            chunks: list[Chunk] = []
            rows: list[tuple[str, int]] = []
            while len(chunks) < 1 + len(self._database.rows) % 3:
                if self._next is None:
                    self._next = asyncio.create_task(self.entrance.receive())
                await asyncio.wait([self._next], timeout=AFTER_S / 5 if chunks else None)
                if not self._next.done():
                    break
                chunks.append(self._next.result())
                self._next = None
                rows += await self._read(chunks[-1])
            await self._database.open.wait()
            self._database.rows += rows
            self._database.changed.tell()
            for place in places_of(chunks):
                self._database.places[place.run] = place
            await asyncio.sleep(0)  # killed between COMMIT and acknowledgement
            for chunk in chunks:
                chunk.ack()

    async def _read(self, chunk: Chunk) -> list[tuple[str, int]]:
        received = self._received
        if isinstance(chunk, Drained):
            received.resume(datetime.fromisoformat(chunk.record.at), chunk.after)
        else:
            assert isinstance(chunk, Passed)
            received.reach(datetime.now(UTC))
            chunk.at, chunk.after = received.at.isoformat(), received.last
        rows = []
        for each in chunk.deliveries:
            rows.append((received.next(), int(each.payload)))
            await asyncio.sleep(0)  # what is long is read in steps, between which others have their turns
        if isinstance(chunk, (Drained, Passed)):
            chunk.last = received.last
        if isinstance(chunk, Drained) and chunk.stored:
            stored = cast("StoredRows", chunk.stored)
            return [row for row in rows if not stored.has(row[0])]
        return rows


async def play(steps: Sequence[str], place: Path) -> tuple[Broker, Database]:
    """Play steps, let everything come to its end, and return what there is."""
    broker, database = Broker(), Database()
    database.open.set()
    folder = place / "0"
    process = Process(broker, database, folder)
    for number, step in enumerate(steps, 1):
        match step:
            case "send":
                broker.send()
                await asyncio.sleep(0)
            case "open":
                database.open.set()
            case "shut":
                database.open.clear()
            case "pass":
                await asyncio.sleep(2 * AFTER_S)
            case "kill":
                copy = place / str(number)
                shutil.copytree(folder, copy)
                await process.kill()
                folder = copy
            case _:
                await process.stop()
        if step in {"kill", "stop"}:
            broker.lose()
            process = Process(broker, database, folder)
    database.open.set()
    async with asyncio.timeout(5):
        while len({number for _, number in database.rows}) < broker.sent:
            await database.changed.wait()
    await process.kill()
    return broker, database


@settings(max_examples=20, deadline=None)
@given(STEPS)
def test_once_and_in_order(steps: list[str]) -> None:
    """What the broker delivered once is stored once; times of arrival are its order, all different."""
    with tempfile.TemporaryDirectory() as place, patch.object(keeping, "_LINGER_S", AFTER_S / 2):
        broker, database = asyncio.run(play(steps, Path(place)))
    counts = Counter(number for _, number in database.rows)
    assert set(counts) == set(range(broker.sent))
    once = [row for row in database.rows if row[1] not in broker.again]
    assert [row for row in once if counts[row[1]] > 1] == []
    assert once == sorted(once, key=lambda row: row[1])
    assert [at for at, _ in once] == sorted({at for at, _ in once})
