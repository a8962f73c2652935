"""What came in an outage, drained: who is online, days, repeats, doors and letters, as if stored then."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from redis.asyncio import Redis

from contract.events import Event, decode_events, format_time
from gateway.bounds import turn_dedup
from gateway.dead_letters.release import release
from gateway.decode.dialects import complete_routes
from gateway.door import Door
from gateway.doorman import Doorman
from gateway.partitions import make_partitions
from gateway.registry import table
from gateway.registry.entry import Wish
from gateway.spool.entry import Kept, Record
from projector.views import Keys, Run, Views
from runtime.settings import Gateway, Postgres, Settings, load
from tests.integration.test_spool import drain, filled
from tests.support.write_side import write_side

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from tests.support.write_side import WriteSide

DAY = datetime(2026, 11, 23, tzinfo=UTC)
DIALECTS = json.dumps([{"dialect": "tasmota"}, {"dialect": "zigbee2mqtt"}])


def at(hours: float, *messages: tuple[str, bytes], kept: bool = False) -> Record:
    """Messages that came together, so many hours into the day."""
    deliveries = [Kept(topic, payload, 1, retain=kept) for topic, payload in messages]
    return Record((DAY + timedelta(hours=hours)).isoformat(), deliveries)


def told(device: str, word: str) -> tuple[str, bytes]:
    """What a broker says of a Tasmota."""
    return f"tele/{device}/LWT", word.encode()


def sent(device: str) -> tuple[str, bytes]:
    """What one sends by itself."""
    return f"tele/{device}/STATE", b'{"Uptime": "0T00:00:10"}'


def availability(device: str, state: str) -> tuple[str, bytes]:
    """What Zigbee2MQTT says of a device."""
    return f"zigbee2mqtt/{device}/availability", json.dumps({"state": state}).encode()


def reading(key: str, device: str = "a1") -> tuple[str, bytes]:
    """A message with a key, of the default route."""
    return f"devices/{device}/telemetry", json.dumps({"id": key, "x": 1}).encode()


async def outbox(side: WriteSide) -> list[Event]:
    rows = await side.pool.fetch("SELECT payload FROM outbox ORDER BY n")
    return [event for row in rows for event in decode_events(row["payload"])]


async def test_who_is_online_after_an_outage(database: str, redis_url: str, tmp_path: Path) -> None:
    """The newest word counts, in order of arrival, and a reading after it; with the times of then."""
    routes = load(environ={"EDGE_ROUTE": DIALECTS}, complete=complete_routes).route
    await filled(
        tmp_path / "before", [at(1, told("p1", "Online"), told("p2", "Offline"), told("p3", "Online"))]
    )
    await filled(
        tmp_path / "spool",
        [
            at(9, told("p1", "Offline"), sent("p2"), availability("z1", "online"), sent("mute")),
            at(9.5, told("gone", "Offline"), told("p3", "Offline"), kept=True),
        ],
        [
            at(10, told("p1", "Online"), told("p1", "Offline"), availability("z1", "offline")),
            at(11, availability("z1", "online"), sent("p3"), told("p1", "Offline")),
        ],
    )
    expected = {
        "p1": (False, "10:00:00.000001"),
        "p2": (True, "09:00:00.000001"),
        "p3": (True, "11:00:00.000001"),
        "z1": (True, "11:00:00.000000"),
        "gone": (False, "09:30:00.000000"),
    }
    async with write_side(database) as side:
        for folder in ("before", "spool"):
            await drain(side, tmp_path / folder, routes=routes)
            await side.store.write_sightings(side.devices.take_all())
        rows = await side.pool.fetch("SELECT * FROM devices")
        decided = await side.pool.fetch("SELECT * FROM device_presence")
        events = await outbox(side)
    in_table = {row["device_id"]: (row["online"], row["online_since"]) for row in rows}
    assert in_table.pop("mute") == (None, None)
    assert {
        id_: (online, since and f"{since:%T.%f}") for id_, (online, since) in in_table.items()
    } == expected
    assert {row["device_id"]: row["online"] for row in decided} == {
        id_: so for id_, (so, _) in expected.items()
    }
    assert [
        (event.device_id, event.online, event.online_since[11:16]) for event in events if event.online_since
    ] == [
        *(("p1", True, "01:00"), ("p2", False, "01:00"), ("p3", True, "01:00")),
        *(("p1", False, "09:00"), ("p2", True, "09:00"), ("z1", True, "09:00")),
        *(("gone", False, "09:30"), ("p3", False, "09:30")),
        *(("p1", True, "10:00"), ("p1", False, "10:00"), ("z1", False, "10:00")),
        *(("z1", True, "11:00"), ("p3", True, "11:00")),
    ]
    keys = Keys("p:")
    async with Redis.from_url(redis_url) as redis:
        await Views(redis, keys).apply(Run(0, "e", 1, 1, events), DAY + timedelta(hours=12))
        for id_, (online, since) in expected.items():
            asked = redis.hmget(f"p:device:stats:{id_}", ["online", "online_since"])
            found = await cast("Awaitable[list[bytes]]", asked)
            assert [each.decode() for each in found] == [str(online).lower(), f"2026-11-23T{since}Z"], id_


async def test_an_outage_over_midnight(database: str, tmp_path: Path) -> None:
    """What came yesterday is in yesterday's partition, and of before all partitions in the default one."""
    name = "devices/a1/telemetry"
    midnight = Record("2026-11-23T23:59:59.999999+00:00", [Kept(name, b'{"x": %d}' % n, 0) for n in (1, 2)])
    late = at(25, (name, b'{"x": 3, "ts": "2026-11-23T22:00:00Z"}'), (name, b"{"))
    await filled(tmp_path / "spool", [at(-10 * 24, (name, b'{"x": 0}'))], [midnight], [late])
    async with write_side(database) as side:
        async with side.pool.acquire() as connection:
            await make_partitions(connection, DAY + timedelta(hours=33), max_ahead=timedelta(0))
        ledger = await drain(side, tmp_path / "spool")
        rows = await side.pool.fetch(
            "SELECT tableoid::regclass::text AS part, ts, received_at FROM measurements ORDER BY received_at"
        )
        letter = await side.pool.fetchval("SELECT received_at FROM dead_letters")
    found = [
        (part.removeprefix("measurements_"), format_time(ts), format_time(at_)) for part, ts, at_ in rows
    ]
    assert found == [
        ("default", "2026-11-13T00:00:00.000000Z", "2026-11-13T00:00:00.000000Z"),
        ("p20261123", "2026-11-23T23:59:59.999999Z", "2026-11-23T23:59:59.999999Z"),
        ("p20261124", "2026-11-24T00:00:00.000000Z", "2026-11-24T00:00:00.000000Z"),
        ("p20261123", "2026-11-23T22:00:00.000000Z", "2026-11-24T01:00:00.000000Z"),
    ]
    assert format_time(letter) == "2026-11-24T01:00:00.000001Z"
    assert (ledger.committed, ledger.dead_lettered) == (4, 1)


