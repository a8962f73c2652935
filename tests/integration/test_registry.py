"""The registry in PostgreSQL: who follows it, and what is held until its device is known."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import asyncpg
import pytest

from gateway.check.postgres import check_postgres
from gateway.dead_letters import letters
from gateway.dead_letters.release import release
from gateway.dead_letters.run import replay
from gateway.dead_letters.selection import Selection
from gateway.door import Door, explain
from gateway.doorman import Doorman
from gateway.registry import table
from gateway.registry.entry import Wish
from gateway.transaction import queries
from runtime.errors import Stop
from runtime.postgres import open_pool
from runtime.settings import Gateway, Postgres, Route, Settings
from tests.support.roles import as_kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from gateway.door import Refusal, State

    Pool = asyncpg.Pool[asyncpg.Record]

MANY = Route(topic="many", device="device_id")


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """Connections to this test's database."""
    async with await open_pool(as_kind(database, "gateway"), name="test") as made:
        yield made


async def put(pool: Pool, **states: State) -> table.Changed:
    return await table.change(pool, [Wish(id_, state=state) for id_, state in states.items()])


async def as_owner(dsn: str, statement: str) -> None:
    """Do what no gateway may."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


def refused(door: Door, *ids: str) -> list[str]:
    """Which of these are refused."""
    return [id_ for id_ in ids if door._why(id_) is not None]


class Clock:
    """A monotonic clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


# -- following it --------------------------------------------------------------------------------------------


async def test_a_door_follows_the_registry(pool: Pool) -> None:
    """It begins with all of it and then learns what has changed, be it by the command or by hand."""
    await put(pool, a1="active", b1="blocked", c1="unknown")
    door = Door(holds=True)
    doorman = Doorman(door)
    await doorman.look(pool)
    assert refused(door, "a1", "b1", "c1", "d1") == ["b1", "c1", "d1"]
    await put(pool, b1="active", d1="active")
    await pool.execute("UPDATE devices SET state = 'blocked' WHERE device_id = 'a1'")
    await pool.execute("INSERT INTO devices (device_id, first_seen, last_seen) VALUES ('e1', now(), now())")
    await doorman.look(pool)
    assert refused(door, "a1", "b1", "c1", "d1", "e1") == ["a1", "c1"]


async def test_nothing_is_missed_that_was_under_way(pool: Pool) -> None:
    """A change that began before the last look and was committed after it is seen by the next."""
    door = Door()
    doorman = Doorman(door)
    await put(pool, a1="active", b1="active")
    await doorman.look(pool)
    async with pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("UPDATE devices SET state = 'blocked' WHERE device_id = 'a1'")
        await put(pool, b1="blocked")
        for _ in range(2):
            await doorman.look(pool)
            assert refused(door, "a1", "b1") == ["b1"]
        await transaction.commit()
    await doorman.look(pool)
    assert refused(door, "a1", "b1") == ["a1", "b1"]


async def test_a_change_is_seen_once(pool: Pool) -> None:
    """However long something else is under way in the cluster: a fleet's change is not read each second."""
    clock, door = Clock(), Door(holds=True)
    doorman = Doorman(door, monotonic=clock)
    await doorman.look(pool)
    async with pool.acquire() as slow, slow.transaction():
        await slow.fetch("SELECT pg_current_xact_id()::text")
        clock.now = 1.0
        await put(pool, a1="active")
        await doorman.look(pool)
        assert (refused(door, "a1"), doorman.let_in_at) == ([], 1.0)
        for clock.now in (2.0, 3.0):
            await doorman.look(pool)
    assert doorman.let_in_at <= 2.0


async def test_sightings_are_no_changes(pool: Pool) -> None:
    """Only the first of a device that was never heard is: nobody reads a fleet again for having sent."""
    await put(pool, a1="active")
    await pool.execute("INSERT INTO devices (device_id, first_seen, last_seen) VALUES ('b1', now(), now())")
    changed = "SELECT device_id, changed::text FROM devices"
    before: dict[str, str] = dict(map(tuple, await pool.fetch(changed)))
    await pool.execute("UPDATE devices SET last_seen = now() + interval '1 s', region = 'north'")
    after: dict[str, str] = dict(map(tuple, await pool.fetch(changed)))
    assert [id_ for id_ in before if before[id_] != after[id_]] == ["a1"]


