"""Muted and retired devices and wrong clocks, between projectors, PostgreSQL and Redis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from contract.changes import decode_change
from contract.events import Event, format_time
from projector.devices import words
from projector.outbox import queries
from projector.watch import watcher as watcher_module
from projector.watch.care import Cares
from projector.watch.gauges import Gauges
from projector.watch.said import Watch
from projector.watch.watcher import Watcher
from runtime.errors import Stop
from runtime.http import Health

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from contract.changes import DeviceChange
    from projector.watch.care import What
    from runtime.mqtt import Message, Session

NOW = datetime.now(UTC).replace(microsecond=0)
START = int(NOW.timestamp())
MINUTE = 60


class Broker:
    """Takes what is published."""

    def __init__(self) -> None:
        self.taken: list[DeviceChange] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        """Take all."""
        self.taken += [decode_change(message.payload) for message in messages]


class Plant:
    """A database, a Redis, and projectors that nobody runs, which tell one broker."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], redis: Redis) -> None:
        self.pool = pool
        self.redis = redis
        self.broker = Broker()

    async def watcher(self) -> Watcher:
        """A projector's watch that has begun."""
        watcher = Watcher(
            self.redis,
            self.pool,
            cast("Session", self.broker),
            prefix="",
            topic="events",
            forget_after_s=None,
            health=Health(),
            gauges=Gauges(CollectorRegistry()),
            watch=Watch(),
            now=lambda: datetime.now(UTC),
            cares=Cares(),
        )
        await watcher.begin()
        await watcher._rows.catch_up()
        await watcher.load()
        return watcher

    async def know(self, *ids: str) -> None:
        """PostgreSQL has these devices."""
        await self.pool.executemany(
            "INSERT INTO devices VALUES ($1, 'north', now(), now())", [(id_,) for id_ in ids]
        )

    async def say(self, what: What, *ids: str, lasting: timedelta | None = None) -> list[str]:
        """Say something of devices; returns those that change."""
        said = await words.say(self.pool, what, ids, lasting=lasting, by="ann", reason="why")
        return [care.device_id for care in said]

    def told(self) -> list[tuple[str, str]]:
        """What was told since the last time."""
        told: list[tuple[str, str]] = [(change.device_id, change.state) for change in self.broker.taken]
        self.broker.taken.clear()
        return told


@pytest.fixture
async def plant(database: str, redis_url: str) -> AsyncIterator[Plant]:
    """A plant of which nothing is known yet."""
    async with (
        asyncpg.create_pool(database, min_size=1, max_size=4) as pool,
        Redis.from_url(redis_url) as redis,
    ):
        yield Plant(pool, redis)


def hear(watcher: Watcher, first: int, last: int, *ids: str, lag: int = 1) -> None:
    """Each minute these devices send a message each, by a clock that is behind by so many seconds."""
    for minute in range(first, last):
        at = START + minute * MINUTE
        ts = format_time(datetime.fromtimestamp(at - lag, UTC))
        watcher._hear(0, at, [Event(id_, "north", ts, "", "", {}) for id_ in ids])
        watcher._silence.turn()
        watcher._silence.learn({id_: [] for id_ in list(watcher._silence.unsure)})


async def test_a_mute_that_ended_while_no_projector_ran(plant: Plant) -> None:
    """The first that begins ends it and tells so, one of two; and what was said meanwhile is told then."""
    await plant.know("a", "b", "c")
    await plant.say("muted", "a", "b", lasting=timedelta(0))
    await plant.say("retired", "c")
    one, other = await plant.watcher(), await plant.watcher()
    assert not any(id_ in one._cares for id_ in "ab")
    for watcher in (one, other, one):
        await watcher.turn()
    ended, other_ended, retired = sorted(plant.broker.taken, key=lambda change: change.device_id)
    assert (ended.state, other_ended.state, retired.state) == ("unmuted", "unmuted", "retired")
    assert (ended.by, ended.reason, ended.until) == (None, "why", ended.at)
    assert (retired.by, retired.until) == ("ann", None)
    plant.told()
    again = await plant.watcher()
    await again.turn()
    assert plant.told() == []
    await plant.say("muted", "b", lasting=timedelta(0))
    await again.turn()
    assert plant.told() == [("b", "unmuted")]
    row = await plant.pool.fetchrow("SELECT what, said_by, reason FROM device_care WHERE device_id = 'a'")
    assert row is not None
    assert tuple(row) == ("expired", "ann", "why")


