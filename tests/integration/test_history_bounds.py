"""What keeps history, and the outbox behind it, in bounds: on a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from unittest.mock import ANY
from uuid import uuid4

import pytest

from contract.events import Event, format_time
from gateway.bounds import trim_outbox
from gateway.partitions import make_partitions
from gateway.retention import retire
from gateway.rollups import drop_history
from projector.history.audit import Auditor
from projector.history.minutes import Minutes
from projector.history.packing import Packer
from projector.history.store import Span, Store, add
from projector.outbox import queries
from runtime.postgres import lent
from tests.support.committed import Committed
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.roles import Pools

TABLES = ("measurements_1m", "measurements_1h", "regions_1m", "regions_1h")
DEFAULTS = ("open_minutes", "packed_minutes", "measurements_1h", "regions_1m", "regions_1h")
NOW = datetime.now(UTC)


class Plant:
    """A database whose history is written as soon as it is committed."""

    def __init__(self, pools: Pools) -> None:
        self.pool = pools.owner
        self.gateway = pools.gateway
        self.projector = pools.projector
        self.written = Committed(pools)
        self.store = Store(self.projector)
        self.auditor = Auditor(self.projector)

    async def measure(self, *ages: timedelta) -> None:
        """Store a measurement of each age, and its history."""
        row = await self.written.commit(*(event(NOW - age) for age in ages))
        if row.n == 1:
            await self.store.begin(0)
        minutes = Minutes()
        minutes.add(row.events)
        async with self.store.turn() as connection:
            assert await add(connection, Span(0, row.epoch, row.n - 1, row.n, []), minutes) is not None
        await self.store.make_hours()

    async def make(self, now: datetime = NOW) -> int:
        """Make partitions around now; returns how many."""
        async with lent(self.gateway) as connection:
            return len(await make_partitions(connection, now, max_ahead=timedelta(days=1)))

    async def drop(self, now: datetime, kept: dict[str, timedelta]) -> int:
        """Drop history that is too old."""
        async with lent(self.gateway) as connection:
            return await drop_history(connection, now, kept)

    async def counts(self) -> list[int]:
        """How many values each table amounts to."""
        return [
            int(await self.pool.fetchval(f"SELECT coalesce(sum(count), 0) FROM {table}"))  # noqa: S608  # of four
            for table in TABLES
        ]

    async def strays(self) -> list[int]:
        """How many rows each default partition has."""
        return [
            await self.pool.fetchval(f"SELECT count(*) FROM {table}_default")  # noqa: S608  # of five
            for table in DEFAULTS
        ]

    async def equal(self) -> bool:
        """Whether history is what the measurements amount to."""
        return (await self.auditor.verify(lambda _done, _of: None, limit=0)).equal


@pytest.fixture
async def plant(database: str) -> AsyncIterator[Plant]:
    """With partitions around now."""
    async with open_pools(database) as pools:
        plant = Plant(pools)
        await plant.make()
        yield plant


def event(ts: datetime) -> Event:
    """An event of device `a`."""
    return Event("a", "north", format_time(ts), format_time(NOW), uuid4().hex, {"t": 1})


async def test_partitions_are_made_ahead_once(plant: Plant) -> None:
    """What comes now, in three days and a week ago has partitions of its own; made once."""
    assert await plant.make() == 0
    await plant.measure(timedelta(), timedelta(days=7), timedelta(days=-3), timedelta(minutes=5))
    assert await plant.counts() == [4, 4, 4, 4]
    assert await plant.strays() == [0, 0, 0, 0, 0]
    assert await plant.make(NOW + timedelta(days=31)) > 0
    fills = "SELECT DISTINCT reloptions FROM pg_class WHERE relname LIKE 'open_minutes_p2%' AND relkind = 'r'"
    assert [row["reloptions"] for row in await plant.pool.fetch(fills)] == [["fillfactor=90"]]


async def test_which_metrics_there_are_is_one_step_each(plant: Plant) -> None:
    """A day of regions is not read to make an hour, nor to show one; and no metric is missed."""
    await plant.pool.execute(
        """INSERT INTO regions_1m
        SELECT 'm' || m, date_trunc('day', now(), 'UTC') + n * interval '1 minute', r::text, 1, 1, 1, 1
        FROM generate_series(1, 9) AS m, generate_series(1, 5) AS r, generate_series(0, 1439) AS n"""
    )
    await plant.measure(timedelta())
    await plant.pool.execute("ANALYZE regions_1m")
    assert await plant.counts() == [1, 1, ANY, ANY]
    for query in (queries.make_hours.partition(";")[0], queries.read_minutes):
        plan = "\n".join(row[0] for row in await plant.pool.fetch(f"EXPLAIN {query}"))
        assert "Index Only Scan using regions_1m_p" in plan
        assert "Seq Scan on regions_1m_p" not in plan, plan


async def test_hours_without_their_minutes(plant: Plant) -> None:
    """Where minutes are not kept for as long as an hour is open it is added to, and nothing is missing."""
    await plant.measure(timedelta())
    await plant.pool.execute(
        "UPDATE rollups SET kept_since = $1 WHERE rollup = '1m'", NOW + timedelta(days=1)
    )
    await plant.measure(timedelta())
    assert await plant.counts() == [1, 2, 1, 2]


async def test_what_is_old_is_dropped_and_stays_dropped(plant: Plant) -> None:
    """Each resolution goes by its own age, strays too; what comes for it later is not added."""
    ages = [timedelta(), timedelta(days=5), timedelta(days=100), timedelta(days=1000)]
    await plant.measure(*ages)
    assert await plant.drop(NOW, {}) == 0
    assert await plant.counts() == [4, 4, 4, 4]
    kept = {"1m": timedelta(days=2), "1h": timedelta(days=200)}
    assert await plant.drop(NOW, kept) == 3 * 5, "days 3 to 7 before now, of three tables"
    assert await plant.counts() == [1, 3, 1, 3]
    await plant.measure(*ages)
    assert await plant.counts() == [2, 6, 2, 6]
    assert await plant.equal()
    assert await plant.drop(NOW, kept) == 0
    assert await plant.make() == 0, "none that would be dropped"


async def test_rows_go_when_they_are_packed(plant: Plant) -> None:
    """Days of rows and strays all of which are packed are dropped, an hour later, and are not made again."""
    await plant.measure(*(timedelta(days=days) for days in (0, 2, 4, 300)))
    first = "SELECT min(since) FROM partitions_of('open_minutes')"
    before = await plant.pool.fetchval(first)
    for pause in (timedelta(), timedelta(minutes=59), timedelta(minutes=2)):
        await plant.pool.execute("UPDATE rollups SET noted_at = noted_at - $1::interval", pause)
        while await Packer(plant.projector).turn():
            pass
        left = await plant.pool.fetchval(first)
        assert left == before, "a snapshot of before the packing finds them for an hour, whatever they are of"
        assert await plant.drop(NOW, {}) == 0, "nothing for its age"
    assert await plant.counts() == [4, 4, 4, 4]
    assert await plant.strays() == [0, 1, 1, 1, 1]
    left = await plant.pool.fetchval(first)
    assert left == await plant.pool.fetchval(
        "SELECT date_trunc('day', packed_until, 'UTC') FROM rollups WHERE rollup = '1m'"
    )
    assert await plant.make() == 0
    await plant.measure(timedelta(days=2), timedelta(days=300))
    assert await plant.counts() == [6, 6, 6, 6]
    assert await plant.equal()
    assert await plant.drop(NOW, {"1m": timedelta(days=3)}) > 0, "packed ones go by their age"
    assert await plant.counts() == [3, 6, 3, 6]
    assert await plant.strays() == [0, 0, 1, 0, 1]


async def test_a_reader_of_packed_rows_delays_their_drop(plant: Plant) -> None:
    """Rows that somebody reads stay, those of other days do not; nobody waits."""
    await plant.measure(timedelta(days=3), timedelta(days=2), timedelta(hours=4))
    while await Packer(plant.projector).turn():
        pass
    await plant.drop(NOW, {})
    await plant.pool.execute("UPDATE rollups SET noted_at = noted_at - interval '1 hour'")
    read = (NOW - timedelta(days=3)).strftime("open_minutes_p%Y%m%d")
    async with plant.pool.acquire() as reader:
        async with reader.transaction():
            await reader.fetch(f"SELECT * FROM {read}")  # noqa: S608  # a partition
            await plant.drop(NOW, {})
            left = await plant.pool.fetch("SELECT name FROM partitions_of('open_minutes') ORDER BY since")
            assert left[0]["name"] == read
            assert left[1]["name"] > (NOW - timedelta(days=2)).strftime("open_minutes_p%Y%m%d")
        assert not await plant.pool.fetchval("SELECT drop_open_minutes('regions_1m')")


async def test_what_was_noted_by_a_clock_that_was_ahead(plant: Plant) -> None:
    """Rows go an hour after it was put right, not before and not years later."""
    await plant.measure(timedelta(days=2), timedelta(hours=4))
    while await Packer(plant.projector).turn():
        pass
    kept = "SELECT name FROM partitions_of('open_minutes') WHERE until <= $1"
    await plant.drop(NOW, {})
    for ago, gone in ((-timedelta(days=900), False), (timedelta(), False), (timedelta(hours=1), True)):
        await plant.pool.execute("UPDATE rollups SET noted_at = now() - $1::interval", ago)
        await plant.drop(NOW, {})
        assert (await plant.pool.fetch(kept, NOW - timedelta(days=1)) == []) == gone


async def test_a_clock_that_is_ahead_drops_nothing_young(plant: Plant) -> None:
    """Age is measured by the gateway's clock and the server's, and the younger counts."""
    await plant.measure(timedelta(), timedelta(days=1))
    ahead = NOW + timedelta(days=3000)
    assert await plant.drop(ahead, {"1m": timedelta(days=2), "1h": timedelta(days=2)}) <= 15
    assert await plant.counts() == [2, 2, 2, 2]


async def test_a_long_reader_delays_the_drop(plant: Plant) -> None:
    """While a report reads history nothing is dropped, nobody waits for it, and afterwards it is."""
    await plant.measure(timedelta(), timedelta(days=6))
    kept = {"1m": timedelta(days=2)}
    async with plant.pool.acquire() as reader:
        async with reader.transaction():
            await reader.fetch("SELECT * FROM measurements_1m, regions_1m")
            assert await plant.drop(NOW, kept) == 0
            await plant.measure(timedelta())
        assert await plant.drop(NOW, kept) > 0
    assert await plant.counts() == [2, 3, 2, 3]


async def test_days_are_24_hours_in_every_time_zone(plant: Plant) -> None:
    """Since when measurements are whole does not depend on where clocks are put back."""
    async with lent(plant.gateway) as connection, connection.transaction():
        await connection.execute("SET LOCAL TIME ZONE 'Europe/Berlin'")
        await connection.execute(
            "INSERT INTO retired_statistics"
            " (device_id, region, metric, count, sum, last_ts, last_key, last_received_at)"
            " VALUES ('a', '', 't', 1, 1, $1, '', $1)",
            datetime(2026, 10, 25, 10, tzinfo=UTC),
        )
        assert await connection.fetchval(queries.history_floor) == datetime(2026, 10, 26, tzinfo=UTC)


async def test_history_outlives_its_measurements(plant: Plant) -> None:
    """Days whose measurements were retired are not compared, and a rebuild leaves them as they are."""
    await plant.measure(timedelta(), timedelta(days=5), timedelta(days=5, minutes=1))
    async with lent(plant.gateway) as connection:
        assert await retire(connection, NOW, timedelta(days=3)) == 2
    await plant.measure(timedelta(days=5))
    assert await plant.equal()
    assert (await plant.auditor.rebuild(lambda _done, _of: None)).equal
    assert await plant.counts() == [4, 4, 4, 4]


async def test_the_outbox_waits_for_the_slowest(plant: Plant) -> None:
    """Rows go when the views and history both have them, and not before both have begun."""

    async def trimmed() -> list[int]:
        async with lent(plant.gateway) as connection:
            await trim_outbox(connection, timedelta())
        return [row["n"] for row in await plant.pool.fetch("SELECT n FROM outbox ORDER BY n")]

    for _ in range(4):
        await plant.measure(timedelta())
    assert await trimmed() == [1, 2, 3, 4], "no views yet"
    await plant.pool.execute("INSERT INTO projections SELECT 'redis', 0, 1, epoch FROM streams")
    assert await trimmed() == [2, 3, 4], "the views have not had them"
    await plant.pool.execute("UPDATE projections SET n = CASE projection WHEN 'redis' THEN 4 ELSE 2 END")
    assert await trimmed() == [3, 4], "history has not had them"
    await plant.pool.execute("UPDATE projections SET n = 4")
    assert await trimmed() == [4], "a stream keeps its newest"
    await plant.pool.execute("DELETE FROM projections WHERE projection = 'history'")
    assert await trimmed() == [4]
