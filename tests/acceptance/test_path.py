"""From a stock client's message to a row, a hash and an answer over HTTP, through real processes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import asyncpg
import httpx
from redis.asyncio import Redis

from tests.faults.watch import until
from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

STATISTICS = ("last", "min", "max", "avg", "sum", "count")


async def test_a_message_becomes_a_row_and_a_hash(
    run_command: Callable[..., Awaitable[RunningCommand]],
    settings: Settings,
    database: str,
    redis_url: str,
    broker_port: int,
    topic_prefix: str,
) -> None:
    """The documented example is a row, both hashes with their documented fields, and a JSON answer."""
    gateway = await run_command("gateway", "run", "--log-level", "debug")
    await gateway.event("connected", client_id=settings.broker.client_id)
    projector = await run_command("projector", "run", "--log-level", "debug")
    await projector.event("connected")
    message = {"id": "a1-000017", "ts": "2025-06-01T04:00:00.250Z", "region": "north", "temperature": 21.5}
    topic = f"{topic_prefix}/a1/telemetry"
    await publish(broker_port, [(topic, json.dumps(message).encode())])
    await projector.event("run_applied", events=1)

    connection = await asyncpg.connect(database)
    row = await connection.fetchrow("SELECT * FROM measurements")
    assert row is not None
    assert list(row.keys()) == ["device_id", "ts", "received_at", "message_key", "region", "metrics", "tags"]
    assert (row["device_id"], row["message_key"], row["region"]) == ("a1", "a1-000017", "north")

    async def ask() -> str:  # it is written with the gateway's next turn
        same = await connection.fetchval("SELECT first_seen = last_seen FROM devices WHERE region = 'north'")
        return "" if same else f"devices: {same}"

    await until(ask, within_s=20)

    metric = {f"{name}_temperature" for name in STATISTICS}
    common = {"region", "last_seen", "last_seen_ms", "updated_at", "updated_ms", "sample_count"}
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        device = await redis.hgetall("device:stats:a1")
        region = await redis.hgetall("region:stats:north")
        assert await redis.zrange("devices:last_seen", 0, -1, withscores=True) == [("a1", 1748750400250)]
        assert await redis.hgetall("projector:cursor") == {"0": "1"}
    assert set(device) == common | {"device_id"} | metric
    assert set(region) == common | {"device_count"} | metric
    assert device["last_seen"] == "2025-06-01T04:00:00.250000Z"
    assert device["last_temperature"] == "21.5"
    assert region["device_count"] == "1"

    async with httpx.AsyncClient(base_url=f"http://{settings.projector.http}") as client:
        answer = (await client.get("/devices/a1/stats")).json()
        assert answer["metrics"]["temperature"]["avg"] == 21.5
        missing = await client.get("/devices/b2/stats")
        assert missing.status_code == 404
        assert missing.headers["content-type"] == "application/problem+json"
        stranger = await client.get("/devices", headers={"host": "a-name-of-theirs.example"})
        assert (stranger.status_code, "projector.hosts" in stranger.json()["detail"]) == (421, True)
        async with Redis.from_url(redis_url) as redis:
            await redis.hset("projector:epoch", "unfinished", 1)
            anew = await client.get("/devices/b2/stats")
        assert (anew.status_code, anew.headers["retry-after"]) == (503, "5")
        async with asyncio.timeout(20):
            for path in ("/devices", "/readyz"):
                while (await client.get(path)).status_code != 200:  # noqa: ASYNC110  # until it is made anew
                    await asyncio.sleep(0.2)

    assert await projector.terminate() == 0
    assert await gateway.terminate() == 0
    assert gateway.stdout == [
        "received=1 committed=1 duplicate=0 dead_lettered=0 in_flight=0 spooled=0 projected=1"
    ]
    assert await connection.fetchval("SELECT n FROM projections WHERE projection = 'redis'") == 1
    await connection.close()