async def test_what_is_wrong_once_a_mute_is_over_is_told_by_one(plant: Plant) -> None:
    """Two projectors, of which one is a turn behind, and a Redis that was emptied meanwhile."""
    await plant.know("a", "b")
    one, other = await plant.watcher(), await plant.watcher()
    for watcher in (one, other):
        hear(watcher, 0, 60, "a", "b")
    await plant.say("muted", "a", lasting=timedelta(hours=1))
    await one.turn()
    for watcher in (one, other):
        await watcher.turn()
        hear(watcher, 60, 120, "b", lag=3600)
    assert plant.told() == [("a", "muted")]
    assert await plant.redis.hgetall("projector:care") == {b"a": b"muted"}
    for _ in range(watcher_module.WRITTEN_AGAIN):
        await one.turn()
        await other.turn()
    assert plant.told() == [("b", "clock_wrong")]
    await plant.redis.flushdb()
    for _ in range(watcher_module.WRITTEN_AGAIN):
        await one.turn()
        await other.turn()
    assert await plant.redis.hgetall("projector:care") == {b"a": b"muted"}
    assert await plant.redis.hkeys("projector:clocks") == [b"b"]
    assert await plant.redis.hkeys("projector:silent") == [b""]
    await plant.say("unmuted", "a")
    for watcher in (one, other, one, other):
        await watcher.turn()
    assert plant.told() == [("a", "unmuted"), ("a", "silent")]
    assert await plant.redis.hgetall("projector:care") == {}

    third = await plant.watcher()
    hear(third, 120, 180, "a", "b")
    hear(one, 120, 180, "a", "b")
    for watcher in (third, one):
        await watcher.turn()
    assert sorted(plant.told()) == [("a", "ok"), ("b", "clock_right")]


async def test_a_clock_found_wrong_while_redis_was_emptied_is_told(plant: Plant) -> None:
    """What waits to be told is not written down as told."""
    await plant.know("a", "b")
    one = await plant.watcher()
    hear(one, 0, 60, "a", "b")
    hear(one, 60, 120, "a", lag=3600)
    await plant.redis.flushdb()
    await one._write_again()
    assert await plant.redis.hgetall("projector:clocks") == {}
    await one.turn()
    assert ("a", "clock_wrong") in plant.told()


async def test_a_retired_device_that_sends_is_told_by_one(plant: Plant) -> None:
    """What was on its way when it was retired puts it not into service again; what came after does."""
    await plant.know("a", "b")
    one, other = await plant.watcher(), await plant.watcher()
    await plant.say("retired", "a")
    for watcher in (one, other):
        await watcher.turn()
    plant.told()
    for watcher in (one, other):
        hear(watcher, -60, -1, "a", "b")
        await watcher.turn()
    assert plant.told() == []
    for watcher in (one, other, one, other):
        hear(watcher, 5, 6, "a")
        await watcher.turn()
    assert plant.told() == [("a", "ok")]
    assert not one._cares.retired()
    assert not other._cares.retired()


async def test_words_are_said_of_all_or_none(plant: Plant) -> None:
    """One id that nobody knows, and nothing is changed; what changes nothing is not said again."""
    await plant.know("a", "b")
    with pytest.raises(Stop, match="'c'"):
        await plant.say("retired", "a", "c")
    assert await plant.pool.fetchval("SELECT count(*) FROM device_care") == 0
    assert await plant.say("retired", "a", "a") == ["a"]
    assert await plant.say("retired", "a", "b") == ["b"]
    with pytest.raises(Stop, match="'a', 'b': retired"):
        await plant.say("muted", "b", "a", lasting=timedelta(hours=1))
    assert await plant.say("unmuted", "a") == []
    assert await plant.say("unretired", "a", "b") == ["a", "b"]
    for _ in range(2):
        assert await plant.say("muted", "a", lasting=timedelta(hours=1)) == ["a"]
    assert await plant.say("unretired", "a") == [], "it is muted, and stays so"


async def test_a_version_is_never_passed_by(plant: Plant) -> None:
    """Who speaks waits for who has spoken and not committed, so a reader misses nobody's word."""
    await plant.know("a", "b")
    async with plant.pool.acquire() as first, plant.pool.acquire() as second:
        transaction = first.transaction()
        await transaction.start()
        await first.execute(queries.lock_care)
        await first.fetch(queries.say_care, ["a"], "retired", None, "ann", "")
        await second.execute("SET lock_timeout = '100ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            async with second.transaction():
                await second.execute(queries.lock_care)
        assert await plant.pool.fetch(queries.care_since, 0, 10) == [], "readers wait for nobody"
        await transaction.commit()
        await second.execute("RESET lock_timeout")
    await plant.say("retired", "b")
    versions = await plant.pool.fetch("SELECT version FROM device_care ORDER BY device_id")
    assert versions[0]["version"] < versions[1]["version"]
