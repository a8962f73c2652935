"""Devices that leave the views when they have been silent for too long, and come back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

import projector.expiry.devices as expiry_module
from projector.expiry.devices import Expiry
from projector.meters import Meters
from projector.views import Run, Views
from runtime.errors import Retry
from runtime.http import Health
from tests.support.both_sides import KEYS, NOW, Side, event, quiet, said
from tests.support.devices import publish
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

HOUR = timedelta(hours=1)


@pytest.fixture
async def side(database: str, redis_url: str) -> AsyncIterator[Side]:
    """Three devices two hours ago, of which b has sent a moment ago, by its clock just as long ago."""
    async with (
        open_pools(database) as pools,
        Redis.from_url(redis_url) as redis,
    ):
        side = Side(pools, redis)
        await side.apply(event("a", 1, t=1), event("b", 2, t=2), event("c", 3, region=None, t=3))
        side.now = NOW + 2 * HOUR
        await side.apply(event("b", 4, t=4))
        yield side


def expiry(side: Side, *, behind_s: float = 0.0, looked_s_ago: float = 1.0) -> Expiry:
    """Devices go after an hour."""
    meters = Meters(CollectorRegistry())
    looked_at = side.now - timedelta(seconds=looked_s_ago)
    waiting_since = looked_at - timedelta(seconds=behind_s) if behind_s else None
    meters.of(0).position(1, 1 + int(behind_s > 0), waiting_since, looked_at)
    return Expiry(side.redis, KEYS, after_s=3600, health=Health(), meters=meters, now=lambda: side.now)


async def view(side: Side, key: str) -> dict[str, str]:
    """A view's fields."""
    fields = cast("dict[bytes, bytes]", await side.redis.hgetall(key))
    return {name.decode(): value.decode() for name, value in fields.items()}


