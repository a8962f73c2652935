"""Dead letters on a real PostgreSQL: their bounds, and replaying them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from contract.events import decode_events
from gateway.dead_letters import REPLAY_STREAM
from gateway.dead_letters.letters import database as open_database
from gateway.dead_letters.letters import listed, shown
from gateway.dead_letters.run import replay
from gateway.dead_letters.selection import Selection, topic_pattern
from runtime.errors import Stop
from runtime.postgres import load_queries
from runtime.settings import Gateway, Postgres, Route, Settings
from tests.support.roles import as_kind
from tests.support.write_side import decode, write_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from gateway.dead_letters.tally import Tally
    from runtime.postgres import Connection
    from tests.support.write_side import WriteSide

queries = load_queries("gateway")
HEAD = "SELECT head FROM streams WHERE stream = $1"
END_TRANSACTIONS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'gateway-dead-letters' AND backend_xid IS NOT NULL"
)
EARLIER = datetime(2026, 11, 20, 8, 30, 0, 250_000, tzinfo=UTC)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to this test's database."""
    made = await asyncpg.connect(database)
    yield made
    await made.close()


@pytest.fixture
async def side(database: str) -> AsyncIterator[WriteSide]:
    """A gateway's store on this test's database."""
    async with write_side(database) as made:
        yield made


def message(key: str, value: object = 1, ts: str = "2026-11-20T08:00:00Z") -> bytes:
    return json.dumps({"id": key, "ts": ts, "x": value}).encode()


async def bury(
    connection: asyncpg.Connection[asyncpg.Record] | Connection,
    *payloads: bytes,
    topic: str = "devices/a1/telemetry",
    reason: str = "no_route",
) -> list[int]:
    """Put letters into the table as an earlier gateway would have; returns their ids."""
    rows = [[(EARLIER + timedelta(seconds=i)).isoformat() for i, _ in enumerate(payloads)]]
    rows += [[text for _ in payloads] for text in (topic, "a1", reason, "as it was")]
    found = await connection.fetch(queries.insert_dead_letters, *rows, payloads, [None for _ in payloads])
    return [row["id"] for row in found]


async def run(
    dsn: str,
    selection: Selection = Selection(),  # noqa: B008  # immutable
    *,
    limit: int | None = None,
    routes: Sequence[Route] = (Route(),),
    page: int = 1000,
    max_payload_bytes: int = 262_144,
) -> Tally:
    settings = Settings(
        postgres=Postgres(dsn=as_kind(dsn, "gateway")),
        gateway=Gateway(batch_messages=page, max_payload_bytes=max_payload_bytes),
        route=tuple(routes),
    )
    return await replay(settings, selection, limit, asyncio.Event(), lambda _: None)


async def waiting(connection: asyncpg.Connection[asyncpg.Record]) -> list[tuple[int, str]]:
    rows = await connection.fetch("SELECT id, reason FROM dead_letters WHERE replayed_at IS NULL ORDER BY id")
    return [(row["id"], row["reason"]) for row in rows]


# -- bounds --------------------------------------------------------------------------------------------------


async def evict(
    connection: asyncpg.Connection[asyncpg.Record] | Connection,
    letters: int,
    size: int = 10**9,
    piece: int = 5000,
) -> int:
    row = await connection.fetchrow(queries.evict_dead_letters, letters, size, piece)
    assert row is not None
    return int(row["letters"])


async def totals(connection: asyncpg.Connection[asyncpg.Record]) -> tuple[int, int]:
    row = await connection.fetchrow(
        "SELECT sum(letters)::bigint, sum(bytes)::bigint"
        " FROM (SELECT letters, bytes FROM dead_letter_changes"
        " UNION ALL SELECT letters, bytes FROM dead_letter_totals) AS t"
    )
    assert row is not None
    return row[0], row[1]