async def test_who_is_removed_is_forgotten_in_time(pool: Pool, database: str) -> None:
    """A row that is gone leaves no trace, so all is read anew now and then, and once the table is another."""
    clock, door = Clock(), Door(holds=True)
    doorman = Doorman(door, monotonic=clock)
    await put(pool, a1="active", b1="active")
    await doorman.look(pool)
    await as_owner(database, "DELETE FROM devices WHERE device_id = 'a1'")
    clock.now = 601.0
    await doorman.look(pool)
    assert refused(door, "a1", "b1") == ["a1"]
    await as_owner(database, "TRUNCATE devices")
    await doorman.look(pool)
    assert refused(door, "a1", "b1") == ["a1", "b1"]


async def test_without_postgres_a_door_stays_as_it_is(database: str) -> None:
    """Whoever was let in is, and whoever was not is not; a door that never knew lets everybody in."""
    door, new = Door(holds=True), Door(holds=True)
    doorman = Doorman(door)
    async with await open_pool(as_kind(database, "gateway"), name="test") as pool:
        await put(pool, a1="active", b1="blocked")
        await doorman.look(pool)
    for each in (doorman, Doorman(new)):
        with pytest.raises(asyncpg.InterfaceError):
            await each.look(pool)
    assert refused(door, "a1", "b1", "c1") == ["b1", "c1"]
    assert refused(new, "a1", "b1", "c1") == []


async def test_a_registry_of_many(pool: Pool) -> None:
    """All of them are read in pages, at the start and when all of them change at once."""
    await pool.execute("INSERT INTO devices (device_id) SELECT 'd' || n FROM generate_series(1, 25000) AS n")
    door = Door(holds=True)
    doorman = Doorman(door)
    await doorman.look(pool)
    assert len(door) == 25_000
    await pool.execute("UPDATE devices SET state = 'blocked' WHERE device_id LIKE 'd1%'")
    await doorman.look(pool)
    blocked = await pool.fetchval("SELECT count(*) FROM devices WHERE state = 'blocked'")
    assert len(refused(door, *(f"d{n}" for n in range(1, 25_001)))) == blocked > 10_000


# -- changing it ---------------------------------------------------------------------------------------------


async def test_all_of_it_changes_or_nothing(pool: Pool) -> None:
    """One wish that cannot be leaves the others undone too, and the error names it."""
    labels = {f"n{i}": "x" for i in range(20)}
    assert await table.change(pool, [Wish("a1", labels=labels), Wish("b1")]) == (2, 0, 0)
    with pytest.raises(Stop, match="device 'a1': 21 labels, at most 20; nothing was changed"):
        await table.change(pool, [Wish("c1", name="new"), Wish("a1", more={"one": "more"})])
    assert [entry.device_id async for entry in table.entries(pool)] == ["a1", "b1"]
    assert await table.change(pool, [Wish("a1", labels=labels), Wish("b1", name="B")]) == (0, 1, 1)


async def test_two_at_once_each_change_what_they_say(pool: Pool) -> None:
    """Neither undoes what the other does."""
    await asyncio.gather(*(table.change(pool, [Wish("a1", more={f"n{i}": "x"})]) for i in range(8)))
    (entry,) = [each async for each in table.entries(pool)]
    assert sorted(entry.labels) == [f"n{i}" for i in range(8)]


