"""Batches as one call each: how many trips they take, how they overlap, and what becomes of lost answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from contract.events import decode_events
from gateway import transaction
from gateway.batcher import BatchPolicy
from gateway.ledger import Ledger
from gateway.one_call import OneCall
from gateway.presence import Presence
from gateway.spool.places import Left, Place, noted
from gateway.transaction import AppendRefused, Position, RowsRefused
from runtime.postgres import open_pool
from tests.faults.proxy import Proxy
from tests.integration.test_pipeline import NOW, Arrived, Line, make
from tests.integration.test_presence import said
from tests.support.write_side import decode, write_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.local.services import LocalServices
    from gateway.decode import Reading
    from gateway.one_call import Called
    from gateway.transaction import Claimed
    from runtime.postgres import Connection
    from tests.support.write_side import WriteSide

FAR_S = 0.05


def batch(*keys: object, value: int = 1) -> list[bytes]:
    return [json.dumps({"id": str(key), "ts": "2026-11-23T08:00:00Z", "x": value}).encode() for key in keys]


RUN = "6f1d8f5e-6b1f-4b6e-9f0f-0a4b8c6d7e8f"
LOOK = """SELECT coalesce((SELECT max(s.place) FROM spools AS s), 0) AS place,
    (SELECT count(*) FROM measurements) AS rows, (SELECT count(*) FROM dead_letters) AS letters"""


def places(place: int) -> list[Place]:
    """How far a batch drains a run; 0 of one that does not."""
    return [Place(RUN, place, "2026-11-23T09:00:00.000000Z")] if place else []


def through(network: Proxy, services: LocalServices, database: str) -> str:
    return database.replace(f":{services.postgres.port}/", f":{network.port}/")


async def stored(database: str) -> list[list[str]]:
    """The keys of each outbox row, in order."""
    connection = await asyncpg.connect(database)
    rows = await connection.fetch("SELECT payload FROM outbox ORDER BY n")
    await connection.close()
    return [[event.key for event in decode_events(row["payload"])] for row in rows]


@pytest.mark.parametrize("drained", [False, True])
@pytest.mark.parametrize(
    ("calls", "payloads", "trips"),
    [
        (True, lambda n: batch(*(f"{n}-{i}" for i in range(20))), 1),
        (True, lambda n: [*batch(*(f"{n}-{i}" for i in range(20))), b"rubbish"], 1),
        (True, lambda n: batch(0, f"{n}-1", f"{n}-1"), 1),
        (True, lambda _: batch(0), 1),
        (False, lambda n: batch(*(f"{n}-{i}" for i in range(20))), 5),
    ],
    ids=["new", "with a letter", "with repeats", "nothing new", "by COPY"],
)
async def test_trips_of_a_batch(
    services: LocalServices, database: str, *, calls: bool, payloads: object, trips: int, drained: bool
) -> None:
    """A call is one trip, whatever is in it, a place in the spool too; by COPY a batch takes five, or six."""
    assert callable(payloads)
    if drained and not calls:
        trips += 1
    async with (
        Proxy(services.postgres.port) as network,
        write_side(through(network, services, database), calls=calls) as side,
    ):
        await side.store.commit(*decode(*batch(0)))
        await side.store.commit(*decode(*payloads(0)), changes=places(1) if drained else [])
        before = network.trips
        for n in range(1, 6):
            await side.store.commit(*decode(*payloads(n)), changes=places(1 + n) if drained else [])
        assert network.trips - before == 5 * trips
        assert await side.pool.fetchval("SELECT place FROM spools") == (6 if drained else None)


async def test_a_place_says_that_everything_before_it_is_stored(
    services: LocalServices, database: str
) -> None:
    """Behind a delay: whenever a place is noted, what lies before it is stored, as a letter if it must.

    Also behind a batch with conflicts, out of the spool or not.
    """
    differs = batch("a", value=2)
    sent = [  # with its place, and the rows and letters that are there by then
        (batch("a"), 0, (1, 0)),
        ([*batch(1), *differs], 0, (2, 1)),
        (batch(2), 1, (3, 1)),
        ([*batch(3), *differs], 2, (4, 2)),
        (batch(4), 3, (5, 2)),
        (differs, 4, (5, 3)),
        (batch("a", 4), 5, (5, 3)),
        (batch(5), 6, (6, 3)),
        ([*batch("a"), b"rubbish"], 7, (6, 4)),
    ]
    there = {place: stored for _, place, stored in sent if place} | {0: (0, 0)}
    async with Proxy(services.postgres.port) as network:
        network.delay_s = 0.02
        async with (
            write_side(through(network, services, database), calls=True, max_size=10) as side,
            await open_pool(database, name="looks", max_size=1) as near,
        ):
            storing = asyncio.gather(
                *(side.store.commit(*decode(*each), changes=places(place)) for each, place, _ in sent)
            )
            async with asyncio.timeout(20):
                while not storing.done():
                    row = await near.fetchrow(LOOK)
                    assert row is not None
                    rows, letters = there[row["place"]]
                    assert row["rows"] >= rows
                    assert row["letters"] >= letters
            told = await storing
            last = await near.fetchrow(LOOK)
            assert network.most_at_once > 2
    committed = [sum(each.committed for each in outcomes) for outcomes in told]
    letters_kept = [sum(len(each.dead_letters) for each in outcomes) for outcomes in told]
    assert (committed, letters_kept) == ([1, 1, 1, 1, 1, 0, 0, 1, 0], [0, 1, 0, 1, 0, 1, 0, 0, 1])
    assert last is not None
    assert tuple(last) == (7, 6, 4)
    assert [key for row in await stored(database) for key in row] == ["a", *"12345"]


async def test_several_are_under_way_where_the_way_is_long(services: LocalServices, database: str) -> None:
    """Behind a delay batches go before others are answered, and are stored and acknowledged in order."""
    acked: list[str] = []
    line = Line()
    ledger = Ledger(CollectorRegistry(), now=lambda: NOW)
    async with Proxy(services.postgres.port) as network:
        network.delay_s = FAR_S
        async with write_side(through(network, services, database), max_size=12) as side:
            policy = BatchPolicy(max_messages=10, max_bytes=100_000, linger_s=0.005)
            pipeline = make(line, side, ledger, policy, writers=8)
            stop = asyncio.Event()
            running = asyncio.create_task(pipeline.run(stop))
            network.most_at_once = 0
            most = 0
            for key in range(60):
                line.put(Arrived(str(key), acked))
                await asyncio.sleep(0.01)  # as a device would send: what is looked at is what overlaps
                most = max(most, side.store.turns.under_way)
                assert ledger.in_flight() <= 30
            async with asyncio.timeout(20):
                while len(acked) < 60:
                    await side.pool.execute("SELECT")
            stop.set()
            await running
    assert acked == [str(key) for key in range(60)]
    assert most > 2
    assert network.most_at_once > 2
    assert [key for row in await stored(database) for key in row] == acked


async def send_all(side: WriteSide, batches: list[list[bytes]], *, first: int = 0) -> list[tuple[int, int]]:
    """Commit batches in turns, all at once, out of the spool from a place on if one is given.

    Returns how many of each were stored now, and before.
    """

    async def send(at: int, payloads: list[bytes]) -> tuple[int, int]:
        outcomes = await side.store.commit(*decode(*payloads), changes=places(first + at if first else 0))
        return sum(each.committed for each in outcomes), sum(each.duplicates for each in outcomes)

    return await asyncio.gather(*(send(at, payloads) for at, payloads in enumerate(batches)))


@pytest.mark.parametrize("delay_s", [0.0, 0.02])
@pytest.mark.parametrize("letters", [[], [b"rubbish"]])
@pytest.mark.parametrize("drained", [False, True])
async def test_a_call_whose_answer_is_lost(
    services: LocalServices, database: str, *, delay_s: float, letters: list[bytes], drained: bool
) -> None:
    """It is found by its row: stored once, told as stored, its letters kept once; later ones follow."""
    async with Proxy(services.postgres.port) as network:
        network.delay_s = delay_s
        async with write_side(through(network, services, database), calls=True) as side:
            await send_all(side, [batch("a"), batch("b")])
            network.swallow_answer(b'"key":"2"', times=1)
            lost = [[*batch(1, 2, "a"), *letters], batch(3), batch(4, 4)]
            told = await send_all(side, lost, first=int(drained))
            assert network.swallowed == 1
            assert await side.pool.fetchval("SELECT place FROM spools") == (3 if drained else None)
    assert [key for row in (await stored(database))[2:] for key in row] == ["1", "2", "3", "4"]
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT count(*) FROM measurements") == 6
    assert await connection.fetchval("SELECT count(*) FROM dead_letters") == len(letters)
    await connection.close()
    assert told == [(2, 1), (1, 0), (1, 1)]


async def test_a_call_that_stored_nothing_but_a_place(services: LocalServices, database: str) -> None:
    """Its answer lost, it comes to the same once more; a late one takes no place back."""
    async with (
        Proxy(services.postgres.port) as network,
        write_side(through(network, services, database), calls=True) as side,
    ):
        await send_all(side, [batch("a"), batch("b")])
        network.swallow_answer(RUN.encode(), times=1)
        assert await send_all(side, [batch("a"), batch("b")], first=1) == [(0, 1), (0, 1)]
        assert network.swallowed == 1
        late = OneCall(*decode(*batch("a")), Presence(), lambda: noted(places(1), Left(7)))
        async with side.pool.acquire() as connection:
            await late.send(connection, Position(0, side.lease.owner, 0, 3), follows=False)
        left = await side.pool.fetchrow("SELECT place, messages_left FROM spools")
    assert left is not None
    assert tuple(left) == (2, 0)


async def test_a_call_that_is_carried_out_late(database: str) -> None:
    """A call that comes after its batch was sent again is refused, and keeps no letters."""
    async with write_side(database, calls=True) as side:
        readings, rejections = decode(*batch(1), b"rubbish")
        late = OneCall(readings, rejections, Presence())
        position = Position(0, side.lease.owner, 0, 1)
        await side.store.commit(readings, rejections)
        async with side.pool.acquire() as connection:
            with pytest.raises(AppendRefused):
                await late.send(connection, position, follows=False)
            called = await late.send(connection, position._replace(n=2), follows=False)
        assert (called.outcome.committed, called.outcome.duplicates, called.left) == (0, 1, [])
        assert called.letters_left == rejections
        assert await side.pool.fetchval("SELECT count(*) FROM dead_letters") == 1


@pytest.mark.parametrize("carried_out", ["before it is settled", "after that"])
async def test_a_lost_call_whose_rows_are_refused_then(
    database: str, monkeypatch: pytest.MonkeyPatch, carried_out: str
) -> None:
    """It is stored once and told as stored, its letters kept once, though it comes when others are at it."""
    send, claim = OneCall.send, transaction.claim
    late: list[tuple[OneCall, Position]] = []

    async def carry_out() -> None:
        await side.owner.execute("ALTER TABLE measurements DROP CONSTRAINT IF EXISTS no_two")
        async with side.pool.acquire() as connection:
            with contextlib.suppress(AppendRefused):
                await send(late[0][0], connection, late[0][1], follows=False)

    async def lose_the_first(
        call: OneCall, connection: Connection, position: Position, *, follows: bool
    ) -> Called:
        if not late:
            late.append((call, position))
            raise ConnectionError
        try:
            return await send(call, connection, position, follows=follows)
        except RowsRefused:
            if carried_out == "before it is settled":
                await carry_out()
            raise

    async def carry_out_and_claim(
        connection: Connection, generation: int, readings: Sequence[Reading]
    ) -> Claimed:
        await carry_out()
        return await claim(connection, generation, readings)

    monkeypatch.setattr(OneCall, "send", lose_the_first)
    monkeypatch.setattr(transaction, "claim", carry_out_and_claim)
    async with write_side(database, calls=True) as side:
        await side.owner.execute("ALTER TABLE measurements ADD CONSTRAINT no_two CHECK (message_key <> '2')")
        (outcome,) = await side.store.commit(*decode(*batch(1, 2), b"rubbish"))
        assert (outcome.committed, outcome.duplicates, len(outcome.dead_letters)) == (2, 0, 1)
        assert await side.pool.fetchval("SELECT count(*) FROM measurements") == 2
        assert await side.pool.fetchval("SELECT count(*) FROM dead_letters") == 1
        assert await side.pool.fetchval("SELECT owner FROM stream_leases") == side.lease.owner
    assert await stored(database) == [["1", "2"]]


async def test_what_stores_nothing_sends_those_behind_it_back(services: LocalServices, database: str) -> None:
    """A batch of repeats leaves no row; those sent behind it are stored all the same, in order."""
    async with Proxy(services.postgres.port) as network:
        network.delay_s = 0.02
        async with write_side(through(network, services, database), calls=True) as side:
            await send_all(side, [batch("a")])
            told = await send_all(side, [batch("a"), batch(1), [*batch("a"), b"rubbish"], batch(2)])
    assert told == [(0, 1), (1, 0), (0, 1), (1, 0)]
    assert await stored(database) == [["a"], ["1"], ["2"]]


async def test_a_part_that_is_followed_says_who_is_online(database: str) -> None:
    """Of a batch of several parts each is asked what it changes of devices being online."""
    async with write_side(database, calls=True) as side:
        turn = side.store.turns.take()
        await side.store.commit([said("online", 1)], [], turn, last=False)
        await side.store.commit([said("offline", 2)], [], turn)
        turn.end()
        rows = await side.pool.fetch("SELECT payload FROM outbox ORDER BY n")
        told = [(event.online, event.online_since) for row in rows for event in decode_events(row["payload"])]
        assert told == [(True, "2026-11-23T12:01:00.000000Z"), (False, "2026-11-23T12:02:00.000000Z")]
        assert await side.pool.fetchval("SELECT online FROM device_presence WHERE device_id = 'a1'") is False


async def test_a_call_in_which_thousands_say_who_is_online(database: str) -> None:
    """What it takes is by the message: it ends long before a statement is broken off. Repeats say nothing."""
    batches = [[said("online", 1, device=f"d{n}") for n in range(count)] for count in (5, 3000)]
    async with write_side(database, calls=True) as side:
        async with asyncio.timeout(20):
            for readings in batches:
                await side.store.commit(readings, [])
        rows = await side.pool.fetch("SELECT payload FROM outbox ORDER BY n")
        online = await side.pool.fetchval("SELECT count(*) FROM device_presence WHERE online")
    told = [
        [(event.device_id, event.online_since) for event in decode_events(row["payload"])] for row in rows
    ]
    since = "2026-11-23T12:01:00.000000Z"
    assert told == [[(f"d{n}", since) for n in range(5)], [(f"d{n}", since) for n in range(5, 3000)]]
    assert online == 3000


async def test_a_call_that_is_answered_first_ends_after_those_before(
    services: LocalServices, database: str
) -> None:
    """A batch behind one that is not acknowledged is stored meanwhile, and told as stored after that."""
    async with Proxy(services.postgres.port) as network:
        network.delay_s = 0.02
        async with write_side(through(network, services, database), calls=True) as side:
            turn = side.store.turns.take()
            await side.store.commit(*decode(*batch(1)), turn)
            behind = asyncio.create_task(side.store.commit(*decode(*batch(2))))
            async with asyncio.timeout(20):
                while len(await stored(database)) < 2:
                    pass
                for _ in range(3):  # longer than its answer takes
                    await side.pool.execute("SELECT")
                assert not behind.done()
                turn.end()
                await behind
