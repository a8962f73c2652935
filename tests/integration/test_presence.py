"""What messages say of devices being online, as PostgreSQL decides it with them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pytest

from contract.events import RawEvent, decode_events, format_time
from gateway import presence, store, transaction
from gateway.decode import Reading
from gateway.presence import Presence
from tests.support.write_side import write_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.write_side import WriteSide

What = Literal["online", "offline", "nothing"]

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
async def side(database: str) -> AsyncIterator[WriteSide]:
    """A store on this test's database."""
    async with write_side(database) as made:
        yield made


def said(
    what: What, at: float, ts: float | None = None, *, device: str = "a1", kept: bool = False
) -> Reading:
    """A message that arrives so many minutes after noon, with a device time or that of arrival."""
    online = {"online": True, "offline": False}.get(what)
    arrived = format_time(NOON + timedelta(minutes=at))
    own = arrived if ts is None else format_time(NOON + timedelta(minutes=ts))
    key = f"{device}-{at}-{what}"
    metrics = b"{}" if online is None else msgspec.json.encode({"online": online})
    event = RawEvent(device, None, own, arrived, key, msgspec.Raw(metrics), None, online)
    line = f"{own}\t{device}\t{key}\t\\N\t{metrics.decode()}\t\\N\t{arrived}\n"
    return Reading(event, f"{device}\x1f{key}", line, keyed=True, topic="t", raw=metrics, kept=kept)


async def known(side: WriteSide, device: str = "a1") -> tuple[bool, float] | None:
    """Whether `devices` says that it is online, and since how many minutes after noon."""
    row = await side.pool.fetchrow(
        "SELECT online, online_since FROM devices WHERE device_id = $1 AND online IS NOT NULL", device
    )
    return None if row is None else (row["online"], (row["online_since"] - NOON).total_seconds() / 60)


async def write(side: WriteSide, *readings: Reading) -> None:
    await side.store.commit(list(readings), [])
    await side.store.write_sightings(side.devices.take_all())


async def events(side: WriteSide) -> list[tuple[bool | None, str | None]]:
    rows = await side.pool.fetch("SELECT payload FROM outbox ORDER BY n")
    return [
        (event.online, event.online_since and event.online_since[11:16])
        for row in rows
        for event in decode_events(row["payload"])
    ]


async def test_what_is_said_in_order(side: WriteSide) -> None:
    """Online, offline and online again have the times at which they were said; a reading says nothing."""
    await write(side, said("nothing", 0))
    assert await known(side) is None
    await write(side, said("online", 1))
    assert await known(side) == (True, 1)
    await write(side, said("offline", 4), said("nothing", 5, device="b2"))
    assert await known(side) == (False, 4)
    assert await known(side, "b2") is None
    await write(side, said("online", 6))
    assert await known(side) == (True, 6)
    assert await events(side) == [
        (None, None),
        (True, "12:01"),
        (False, "12:04"),
        (None, None),
        (True, "12:06"),
    ]


async def test_repeats_and_late_ones_change_nothing(side: WriteSide) -> None:
    """What was said already, copies that a broker kept, and what is older than the newest move no time."""
    await write(side, said("online", 1), said("online", 2), said("offline", 4))
    await write(side, said("offline", 5), said("online", 6, ts=3), said("offline", 7))
    assert await known(side) == (False, 4)
    assert [since for _, since in await events(side)] == ["12:01", None, "12:04", None, None, None]


async def test_a_device_that_sends_after_all(side: WriteSide) -> None:
    """A reading brings a device back that said it is offline, with its time; one that is older does not."""
    await write(side, said("offline", 4))
    await write(side, said("nothing", 5, ts=3.5))
    assert await known(side) == (False, 4)
    await write(side, said("nothing", 6, ts=5), said("nothing", 7))
    assert await known(side) == (True, 5)
    await write(side, said("offline", 8, ts=4.5))
    assert await known(side) == (True, 5)
    await write(side, said("offline", 9), said("nothing", 9.5), said("offline", 10))
    assert await known(side) == (False, 10)
    assert [each for each in await events(side) if each[1]] == [
        (False, "12:04"),
        (True, "12:05"),
        (False, "12:09"),
        (True, "12:09"),
        (False, "12:10"),
    ]