async def test_the_oldest_make_room(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """More letters than allowed: the oldest go, in pieces, and exactly as many as must."""
    ids = await bury(connection, *[b"x"] * 10)
    assert await evict(connection, 10) == 0
    assert await evict(connection, 4, piece=5) == 5
    assert await evict(connection, 4, piece=5) == 1
    assert await evict(connection, 4, piece=5) == 0
    assert [id_ for id_, _ in await waiting(connection)] == ids[6:]


async def test_bytes_make_room_too(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """As many of the oldest go as it takes to come below the bound on bytes of topics and payloads."""
    ids = await bury(connection, b"x" * 1000, b"y" * 70_000, b"z" * 500, topic="t")
    assert await evict(connection, 100, 71_503) == 0
    assert await evict(connection, 100, 70_502) == 1
    assert await evict(connection, 100, 70_501) == 1
    assert [id_ for id_, _ in await waiting(connection)] == ids[2:]
    assert await totals(connection) == (1, 501)


async def test_the_totals_are_exact_whatever_is_done(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Letters rolled back, replayed, updated, deleted by hand or truncated leave the totals right."""
    ids = await bury(connection, b"12345", b"67", topic="t")
    undone = connection.transaction()
    await undone.start()
    await bury(connection, b"never")
    await undone.rollback()
    await connection.execute("UPDATE dead_letters SET error = 'longer than it was', replayed_at = now()")
    assert await totals(connection) == (2, 9)
    assert await evict(connection, 2) == 0
    assert await totals(connection) == (2, 9)
    await connection.execute("DELETE FROM dead_letters WHERE id = $1", ids[0])
    assert await totals(connection) == (1, 3)
    await connection.execute("TRUNCATE dead_letters")
    assert await totals(connection) == (0, 0)


async def test_gateways_that_evict_at_once_take_no_more_than_one(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Several gateways keep the bound together, while letters come; each letter is counted by one of them."""
    await bury(connection, *[b"x"] * 400)
    async with await asyncpg.create_pool(as_kind(database, "gateway"), min_size=0, max_size=6) as pool:

        async def keep() -> int:
            async with pool.acquire() as own:
                pieces = [await evict(own, 100, piece=7) for _ in range(60)]
                return sum(pieces)

        async def add() -> int:
            async with pool.acquire() as own:
                for _ in range(20):
                    await bury(own, *[b"y"] * 5)
            return 0

        gone = sum(await asyncio.gather(keep(), keep(), keep(), add()))
    while last := await evict(connection, 100):
        gone += last
    assert gone == 400
    assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 100
    assert await totals(connection) == (100, 100 * (1 + len("devices/a1/telemetry")))


# -- reading -------------------------------------------------------------------------------------------------


async def test_letters_are_selected(database: str, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """By reason, device, topic filter, time, and whether they were replayed; the newest first."""
    first, second = await bury(connection, b"a", b"b")
    (third,) = await bury(connection, b"\xff", topic="sites/1/x", reason="not_utf8")
    await connection.execute("UPDATE dead_letters SET replayed_at = now() WHERE id = $1", second)
    async with open_database(database) as pool:

        async def ids(selection: Selection, limit: int = 10) -> list[int]:
            return [letter.id for letter in await listed(pool, selection, limit)]

        assert await ids(Selection()) == [third, first]
        assert await ids(Selection(), 1) == [third]
        assert await ids(Selection(replayed=True)) == [third, second, first]
        assert await ids(Selection(reasons=("no_route", "conflict"))) == [first]
        assert await ids(Selection(devices=("b2",))) == []
        assert await ids(Selection(topic=topic_pattern("sites/+/x"))) == [third]
        assert await ids(Selection(topic=topic_pattern("devices/#"))) == [first]
        after = EARLIER + timedelta(milliseconds=1)
        assert await ids(Selection(replayed=True, since=after)) == [second]
        assert await ids(Selection(replayed=True, until=after)) == [third, first]
        letter, payload = await shown(pool, third)
        assert (letter.topic, letter.size, payload) == ("sites/1/x", 1, b"\xff")
        with pytest.raises(Stop, match="no dead letter 99"):
            await shown(pool, 99)


async def test_a_database_without_our_schema(empty_database: str) -> None:
    """It says what to run."""
    with pytest.raises(Stop, match="gateway migrate"):
        async with open_database(empty_database) as pool:
            await listed(pool, Selection(), 1)


# -- replaying -----------------------------------------------------------------------------------------------


async def test_a_replay_stores_as_the_pipeline_does(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Measurement, device, outbox row and mark appear in one transaction; the time of receipt stays."""
    good, bad = await bury(connection, message("1", 2.5), b"rubbish")
    tally = await run(database)
    assert (tally.selected, tally.replayed, tally.stored, tally.complete) == (2, 1, 1, False)
    assert tally.failing == {"malformed_json": 1}
    row = await connection.fetchrow("SELECT *, xmin FROM measurements")
    assert row is not None
    assert (row["device_id"], row["message_key"], row["received_at"]) == ("a1", "1", EARLIER)
    outbox = await connection.fetchrow("SELECT *, xmin FROM outbox")
    assert outbox is not None
    assert (outbox["stream"], outbox["n"], outbox["events"]) == (REPLAY_STREAM, 1, 1)
    (event,) = decode_events(outbox["payload"])
    assert (event.key, event.received_at) == ("1", "2026-11-20T08:30:00.250000Z")
    letter = await connection.fetchrow("SELECT *, xmin FROM dead_letters WHERE id = $1", good)
    assert letter is not None
    assert letter["replayed_at"] is not None
    assert {row["xmin"], outbox["xmin"], letter["xmin"]} == {row["xmin"]}
    assert await connection.fetchval("SELECT last_seen FROM devices") == row["ts"]
    left = await connection.fetchrow("SELECT * FROM dead_letters WHERE id = $1", bad)
    assert left is not None
    assert (left["reason"], bytes(left["payload"]), left["replayed_at"]) == (
        "malformed_json",
        b"rubbish",
        None,
    )
    assert left["error"] != "as it was"


async def test_a_replay_repeated_changes_nothing(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """What was replayed is not selected again; asked for all the same, it is known and stored once."""
    await bury(connection, message("1"), b'{"x":1}')
    assert (await run(database)).stored == 2
    assert (await run(database)).selected == 0
    tally = await run(database, Selection(replayed=True))
    assert (tally.replayed, tally.stored, tally.duplicates, tally.complete) == (2, 0, 2, True)
    assert await connection.fetchval("SELECT count(*) FROM measurements") == 2
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 1


async def test_what_the_device_sent_again_meanwhile(
    database: str, connection: asyncpg.Connection[asyncpg.Record], side: WriteSide
) -> None:
    """A letter whose message came again and was stored is a repeat; one that differs from it a conflict."""
    same, other = await bury(connection, message("1"), message("1", 2))
    await side.store.commit(*decode(message("1")))
    tally = await run(database)
    assert (tally.stored, tally.duplicates, tally.failing) == (0, 1, {"conflict": 1})
    assert await waiting(connection) == [(other, "conflict")]
    assert same != other


async def test_conflicts_stay_conflicts(
    database: str, connection: asyncpg.Connection[asyncpg.Record], side: WriteSide
) -> None:
    """A conflict stays even when the dedup window has forgotten its key, until the route says key+time."""
    later = message("1", 2, "2026-11-20T08:00:01Z")
    await side.store.commit(*decode(message("1"), later))
    for _ in range(2):
        await connection.execute("SELECT turn_dedup('0')")
    ((letter, _),) = await waiting(connection)
    assert (await run(database)).failing == {"conflict": 1}
    error = await connection.fetchval("SELECT error FROM dead_letters WHERE id = $1", letter)
    assert "is stored with other content" in error
    assert (await run(database, routes=[Route(identity="key+time")])).stored == 1
    assert await connection.fetchval("SELECT count(*) FROM measurements") == 2


async def test_an_array_of_which_a_part_can_be_stored(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Its good elements are stored, each bad one becomes a letter of its own, received in its place."""
    (array,) = await bury(connection, b"[" + message("1") + b", [], " + message("2") + b"]")
    tally = await run(database)
    assert (tally.replayed, tally.stored, tally.orphans, tally.complete) == (1, 2, 1, False)
    ((orphan, reason),) = await waiting(connection)
    assert (orphan > array, reason) == (True, "wrong_root")
    row = await connection.fetchrow("SELECT * FROM dead_letters WHERE id = $1", orphan)
    assert row is not None
    assert (bytes(row["payload"]), row["received_at"]) == (b"[]", EARLIER + timedelta(microseconds=1))


async def test_pages_and_a_limit(database: str, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Transactions no larger than a batch, and no more letters than asked for, the oldest first."""
    ids = await bury(connection, *(message(str(i)) for i in range(25)), reason="payload_too_large")
    tally = await run(database, limit=13, page=5)
    assert (tally.selected, tally.replayed, tally.complete) == (13, 13, True)
    assert [id_ for id_, _ in await waiting(connection)] == ids[13:]
    rows = await connection.fetch("SELECT n, events FROM outbox ORDER BY n")
    assert [(row["n"], row["events"]) for row in rows] == [(1, 5), (2, 5), (3, 3)]


async def test_a_letter_larger_than_a_page(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A letter beyond the bytes of a batch is a page of its own, between its neighbours."""
    big = message("2", "x" * 1_500_000)
    await bury(connection, message("1"), big, message("3"))
    assert (await run(database, max_payload_bytes=2_000_000)).stored == 3
    rows = await connection.fetch("SELECT payload FROM outbox ORDER BY n")
    assert [[event.key for event in decode_events(row["payload"])] for row in rows] == [["1"], ["2"], ["3"]]


async def test_a_letter_that_the_database_refuses(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """It stays, with what the database said; its neighbours are replayed, and it stops none of them."""
    await connection.execute("ALTER TABLE measurements ADD CHECK (message_key <> '5')")
    ids = await bury(connection, *(message(str(i)) for i in range(9)))
    tally = await run(database)
    assert (tally.replayed, tally.failing) == (8, {"refused_by_database": 1})
    assert await waiting(connection) == [(ids[5], "refused_by_database")]


async def test_two_replays_at_once(
    database: str, connection: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is refused, or waits and finds nothing left: no letter is stored twice."""
    monkeypatch.setattr("gateway.lease._ATTEMPTS", 2)
    await bury(connection, *(message(str(i)) for i in range(200)), b'{"x":1}')
    done = await asyncio.gather(*(run(database, page=10) for _ in range(3)), return_exceptions=True)
    refused = [error for error in done if isinstance(error, BaseException)]
    assert all(isinstance(error, Stop) and "another replay" in str(error) for error in refused)
    assert len(refused) < 3
    assert await connection.fetchval("SELECT count(*) FROM measurements") == 201
    assert await connection.fetchval("SELECT sum(events) FROM outbox") == 201


async def test_what_is_replayed_is_not_evicted_meanwhile(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A letter that a replay holds stays until the replay says what became of it; others make room."""
    first, second = await bury(connection, b"1"), await bury(connection, b"2")
    replaying = await asyncpg.connect(database)
    async with replaying.transaction():
        held = await replaying.fetch(queries.lock_dead_letters, *Selection(), 0, first[0], 1, 1000)
        assert [row["id"] for row in held] == first
        await evict(connection, 0)
        assert [id_ for id_, _ in await waiting(connection)] == first
    await replaying.close()
    assert second != first
    assert await evict(connection, 0) == 1


async def test_a_replay_whose_stream_was_taken_is_fenced(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A replay that another one took the stream from stores nothing more, and says so."""
    await bury(connection, *(message(str(i)) for i in range(20)))

    def usurp(tally: Tally) -> None:
        if tally.done == 10:
            usurper.append(asyncio.create_task(take()))

    async def take() -> None:
        await connection.execute("UPDATE streams SET owner = gen_random_uuid(), owner_name = 'usurper'")

    usurper: list[asyncio.Task[None]] = []
    settings = Settings(
        postgres=Postgres(dsn=as_kind(database, "gateway")), gateway=Gateway(batch_messages=1)
    )
    with pytest.RaisesGroup(pytest.RaisesExc(Stop, match="usurper")):
        await replay(settings, Selection(), None, asyncio.Event(), usurp)
    stored = await connection.fetchval("SELECT count(*) FROM measurements")
    assert 10 <= stored < 20
    marked = await connection.fetchval("SELECT count(replayed_at) FROM dead_letters")
    assert marked == stored == await connection.fetchval("SELECT sum(events) FROM outbox")


async def test_connections_cut_while_replaying(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Backends ended in mid-transaction, page after page: each letter is stored and told once."""
    await bury(connection, *(message(str(i)) for i in range(400)), *[b'{"x":1}'] * 20)

    async def cut() -> int:
        cuts, head = 0, 0
        while cuts < 10 and not replaying.done():
            if (reached := await connection.fetchval(HEAD, REPLAY_STREAM) or 0) > head:
                ended = await connection.fetchval(END_TRANSACTIONS)
                cuts, head = cuts + ended, reached if ended else head
            await connection.execute("SELECT pg_sleep(0.002)")
        return cuts

    settings = Settings(
        postgres=Postgres(dsn=as_kind(database, "gateway")), gateway=Gateway(batch_messages=5)
    )
    replaying = asyncio.create_task(replay(settings, Selection(), None, asyncio.Event(), lambda _: None))
    assert await cut() > 0
    result = await replaying
    assert (result.replayed, result.stored, result.duplicates, result.complete) == (420, 420, 0, True)
    assert await connection.fetchval("SELECT count(*) FROM measurements") == 420
    rows = await connection.fetch("SELECT n FROM outbox ORDER BY n")
    assert [row["n"] for row in rows] == list(range(1, len(rows) + 1))


async def test_the_dedup_window_turned(database: str, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """A replay claims its keys in the generation that is current."""
    await connection.execute("SELECT turn_dedup('0')")
    await bury(connection, message("1"))
    assert (await run(database)).stored == 1
    assert await connection.fetchval("SELECT count(*) FROM message_keys_1") == 1


async def test_a_stop_ends_a_replay_between_pages(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """What was not looked at is said; what was is stored."""
    await bury(connection, *(message(str(i)) for i in range(10)))
    stop = asyncio.Event()

    def progress(tally: Tally) -> None:
        if tally.done:
            stop.set()

    settings = Settings(
        postgres=Postgres(dsn=as_kind(database, "gateway")), gateway=Gateway(batch_messages=4)
    )
    tally = await replay(settings, Selection(), None, stop, progress)
    assert (tally.replayed, tally.stopped, tally.complete) == (4, True, False)
    assert len(await waiting(connection)) == 6


async def test_letters_of_a_constant_key_replay_once_the_route_says_so(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Conflicts under a key that is none stay until the route has key = "", and are then stored each."""
    await bury(connection, message("C4:7C", 32), message("C4:7C", 33), reason="conflict")
    assert (await run(database)).replayed == 0
    tally = await run(database, routes=[Route(key="")])
    assert (tally.replayed, tally.stored, tally.complete) == (2, 2, True)
    rows = await connection.fetch(
        "SELECT metrics->>'x' AS x, metrics->>'id' AS id FROM measurements ORDER BY x"
    )
    assert [tuple(row) for row in rows] == [("32", "C4:7C"), ("33", "C4:7C")]


async def test_the_letter_of_many_elements_replays(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """What was refused together is an array, and stored element by element once the route takes it."""
    elements = b",".join(b'{"id":"%d","ts":0,"x":1}' % n for n in range(20))
    await bury(connection, b"[" + elements + b"]", reason="many_bad_elements")
    tally = await run(database, routes=[Route(clock="prefer")])
    assert (tally.replayed, tally.stored) == (1, 20)
    rows = await connection.fetch("SELECT DISTINCT received_at FROM measurements")
    assert len(rows) == 20
