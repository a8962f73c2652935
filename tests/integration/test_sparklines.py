"""Sparklines on a real Redis: the last hour of each device, bounded, and written anew when they are lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
from redis.asyncio import Redis

from projector.history import sparklines as sparklines_module
from projector.history.sparklines import Sparklines, read_sparklines
from projector.history.store import Mean

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FIRST = 29_000_000  # a minute


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """An empty Redis database."""
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """Connections to a database without history."""
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as made:
        yield made


async def shown(redis: Redis, device: str = "a", metric: str = "t") -> tuple[int, dict[int, float]]:
    """The newest minute, and the minutes that have a value."""
    (lines,) = await read_sparklines(redis, "p:", [device])
    line = lines[metric]
    newest = line.newest_ms // 60_000
    assert len(line.means) == 60
    return newest, {newest - 59 + i: mean for i, mean in enumerate(line.means) if mean is not None}


async def test_the_last_hour(redis: Redis, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Minutes come in any order and more than once; those older than an hour before the newest are gone."""
    sparklines = Sparklines(redis, pool, "p:")

    async def write(*means: tuple[int, float]) -> None:
        await sparklines.write([Mean("a", "t", FIRST + minute, mean) for minute, mean in means])

    await write((3, 3.5), (0, 1), (1, 2))
    assert await shown(redis) == (FIRST + 3, {FIRST: 1, FIRST + 1: 2, FIRST + 3: 3.5})
    await write((3, 4.5), (2, 9))
    await write((3, 4.5), (-57, 7), (-56, 8))
    assert await shown(redis) == (
        FIRST + 3,
        {FIRST - 56: 8, FIRST: 1, FIRST + 1: 2, FIRST + 2: 9, FIRST + 3: 4.5},
    )
    await write((61, 1e300))
    assert await shown(redis) == (
        FIRST + 61,
        {FIRST + 2: 9, FIRST + 3: 4.5, FIRST + 61: pytest.approx(3.4e38)},
    )
    await write((500, -1))
    assert await shown(redis) == (FIRST + 500, {FIRST + 500: -1})
    assert await read_sparklines(redis, "p:", ["nobody", "a"]) != [{}, {}]
    assert 7000 < await redis.ttl("p:device:spark:a") <= 7200


async def test_what_somebody_else_wrote(redis: Redis, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Fields that are no sparkline are left out, whatever their names, and give way to the next minute."""
    await redis.hset("p:device:spark:a", mapping={"t": "1, 2, 3", "u": "", b"\xff": b"\xff" * 244})
    (lines,) = await read_sparklines(redis, "p:", ["a"])
    assert {name: set(line.means) for name, line in lines.items()} == {"\\xff": {None}}
    await Sparklines(redis, pool, "p:").write([Mean("a", "t", FIRST, 1)])
    assert await shown(redis) == (FIRST, {FIRST: 1})


async def test_bounded_for_each_device(redis: Redis, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """However many metrics a device has, its sparklines stay about 2 KB."""
    means = [Mean("a", f"metric_{i}", FIRST + minute, minute / 3) for i in range(40) for minute in range(90)]
    await Sparklines(redis, pool, "p:").write(means)
    (lines,) = await read_sparklines(redis, "p:", ["a"])
    assert sorted(lines) == [f"metric_{i}" for i in range(7)]
    packed = await redis.hgetall("p:device:spark:a")
    assert sum(len(name) + len(line) for name, line in packed.items()) <= 2048


async def test_lost_ones_are_written_anew(
    redis: Redis, pool: asyncpg.Pool[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a start, and after Redis was flushed, they are what the minutes in PostgreSQL say."""
    monkeypatch.setattr(sparklines_module, "PAGE_ROWS", 7)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    await pool.executemany(
        "INSERT INTO measurements_1m VALUES ($1, 't', $2, NULL, NULL, 2, $3, 0, 0)",
        [(f"d{i}", now - timedelta(minutes=age), i * age) for i in range(5) for age in (1, 2, 30, 70)],
    )
    sparklines = Sparklines(redis, pool, "p:")
    minute = int(now.timestamp()) // 60
    expected = minute - 1, {minute - 30: 45, minute - 2: 3, minute - 1: 1.5}
    await sparklines.refresh()
    assert await shown(redis, "d3") == expected
    await redis.flushdb()
    await sparklines.refresh()
    assert await redis.keys() == [], "nothing has told that they are lost"
    await sparklines.write([Mean("d0", "t", minute, 5)])
    await sparklines.refresh()
    assert await shown(redis, "d3") == expected