async def test_what_a_broker_had_kept(side: WriteSide) -> None:
    """A copy tells of who was not known, of what was said meanwhile; it moves nothing and revives nobody."""
    await write(side, said("offline", 1, kept=True), said("nothing", 2, kept=True))
    assert await known(side) == (False, 1)
    await write(side, said("offline", 4, kept=True), said("nothing", 5, ts=3))
    assert await known(side) == (True, 3)
    await write(side, said("offline", 6, kept=True), said("nothing", 7))
    assert await known(side) == (True, 3), "nobody said since that it is online: the copy is of before"
    await write(side, said("offline", 8), said("online", 9, kept=True))
    assert await known(side) == (True, 9)
    await write(side, said("offline", 10, kept=True))
    assert await known(side) == (False, 10)


async def test_a_copy_and_a_reading_of_one_batch(side: WriteSide) -> None:
    """Who was not known, or online by its word, is online by a reading after the copy of its will."""
    await write(side, said("offline", 1, kept=True), said("nothing", 2))
    assert await known(side) == (True, 2)
    await write(side, said("online", 3), said("offline", 4, kept=True), said("nothing", 5))
    assert await known(side) == (True, 5)


async def test_a_device_that_others_brought_back_is_not_asked_about(database: str, side: WriteSide) -> None:
    """One question tells that it is online; else its every reading would cost one for good."""
    await write(side, said("offline", 1))
    async with write_side(database, stream=1) as other:
        await write(other, said("online", 2))
    await write(side, said("nothing", 3))
    assert side.store._presence._offline == {}


async def test_a_clock_that_is_ahead_keeps_no_device_online(side: WriteSide) -> None:
    """Of a device whose clock is ahead a will is believed: nothing is said later than it arrives."""
    await write(side, said("online", 1, ts=30))
    await write(side, said("offline", 2))
    assert await known(side) == (False, 2)
    await write(side, said("nothing", 3, ts=40))
    assert await known(side) == (True, 3)
    await write(side, said("offline", 4))
    assert await known(side) == (False, 4)


async def test_a_return_that_another_gateway_hears(database: str, side: WriteSide) -> None:
    """A gateway that has not stored what a device said learns of it with a sighting."""
    await write(side, said("offline", 1))
    async with write_side(database, stream=1) as other:
        await write(other, said("nothing", 2))
        assert await known(other) == (False, 1)
        await write(other, said("nothing", 3))
        assert await known(other) == (True, 3)


async def test_devices_that_are_offline_at_a_start(side: WriteSide) -> None:
    """A gateway that begins anew tells of a return with the first reading."""
    await write(side, said("offline", 1), said("online", 1, device="b2"))
    rows = await side.pool.fetch("SELECT device_id, said_at FROM device_presence WHERE NOT online")
    assert [row["device_id"] for row in rows] == ["a1"]
    anew = Presence(told=False)
    anew.learn([("a1", format_time(rows[0]["said_at"]))])
    side.store._presence = anew
    await write(side, said("nothing", 2))
    assert await known(side) == (True, 2)


async def test_a_row_of_devices_that_somebody_holds(side: WriteSide) -> None:
    """It holds up no batch, and has what was said once it is free."""
    await write(side, said("online", 1))
    async with side.pool.acquire() as stranger:
        holding = stranger.transaction()
        await holding.start()
        await stranger.execute("SELECT FROM devices WHERE device_id = 'a1' FOR UPDATE")
        await asyncio.wait_for(side.store.commit([said("offline", 2)], []), 10)
        await asyncio.wait_for(side.store.write_sightings(side.devices.take_all()), 10)
        assert await known(side) == (True, 1)
        await holding.rollback()
    await side.store.write_sightings(side.devices.take_all())
    assert await known(side) == (False, 2)


async def test_a_row_that_somebody_held_while_two_things_were_said_of_one_time(side: WriteSide) -> None:
    """It has the newer one in the end, also where both are so since the same second."""
    await write(side, said("online", 1, ts=1))
    async with side.pool.acquire() as stranger, stranger.transaction():
        await stranger.execute("SELECT FROM devices WHERE device_id = 'a1' FOR UPDATE")
        await side.store.commit([said("offline", 2, ts=1)], [])
    await side.store.write_sightings(side.devices.take_all())
    assert await known(side) == (False, 1)


