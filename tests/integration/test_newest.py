"""Which message is the newest: live, after a rebuild, after retention, and after an upgrade."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from redis.asyncio import Redis

from contract.events import Event, Scalar, format_time
from contract.views import FORMAT
from projector.views import Run
from tests.support.both_sides import KEYS, NOW, Side, event, quiet
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

NINE = "2026-11-23T09:00:00.000000Z"


@pytest.fixture
async def side(database: str, redis_url: str) -> AsyncIterator[Side]:
    """Nothing committed yet."""
    async with (
        open_pools(database) as pools,
        Redis.from_url(redis_url) as redis,
    ):
        yield Side(pools, redis)


def at(
    device: str, ts: str, arrived: int, key: str, *, tags: dict[str, str] | None = None, **metrics: Scalar
) -> Event:
    """An event that was received so many microseconds past nine."""
    received_at = format_time(datetime.fromisoformat(NINE) + timedelta(microseconds=arrived))
    return Event(device, None, ts, received_at, key, metrics, tags)


async def view(side: Side, device: str) -> dict[str, str]:
    """A device's hash."""
    raw = await cast("Awaitable[dict[bytes, bytes]]", side.redis.hgetall(KEYS.device(device)))
    return {field.decode(): value.decode() for field, value in raw.items()}


async def agreed(side: Side, device: str) -> dict[str, str]:
    """A device's hash, live; the same after a rebuild, after everything is retired, and PostgreSQL agrees."""
    live = await view(side, device)
    assert (await side.verify()).differences == []
    await side.rebuilder.rebuild(quiet)
    assert await view(side, device) == live
    await side.pool.execute("SELECT retire_measurements('DELETE FROM measurements RETURNING *')")
    assert (await side.verify()).differences == []
    await side.rebuilder.rebuild(quiet)
    assert await view(side, device) == live
    return live


async def test_ten_comes_after_nine(side: Side) -> None:
    """Two messages of one second: the later one is the newest, though its key sorts before the other's."""
    await side.apply(at("lamp9", NINE, 1, "9", state="ON"))
    await side.apply(at("lamp9", NINE, 2, "10", state="OFF"))
    assert (await agreed(side, "lamp9"))["last_state"] == "OFF"


async def test_an_array_without_times(side: Side) -> None:
    """Elements of an array stand in its order, though their keys are made of their content."""
    readings = [("b", 5), ("c", 6), ("a", 7)]
    await side.apply(
        *(
            at("arr9", f"2026-11-23T09:00:00.{n:06d}Z", n, f"auto:{key}", v=value)
            for n, (key, value) in enumerate(readings)
        )
    )
    assert (await agreed(side, "arr9"))["last_v"] == "7"


async def test_a_clock_twenty_hours_ahead(side: Side) -> None:
    """Its value stands for five minutes and no longer; meanwhile the view says how far the clock is ahead."""
    await side.apply(at("d", "2026-11-24T05:00:00.000000Z", 0, "1", t=1))
    await side.apply(at("d", "2026-11-23T09:04:00.000000Z", 241_000_000, "2", t=2))
    found = await agreed(side, "d")
    assert (found["last_t"], found["clock_ahead_ms"]) == ("1", str(20 * 3_600_000))
    assert (found["last_seen"], found["last_seen_ms"]) == ("2026-11-23T09:05:00.000000Z", "1795424700000")
    assert await side.redis.zscore(KEYS.last_seen, "d") == 1795424700000
    assert await side.redis.zcard(KEYS.clock_ahead) == 1
    await side.redis.zadd(KEYS.clock_ahead, {"d": 5, "ghost": 6})
    assert [(each.field, each.found) for each in (await side.verify()).differences] == [
        ("d", "5"),
        ("ghost", "6"),
    ]
    await side.rebuilder.rebuild(quiet)
    await side.apply(at("d", "2026-11-23T09:05:00.000001Z", 301_000_000, "3", t=3))
    found = await agreed(side, "d")
    assert (found["last_t"], found["last_seen"]) == ("3", "2026-11-23T09:05:00.000001Z")
    assert "clock_ahead_ms" not in found
    assert await side.redis.zcard(KEYS.clock_ahead) == 0


async def test_tags_go_together(side: Side) -> None:
    """A device's tags are those of its newest message with any; one that this does not name is gone."""
    await side.apply(at("d", NINE, 1, "1", tags={"line": "3", "hall": "ä\\"}, t=1))
    await side.apply(at("d", NINE, 2, "2", t=2))
    tags = {name: text for name, text in (await view(side, "d")).items() if name.startswith("tag_")}
    assert tags == {"tag_line": "3", "tag_hall": "ä\\"}
    await side.apply(at("d", NINE, 3, "3", tags={"line": "4"}, t=3), at("d", NINE, 4, "4", tags={}, t=4))
    found = await agreed(side, "d")
    assert {name: text for name, text in found.items() if name.startswith("tag_")} == {"tag_line": "4"}


async def test_views_of_the_version_before(side: Side) -> None:
    """Marks of the old order are not taken for new ones: nothing is applied, and a rebuild mends it."""
    rows = [
        await side.commit(at("lamp9", NINE, n, key, state=state))
        for n, key, state in ((1, "9", "ON"), (2, "10", "OFF"))
    ]
    old = (1795424400000000, "9\x002026-11-23T09:00:00.000001Z", '["state"]')
    await side.redis.hset(KEYS.cursor, "0", "2")
    await side.redis.hset(KEYS.epoch, "0", rows[-1].epoch)
    await side.redis.hset(KEYS.device_marks, "lamp9", b"".join(map(msgspec.msgpack.encode, old)))
    await side.redis.zadd(KEYS.last_seen, {"lamp9": 1795424400000})
    fields: dict[Any, Any] = {
        "device_id": "lamp9",
        "sample_count": "2",
        "last_state": "ON",
        "last_seen": NINE,
    }
    await side.redis.hset(KEYS.device("lamp9"), mapping=fields)
    row = await side.commit(event("lamp9", 5, t=1))
    refused = await side.views.apply(Run(0, row.epoch, 3, 3, row.events), NOW)
    assert refused == ("epoch", 2, "")
    assert await side.rebuilder.mend(quiet)
    assert await side.rebuilder.mend(quiet) is None
    assert await side.redis.hget(KEYS.epoch, FORMAT) == b"2"
    found = await view(side, "lamp9")
    assert (found["last_state"], found["sample_count"], found["last_t"]) == ("OFF", "3", "1")
    assert (await side.verify()).differences == []
