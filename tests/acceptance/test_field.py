"""What the field sends, through real processes: what must come out, live and after a rebuild."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

NOON = 1_748_779_200  # 2025-06-01T12:00:00Z

ROUTES: list[dict[str, Any]] = [
    {"topic": "d/{device_id}"},
    {"topic": "s/{device_id}/{metric}"},
    {"topic": "p/{line}/unit_{device_id}/up", "timezone": "Europe/Berlin"},
    {"topic": "drop/{device_id}", "on_bad_field": "drop"},
    {"topic": "nokey/{device_id}", "key": ""},
    {"topic": "deep/{device_id...}", "clock": "prefer"},
    {"topic": "bridge/#", "ignore": True},
]

MESSAGES = [
    # values in an object, no key, one time
    ("d/box", b'{"ts":%d,"values":{"temperature":36.6,"ok":true}}' % NOON),
    ("d/box", b'{"ts":%d,"values":{"temperature":99.9}}' % NOON),
    # one key, another nested value
    ("d/same", b'{"id":1,"ts":%d,"data":[{"t":20.5}]}' % NOON),
    ("d/same", b'{"id":1,"ts":%d,"data":[{"t":91.5}]}' % NOON),
    # a constant id: where it is taken for a key, and where not
    *(("d/ble", b'{"id":"C4:7C","moist":%d}' % moist) for moist in (31, 32, 33)),
    *(("nokey/ble2", b'{"id":"C4:7C","moist":%d}' % moist) for moist in (31, 31, 32, 33)),
    # a topic a metric, with one value and time; a counter a topic
    *((f"s/room/{metric}", b'{"ts":%d,"value":17}' % NOON) for metric in ("temp", "hum", "co2")),
    *(
        (f"s/hall/{metric}", b'{"id":1,"value":%s}' % value)
        for metric, value in (("t", b"21.5"), ("h", b"44"))
    ),
    ("s/hall/on", b"true"),
    # ties: keys 9 and 10, an array, a burst without time
    ("d/lamp", b'{"id":9,"ts":%d,"state":"ON"}' % NOON),
    ("d/lamp", b'{"id":10,"ts":%d,"state":"OFF"}' % NOON),
    ("d/array", b'[{"v":5},{"v":6},{"v":7}]'),
    *(("d/burst", b'{"v":%d}' % v) for v in (9, 10, 2)),
    # a local time in the hour that comes twice
    *(("p/l1/unit_plug/up", b'{"time":"2024-10-27 02:%s:00","w":4}' % m) for m in (b"58", b"59", b"58")),
    # one bad field
    ("drop/bad", b'{"id":1,"t":19.5,"h":nan}'),
    ("drop/bad", b'{"id":2,"t":19.75,"iccid":89314400000000000019,"region":"","":5}'),
    # times, each of them the same instant
    *(
        ("d/times", b'{"ts":%s,"n":%d}' % (ts, n))
        for n, ts in enumerate(
            (
                b'"%d"' % NOON,
                b'"%d000"' % NOON,
                b'"2025/06/01 12:00:00"',
                b'"01.06.2025 12:00"',
                b'"Sun, 01 Jun 2025 12:00:00 +0000"',
                b'"2025-06-01t12:00:00z"',
                b'"2025-06-01T14:00:00+0200"',
            )
        )
    ),
    # a device of several levels, with a clock that is not set
    ("deep/a/b", b'{"id":1,"ts":12,"x":1}'),
    # a byte-order mark, an empty payload, what is ignored
    ("d/bom", b'\xef\xbb\xbf{"id":1}'),
    ("d/bom", b""),
    ("bridge/state", b"online"),
]

STORED: dict[str, list[Any]] = {
    "box": [{"values.temperature": 36.6, "values.ok": True}, {"values.temperature": 99.9}],
    "same": [{"data.0.t": 20.5}],
    "ble": [{"moist": 31}],
    "ble2": [{"id": "C4:7C", "moist": moist} for moist in (31, 31, 32, 33)],
    "room": [{"temp": 17}, {"hum": 17}, {"co2": 17}],
    "hall": [{"t": 21.5}, {"h": 44}, {"on": True}],
    "lamp": [{"state": "ON"}, {"state": "OFF"}],
    "array": [{"v": 5}, {"v": 6}, {"v": 7}],
    "burst": [{"v": 9}, {"v": 10}, {"v": 2}],
    "plug": [{"w": 4}] * 3,
    "bad": [{"t": 19.5}, {"t": 19.75, "iccid": "89314400000000000019"}],
    "times": [{"n": n} for n in range(7)],
    "a/b": [{"x": 1}],
}
LETTERS = {("bom", "malformed_json"): 1, ("ble", "conflict"): 2, ("same", "conflict"): 1}
LAST = {
    ("box", "last_values.temperature"): "99.9",
    ("lamp", "last_state"): "OFF",
    ("array", "last_v"): "7",
    ("burst", "last_v"): "2",
    ("times", "last_n"): "6",
    ("times", "last_seen"): "2025-06-01T12:00:00.000000Z",
    ("room", "last_co2"): "17",
    ("hall", "last_on"): "1",
    ("plug", "tag_line"): "l1",
    ("plug", "last_seen"): "2024-10-27T01:58:00.000000Z",
    ("bad", "last_iccid"): "89314400000000000019",
    ("a/b", "tag_claimed_ts"): "12",
}


@pytest.fixture
async def postgres(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to this test's database."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def last_values(redis_url: str) -> dict[tuple[str, str], str | bytes | None]:
    """What the views hold of `LAST`."""
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        return {(device, name): await redis.hget(f"device:stats:{device}", name) for device, name in LAST}


async def test_every_shape_comes_out_as_it_was_meant(
    run_command: Run,
    postgres: asyncpg.Connection[asyncpg.Record],
    settings: Settings,
    redis_url: str,
    broker_port: int,
    unique: str,
) -> None:
    """No value lost, no two readings taken for one, the newest is the newest; the same after a rebuild."""
    routes = json.dumps([{**route, "topic": f"{unique}/{route['topic']}"} for route in ROUTES])
    gateway = await run_command("gateway", "run", "--log-level", "debug", EDGE_ROUTE=routes)
    await gateway.event("subscriptions_remembered")
    projector = await run_command("projector", "run", "--log-level", "debug")
    await projector.event("connected")
    await publish(broker_port, [(f"{unique}/{topic}", payload) for topic, payload in MESSAGES])
    warned = await gateway.event("key_never_changes")
    assert (warned["device"], warned["route"], warned["add"]) == (
        "ble",
        f"{unique}/d/{{device_id}}",
        'key = ""',
    )
    assert (await gateway.event("field_dropped", field="h"))["reason"] == "malformed_json"

    stored, refused = sum(map(len, STORED.values())), sum(LETTERS.values())
    await projector.total("run_applied", stored, "events")
    assert await gateway.terminate() == 0
    assert gateway.stdout[-1].startswith(
        f"received={stored + refused} committed={stored} duplicate=0 dead_lettered={refused} in_flight=0 "
    )

    rows: dict[str, list[Any]] = {}
    for row in await postgres.fetch("SELECT device_id, metrics FROM measurements ORDER BY received_at"):
        rows.setdefault(row["device_id"], []).append(json.loads(row["metrics"]))
    assert rows == STORED
    letters = await postgres.fetch("SELECT device_id, reason, count(*) FROM dead_letters GROUP BY 1, 2")
    assert {(row["device_id"], row["reason"]): row["count"] for row in letters} == LETTERS
    times = await postgres.fetch("SELECT ts FROM measurements WHERE device_id = 'plug' ORDER BY received_at")
    assert [row["ts"].isoformat() for row in times] == [
        "2024-10-27T00:58:00+00:00",
        "2024-10-27T00:59:00+00:00",
        "2024-10-27T01:58:00+00:00",
    ]

    assert await last_values(redis_url) == LAST
    async with httpx.AsyncClient(base_url=f"http://{settings.projector.http}") as client:
        answer = (await client.get("/devices/a%2Fb/stats")).json()
        assert (answer["device_id"], answer["tags"]) == ("a/b", {"claimed_ts": "12"})
        assert (await client.get("/live/devices/a%2Fb")).json()["row"]["id"] == "a/b"
    assert await projector.terminate() == 0
    for command in ("verify", "rebuild", "verify"):
        asked = await run_command("projector", command, "--json")
        assert await asked.exit_code(60) == 0, "\n".join(asked.output)
    assert await last_values(redis_url) == LAST
