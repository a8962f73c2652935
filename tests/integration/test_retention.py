"""Measurements that are too old, on a real PostgreSQL: added up, removed, their partitions dropped."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
from structlog.testing import capture_logs

from gateway import retention as retention_module
from gateway import stride as stride_module
from gateway.partitions import make_partitions
from gateway.retention import retire
from runtime.postgres import ERRORS, lent, load_queries, open_pool
from tests.support.measured import LARGEST, OLD, at, check_retired, history, insert, now, row
from tests.support.roles import as_kind
from tests.support.write_side import decode, write_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runtime.postgres import Connection
    from tests.support.write_side import WriteSide

queries = load_queries("gateway")
KEEP = timedelta(days=90)
WAITING_FOR_THE_DAY = (
    "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'ShareLock'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
)
AHEAD = timedelta(days=1)
EVERYTHING = (
    "SELECT (SELECT count(*) FROM measurements) + coalesce(sum(count), 0)"
    " FROM retired_statistics WHERE metric = ''"
)
END_KEEPER = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'keeper'"


@pytest.fixture
async def side(database: str) -> AsyncIterator[WriteSide]:
    """A gateway's store and pool on this test's database."""
    async with write_side(database) as made:
        yield made


@pytest.fixture
async def keeper(database: str) -> AsyncIterator[Connection]:
    """The connection of whoever does the chore."""
    settings = {"lock_timeout": "100ms"}
    async with (
        await open_pool(as_kind(database, "gateway"), name="keeper", settings=settings) as pool,
        lent(pool) as made,
    ):
        yield made


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection beside the pool's."""
    made = await asyncpg.connect(database)
    yield made
    await made.close()


async def partitions(connection: asyncpg.Connection[asyncpg.Record]) -> set[str]:
    rows = await connection.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'measurements'::regclass"
    )
    return {each["name"] for each in rows} - {"measurements_default"}


# -- behind --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_what_is_dropped_stays_in_the_statistics(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record], seed: int
) -> None:
    """Partitions and strays, in several rounds, add up to what the messages one by one come to."""
    rows = history(seed)
    await connection.execute("SELECT create_measurement_partitions($1, $2)", OLD, OLD + timedelta(days=1))
    kept = [row("kept", now(), x=1), row("future", now() + timedelta(days=1), x=2)]
    await insert(connection, [*rows[:250], *kept])
    assert await retire(keeper, now(), KEEP) == 250
    await check_retired(connection, rows[:250])
    await insert(connection, rows[250:])
    assert await retire(keeper, now(), KEEP) == 150
    await check_retired(connection, rows)
    assert await partitions(connection) == set()
    assert await connection.fetchval("SELECT count(*) FROM measurements") == len(kept)
    assert await retire(keeper, now(), KEEP) == 0


