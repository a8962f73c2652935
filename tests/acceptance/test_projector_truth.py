"""`projector verify` and `projector rebuild` on a live system: real processes, real load, real damage."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from redis.asyncio import Redis

from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    RunCommand = Callable[..., Awaitable[RunningCommand]]

LOAD = ("--rate", "1500", "--devices", "60", "--duplicates", "0.1", "--late", "0.1", "--garbage", "0.05")
LOCK = "projector:lock:rebuild"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the views' Redis."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


async def ask(run_command: RunCommand, command: str, exit_code: int = 0) -> dict[str, Any]:
    """Run `projector verify` or `projector rebuild` to its end; returns what it printed."""
    running = await run_command("projector", command, "--json")
    code = await running.exit_code(60)
    assert code == exit_code, "\n".join(running.output)
    answer: dict[str, Any] = json.loads(running.stdout[-1])
    return answer


async def plant_drift(database: str) -> None:
    """Put a minute into history that nothing was measured in."""
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            """INSERT INTO open_minutes
            VALUES ('ghost', 't', date_trunc('minute', now()), NULL, NULL, 1, 1, 1, 1)"""
        )
    finally:
        await connection.close()


@pytest.mark.full
async def test_damage_is_found_and_mended_under_load(
    run_command: RunCommand, redis: Redis, *, database: str, broker_port: int, topic_prefix: str
) -> None:
    """While messages pour in: equal; damaged by hand, exactly that is reported; rebuilt, equal again."""
    gateway = await run_command("gateway", "run")
    await gateway.event("connected")
    projector = await run_command("projector", "run", "--log-level", "debug")
    await projector.event("connected")
    await publish(
        broker_port,
        [
            (f"{topic_prefix}/{device}/telemetry", json.dumps({"id": n, "region": "lab", "t": n}).encode())
            for device in ("quiet-a", "quiet-b", "quiet-c")
            for n in range(5)
        ],
    )
    load = await run_command("gateway", "simulate", *LOAD, "--seconds", "600", "--quiet")
    await projector.event("run_applied", skip=5)

    equal = await ask(run_command, "verify")
    assert (equal["equal"], equal["differences"]) == (True, [])
    assert (equal["history"]["equal"], equal["history"]["differences"]) == (True, [])
    assert equal["events"] > 15

    await redis.hset("device:stats:quiet-a", "sum_t", "11")
    await redis.delete("device:stats:quiet-b")
    await redis.hset("device:stats:alien", "sample_count", "1")
    await plant_drift(database)
    damaged = await ask(run_command, "verify", exit_code=1)
    found = {(d["kind"], d["key"], d["field"], d["found"]) for d in damaged["differences"]}
    assert found == {
        ("differs", "device:stats:quiet-a", "sum_t", "11"),
        ("missing", "device:stats:quiet-b", None, None),
        ("extra", "device:stats:alien", None, "a hash of 1 fields"),
    }

    assert [(d["key"].split()[:2], d["field"]) for d in damaged["history"]["differences"]] == [
        (["measurements_1m", "ghost"], None)
    ]

    killed = await run_command("projector", "rebuild", FAULT_POINTS="rebuild:1")
    assert await killed.exit_code() == -signal.SIGKILL
    assert await redis.hget("device:stats:quiet-a", "sum_t") == "11", "the old values until there are new"
    assert 0 < await redis.pttl(LOCK) <= 15_000
    await redis.delete(LOCK)  # what its expiry would do

    rebuilt = await ask(run_command, "rebuild")
    assert rebuilt["events"] >= equal["events"]
    assert (await ask(run_command, "verify"))["equal"]
    assert await redis.hget("device:stats:quiet-b", "sum_t") == "10"

    load.signal(signal.SIGTERM)
    await load.exit_code()
    assert await gateway.terminate() == 0
    last = await ask(run_command, "verify")  # which waits until the views have everything
    assert (last["equal"], last["cursors"]) == (
        True,
        {"0": int(await redis.hget("projector:cursor", "0") or 0)},
    )
    assert await redis.keys("projector:verify:*") == await redis.keys("projector:rebuild:*") == []
    assert await projector.terminate() == 0


@pytest.mark.full
async def test_two_projectors_and_a_rebuild_count_once(
    run_command: RunCommand, redis: Redis, database: str
) -> None:
    """Two projectors under load, one killed and replaced, the views rebuilt and flushed: all counted once."""
    gateway = await run_command("gateway", "run")
    await gateway.event("connected")

    async def another() -> RunningCommand:
        projector = await run_command(
            "projector", "run", "--log-level", "debug", EDGE_PROJECTOR_HTTP="127.0.0.1:0"
        )
        await projector.event("connected")
        return projector

    first, second = await another(), await another()
    load = await run_command("gateway", "simulate", *LOAD, "--seconds", "600", "--quiet")
    await asyncio.gather(first.event("stream_found"), second.event("stream_found"))
    await ask(run_command, "rebuild")
    await first.kill()
    await ask(run_command, "rebuild")
    first = await another()
    connection = await asyncpg.connect(database)
    await connection.execute("DELETE FROM outbox WHERE n < 5")
    await redis.flushdb()
    tasks = [asyncio.create_task(each.event("rebuild_finished")) for each in (first, second)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    load.signal(signal.SIGTERM)
    await load.exit_code()

    assert await gateway.terminate() == 0
    assert (await ask(run_command, "verify"))["equal"]  # which waits until the views have everything
    stored = await connection.fetchval("SELECT count(*) FROM measurements")
    await connection.close()
    devices = await redis.zrange("devices:last_seen", 0, -1)
    counted = [await redis.hget(f"device:stats:{device!s}", "sample_count") for device in devices]
    assert sum(int(count or 0) for count in counted) == stored > 0
    for projector in (first, second):
        assert await projector.terminate() == 0


async def test_a_stream_that_the_database_does_not_have(
    run_command: Callable[..., Awaitable[RunningCommand]], redis_url: str
) -> None:
    """Redis of another database: the projector rebuilds the views instead of reporting what is not there."""
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        await redis.hset("projector:cursor", "7", "5")
        await redis.hset("projector:epoch", "7", "00000000-0000-4000-8000-000000000000")
        projector = await run_command("projector", "run")
        await projector.event("rebuild_finished")
        assert await redis.hgetall("projector:cursor") == {}
    assert await projector.terminate() == 0, "\n".join(projector.output)


async def test_a_foreign_value_is_named(
    run_command: Callable[..., Awaitable[RunningCommand]],
    settings: Settings,
    redis_url: str,
    broker_port: int,
    topic_prefix: str,
) -> None:
    """What keeps the views from being written is in the log, with its key, and the wait ends with it."""
    gateway = await run_command("gateway", "run")
    await gateway.event("connected", client_id=settings.broker.client_id)
    projector = await run_command("projector", "run", "--log-level", "debug")
    await projector.event("connected")
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        await redis.set("device:stats:z2", "mine")
        await publish(broker_port, [(f"{topic_prefix}/z2/telemetry", b'{"id":"1","x":1}')])
        waiting = await projector.event("waiting", what="redis")
        assert "device:stats:z2" in waiting["reason"]
        await redis.delete("device:stats:z2")
        await projector.event("run_applied")
        await projector.event("available", what="redis")
    assert await projector.terminate() == 0
    assert await gateway.terminate() == 0
