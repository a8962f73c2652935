"""Silence told by real projectors: once, in the log, on the topic of devices and by gauges."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from contract.changes import DeviceChange, decode_change
from contract.events import Event, format_time
from contract.topics import devices_topic
from projector.outbox import queries
from runtime.mqtt import MqttSession, Subscription, options_from
from tests.support.committed import Committed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    RunCommand = Callable[..., Awaitable[RunningCommand]]

START = datetime(2026, 11, 23, 9, tzinfo=UTC)
SECOND = {"EDGE_PROJECTOR_HTTP": "127.0.0.1:0"}


class Site(Committed):
    """What gateways committed, and what is told of devices."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], session: MqttSession) -> None:
        super().__init__(pool)
        self._session = session

    async def minutes(self, first: int, last: int, *devices: str, stream: int = 0) -> None:
        """Each minute these devices send a message each."""
        for minute in range(first, last):
            at = format_time(START + timedelta(minutes=minute))
            await self.commit(
                *(Event(id_, "north", at, at, f"{minute}", {"x": minute}) for id_ in devices), stream=stream
            )
        await self.pool.executemany(
            """INSERT INTO devices VALUES ($1, 'north', $2, $3)
            ON CONFLICT (device_id) DO UPDATE SET last_seen = excluded.last_seen""",
            [(id_, START, START + timedelta(minutes=last - 1)) for id_ in devices],
        )

    async def told(self, count: int) -> list[DeviceChange]:
        """Wait for so many messages; there must be no more that came with them."""
        found: list[DeviceChange] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                chunk = await self._session.receive()
                found += [decode_change(delivery.payload) for delivery in chunk.deliveries]
                chunk.ack()
        assert len(found) == count
        return found


@pytest.fixture
async def site(settings: Settings) -> AsyncIterator[Site]:
    """A database, and a session that hears what is told of devices."""
    subscription = Subscription(devices_topic(settings.events.topic))
    broker = settings.events_broker(f"{settings.broker.client_id}-hears")
    options = options_from(broker, subscriptions=[subscription], clean_start=True)
    async with (
        asyncpg.create_pool(settings.postgres.dsn, min_size=1, max_size=2) as pool,
        MqttSession(options) as session,
    ):
        await session.connected()
        yield Site(pool, session)


@asynccontextmanager
async def projectors(run_command: RunCommand, *environments: dict[str, str]) -> AsyncIterator[None]:
    """Projectors that watch; they end as they should, and find nothing undecodable."""
    running = [await run_command("projector", "run", "--log-level", "debug", **each) for each in environments]
    for each in running:
        await each.event("watch_begins")
        await each.event("connected")
    yield
    for each in running:
        assert await each.terminate() == 0
        assert not [line for line in each.events if line["event"] == "event_batch_undecodable"]


async def gauge(settings: Settings, line: str) -> None:
    """Wait until a projector's metrics have a line."""
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(20):
        while line not in (await client.get(f"http://{settings.projector.http}/metrics")).text.splitlines():  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.1)


async def test_silence_and_return_are_told_once(
    run_command: RunCommand, site: Site, settings: Settings, redis_url: str
) -> None:
    """By one of two projectors, and not again by those that come after them."""
    await site.minutes(-20, 0, "a", "b", "dead")
    async with projectors(run_command, {}, SECOND):
        await site.minutes(0, 20, "a", "b")
        await site.minutes(20, 30, "b")
        await site.minutes(30, 31, "b", "marks")
        (change,) = await site.told(1)
        assert change == DeviceChange(
            1, "a", "north", "silent", change.at, format_time(START + timedelta(minutes=19)), 60
        )
        assert (
            START + timedelta(minutes=22) < datetime.fromisoformat(change.at) <= START + timedelta(minutes=30)
        )
        await gauge(settings, 'projector_devices{region="north",state="silent"} 2.0')
        await gauge(settings, 'projector_devices{region="north",state="ok"} 2.0')
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        silent = await redis.hgetall("projector:silent")
    assert set(silent) == {"", "a", "dead"}, "who was silent before anybody watched is no news"

    async with projectors(run_command, {}, SECOND):
        await site.minutes(31, 41, "b")
        await site.minutes(41, 44, "a", "b")
        (back,) = await site.told(1)
        assert (back.device_id, back.state) == ("a", "ok")
        assert back.at == back.heard_at in {format_time(START + timedelta(minutes=n)) for n in (41, 42)}
        await gauge(settings, 'projector_devices{region="north",state="silent"} 1.0')


async def test_what_another_projector_gave_the_views_is_heard(
    run_command: RunCommand, site: Site, settings: Settings
) -> None:
    """Nobody is called silent because the views were rebuilt or another projector was faster."""
    async with projectors(run_command, {}, SECOND, SECOND):
        for minute in range(0, 60, 2):
            await site.minutes(minute, minute + 1, "a", "b")
            await site.minutes(minute + 1, minute + 2, "b", "a", stream=1)
            if minute == 30:
                async with Redis.from_url(settings.redis.url) as redis:
                    await redis.delete("projector:cursor")
        await site.minutes(60, 70, "b", stream=1)
        (change,) = await site.told(1)
        assert (change.device_id, change.state) == ("a", "silent")


async def test_what_is_asked_of_a_device_is_bounded(site: Site) -> None:
    """Its newest messages are read from the newest back along the index, not a month to be sorted."""
    await site.minutes(0, 30, "a", "b")
    async with site.pool.acquire() as connection:
        await connection.execute("SELECT create_measurement_partitions('2026-11-20', '2026-11-25')")
        await connection.execute("ANALYZE")
        async with connection.transaction(readonly=True):
            await connection.execute(queries.walk_backwards)
            plan = "\n".join(
                row[0] for row in await connection.fetch(f"EXPLAIN {queries.newest_arrivals}", ["a", "c"])
            )
            ((device, arrivals),) = await connection.fetch(queries.newest_arrivals, ["a", "c"])
    assert "Index Scan Backward" in plan
    assert not re.search(r"Sort  |Seq Scan on measurements|Bitmap", plan), plan
    assert (device, len(arrivals), arrivals[1] - arrivals[0]) == ("a", 30, 60)