async def test_a_list_in_pages(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By id, those that are held and in no registry among them, each once; narrowed by each of its words."""
    monkeypatch.setattr(table, "_PAGE", 2)
    wishes = [Wish(f"d{n}", labels={"odd": str(n % 2)}) for n in range(5)]
    await table.change(pool, [*wishes, Wish("d9", state="unknown")])
    await pool.execute("UPDATE devices SET first_seen = now(), last_seen = now() WHERE device_id = 'd2'")
    await hold(pool, ("a1", message("1")), ("d9", message("1")), ("d3x", message("1")), ("z1", message("1")))

    async def ids(selection: table.Selection) -> list[str]:
        return [each.device_id async for each in table.listed(pool, selection)]

    assert await ids(table.Selection()) == ["a1", "d0", "d1", "d2", "d3", "d3x", "d4", "d9", "z1"]
    assert await ids(table.Selection(states=["unknown"])) == ["a1", "d3x", "d9", "z1"]
    assert await ids(table.Selection(states=["active"], labels={"odd": "1"})) == ["d1", "d3"]
    assert await ids(table.Selection(prefix="d3")) == ["d3", "d3x"]
    assert await ids(table.Selection(never_heard=True)) == ["d0", "d1", "d3", "d4", "d9"]
    assert [each.held async for each in table.listed(pool, table.Selection(states=["unknown"]))] == [1] * 4


async def test_the_table_refuses_what_cannot_be(pool: Pool) -> None:
    """Also from somebody who writes to it by hand."""
    for column, value in (
        ("name", "''"),
        ("name", "repeat('x', 101)"),
        ("labels", "'[]'"),
        ("labels", "jsonb_build_object('x', repeat('y', 5000))"),
        ("expected_every", "interval '0'"),
        ("state", "'on'"),
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await pool.execute(f"INSERT INTO devices (device_id, {column}) VALUES ('a', {value})")  # noqa: S608  # of this test


async def test_a_check_says_whom_hold_would_hold(pool: Pool, database: str) -> None:
    """All, as long as nobody is known; whose messages wait; and what waits though nobody is held any more."""

    async def found(*, holds: bool = True) -> list[tuple[str, str]]:
        findings = check_postgres(site(database) if holds else Settings(postgres=Postgres(dsn=database)))
        return [(each.state, each.found) async for each in findings if each.component == "unknown devices"]

    assert await found(holds=False) == []
    assert await found() == [("warn", "0 may send; 0 messages of others are held")]
    await put(pool, a1="active", b1="blocked")
    assert await found() == [("ok", "held; 1 may send")]
    await hold(pool, ("c1", message("1")))
    assert (
        await found() == await found(holds=False) == [("warn", "1 may send; 1 messages of others are held")]
    )


async def test_a_database_of_before_is_named(database: str) -> None:
    """Who has not migrated yet is told what to run, not what a column is called."""
    await as_owner(database, "ALTER TABLE devices DROP COLUMN labels CASCADE")
    with pytest.raises(Stop, match="run `gateway migrate`"):
        async with letters.database(as_kind(database, "gateway")) as found:
            await table.change(found, [Wish("a1")])


# -- what was held -------------------------------------------------------------------------------------------


def message(key: str) -> bytes:
    return json.dumps({"id": key, "x": 1}).encode()


async def hold(pool: Pool, *held: tuple[str, bytes], topic: str = "", stands_for: Sequence[str] = ()) -> None:
    """Put letters into the table as a gateway that holds does."""
    reason: Refusal = "unknown_device"
    for number, (device_id, payload) in enumerate(held):
        await pool.fetch(
            queries.insert_dead_letters,
            [f"2026-11-20T08:00:{number:02}.000000Z"],
            [topic or f"devices/{device_id}/telemetry"],
            [device_id or None],
            [reason],
            [explain(reason, [device_id])],
            [payload],
            ["\x1d".join(stands_for) or None],
        )


def site(dsn: str, batch_messages: int = 1000) -> Settings:
    return Settings(
        postgres=Postgres(dsn=as_kind(dsn, "gateway")),
        gateway=Gateway(unknown_devices="hold", batch_messages=batch_messages),
        route=(Route(), MANY),
    )


async def stored(pool: Pool) -> list[tuple[str, str]]:
    """Device and key of what is stored, in order of arrival."""
    rows = await pool.fetch("SELECT device_id, message_key FROM measurements ORDER BY received_at")
    return [tuple(row) for row in rows]


async def test_only_who_is_known_is_released(pool: Pool, database: str) -> None:
    """In order of receipt, over several transactions; what others wait for stays; and again it is nothing."""
    await hold(pool, *(("ab"[n % 2] + "1", message(str(n))) for n in range(10)))
    await put(pool, a1="active")
    tally = await release(pool, site(database, batch_messages=2))
    assert (tally.selected, tally.replayed, tally.stored, tally.complete) == (5, 5, 5, True)
    assert await stored(pool) == [("a1", key) for key in "02468"]
    again = await release(pool, site(database))
    assert (again.selected, await pool.fetchval("SELECT count(*) FROM measurements")) == (0, 5)
    waiting = "SELECT count(*) FROM dead_letters WHERE replayed_at IS NULL AND reason = 'unknown_device'"
    assert await pool.fetchval(waiting) == 5


async def test_of_a_message_of_several_devices_each_is_released_when_it_is_known(
    pool: Pool, database: str
) -> None:
    """What it does not stand for was stored before and is not again, also without a key to be known by."""
    payload = json.dumps(
        [{"device_id": id_, "x": n} for n, id_ in enumerate(("old", "a1", "b1", "a1"))]
    ).encode()
    await hold(pool, ("", payload), topic="many", stands_for=["a1", "b1"])
    await put(pool, old="active", a1="active")
    tally = await release(pool, site(database))
    assert (tally.replayed, tally.stored, tally.orphans) == (1, 2, 1)
    assert [device for device, _ in await stored(pool)] == ["a1", "a1"]
    left = await pool.fetchrow(
        "SELECT device_id, stands_for, payload FROM dead_letters WHERE replayed_at IS NULL"
    )
    assert left is not None
    assert tuple(left) == ("b1", ["b1"], payload)
    await put(pool, b1="active")
    tally = await release(pool, site(database))
    assert (tally.replayed, tally.stored) == (1, 1)
    assert [device for device, _ in await stored(pool)] == ["a1", "b1", "a1"]
    assert (await release(pool, site(database))).selected == 0


async def test_who_is_blocked_meanwhile_stays_out(pool: Pool, database: str) -> None:
    """A replay by hand stores nothing of a device that is refused, and says what stands in its way now."""
    await hold(pool, ("a1", message("1")), ("b1", message("2")))
    await put(pool, a1="blocked")
    tally = await replay(site(database), Selection(), None, asyncio.Event(), lambda _: None)
    assert (tally.stored, dict(tally.failing)) == (0, {"device_blocked": 1, "unknown_device": 1})
    assert await pool.fetch("SELECT device_id FROM measurements") == []
    reasons = [row["reason"] for row in await pool.fetch("SELECT reason FROM dead_letters ORDER BY id")]
    assert reasons == ["device_blocked", "unknown_device"]


async def test_a_message_that_came_both_ways_is_stored_once(pool: Pool, database: str) -> None:
    """A letter that was written twice, because its acknowledgement was lost, is one message."""
    await hold(pool, ("a1", message("1")), ("a1", message("1")), ("a1", message("2")))
    await put(pool, a1="active")
    tally = await release(pool, site(database))
    assert (tally.stored, tally.duplicates) == (2, 1)
    assert await stored(pool) == [("a1", "1"), ("a1", "2")]


async def test_a_fleet_that_was_held_is_released_at_once(pool: Pool, database: str) -> None:
    """What it takes goes by the letters, not by these times the devices."""
    await pool.execute(
        """
        WITH fleet AS (
            INSERT INTO devices (device_id) SELECT 'd' || n FROM generate_series(1, 20000) AS n RETURNING *
        )
        INSERT INTO dead_letters (received_at, topic, device_id, reason, error, payload)
        SELECT now(), 'devices/x/telemetry', device_id, 'unknown_device', '', '{"x": 1}' FROM fleet
        """
    )
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(5):
        tally = await release(pool, site(database), stop)
    assert (tally.selected, tally.stopped) == (20_000, True)
