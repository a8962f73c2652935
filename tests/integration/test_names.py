"""What people say devices are, followed in PostgreSQL and copied to Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from redis.asyncio import Redis

from projector.names.book import NOBODY, Known, Names
from projector.names.reader import NAMES, Reader, read_known
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from tests.support.roles import Pools

    Pool = asyncpg.Pool[asyncpg.Record]


class Site:
    """A reader on this test's PostgreSQL and Redis, whose time stands."""

    def __init__(self, pools: Pools, redis: Redis) -> None:
        self.pool = pools.owner
        self.redis = redis
        self.now = 0.0
        self.names = Names()
        self.reader = Reader(redis, pools.projector, "edge:", self.names, monotonic=lambda: self.now)

    async def say(self, device_id: str, **columns: object) -> None:
        """Put something about a device into the table."""
        await self.pool.execute(
            "INSERT INTO devices (device_id) VALUES ($1) ON CONFLICT DO NOTHING", device_id
        )
        for name, value in columns.items():
            await self.pool.execute(f"UPDATE devices SET {name} = $2 WHERE device_id = $1", device_id, value)  # noqa: S608  # of this test

    async def copied(self) -> dict[str, Known]:
        """What stands in Redis."""
        await self.reader.show()
        found = cast("dict[bytes, bytes]", await self.redis.hgetall(f"edge:{NAMES}"))
        return {id_.decode(): read_known(raw) for id_, raw in found.items()}


@pytest.fixture
async def site(database: str, redis_url: str) -> AsyncIterator[Site]:
    """A site."""
    async with open_pools(database) as pools, Redis.from_url(redis_url) as redis:
        yield Site(pools, redis)


async def heard(site: Site, *ids: str) -> None:
    await site.pool.execute(
        """INSERT INTO devices (device_id, first_seen, last_seen)
        SELECT id, now(), now() FROM unnest($1::text[]) AS w (id)
        ON CONFLICT (device_id) DO UPDATE SET first_seen = now(), last_seen = now()""",
        ids,
    )


async def test_what_is_said_is_followed_and_copied(site: Site) -> None:
    """From the start, with each change, and no more once nothing is said; devices that only sent are none."""
    await heard(site, "a1", "b1")
    await site.say("a1", name="Pump", labels='{"site": "north"}')
    await site.say("z9", name="Spare")
    assert sorted(await site.reader.hear()) == ["a1", "z9"]
    assert await site.reader.hear() == []
    pump = Known("Pump", '{"site": "north"}')
    assert await site.copied() == {"a1": pump, "z9": Known("Spare", never_heard=True)}
    await site.say("b1", state="blocked")
    await site.say("a1", name=None, labels="{}")
    await heard(site, "z9", "new")
    assert sorted(await site.reader.hear()) == ["a1", "b1", "z9"]
    assert await site.copied() == {"b1": Known(blocked=True), "z9": Known("Spare")}
    assert list(site.names) == ["z9", "b1"]


async def test_what_is_gone_is_gone(site: Site) -> None:
    """A row that was removed is missed now and then; a table that is another is read anew at once."""
    await site.say("a1", name="Pump")
    await site.say("b1", name="Fan")
    await site.reader.hear()
    await site.copied()
    await site.pool.execute("DELETE FROM devices WHERE device_id = 'a1'")
    site.now = 601.0
    assert await site.reader.hear() == ["a1"]
    assert list(await site.copied()) == ["b1"]
    await site.pool.execute("TRUNCATE devices")
    assert await site.reader.hear() == ["b1"]
    assert (await site.copied(), site.names.of("b1")) == ({}, NOBODY)


async def test_redis_has_all_and_nothing_else(site: Site) -> None:
    """What another projector left there goes at the start; what was thrown away is written again."""
    await site.redis.hset(f"edge:{NAMES}", mapping={"old": b'["Old"]', b"\xff": b"x"})
    await site.say("a1", name="Pump")
    await site.reader.hear()
    assert list(await site.copied()) == ["a1"]
    await site.redis.flushdb()
    assert await site.copied() == {}
    site.reader.show_again()
    assert list(await site.copied()) == ["a1"]


async def test_a_change_under_way_is_not_missed(site: Site) -> None:
    """One that began before the last look and was committed after it is seen by the next."""
    await site.say("a1", name="Pump")
    await site.say("b1", name="Fan")
    await site.reader.hear()
    async with site.pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("UPDATE devices SET name = 'Slow' WHERE device_id = 'a1'")
        await site.say("b1", name="Fast")
        assert await site.reader.hear() == ["b1"]
        assert await site.reader.hear() == []
        await transaction.commit()
    assert await site.reader.hear() == ["a1"]
