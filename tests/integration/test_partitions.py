"""Partitions over time on a real PostgreSQL: made ahead of it, whatever the default partition holds."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from gateway import partitions as module
from gateway.partitions import make_partitions
from runtime.errors import Retry
from runtime.postgres import lent, load_queries, open_pool
from tests.support.roles import as_kind
from tests.support.write_side import decode, write_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runtime.postgres import Connection

queries = load_queries("gateway")
MOMENT = datetime(2026, 11, 23, 23, 59, tzinfo=UTC)
DAY = timedelta(days=1)
TABLES = ("measurements", "open_minutes", "packed_minutes", "regions_1m", "measurements_1h", "regions_1h")


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """With connections as chores have them."""
    dsn, settings = as_kind(database, "gateway"), {"lock_timeout": "100ms"}
    async with await open_pool(dsn, name="keeper", settings=settings) as made:
        yield made


@pytest.fixture
async def keeper(pool: asyncpg.Pool[asyncpg.Record]) -> AsyncIterator[Connection]:
    """The connection of whoever does the chore."""
    async with lent(pool) as made:
        yield made


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Somebody else's."""
    made = await asyncpg.connect(database)
    yield made
    await made.close()


async def insert(connection: asyncpg.Connection[asyncpg.Record], *times: datetime) -> None:
    """Store a measurement of each time."""
    rows = [("d", ts, ts, f"{ts}", "{}") for ts in times]
    columns = ("device_id", "ts", "received_at", "message_key", "metrics")
    await connection.copy_records_to_table("measurements", records=rows, columns=columns)


async def strays(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    """Rows of measurements without a partition of their own."""
    return int(await connection.fetchval("SELECT count(*) FROM measurements_default"))


def of_measurements(made: list[str]) -> list[str]:
    return [day for table, day in (each.split() for each in made) if table == "measurements"]


async def test_they_are_made_around_now(keeper: Connection) -> None:
    """A week back, as far ahead as clocks may be and a week more; once; with the index that reads want."""
    made = await make_partitions(keeper, MOMENT, max_ahead=DAY)
    days = of_measurements(made)
    assert (days[0], days[-1], len(days)) == ("2026-12-01", "2026-11-16", 16)
    assert {each.split()[0] for each in made} == set(TABLES)
    assert {"measurements_1h 2026-12-01", "measurements_1h 2026-11-01"} <= set(made)
    assert await make_partitions(keeper, MOMENT, max_ahead=DAY) == []
    again = await make_partitions(keeper, MOMENT + timedelta(minutes=2), max_ahead=DAY)
    assert of_measurements(again) == ["2026-12-02"]
    indexed = await keeper.fetchval(
        "SELECT count(*) FROM pg_indexes WHERE tablename LIKE 'measurements_p%'"
        " AND indexdef LIKE '%(device_id, ts)'"
    )
    assert indexed == 17


@pytest.mark.parametrize("max_ahead", [timedelta(minutes=5), DAY, timedelta(days=30)])
async def test_whatever_is_accepted_has_a_partition(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record], max_ahead: timedelta
) -> None:
    """The fastest clock that is believed, at a gateway that then is away for a week, fills no default."""
    now = datetime.now(UTC)
    await make_partitions(keeper, now, max_ahead=max_ahead)
    await insert(connection, now + max_ahead, now + max_ahead + timedelta(days=7), now - timedelta(days=7))
    assert await strays(connection) == 0


async def test_no_days_are_made_that_would_be_dropped(keeper: Connection) -> None:
    """With a retention shorter than a week, days beyond it get no partition."""
    made = await make_partitions(keeper, MOMENT, max_ahead=DAY, retention=timedelta(days=2))
    assert of_measurements(made)[-1] == "2026-11-21"