async def test_an_outage_longer_than_the_dedup_window(database: str, tmp_path: Path) -> None:
    """What is in the spool twice is stored once, however old; what was stored before, by the window."""
    keys = ("old", "recent", "fresh", "new")
    await filled(tmp_path / "again", [at(1, *map(reading, keys))], [at(60, reading("new"))])
    async with write_side(database) as side:
        for key in keys[:-1]:
            await filled(tmp_path / key, [at(0, reading(key))])
            await drain(side, tmp_path / key)
            if key != "fresh":
                async with side.pool.acquire() as connection:
                    assert await turn_dedup(connection, timedelta(0))
        ledger = await drain(side, tmp_path / "again")
        events = await outbox(side)
        letters = await side.pool.fetchval("SELECT count(*) FROM dead_letters")
    assert [event.key for event in events] == ["old", "recent", "fresh", "old", "new"]
    assert (ledger.received, ledger.committed, ledger.duplicate, letters) == (5, 2, 3, 0)


async def test_who_is_not_known_in_an_outage(database: str, tmp_path: Path) -> None:
    """They are held as of when they came; once they are known they are stored, and online, as of then too."""
    routes = load(environ={"EDGE_ROUTE": DIALECTS}, complete=complete_routes).route
    await filled(
        tmp_path / "spool",
        [at(9, told("known", "Online"), told("new", "Online"))],
        [at(10, told("new", "Offline"), sent("known"))],
    )
    async with write_side(database) as side:
        await table.change(side.pool, [Wish("known", state="active")])
        door = Door(holds=True)
        await Doorman(door).look(side.pool)
        ledger = await drain(side, tmp_path / "spool", routes=routes, door=door)
        held = await side.pool.fetch("SELECT device_id, reason, received_at FROM dead_letters ORDER BY id")
        assert [(*row[:2], f"{row[2]:%T.%f}") for row in map(tuple, held)] == [
            ("new", "unknown_device", "09:00:00.000001"),
            ("new", "unknown_device", "10:00:00.000000"),
        ]
        assert (ledger.committed, ledger.dead_lettered) == (2, 2)
        await table.change(side.pool, [Wish("new", state="active")])
        settings = Settings(
            postgres=Postgres(dsn=database), gateway=Gateway(unknown_devices="hold"), route=routes
        )
        assert (await release(side.pool, settings)).stored == 2
        await side.store.write_sightings(side.devices.take_all())
        rows = await side.pool.fetch("SELECT device_id, online, online_since FROM devices ORDER BY device_id")
        stored = await side.pool.fetch(
            "SELECT received_at FROM measurements WHERE device_id = 'new' ORDER BY 1"
        )
    assert [(*row[:2], f"{row[2]:%T.%f}") for row in map(tuple, rows)] == [
        ("known", True, "09:00:00.000000"),
        ("new", False, "10:00:00.000000"),
    ]
    assert [row[0] for row in stored] == [row["received_at"] for row in held]