async def test_whole_days_only(keeper: Connection, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """A partition stays until its last instant is older than the retention."""
    today = now().date()
    await connection.execute("SELECT create_measurement_partitions($1, $2)", today - timedelta(days=4), today)
    midnight = at(today) + timedelta(days=1)
    await insert(connection, [row(str(i), at(today - timedelta(days=i), 5), x=1) for i in range(5)])
    assert await retire(keeper, midnight - timedelta(seconds=1), timedelta(days=3)) == 1
    assert len(await partitions(connection)) == 4


async def test_a_clock_that_is_ahead_drops_nothing_young(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Age is measured by the gateway's clock and the server's, and the younger counts."""
    await make_partitions(keeper, now(), max_ahead=AHEAD)
    await insert(connection, [row("1", now(), x=1), row("2", now() + timedelta(days=30), x=1)])
    assert await retire(keeper, now() + timedelta(days=3000), KEEP) == 0
    assert await connection.fetchval("SELECT count(*) FROM measurements") == 2


async def test_strays_leave_in_small_pieces(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the default partition are retired a piece a transaction, the young ones left alone."""
    monkeypatch.setattr(retention_module, "_PIECE_ROWS", 7)
    await insert(connection, [row(str(i), at(OLD, i), x=i) for i in range(30)])
    await insert(connection, [row("young", now() + timedelta(days=40), x=1)])
    assert await retire(keeper, now(), KEEP) == 30
    total = await connection.fetchrow("SELECT count, sum FROM retired_statistics WHERE metric = 'x'")
    assert total is not None
    assert tuple(total) == (30, 435.0)
    assert await connection.fetchval("SELECT count(*) FROM measurements") == 1


def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block a piece, and a partition whose room is given back before it is dropped."""
    monkeypatch.setattr(retention_module, "_SMALL_BLOCKS", 0)
    monkeypatch.setattr(stride_module, "_FIRST", 1)
    monkeypatch.setattr(stride_module, "_FEWEST", 1)
    monkeypatch.setattr(stride_module, "_SHORT_S", 0.0)


async def test_killed_between_pieces(
    keeper: Connection,
    connection: asyncpg.Connection[asyncpg.Record],
    monkeypatch: pytest.MonkeyPatch,
    database: str,
) -> None:
    """What was retired stays so, the next turn goes on, and every snapshot has each measurement once."""
    small_pieces(monkeypatch)
    await connection.execute("SELECT create_measurement_partitions($1, $2)", OLD, OLD + timedelta(days=3))
    rows = [each for seed in range(5) for each in history(seed)]
    await insert(connection, rows)
    retiring = asyncio.create_task(retire(keeper, now(), KEEP))
    while not (retiring.done() or await connection.fetchval("SELECT count(*) FROM retired_statistics")):
        assert await connection.fetchval(EVERYTHING) == len(rows)
    await connection.execute(END_KEEPER)
    with pytest.raises(ERRORS):
        await retiring
    left = await connection.fetchval("SELECT count(*) FROM measurements")
    assert 0 < left < len(rows)
    async with (
        await open_pool(as_kind(database, "gateway"), name="successor") as pool,
        lent(pool) as successor,
    ):
        retiring = asyncio.create_task(retire(successor, now(), KEEP))
        while not retiring.done():
            assert await connection.fetchval(EVERYTHING) == len(rows)
        assert await retiring == left
    await check_retired(connection, rows)
    assert await partitions(connection) == set()


async def test_a_day_that_takes_longer_than_a_statement_may(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is retired in pieces that are short enough, however many that takes."""
    monkeypatch.setattr(retention_module, "LONGEST_S", 0.5)
    monkeypatch.setattr(stride_module, "_FEWEST", 1)
    await connection.execute("SELECT create_measurement_partitions($1, $1)", OLD)
    await connection.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.001); RETURN OLD; END'"
    )
    await connection.execute(
        "CREATE TRIGGER slow BEFORE DELETE ON measurements_p20200301 FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    rows = [row(str(i), at(OLD, i), x=i) for i in range(1500)]
    await insert(connection, rows)
    assert await retire(keeper, now(), KEEP) > 0
    await check_retired(connection, rows)
    assert await partitions(connection) == set()


async def test_a_partition_is_as_old_as_its_bounds(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """One that somebody made by the name of an old day, for days until now, is left alone."""
    await connection.execute(
        "CREATE TABLE measurements_p20200301 PARTITION OF measurements"
        f" FOR VALUES FROM ('2020-03-01') TO ('{now():%F} 23:59')"
    )
    await insert(connection, [row("old", at(OLD), x=1)])
    assert await retire(keeper, now(), KEEP) == 0
    assert await connection.fetchval("SELECT count(*) FROM measurements") == 1


async def test_a_long_reader_delays_the_drop_and_nobody_else(
    side: WriteSide,
    keeper: Connection,
    connection: asyncpg.Connection[asyncpg.Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While a report reads everything, it sees everything, batches commit, and the partition stays."""
    monkeypatch.setattr(retention_module, "_ATTEMPTS", 3)
    monkeypatch.setattr(retention_module, "_PAUSE_S", 0.01)
    await connection.execute("SELECT create_measurement_partitions($1, $1)", OLD)
    rows = [row(str(i), at(OLD, i), x=i) for i in range(100)]
    await insert(connection, rows)
    async with connection.transaction(isolation="repeatable_read"):
        assert await connection.fetchval("SELECT count(*) FROM measurements") == 100
        retiring = asyncio.create_task(retire(keeper, now(), KEEP))
        for i in range(20):
            payload = json.dumps({"id": f"w{i}", "ts": "2026-11-20T00:00:00Z", "x": 1}).encode()
            await asyncio.wait_for(side.store.commit(*decode(payload)), 10)
        assert await retiring == 100
        assert await connection.fetchval("SELECT count(*) FROM measurements") == 100
    assert await partitions(connection) == {"measurements_p20200301"}
    assert await retire(keeper, now(), KEEP) == 0
    assert await partitions(connection) == set()
    await check_retired(connection, rows)


async def test_a_row_that_comes_while_its_day_is_retired(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record], database: str
) -> None:
    """A late row keeps its partition from being dropped; the next turn takes both."""
    await connection.execute("SELECT create_measurement_partitions($1, $1)", OLD)
    rows = [row(str(i), at(OLD, i), x=i) for i in range(3)]
    await insert(connection, rows[:2])
    watcher = await asyncpg.connect(database)
    async with connection.transaction():
        await insert(connection, rows[2:])
        retiring = asyncio.create_task(retire(keeper, now(), KEEP))
        async with asyncio.timeout(20):
            while not await watcher.fetchval(WAITING_FOR_THE_DAY):
                await watcher.execute("SELECT pg_sleep(0.01)")
    assert await retiring == 2
    assert await watcher.fetchval(EVERYTHING) == 3
    assert await watcher.fetchval("SELECT count(*) FROM measurements") == 1
    assert await retire(keeper, now(), KEEP) == 1
    await check_retired(connection, rows)
    assert await partitions(connection) == set()
    await watcher.close()


async def test_a_row_that_somebody_holds(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A day with a row that is being changed waits for another turn, the days beside it do not."""
    await connection.execute("SELECT create_measurement_partitions($1, $2)", OLD, OLD + timedelta(days=1))
    await insert(connection, [row("1", at(OLD)), row("2", at(OLD, 90_000))])
    async with connection.transaction():
        await connection.execute("SELECT FROM measurements_p20200301 FOR UPDATE")
        with capture_logs() as logs:
            assert await retire(keeper, now(), KEEP) == 1
    assert [line["partition"] for line in logs if line["event"] == "retirement_postponed"] == [
        "measurements_p20200301"
    ]
    assert await partitions(connection) == {"measurements_p20200301"}
    assert await retire(keeper, now(), KEEP) == 1


async def test_sums_stay_finite(keeper: Connection, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Readings that add up to more than a double holds saturate, within a round and across rounds."""
    for turn in range(2):
        await insert(connection, [row(f"{turn}-{i}", at(OLD, i), x=1.7e308, y=-1e308) for i in range(2)])
        await retire(keeper, now(), KEEP)
    sums = await connection.fetch("SELECT sum FROM retired_statistics WHERE metric <> '' ORDER BY metric")
    assert [each["sum"] for each in sums] == [LARGEST, -LARGEST]
