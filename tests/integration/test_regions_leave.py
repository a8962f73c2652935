"""Regions without devices, beyond as many as there may be: those named last the longest ago make room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

import projector.expiry.regions as regions_module
from projector.expiry.regions import Vacancies
from projector.meters import Meters
from projector.query import Queries
from projector.repair.rebuild import Rebuilder
from tests.support.both_sides import KEYS, Side, event, quiet
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.commands.core import AsyncScript

    from projector.views import Keys
    from tests.support.roles import Pools

MOST = 3


class Town(Side):
    """Views, and what keeps their regions to a number."""

    def __init__(self, pools: Pools, redis: Redis) -> None:
        super().__init__(pools, redis)
        self.registry = CollectorRegistry()
        self.meters = Meters(self.registry)
        self.vacancies = Vacancies(redis, KEYS, most=MOST, pause_s=0, meters=self.meters)

    async def regions(self) -> set[str]:
        """Those in the views, which have marks as well."""
        names = cast("list[bytes]", await self.redis.hkeys(KEYS.region_marks))
        marked = {name.decode() for name in names}
        viewed = {
            key.removeprefix(KEYS.regions.encode()).decode()
            async for key in self.redis.scan_iter("p[*]:region:*")
        }
        assert marked == viewed
        return marked

    async def wander(self, *regions: str, device: str = "scanner") -> None:
        """A device sends from one region after the other."""
        for region in regions:
            self.second += 1
            await self.apply(event(device, self.second, region=region, t=self.second))

    second = 0


class _Slow:
    """A script whose answers take a while, as of a Redis that is busy."""

    def __init__(self, script: AsyncScript) -> None:
        self._script = script

    async def __call__(self, *arguments: Any) -> object:  # noqa: ANN401  # a script's
        answer = await self._script(*arguments)
        await asyncio.sleep(0.02)
        return answer


@pytest.fixture
async def town(database: str, redis_url: str) -> AsyncIterator[Town]:
    """Nobody anywhere."""
    async with (
        open_pools(database) as pools,
        Redis.from_url(redis_url) as redis,
    ):
        yield Town(pools, redis)


async def test_those_not_named_for_longest_go(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where devices are stays, and of the other regions so many as there is room for."""
    monkeypatch.setattr(regions_module, "AT_ONCE", 2)
    await town.wander("home", device="lives here")
    await town.wander(*(f"r{i}" for i in range(8)))
    await town.wander("r2", "here")
    assert await town.vacancies.turn() == 7
    assert await town.regions() == {"home", "here", "r2"}
    assert town.registry.get_sample_value("projector_regions") == MOST
    assert town.registry.get_sample_value("projector_regions_dropped_total") == 7
    result = await town.verify()
    assert (result.equal, result.differences, result.regions) == (True, [], 10)
    assert await town.vacancies.turn() == 0


async def test_occupied_regions_stay(town: Town) -> None:
    """However many there are: each has a device of its own."""
    for i in range(2 * MOST):
        await town.wander(f"r{i}", device=f"d{i}")
    assert await town.vacancies.turn() == 0
    assert len(await town.regions()) == 2 * MOST


async def test_more_go_than_must(town: Town) -> None:
    """A tenth of what there may be, so that it is a while until some go again."""
    town.vacancies = Vacancies(town.redis, KEYS, most=20, meters=town.meters)
    await town.wander(*(f"r{i:02}" for i in range(20)))
    assert await town.vacancies.turn() == 0
    await town.wander("r20")
    assert await town.vacancies.turn() == 3
    assert await town.regions() == {f"r{i:02}" for i in range(3, 21)}


