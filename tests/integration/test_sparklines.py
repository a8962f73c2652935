"""Sparklines on a real Redis: the last hour of each device, bounded, and written anew when they are lost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from deploy.local.server import free_port
from projector.history import sparklines as sparklines_module
from projector.history.sparklines import MEANS_A_CALL, Sparklines, read_sparklines
from projector.history.store import Mean
from runtime.errors import Retry
from tests.support.roles import as_kind

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
    async with asyncpg.create_pool(as_kind(database, "projector"), min_size=1, max_size=2) as made:
        yield made


async def shown(redis: Redis, device: str = "a", metric: str = "t") -> tuple[int, dict[int, float]]:
    """The newest minute, and the minutes that have a value."""
    (lines,) = await read_sparklines(redis, "p:", [device])
    line = lines[metric]
    newest = line.newest_ms // 60_000
    assert len(line.means) == 60
    return newest, {newest - 59 + i: mean for i, mean in enumerate(line.means) if mean is not None}


async def begun(redis: Redis, pool: asyncpg.Pool[asyncpg.Record]) -> Sparklines:
    """Sparklines that have written anew what there was: nothing."""
    sparklines = Sparklines(redis, pool, "p:")
    await sparklines.turn()
    return sparklines


async def test_the_last_hour(redis: Redis, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Minutes come in any order and more than once; those older than an hour before the newest are gone."""
    sparklines = await begun(redis, pool)

    async def write(*means: tuple[int, float]) -> None:
        await sparklines.show([Mean("a", "t", FIRST + minute, mean) for minute, mean in means])
        await sparklines.turn()

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


@pytest.mark.parametrize(
    ("minute", "prolonged"),
    [
        (FIRST + 1, False),
        (FIRST + 2, True),  # after a gap
        (FIRST, True),  # late, or once more
    ],
)
async def test_life_is_prolonged_every_ten_minutes(
    redis: Redis, pool: asyncpg.Pool[asyncpg.Record], minute: int, *, prolonged: bool
) -> None:
    """Lines that go on minute by minute live two hours from one of the last ten; others from a write."""
    sparklines = await begun(redis, pool)
    key = "p:device:spark:a"
    await sparklines.show([Mean("a", "t", FIRST, 1.0)])
    await sparklines.turn()
    await redis.expire(key, 600)
    await sparklines.show([Mean("a", "t", minute, 2.0)])
    await sparklines.turn()
    assert (await redis.ttl(key) > 7000) is prolonged
    for each in range(FIRST + 3, FIRST + 11):
        await sparklines.show([Mean("a", "t", each, 2.0)])
    await sparklines.turn()
    assert await redis.ttl(key) > 7000


