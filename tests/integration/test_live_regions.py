"""The live page's regions, of which there may be thousands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from projector.live.regions import READ, SHOWN, Regions
from projector.views import Keys
from runtime.redis import open_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

KEYS = Keys("p:")
MANY = 5000


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Redis with many regions, each with a message."""
    async with open_redis(redis_url) as client:
        async with client.pipeline(transaction=False) as pipeline:
            for i in range(MANY):
                pipeline.hset(KEYS.region_marks, f"r{i}", "x" * 100)
                pipeline.hset(KEYS.region(f"r{i}"), mapping={"device_count": i % 7 + 3, "sample_count": 1})
            await pipeline.execute()
        yield client


async def test_the_busiest_of_many(redis: Redis) -> None:
    """Each region counts, wherever Redis has it; a look costs the same however many there are."""
    regions = Regions(redis, KEYS)
    second = 0
    for _ in range(MANY // READ + 1):
        await regions.look(second := second + 1, {}, {})
    busy = {f"r{i}": 1000 + i for i in range(0, MANY, 100)}
    await redis.config_resetstat()
    for _ in range(MANY // READ + 1):
        for name, more in busy.items():
            await redis.hincrby(KEYS.region(name), "sample_count", more)
        found = await regions.look(second := second + 1, {"r0": 3}, {"r0": 1})
    asked = (await redis.info("commandstats"))["cmdstat_hmget"]["calls"]
    assert asked <= (READ + SHOWN) * (MANY // READ + 1)
    assert regions.total == MANY
    assert {each.region for each in found} == set(busy)
    assert sum(each.share for each in found) == pytest.approx(1, abs=0.03)
    (first,) = (each for each in found if each.region == "r0")
    assert (first.devices, first.silent) == (2, 3), "one is out of service"


async def test_regions_that_come_and_go(redis: Redis) -> None:
    """A new one is there with the next look that names it; one whose numbers went back begins anew."""
    regions = Regions(redis, KEYS)
    await redis.delete(KEYS.region_marks)
    assert await regions.look(1, {}, {}) == []
    await redis.hset(KEYS.region_marks, mapping={"r1": "x", "r2": "x", "lost": "x"})
    assert {each.region: each.per_s for each in await regions.look(2, {}, {})} == {"r1": None, "r2": None}
    await redis.hincrby(KEYS.region("r2"), "sample_count", 50)
    assert [(each.region, each.per_s) for each in await regions.look(3, {}, {})] == [("r2", 50), ("r1", 0)]
    await redis.hset(KEYS.region("r2"), "sample_count", 3)
    assert [(each.region, each.per_s) for each in await regions.look(4, {}, {})] == [("r1", 0), ("r2", None)]
    await redis.hdel(KEYS.region_marks, "r1")
    assert [each.region for each in await regions.look(5, {}, {})] == ["r2"]
