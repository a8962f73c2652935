"""The session in which time passes, and what a store keeps of edge nodes with a batch."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Self

import asyncpg

from gateway.beside import Beside
from gateway.decode import Decoder, Limits, Received
from gateway.decode.dialects import complete_routes
from gateway.decode.routes import compile_routes
from gateway.sparkplug import keeper
from gateway.sparkplug.changes import Changes, Row
from gateway.sparkplug.host import TICK, Host
from gateway.sparkplug.nodes.births import Birth
from gateway.sparkplug.nodes.shared import Shared
from gateway.sparkplug.ticking import Listening, TickingSession
from gateway.sparkplug.topics import Address
from gateway.store import Store
from runtime.http import Health
from runtime.mqtt import SessionStatus
from runtime.settings import load
from tests.support.sparkplug import DOUBLE, bd_seq, metric, payload
from tests.support.write_side import NOW, Delivered, write_side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.mqtt import Chunk, Message

SENT = 1_795_424_400_000


class Arrived:
    """A chunk."""

    size_bytes = 1

    def __init__(self, topic: str, message: bytes) -> None:
        self.deliveries = [Delivered(topic, message)]

    def ack(self) -> None:
        """Nobody asks."""


class Line:
    """A session that delivers what it is given."""

    def __init__(self) -> None:
        self.status = SessionStatus(connected=True, connections=1)
        self.chunks: asyncio.Queue[Arrived] = asyncio.Queue()

    async def receive(self) -> Chunk:
        return await self.chunks.get()

    def stop_receiving(self) -> Sequence[Chunk]:
        left: list[Chunk] = []
        while not self.chunks.empty():
            left.append(self.chunks.get_nowait())
        return left

    async def publish(self, messages: Sequence[Message]) -> None:
        raise NotImplementedError

    async def connected(self) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(self, *exc: object) -> None:
        raise NotImplementedError


def host(reorder_s: float = 0.05, monotonic: Callable[[], float] = time.monotonic) -> Host:
    routes = compile_routes(load(None, {"EDGE_ROUTE": '[{"dialect": "sparkplug"}]'}, complete_routes).route)
    return Host(Decoder(routes, Limits()), reorder_s=reorder_s, monotonic=monotonic)


def birth(seq: int = 0) -> Arrived:
    metrics = [bd_seq(0), metric("T", 1.0, alias=0, datatype=DOUBLE)]
    return Arrived("spBv1.0/g/NBIRTH/n", payload(metrics, ts=SENT, seq=seq))


def data(seq: int) -> Arrived:
    return Arrived("spBv1.0/g/NDATA/n", payload([metric(None, 1.5, alias=0)], ts=SENT, seq=seq))


async def test_time_passes_without_messages() -> None:
    """What becomes due while nothing comes arrives as a chunk of its own."""
    line, edges = Line(), host()
    session = TickingSession(line, edges)
    received = Received.of(NOW)
    for chunk in (birth(), data(2)):
        line.chunks.put_nowait(chunk)
        for delivery in (await session.receive()).deliveries:
            edges.decode(delivery, received)
    edges.take_changes()
    async with asyncio.timeout(5):
        tick = await session.receive()
    assert list(tick.deliveries) == [TICK]
    assert edges.decode(TICK, received) == []
    assert len(edges.take_asks(10)) == 1
    assert edges.take_changes() is not None  # births that are not certain any more
    session.stop_receiving()


async def test_time_passes_among_messages() -> None:
    """What becomes due comes out however much else comes without a pause."""
    line, edges = Line(), host()
    session = TickingSession(line, edges)
    received = Received.of(NOW)
    for chunk in (birth(), data(2)):
        line.chunks.put_nowait(chunk)
        edges.decode((await session.receive()).deliveries[0], received)
    asked: Sequence[object] = ()
    async with asyncio.timeout(20):
        while not asked:
            if (await receive_busy(session, line)).deliveries == (TICK,):
                asked = edges.take_asks(10)
    assert len(asked) == 1
    session.stop_receiving()


async def receive_busy(session: TickingSession, line: Line) -> Chunk:
    """The next chunk of a line on which there is always another one."""
    await asyncio.sleep(0)
    line.chunks.put_nowait(Arrived("elsewhere", b"x"))
    return await session.receive()


async def test_no_time_passes_while_nobody_listens() -> None:
    """After a pause of the pipeline, as while PostgreSQL is away, what has come meanwhile is in time."""
    line, now = Line(), [100.0]
    clock = Listening(lambda: now[0])
    edges = host(reorder_s=2.0, monotonic=clock)
    session = TickingSession(line, edges, clock)
    received = Received.of(NOW)
    for chunk in (birth(), data(2)):
        line.chunks.put_nowait(chunk)
        edges.decode((await session.receive()).deliveries[0], received)
    now[0] += 600
    line.chunks.put_nowait(Arrived("elsewhere", b"x"))
    line.chunks.put_nowait(data(1))
    edges.take_changes()
    found = [edges.decode((await session.receive()).deliveries[0], received) for _ in range(2)]
    assert [len(items) for items in found] == [1, 2]
    assert edges.take_asks(10) == []
    session.stop_receiving()


async def test_nothing_is_lost_when_it_stops() -> None:
    """A chunk that was taken from the session and by nobody else is handed over at the end."""
    line = Line()
    session = TickingSession(line, host())
    waiting = asyncio.create_task(session.receive())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    chunk = birth()
    line.chunks.put_nowait(chunk)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        if await waiting is chunk:
            return
    assert list(session.stop_receiving()) == [chunk]


async def test_another_connection_is_noticed_before_its_messages_are() -> None:
    """The first chunk of it finds that nothing is certain."""
    line, edges = Line(), host()
    session = TickingSession(line, edges)
    received = Received.of(NOW)
    line.chunks.put_nowait(birth())
    edges.decode((await session.receive()).deliveries[0], received)
    line.chunks.put_nowait(data(1))
    assert len(edges.decode((await session.receive()).deliveries[0], received)) == 1
    line.status.connected = False
    line.chunks.put_nowait(data(2))
    assert edges.decode((await session.receive()).deliveries[0], received) == []
    line.status.connected, line.status.connections = True, 2
    line.chunks.put_nowait(birth())
    assert len(edges.decode((await session.receive()).deliveries[0], received)) == 2
    session.stop_receiving()


async def test_what_is_kept_comes_with_its_batch(database: str) -> None:
    """Births, and what is held, are written by the transaction of the batch, also when it is bisected."""
    edges = host(reorder_s=60)
    received = Received.of(NOW)
    async with write_side(database) as side:
        beside = Beside(keeper.Keeper(3), 3)
        store = Store(side.pool, lease=side.lease, devices=side.devices, health=Health(), keeper=beside)
        items = edges.decode(birth().deliveries[0], received)
        edges.decode(data(2).deliveries[0], received)
        first = edges.take_changes()
        assert first is not None
        await side.owner.execute("ALTER TABLE measurements ADD CHECK (metrics <> '{\"T\": 1.0}')")
        (*outcomes, last) = await store.commit(items, [], changes=[first])  # type: ignore[arg-type]  # readings
        assert [each.committed for each in outcomes] == [1]
        assert [each.rejection.reason for each in last.dead_letters] == ["refused_by_database"]
        (row,) = await keeper.known(side.pool)
        assert (row.node, row.online, len(row.names.births)) == ("spBv1.0/g/n", True, 1)
        ((id_, topic, message, _),) = await keeper.resumed(side.pool, 3)
        assert (topic, message) == ("spBv1.0/g/NDATA/n", data(2).deliveries[0].payload)
        assert await keeper.resumed(side.pool, 4) == []

        items = edges.decode(data(1).deliveries[0], received)
        second = edges.take_changes()
        assert second is not None
        assert second.held == {id_: None}
        await store.commit(items, [], changes=[second])  # type: ignore[arg-type]  # likewise
        assert await keeper.resumed(side.pool, 3) == []
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT count(*) FROM measurements") == 3
    await connection.close()


async def test_what_nobody_came_back_for(database: str) -> None:
    """What another gateway held an hour ago, and was not back for, is taken over."""
    async with write_side(database) as side:
        await side.pool.execute(
            "INSERT INTO sparkplug_held (id, stream, received_at, topic, payload, taken_at)"
            " VALUES ('a', 7, now(), 't', 'x', now() - interval '2 hours'), ('b', 7, now(), 't', 'y', now())"
        )
        assert [each[0] for each in await keeper.resumed(side.pool, 0)] == ["a"]
        assert [each[0] for each in await keeper.resumed(side.pool, 7)] == ["b"]


async def test_births_that_two_gateways_store(database: str) -> None:
    """Neither takes from the other what it has heard, and the session is the newest by the node's clock."""

    def row(born_at: str, sent: int, name: str, number: int) -> Row:
        node = Shared("spBv1.0/g/n", "", reorder_s=2.0)
        node.bd_seq, node.born = number, sent
        node.entities[""].online = True
        node.entities[""].names.heard(Birth(born_at, born_at, [(name, 0, 10)], sent))
        return Row.of(node, "", Address("spBv1.0/", "g", "NBIRTH", "n", ""))

    async with write_side(database) as side, side.pool.acquire() as connection:
        for each in (row("b", 20, "new\x00", 2), row("a", 10, "old", 1), row("b", 20, "new\x00", 2)):
            changes = Changes()
            changes.row(each)
            await keeper.Keeper(3).write(connection, [changes])
        (stored,) = await keeper.known(side.pool)
        told = [(birth.born_at, birth.until, birth.metrics) for birth in stored.names.births]
        assert told == [("a", "b", (("old", 0, 10),)), ("b", None, (("new\x00", 0, 10),))]
        assert (stored.bd_seq, stored.born, stored.online) == (2, 20, True)
        for i in range(12):
            changes = Changes()
            changes.row(row(f"c{i:02d}", 30 + i, "x", 3))
            await keeper.Keeper(3).write(connection, [changes])
        (stored,) = await keeper.known(side.pool)
        assert [birth.born_at for birth in stored.names.births] == [f"c{i:02d}" for i in range(4, 12)]


async def test_edge_nodes_that_are_gone(database: str) -> None:
    """Who has been offline for long is forgotten, and the oldest of too many; who is online is neither."""
    rows = [
        ("gone", False, 91),
        ("away", False, 89),
        ("never", None, 91),
        ("quiet", True, 900),
        ("new", True, 0),
    ]
    async with write_side(database) as side, side.pool.acquire() as connection:
        for name, online, days in rows:
            await connection.execute(
                "INSERT INTO sparkplug_births (node, device, topic, online, ended_at, births, changed_at)"
                " VALUES ($1, '', 't', $2, '', '[]', now() - make_interval(days => $3))",
                *(name, online, days),
            )

        async def left() -> list[str]:
            return [row.node for row in await keeper.known(side.pool)]

        await keeper.forget(connection)
        assert await left() == ["quiet", "away", "new"]
        await keeper.forget(connection, most=2)
        assert await left() == ["away", "new"]