async def test_no_call_takes_more_than_some_minutes(redis: Redis, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """One device with names without end is written in many calls, and so are many devices' whole hours."""
    sparklines = await begun(redis, pool)
    await sparklines.show([Mean("scanner", f"m{i}", FIRST, i) for i in range(10 * MEANS_A_CALL)])
    await sparklines.show([Mean(f"d{i // 60}", "t", FIRST + i % 60, i) for i in range(10 * MEANS_A_CALL)])
    await redis.config_resetstat()
    await sparklines.turn()
    assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] >= 20
    (lines,) = await read_sparklines(redis, "p:", ["scanner"])
    assert set(lines) == {f"m{i}" for i in range(6)}
    assert await shown(redis, f"d{MEANS_A_CALL // 60}") == (
        FIRST + 59,
        {FIRST + i: MEANS_A_CALL // 60 * 60 + i for i in range(60)},
    )


async def test_what_somebody_else_wrote(redis: Redis, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Fields that are no sparkline are left out, whatever their names, and give way to the next minute."""
    await redis.hset("p:device:spark:a", mapping={"t": "1, 2, 3", "u": "", b"\xff": b"\xff" * 244})
    (lines,) = await read_sparklines(redis, "p:", ["a"])
    assert {name: set(line.means) for name, line in lines.items()} == {"\\xff": {None}}
    sparklines = await begun(redis, pool)
    await sparklines.show([Mean("a", "t", FIRST, 1)])
    await sparklines.turn()
    assert await shown(redis) == (FIRST, {FIRST: 1})


@pytest.mark.parametrize("length", [8, 60, 128, 512])
@pytest.mark.parametrize("device", ["a", "d" * 128, "\U0001f41f" * 128])
async def test_bounded_for_each_device(
    redis: Redis, pool: asyncpg.Pool[asyncpg.Record], device: str, length: int
) -> None:
    """However many metrics a device has, and however long their names are, it takes 2 KB of Redis."""
    sparklines = await begun(redis, pool)
    for metric in range(40):  # one by one, which makes the hash grow by steps
        name = f"{metric:02}".ljust(length, "m")
        await sparklines.show([Mean(device, name, FIRST + minute, minute / 3) for minute in range(90)])
        await sparklines.turn()
    (lines,) = await read_sparklines(redis, "p:", [device])
    assert 1 <= len(lines) <= 6
    assert sorted(int(metric[:2]) for metric in lines) == [*range(len(lines))], "the first"
    used = await redis.memory_usage(f"p:device:spark:{device}", samples=0)
    assert used is not None
    assert 1024 < used <= 2048


async def test_a_foreign_value_spoils_only_its_own(redis: Redis, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """A key that holds something else is left alone and named, once; a field that does is written anew."""
    await redis.set("p:device:spark:a", "not ours")
    await redis.hset("p:device:spark:b", mapping={"t": "short", "u": "x" * 300})
    sparklines = await begun(redis, pool)
    with capture_logs() as logs:
        for minute in (1, 2):
            await sparklines.show([Mean(device, "t", FIRST + minute, minute) for device in "abc"])
            await sparklines.turn()
    assert [(line["event"], line["key"]) for line in logs] == [("sparkline_key_foreign", "p:device:spark:a")]
    assert await redis.get("p:device:spark:a") == b"not ours"
    assert await redis.hget("p:device:spark:b", "u") == b"x" * 300
    for device in "bc":
        assert await shown(redis, device) == (FIRST + 2, {FIRST + 1: 1, FIRST + 2: 2})


async def test_redis_away(
    redis_url: str, redis: Redis, pool: asyncpg.Pool[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Redis is away it is asked now and then, which is said once; when it is back all is written."""
    monkeypatch.setattr(sparklines_module, "_BACKOFF_INITIAL_S", 0.01)
    outcomes: asyncio.Queue[str] = asyncio.Queue()

    class Watched(Sparklines):
        async def turn(self) -> None:
            try:
                await super().turn()
            except Retry as error:
                outcomes.put_nowait(error.what)
                raise
            outcomes.put_nowait("written")

    async with Redis.from_url(redis_url) as away:
        settings = away.connection_pool.connection_kwargs
        port, settings["port"] = settings["port"], free_port()
        sparklines = Watched(away, pool, "p:")
        with capture_logs() as logs:
            running = asyncio.create_task(sparklines.run())
            assert [await outcomes.get() for _ in range(3)] == ["redis"] * 3
            settings["port"] = port
            away.connection_pool.reset()  # type: ignore[no-untyped-call]  # old connections keep their port
            while await outcomes.get() != "written":
                pass
            await sparklines.show([Mean("a", "t", FIRST, 1)])
            assert await outcomes.get() == "written"
            running.cancel()
            await asyncio.wait({running})
    assert await shown(redis) == (FIRST, {FIRST: 1})
    assert [line["event"] for line in logs] == ["sparklines_waiting", "sparklines_written"]


async def test_lost_ones_are_written_anew(
    redis: Redis, pool: asyncpg.Pool[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a start, and after Redis was flushed, they are what the minutes in PostgreSQL say."""
    monkeypatch.setattr(sparklines_module, "PAGE_ROWS", 7)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    await pool.executemany(
        "INSERT INTO open_minutes VALUES ($1, 't', $2, NULL, NULL, 2, $3, 0, 0)",
        [(f"d{i}", now - timedelta(minutes=age), i * age) for i in range(5) for age in (1, 2, 30, 70)],
    )
    await pool.execute("INSERT INTO regions_1m VALUES ('t', $1, '', 1, 1, 1, 1)", now - timedelta(minutes=1))
    sparklines = Sparklines(redis, pool, "p:")
    minute = int(now.timestamp()) // 60
    expected = minute - 1, {minute - 30: 45, minute - 2: 3, minute - 1: 1.5}
    await sparklines.turn()
    assert await shown(redis, "d3") == expected
    await redis.flushdb()
    await sparklines.turn()
    assert await redis.keys() == [], "nothing has told that they are lost"
    await sparklines.show([Mean("d0", "t", minute, 5)])
    await sparklines.turn()
    assert await shown(redis, "d3") == expected
    await redis.flushdb()
    monkeypatch.setattr(sparklines_module, "MOST_DUE", 3)
    await sparklines.show([Mean("d0", "t", minute - age, 5) for age in range(4)])
    more = asyncio.create_task(sparklines.show([Mean("d0", "t", minute, 6)]))
    await asyncio.sleep(0)
    await sparklines.turn()
    assert await shown(redis, "d3") == expected
    await more
    await sparklines.turn()
    assert (await shown(redis, "d0"))[1][minute] == 6, "it waited until what was due had been taken"
