"""From the session to the acknowledgement, with a store on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, cast

import structlog
from prometheus_client import CollectorRegistry

from gateway import transaction
from gateway.batcher import BatchPolicy
from gateway.decode import Decoder, Limits, Received
from gateway.decode.routes import compile_routes
from gateway.ledger import Ledger
from gateway.pipeline import Pipeline
from gateway.spool.chunks import Drained
from gateway.spool.entry import Kept, Record
from runtime.logs import RateLimit
from runtime.settings import Route
from tests.faults.watch import until
from tests.support.write_side import Delivered, write_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence, Sized

    import pytest

    from gateway.decode import Reading
    from gateway.relay import Relay
    from runtime.mqtt import Chunk, Session
    from runtime.mqtt.port import Delivery
    from runtime.postgres import Connection
    from tests.support.write_side import WriteSide

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)


class Arrived:
    """A chunk of one message, or of copies of it, that notes when it was acknowledged."""

    def __init__(
        self, key: str, acked: list[str], *, empty: bool = False, times: int = 1, text: str = ""
    ) -> None:
        payload = json.dumps({"id": key, "ts": "2026-11-23T08:00:00Z", "x": 1, "text": text}).encode()
        self.deliveries = [Delivered("devices/a1/telemetry", b"" if empty else payload)] * times
        self.size_bytes = len(payload)
        self._key = key
        self._acked = acked

    def ack(self) -> None:
        self._acked.append(self._key)


class Line:
    """A session that delivers what it is given."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[Arrived] = asyncio.Queue()

    def put(self, chunk: Arrived) -> None:
        self._chunks.put_nowait(chunk)

    def left(self) -> int:
        return self._chunks.qsize()

    async def receive(self) -> Chunk:
        return await self._chunks.get()

    def stop_receiving(self) -> list[Chunk]:
        return [self._chunks.get_nowait() for _ in range(self.left())]


class Nobody:
    """A relay that publishes nothing."""

    def offer(self, row: object) -> None:
        """Take a row."""


def make(
    line: Line,
    side: WriteSide,
    ledger: Ledger,
    policy: BatchPolicy,
    writers: int = 2,
    gather: Callable[[float], None] = lambda _: None,
) -> Pipeline:
    return Pipeline(
        cast("Session", line),
        decoder=Decoder(compile_routes([Route()]), Limits()),
        policy=policy,
        store=side.store,
        relay=cast("Relay", Nobody()),
        ledger=ledger,
        rejected=RateLimit(structlog.get_logger().warning),
        received=Received.of(NOW),
        now=lambda: NOW,
        writers=writers,
        gather=gather,
    )