async def test_runs_are_applied_while_regions_go(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call has the projector read its views again; between two of them it has time to."""
    monkeypatch.setattr(regions_module, "AT_ONCE", 1)
    monkeypatch.setattr(town.views, "_read", _Slow(town.views._read))
    town.vacancies = Vacancies(town.redis, KEYS, most=MOST, meters=town.meters)
    await town.apply(*(event("scanner", 1, region=f"r{i}", t=1) for i in range(300)))
    going = asyncio.create_task(town.vacancies.turn())
    while not await town.redis.hexists(KEYS.epoch, "regions_dropped"):  # noqa: ASYNC110  # Redis tells nobody
        await asyncio.sleep(0)
    for second in range(5):
        await town.apply(event("scanner", second, region="hall", t=1))
    assert not going.done()
    going.cancel()


async def test_what_comes_back_begins_anew(town: Town) -> None:
    """The projector that remembers a region reads it again; devices are counted where they are."""
    await town.wander(*(f"r{i}" for i in range(6)))
    assert await town.vacancies.turn() == 3
    await town.wander("r0", "r5", "r1")
    fields = {name: await town.redis.hget(KEYS.region(name), "sample_count") for name in ("r0", "r1", "r5")}
    assert fields == {"r0": b"1", "r1": b"1", "r5": b"2"}
    counts = {name: await town.redis.hget(KEYS.region(name), "device_count") for name in ("r0", "r1", "r5")}
    assert counts == {"r0": b"0", "r1": b"1", "r5": b"0"}
    result = await town.verify()
    assert (result.equal, result.differences) == (True, [])
    await town.redis.hset(KEYS.region("r1"), "device_count", 2)
    await town.redis.hset(KEYS.region("r5"), "sum_t", 2)
    assert {each.field for each in (await town.verify()).differences} == {"device_count", "sum_t"}


async def test_a_region_that_was_named_meanwhile_stays(town: Town) -> None:
    """Between the look and the removal a message may name an empty region, or a device come into it."""
    await town.wander("named", "entered", "left")
    seen = {name: at for at, name in await town.vacancies._empty()}
    await town.wander("named", "left")
    await town.apply(event("late", 0, region="entered", t=1))  # by its clock before all others
    assert set(seen) == {b"named", b"entered"}
    assert await town.vacancies._remove([(at, name) for name, at in seen.items()]) == 0
    assert await town.regions() == {"named", "entered", "left"}


async def test_a_region_with_devices_is_missed(town: Town) -> None:
    """That regions have made room excuses none that has devices."""
    await town.wander(*(f"r{i}" for i in range(6)))
    await town.vacancies.turn()
    await town.redis.delete(KEYS.region("r5"))
    await town.redis.hdel(KEYS.region_marks, "r5")
    assert [(each.kind, each.key) for each in (await town.verify()).differences] == [
        ("missing", KEYS.region("r5"))
    ]


@pytest.mark.parametrize("field", ["unfinished", "staged"])
async def test_nothing_goes_while_views_are_replaced(town: Town, field: str) -> None:
    """A set that is being replaced, or is set in pieces, stays as it is."""
    await town.wander(*(f"r{i}" for i in range(6)))
    await town.redis.hset(KEYS.epoch, field, 1)
    assert await town.vacancies.turn() == 0
    await town.redis.hdel(KEYS.epoch, field)
    assert await town.vacancies.turn() == 3


async def test_a_rebuild_brings_them_back(town: Town) -> None:
    """As PostgreSQL has everything; then all is compared again, until they go once more."""
    await town.wander(*(f"r{i}" for i in range(6)))
    await town.vacancies.turn()
    await town.rebuilder.rebuild(quiet)
    assert len(await town.regions()) == 6
    await town.redis.hset(KEYS.region("r0"), "sample_count", 2)
    assert [each.field for each in (await town.verify()).differences] == ["sample_count"]
    assert await town.vacancies.turn() == 3


async def test_a_rebuild_with_a_bound(town: Town) -> None:
    """The bound is kept before the views are put in place, and it is counted how many have gone."""

    async def make_room(keys: Keys) -> None:
        await Vacancies(town.redis, keys, most=MOST, pause_s=0).turn()

    await town.wander(*(f"r{i}" for i in range(6)))
    rebuilder = Rebuilder(town.redis, town.pools.projector, KEYS, lambda: town.now, make_room=make_room)
    await rebuilder.rebuild(quiet)
    assert await town.regions() == {"r3", "r4", "r5"}
    assert (await town.views.marks()).regions_dropped == 3
    result = await town.verify()
    assert (result.equal, result.differences) == (True, [])


async def test_the_api_says_how_many(town: Town) -> None:
    """And reads names in pieces, as all at once would hold up Redis, and not again for each page."""
    names = [f"r{i:04}" for i in range(1200)]
    await town.apply(*(event("scanner", 1, region=name, t=1) for name in names))
    await town.redis.config_resetstat()
    queries = Queries(town.redis, KEYS, lag=town.meters.lag)
    found: list[str] = []
    after = None
    while not found or after is not None:
        page = await queries.regions(limit=500, after=after)
        found += [each.region for each in page.regions]
        after = page.after
    assert found == names
    commands = await town.redis.info("commandstats")
    assert "cmdstat_hkeys" not in commands
    assert commands["cmdstat_hscan"]["calls"] in (2, 3), "and not as often again for each page"
    gone = await town.vacancies.turn()
    await queries.regions(limit=1)
    assert (gone, queries.regions_dropped) == (1200 - MOST, 1200 - MOST)