async def test_a_clock_that_jumped(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Rows of a day without a partition stay where they are and are read like any; the next days have one."""
    jumped = datetime(2026, 6, 1, 12, tzinfo=UTC)
    await insert(connection, jumped)
    made = of_measurements(await make_partitions(keeper, jumped, max_ahead=DAY))
    assert "2026-06-01" not in made
    assert "2026-06-02" in made
    await insert(connection, jumped + timedelta(seconds=1), jumped + DAY)
    assert await strays(connection) == 2
    assert await connection.fetchval("SELECT count(*) FROM measurements WHERE ts >= $1", jumped) == 3
    assert await make_partitions(keeper, jumped, max_ahead=DAY) == []


async def test_gateways_that_start_together(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """None of them fails for good, and each range is made once."""

    async def make() -> list[str]:
        async with lent(pool) as connection:
            while True:
                try:
                    return await make_partitions(connection, MOMENT, max_ahead=DAY)
                except Retry:
                    continue

    made = [each for each_made in await asyncio.gather(*(make() for _ in range(4))) for each in each_made]
    assert len(made) == len(set(made))
    async with lent(pool) as connection:
        assert await make_partitions(connection, MOMENT, max_ahead=DAY) == []


async def test_a_long_reader_delays_partitions_and_nobody_else(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record], database: str
) -> None:
    """While a report reads everything, batches commit and new days wait; afterwards they are made."""
    async with write_side(database) as side:
        async with connection.transaction():
            await connection.execute("SELECT count(*) FROM measurements")
            making = asyncio.create_task(make_partitions(keeper, datetime.now(UTC), max_ahead=DAY))
            payload = json.dumps({"id": "1", "ts": "2026-11-20T00:00:00Z", "x": 1}).encode()
            (outcome,) = await asyncio.wait_for(side.store.commit(*decode(payload)), 10)
            assert outcome.committed == 1
            with pytest.raises(Retry, match="measurements_default is in use"):
                await making
        assert len(await make_partitions(keeper, datetime.now(UTC), max_ahead=DAY)) >= 10


async def test_a_reader_of_one_day_delays_nothing(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Who reads a range of days, as dashboards do, holds back neither a new day nor a writer."""
    await make_partitions(keeper, MOMENT, max_ahead=DAY)
    async with connection.transaction():
        await connection.execute(
            "SELECT count(*) FROM measurements WHERE ts >= $1 AND ts < $2", MOMENT - DAY, MOMENT
        )
        assert len(of_measurements(await make_partitions(keeper, MOMENT + DAY, max_ahead=DAY))) == 1


# -- a large default partition -------------------------------------------------------------------------------


async def test_a_large_default_partition_is_not_read_by_attach(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days ahead are attached by what the server has proved before; days of now are left to the default."""
    monkeypatch.setattr(module, "_MOMENT_BYTES", 0)
    await insert(connection, MOMENT - timedelta(days=300), MOMENT + timedelta(days=4))
    said: list[str] = []

    def listen(_: object, message: object) -> None:
        said.append(str(message))

    keeper.add_log_listener(listen)
    await keeper.execute("SET client_min_messages = debug1")
    made = of_measurements(await make_partitions(keeper, MOMENT, max_ahead=DAY))
    assert made == ["2026-12-01", "2026-11-30", "2026-11-29", "2026-11-28", "2026-11-26", "2026-11-25"]
    keeper.remove_log_listener(listen)
    implied = [line for line in said if '"measurements_default" is implied by existing constraints' in line]
    assert len(implied) == len(made)
    await insert(connection, MOMENT, MOMENT + DAY, MOMENT + timedelta(days=5))
    assert await strays(connection) == 4
    assert await make_partitions(keeper, MOMENT, max_ahead=DAY) == []


async def test_writers_go_on_while_it_is_read(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between shutting and opening it rows are stored like always, those of days of now in it."""
    monkeypatch.setattr(module, "_MOMENT_BYTES", 0)
    await insert(connection, MOMENT)
    ahead = [MOMENT.replace(hour=0, minute=0) + timedelta(days=3)], [MOMENT + timedelta(days=9)]
    await keeper.execute(queries.shut_default_partition, "measurements", "ts", *ahead)
    async with keeper.transaction():
        await keeper.execute(queries.validate_default_partition, "measurements")
        await asyncio.wait_for(insert(connection, MOMENT + DAY, MOMENT - timedelta(days=400)), 10)
        assert await connection.fetchval("SELECT count(*) FROM measurements") == 3


async def test_killed_while_the_default_is_shut(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """What a gateway left shut the next one opens before anything else."""
    late = [MOMENT + timedelta(days=3)], [MOMENT + timedelta(days=9)]
    await keeper.execute(queries.shut_default_partition, "measurements", "ts", *late)
    with pytest.raises(asyncpg.CheckViolationError):
        await insert(connection, MOMENT + timedelta(days=4))
    await make_partitions(keeper, MOMENT - timedelta(days=60), max_ahead=DAY)
    await insert(connection, MOMENT + timedelta(days=4))
    assert await strays(connection) == 1


# -- what somebody else made ---------------------------------------------------------------------------------


async def test_a_table_by_the_name_of_a_day(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """It is named with what to do; every other day is made, and rows of that day have a place."""
    await connection.execute("CREATE TABLE measurements_p20261125 (x integer)")
    with pytest.raises(Retry, match=r"table measurements_p20261125 is there .* rename or drop it"):
        await make_partitions(keeper, MOMENT, max_ahead=DAY)
    await insert(connection, MOMENT + timedelta(hours=26), MOMENT)
    assert await strays(connection) == 1
    await connection.execute("DROP TABLE measurements_p20261125")
    assert await make_partitions(keeper, MOMENT, max_ahead=DAY) == [], "its rows are in the default by now"


async def test_partitions_of_other_bounds(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Those that cover a day are as good as ours; one that covers half of it is named."""
    await connection.execute(
        "CREATE TABLE week PARTITION OF measurements FOR VALUES FROM ('2026-11-20Z') TO ('2026-11-27Z')"
    )
    await connection.execute(
        "CREATE TABLE half PARTITION OF measurements FOR VALUES FROM ('2026-11-28Z') TO ('2026-11-28 12:00Z')"
    )
    with pytest.raises(Retry, match=r"for 2026-11-28: .*overlap.*half") as caught:
        await make_partitions(keeper, MOMENT, max_ahead=DAY)
    assert caught.value.reason.count("no partition") == 1
    names = await keeper.fetch("SELECT name FROM partitions_of('measurements') ORDER BY since")
    assert [each["name"] for each in names][4:6] == ["week", "measurements_p20261127"]