async def test_no_batch_reads_what_is_known_of_all_devices(side: WriteSide) -> None:
    """Devices are looked up one by one, however many there are: wills of all come when a broker restarts."""
    ids = [f"d{i}" for i in range(100)]
    await write(side, *(said("nothing", 0, device=each) for each in ids))
    scans = "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE relname = ANY ($1)"
    async with side.pool.acquire() as connection, connection.transaction():
        await Presence().note(connection, [said("offline", 1, device=each) for each in ids])
        await connection.execute("UPDATE devices SET online_since = NULL")
        before = await connection.fetchval(scans, ["devices"], column=1)
        assert len(await connection.fetch(presence.queries.mirror_presence, ids)) == len(ids)
        found = await connection.fetch(scans, ["devices", "device_presence"])
    assert dict(map(tuple, found)) == {"devices": before, "device_presence": 0}
    assert before <= 1, "of the statement above"


async def test_what_a_whole_fleet_says_at_once(side: WriteSide, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it costs to bring it to `devices` is by the device; who is held, or not done, is written later."""
    monkeypatch.setattr(store, "_AT_ONCE", 40)
    ids = [f"d{i}" for i in range(100)]
    await side.store.commit([said("online", 1, device=each) for each in ids], [])
    async with side.pool.acquire() as stranger, stranger.transaction():
        await stranger.execute("INSERT INTO devices (device_id) VALUES ('d99')")
        writing = asyncio.create_task(side.store.write_sightings(side.devices.take_all()))
        async with asyncio.timeout(20):
            while await side.pool.fetchval("SELECT count(*) FROM devices WHERE online") < 80:
                pass
        writing.cancel()  # it waits for who adds a device
        await asyncio.wait([writing])
    await side.store.write_sightings(side.devices.take_all())
    assert await side.pool.fetchval("SELECT count(*) FROM devices WHERE online") == 100
    async with side.pool.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE devices SET online_since = NULL")
        explained = "EXPLAIN (ANALYZE, FORMAT JSON) " + presence.queries.mirror_presence
        (plan,) = json.loads(await connection.fetchval(explained, ids))
    assert _removed(plan["Plan"]) == 0, "pairs were looked at that do not belong together"


def _removed(plan: dict[str, Any]) -> int:
    """Rows that the joins of a plan have looked at for nothing."""
    return int(plan.get("Rows Removed by Join Filter", 0)) + sum(map(_removed, plan.get("Plans", [])))


async def test_two_gateways_at_once(database: str, side: WriteSide) -> None:
    """Statements on the same devices in two streams, in opposite orders: the newest counts."""
    devices = [f"d{i}" for i in range(50)]
    async with write_side(database, stream=1) as other:
        sides: list[tuple[WriteSide, What, list[str]]] = [
            (side, "online", devices),
            (other, "offline", devices[::-1]),
        ]
        await asyncio.gather(
            *(
                each.store.commit(
                    [said(what, at + i / 100, device=device) for i, device in enumerate(order)], []
                )
                for at in range(5)
                for each, what, order in sides
            )
        )
    rows = await side.pool.fetch(
        "SELECT DISTINCT ON (device_id) device_id, metrics->>'online' AS said FROM measurements"
        " ORDER BY device_id, received_at DESC"
    )
    decided = await side.pool.fetch("SELECT device_id, online FROM device_presence")
    assert {row["device_id"]: row["online"] for row in decided} == {
        row["device_id"]: row["said"] == "true" for row in rows
    }


async def test_a_batch_that_is_written_again(side: WriteSide, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an attempt that failed had decided is decided anew, and said once."""
    side.store.in_one_call = lambda _: False
    append, attempts = transaction.append, 0

    async def failing(*arguments: object) -> object:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise transaction.AppendRefused
        return await append(*arguments)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(transaction, "append", failing)
    await write(side, said("offline", 1), said("nothing", 2))
    assert attempts == 2
    assert await known(side) == (True, 2)
    assert await events(side) == [(False, "12:01"), (True, "12:02")]