async def test_what_waits_is_bounded_and_counted(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the oldest batch is not stored nothing is acknowledged, and intake stops."""
    go_on, stuck = asyncio.Event(), asyncio.Event()
    insert = transaction.insert_measurements

    async def insert_slowly(connection: Connection, readings: Sequence[Reading]) -> None:
        if readings[0].event.key == "0":
            stuck.set()
            await go_on.wait()
        await insert(connection, readings)

    monkeypatch.setattr(transaction, "insert_measurements", insert_slowly)
    acked: list[str] = []
    line = Line()
    ledger = Ledger(CollectorRegistry(), now=lambda: NOW)
    async with write_side(database, calls=False) as side:
        pipeline = make(line, side, ledger, BatchPolicy(max_messages=1, max_bytes=1000, linger_s=0))
        stop = asyncio.Event()
        running = asyncio.create_task(pipeline.run(stop))
        for key in range(10):
            line.put(Arrived(str(key), acked))
        await stuck.wait()
        turn = side.store.turns._last
        assert turn is not None
        async with asyncio.timeout(20):
            while not (line.left() == 7 and side.store.turns.under_way == 2 and turn.claimed):
                await side.pool.execute("SELECT pg_sleep(0.01)")
                turn = side.store.turns._last
                assert turn is not None
        assert acked == []
        assert (ledger.received, ledger.in_flight(), ledger.waiting()) == (3, 3, 3)
        go_on.set()
        async with asyncio.timeout(20):
            while len(acked) < 10:
                await side.pool.execute("SELECT pg_sleep(0.01)")
        assert acked == [str(key) for key in range(10)]
        stop.set()
        await running
        assert (ledger.in_flight(), ledger.waiting(), ledger.committed) == (0, 0, 10)


async def test_what_leaves_nothing_to_store_is_bounded_too(database: str) -> None:
    """Messages that are left out take room until they are acknowledged: intake stops for them as well."""
    acked: list[str] = []
    line = Line()
    ledger = Ledger(CollectorRegistry(), now=lambda: NOW)
    async with write_side(database) as side:
        pipeline = make(line, side, ledger, BatchPolicy(max_messages=1000, max_bytes=1000, linger_s=0))
        before = side.store.turns.take()
        stop = asyncio.Event()
        running = asyncio.create_task(pipeline.run(stop))
        for key in range(200):
            line.put(Arrived(str(key), acked, empty=True))
        left = 0
        async with asyncio.timeout(20):
            while side.store.turns.under_way < 2 or line.left() != left:
                left = line.left()
                await side.pool.execute("SELECT pg_sleep(0.05)")
        assert left > 100
        before.end()
        async with asyncio.timeout(20):
            while len(acked) < 200:
                await side.pool.execute("SELECT pg_sleep(0.01)")
        assert acked == [str(key) for key in range(200)]
        assert await side.pool.fetchval("SELECT count(*) FROM outbox") == 0
        assert (ledger.received, ledger.in_flight()) == (0, 0)
        stop.set()
        await running


class Stepping(Decoder):
    """A decoder that takes steps for long messages; `stepped` is set at each."""

    stepped: asyncio.Event

    def prepare(self, delivery: Delivery, *, whole: bool = False) -> Iterator[None]:  # noqa: ARG002  # of a decoder
        for _ in range(3):
            self.stepped.set()
            yield


async def test_a_long_message_takes_steps(database: str) -> None:
    """Others have their turns between them; a stop in the middle leaves nothing out, and keeps the order."""
    acked: list[str] = []
    line = Line()
    ledger = Ledger(CollectorRegistry(), now=lambda: NOW)
    async with write_side(database) as side:
        pipeline = make(line, side, ledger, BatchPolicy(max_messages=1000, max_bytes=10**6, linger_s=30))
        pipeline.decoder = decoder = Stepping(compile_routes([Route()]), Limits())
        decoder.stepped = asyncio.Event()
        stop = asyncio.Event()
        running = asyncio.create_task(pipeline.run(stop))
        for key in ("a", "b" * 40_000, "c"):
            line.put(Arrived(key[:100], acked, text=key))
        await decoder.stepped.wait()
        assert (ledger.received, line.left()) == (1, 1)
        stop.set()
        await running
        assert [key[:1] for key in acked] == ["a", "b", "c"]
        keys = await side.pool.fetch("SELECT message_key FROM measurements ORDER BY received_at")
        assert [key[:1] for (key,) in keys] == ["a", "b", "c"]
        assert (ledger.received, ledger.in_flight()) == (3, 0)


class Gathering(NamedTuple):
    """A pipeline that runs.

    Attributes:
        acked: names of chunks.
        gathers: for how long the socket was left alone each time, in seconds.
    """

    line: Line
    ledger: Ledger
    acked: list[str]
    gathers: list[float]


@asynccontextmanager
async def gathering(database: str, linger_s: float) -> AsyncIterator[Gathering]:
    """A pipeline that runs; it is stopped at the end, and stores what it has."""
    made = Gathering(Line(), Ledger(CollectorRegistry(), now=lambda: NOW), [], [])
    policy = BatchPolicy(max_messages=1000, max_bytes=100_000, linger_s=linger_s)
    async with write_side(database) as side:
        pipeline = make(made.line, side, made.ledger, policy, gather=made.gathers.append)
        stop = asyncio.Event()
        running = asyncio.create_task(pipeline.run(stop))
        yield made
        stop.set()
        await running


async def reached(found: Sized, many: int) -> None:
    """Wait until so many are found."""

    async def ask() -> str:
        return "" if len(found) >= many else f"{len(found)} of {many}"

    await until(ask, within_s=20)


async def test_what_has_gathered_is_stored_at_once(database: str) -> None:
    """Where it is quiet a batch is due with what came while nothing was read, and nothing is read again then.

    After few messages the next one is waited for, and its batch lingers longer.
    """
    async with gathering(database, linger_s=30) as (line, ledger, acked, gathers):
        line.put(Arrived("a", acked))
        line.put(Arrived("b", acked, times=10))
        await reached(acked, 2)
        assert gathers == [30, 30]
        line.put(Arrived("c", acked, times=3))
        await reached(acked, 3)
        assert gathers == [30, 30]
        line.put(Arrived("d", acked))
        while line.left():  # noqa: ASYNC110  # a queue that tells nobody
            await asyncio.sleep(0)
        assert ledger.waiting() == 1
        assert gathers == [30, 30, 30]
    assert acked == ["a", "b", "c", "d"]


async def test_what_comes_out_of_the_spool_holds_up_nobody(database: str) -> None:
    """The socket is left alone for what comes from it, and not while the spool is being stored."""
    async with gathering(database, linger_s=30) as (line, _, acked, gathers):
        line.put(Arrived("a", acked))
        line.put(Arrived("b", acked, times=10))
        await reached(acked, 2)
        kept = [Kept("devices/a1/telemetry", b'{"id": "%d", "x": 1}' % n, 1) for n in range(10)]
        settled = asyncio.Event()
        drained = Drained(
            Record(NOW.isoformat(), kept),
            lambda _: settled.set(),
            run="6f1d8f5e-6b1f-4b6e-9f0f-0a4b8c6d7e8f",
            place=1,
            after=None,
            own=True,
            stored=None,
        )
        line.put(cast("Arrived", drained))
        async with asyncio.timeout(20):
            await settled.wait()
        assert gathers == [30, 30]
    assert acked == ["a", "b"]


class Window(Arrived):
    """All that a broker has under way: the same number comes again once these are acknowledged."""

    line: Line

    def ack(self) -> None:
        super().ack()
        again = Window(str(len(self._acked)), self._acked, times=20)
        again.line = self.line
        self.line.put(again)


async def test_a_broker_with_few_under_way_is_not_kept_waiting(database: str) -> None:
    """Where no more come before some are acknowledged, batches linger as they are set, and no longer."""
    async with gathering(database, linger_s=0.02) as (line, _, acked, gathers):
        first = Window("0", acked, times=20)
        first.line = line
        line.put(first)
        await reached(gathers, 12)
    assert gathers[:12] == [0.02, *[0.1] * 5, *[0.02] * 6]