async def test_the_silent_leave(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their keys go and the regions stay as they are; who sends stays, whatever its clock says."""
    monkeypatch.setattr(expiry_module, "DEVICES_A_CALL", 1)
    assert await expiry(side).turn() == 2
    assert [await side.redis.exists(KEYS.device(each)) for each in "abc"] == [0, 1, 0]
    assert await side.redis.zrange(KEYS.last_seen, 0, -1) == [b"b"]
    north = await view(side, KEYS.region("north"))
    assert (north["device_count"], north["sample_count"]) == ("2", "3")
    result = await side.verify()
    assert (result.equal, result.differences, result.devices, result.expired) == (True, [], 3, 2)
    assert await expiry(side).turn() == 0


async def test_who_comes_back_begins_anew(side: Side) -> None:
    """Its own statistics do; its region counts it once, and late data do not pass for new."""
    await expiry(side).turn()
    await side.apply(event("a", 0, region="south", t=9), event("c", 5, t=5))
    late, back = await view(side, KEYS.device("a")), await view(side, KEYS.device("c"))
    assert (late["region"], late["sample_count"], late["sum_t"]) == ("north", "1", "9")
    assert late["last_seen"] == "2026-11-23T09:00:01.250000Z"
    assert "last_t" not in late, "the last one was newer, and is gone"
    assert (back["region"], back["sample_count"], back["last_t"]) == ("north", "1", "5")
    assert set(await side.redis.zrange(KEYS.last_seen, 0, -1)) == {b"a", b"b", b"c"}
    assert (await view(side, KEYS.region("north")))["device_count"] == "3"
    assert (await view(side, KEYS.region("south")))["device_count"] == "0"
    await side.apply(event("a", 6, region="south", t=6))
    back = await view(side, KEYS.device("a"))
    assert (back["region"], back["sample_count"], back["last_t"]) == ("south", "2", "6")
    assert (await view(side, KEYS.region("north")))["device_count"] == "2"
    result = await side.verify()
    assert (result.equal, result.differences, result.expired) == (True, [], 2)


async def test_what_a_device_said_outlives_it(side: Side) -> None:
    """Whether it is online is known of one that comes back, and since when, as PostgreSQL has it."""
    side.now = NOW
    await side.apply(said("a", 10, online=True), said("c", 10, online=True), said("c", 11, online=False))
    side.now = NOW + 2 * HOUR
    await side.apply(event("b", 12, t=4))
    assert await expiry(side).turn() == 2
    await side.apply(event("a", 13, t=1), event("c", 9, t=1), event("b", 13, t=1))
    shown = [await view(side, KEYS.device(each)) for each in "acb"]
    assert [(each.get("online"), each.get("online_since")) for each in shown] == [
        ("true", "2026-11-23T09:00:10.250000Z"),
        ("false", "2026-11-23T09:00:11.250000Z"),
        (None, None),
    ]
    result = await side.verify()
    assert (result.equal, result.differences, result.expired) == (True, [], 2)


async def test_who_is_lost_after_coming_back_is_missed(side: Side) -> None:
    """That it had expired once does not excuse it: its region would count it twice."""
    await expiry(side).turn()
    await side.apply(event("a", 5, t=9))
    assert await side.redis.hmget(KEYS.expired, ["a", "b"]) == [b"{}", None], "that it had stays known"
    await side.redis.delete(KEYS.device("a"))
    row = await side.commit(event("a", 6, region="south", t=9))
    outcome = await Views(side.redis, KEYS).apply(Run(0, row.epoch, row.n, row.n, row.events), side.now)
    assert (outcome.status, outcome.key) == ("lost", KEYS.device("a"))


async def test_all_expire_and_come_back(side: Side) -> None:
    """Nobody is left in the list of last-seen times then, and nothing was lost."""
    side.now += 2 * HOUR
    await side.apply(event("d", 9, t=1))
    side.now += 2 * HOUR
    await side.redis.hset(KEYS.device("d"), "updated_ms", 0)
    await expiry(side).turn()
    assert not await side.redis.exists(KEYS.last_seen)
    for n, device in enumerate("eabcd"):
        await side.apply(event(device, 10 + n, t=1))
        assert await side.redis.zcard(KEYS.last_seen) == n + 1
    result = await side.verify()
    assert (result.equal, result.differences, result.expired) == (True, [], 4)


async def test_a_rebuild_brings_everything_back(side: Side) -> None:
    """Views made anew hold what devices ever sent, and are compared again."""
    await expiry(side).turn()
    await side.apply(event("a", 7, t=7))
    await side.rebuilder.rebuild(quiet)
    assert (await view(side, KEYS.device("a")))["sample_count"] == "2"
    assert not await side.redis.exists(KEYS.expired)
    result = await side.verify()
    assert (result.equal, result.expired) == (True, 0)


async def test_not_while_views_are_replaced(side: Side) -> None:
    """A set that is being replaced is left alone."""
    await side.views.give_up({0: 0})
    assert await expiry(side).turn() == 0


async def test_nobody_can_tell(side: Side) -> None:
    """While the views are behind, or nobody has looked whether they are, nobody goes."""
    for blind in (expiry(side, behind_s=61), expiry(side, looked_s_ago=61)):
        assert await blind.turn() == 0
    assert await expiry(side).turn() == 2


async def test_an_outage_makes_nobody_silent(side: Side) -> None:
    """Time stands still while nothing comes, and what comes first after that does not make up for it."""
    await side.apply(event("a", 5, t=5), event("c", 5, t=5))
    assert await expiry(side).turn() == 0
    side.now += 48 * HOUR
    assert await expiry(side).turn() == 0
    for second in range(6, 9):
        await side.apply(event("b", second, t=1))
        assert await expiry(side).turn() == 0
        side.now += HOUR / 3
    await side.apply(event("b", 9, t=1))
    assert await expiry(side).turn() == 2
    await side.redis.hset("p*:projector:steady", "seen", "yesterday")
    with pytest.raises(Retry, match="projector:steady holds what is none of ours"):
        await expiry(side).turn()


async def test_what_is_no_view_stays(side: Side) -> None:
    """Keys that somebody else put in place of views are left alone, and others go all the same."""
    await side.redis.hset(KEYS.device("a"), "updated_ms", "yesterday")
    await side.redis.zadd(KEYS.last_seen, {"ghost": 1})
    assert await expiry(side).turn() == 1
    assert await side.redis.zrange(KEYS.last_seen, 0, -1) == [b"ghost", b"a", b"b"]


async def test_what_stays_of_the_expired_is_verified(side: Side) -> None:
    """A region or a last-seen time that is wrong is drift, of a device that came back too."""
    await expiry(side).turn()
    await side.redis.zadd(KEYS.last_seen, {"c": 5})
    await side.apply(event("a", 7, t=7))
    await side.redis.hset(KEYS.device("a"), "region", "elsewhere")
    result = await side.verify()
    told = {(each.kind, each.key.removeprefix("p*:"), each.field) for each in result.differences}
    assert told == {("extra", "devices:last_seen", "c"), ("differs", "device:stats:a", "region")}


async def test_the_projector_expires_when_told_to(
    run_command: Callable[..., Awaitable[RunningCommand]],
    settings: Settings,
    redis_url: str,
    broker_port: int,
    topic_prefix: str,
) -> None:
    """`projector.expire_devices_after` turns it on, and the log says how many have gone."""
    gateway = await run_command("gateway", "run")
    await gateway.event("connected", client_id=settings.broker.client_id)
    projector = await run_command("projector", "run", EDGE_PROJECTOR_EXPIRE_DEVICES_AFTER="1h")
    await projector.event("connected")
    async with Redis.from_url(redis_url) as redis:
        long_ago = int((datetime.now(UTC) - 2 * HOUR).timestamp() * 1000)
        await publish(broker_port, [(f"{topic_prefix}/new/telemetry", b'{"x": 1}')])
        async with asyncio.timeout(20):
            while not await redis.exists("projector:cursor"):  # noqa: ASYNC110  # Redis tells nobody
                await asyncio.sleep(0.05)
        await redis.zadd("devices:last_seen", {"old": long_ago})
        await redis.hset("device:stats:old", mapping={"updated_ms": long_ago, "last_seen": "then"})
        await publish(broker_port, [(f"{topic_prefix}/new/telemetry", b'{"x": 2}')])
        await projector.event("devices_expired", devices=1, timeout_s=40)
        assert await redis.zrange("devices:last_seen", 0, -1) == [b"new"]
    assert await gateway.terminate() == 0
    assert await projector.terminate() == 0
