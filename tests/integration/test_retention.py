"""Day partitions of `measurements` on a real PostgreSQL: made ahead of time, dropped behind."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import pytest

from gateway import retention as retention_module
from gateway.retention import make_partitions, retire
from runtime.postgres import load_queries
from tests.support.write_side import decode, write_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from tests.support.write_side import WriteSide

queries = load_queries("gateway")
OLD = date(2020, 3, 1)
KEEP = timedelta(days=90)
WAITING_FOR_THE_DAY = (
    "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'ShareLock'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
)
LARGEST = 1.79769313486231e308


class Row(NamedTuple):
    device_id: str
    ts: datetime
    received_at: datetime
    message_key: str
    region: str | None
    metrics: str


@pytest.fixture
async def side(database: str) -> AsyncIterator[WriteSide]:
    """A gateway's store and pool on this test's database."""
    async with write_side(database) as made:
        yield made


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection beside the pool's."""
    made = await asyncpg.connect(database)
    yield made
    await made.close()


def now() -> datetime:
    return datetime.now(UTC)


def at(day: date, seconds: float = 0) -> datetime:
    return datetime.combine(day, time(), UTC) + timedelta(seconds=seconds)


def row(key: str, ts: datetime, device: str = "a1", region: str | None = None, **metrics: object) -> Row:
    return Row(device, ts, ts, key, region, json.dumps(metrics))


async def insert(connection: asyncpg.Connection[asyncpg.Record], rows: Iterable[Row]) -> None:
    await connection.copy_records_to_table("measurements", records=rows, columns=Row._fields)


async def partitions(connection: asyncpg.Connection[asyncpg.Record]) -> set[str]:
    rows = await connection.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'measurements'::regclass"
    )
    return {each["name"] for each in rows} - {"measurements_default"}


# -- ahead ---------------------------------------------------------------------------------------------------


async def test_days_are_made_around_now(side: WriteSide) -> None:
    """A week back and three days ahead, once; each with the index that reads want."""
    moment = datetime(2026, 11, 23, 23, 59, tzinfo=UTC)
    made = await make_partitions(side.pool, moment, None)
    assert (made[0], made[-1], len(made)) == (date(2026, 11, 26), date(2026, 11, 16), 11)
    assert await make_partitions(side.pool, moment, None) == []
    assert await make_partitions(side.pool, moment + timedelta(minutes=2), None) == [date(2026, 11, 27)]
    indexed = await side.pool.fetchval(
        "SELECT count(*) FROM pg_indexes WHERE tablename LIKE 'measurements_p%'"
        " AND indexdef LIKE '%(device_id, ts)'"
    )
    assert indexed == 12


async def test_no_days_are_made_that_would_be_dropped(side: WriteSide) -> None:
    """With a retention shorter than a week, days beyond it get no partition."""
    made = await make_partitions(side.pool, datetime(2026, 11, 23, 12, tzinfo=UTC), timedelta(days=2))
    assert made[-1] == date(2026, 11, 21)


async def test_a_gateway_that_was_away_for_weeks(side: WriteSide) -> None:
    """Its first look makes today and what is ahead, before a batch is written."""
    start = datetime(2026, 11, 1, tzinfo=UTC)
    await make_partitions(side.pool, start, None)
    made = await make_partitions(side.pool, start + timedelta(days=21), None)
    assert {date(2026, 11, 22), date(2026, 11, 25)} <= set(made)


async def test_a_clock_that_jumped(side: WriteSide, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Rows of a day without a partition stay where they are and are read like any; the next days have one."""
    await make_partitions(side.pool, datetime(2026, 1, 1, tzinfo=UTC), None)
    jumped = datetime(2026, 6, 1, 12, tzinfo=UTC)
    await insert(connection, [row("1", jumped, x=1)])
    made = await make_partitions(side.pool, jumped, None)
    assert jumped.date() not in made
    assert jumped.date() + timedelta(days=1) in made
    await insert(connection, [row("2", jumped, x=2), row("3", jumped + timedelta(days=1), x=3)])
    assert await connection.fetchval("SELECT count(*) FROM measurements_default") == 2
    assert await connection.fetchval("SELECT count(*) FROM measurements WHERE ts >= $1", jumped) == 3
    assert await make_partitions(side.pool, jumped, None) == []


async def test_gateways_that_start_together(side: WriteSide) -> None:
    """Each day is made once between them, and none of them fails."""
    made = await asyncio.gather(
        *(make_partitions(side.pool, datetime(2026, 11, 23, tzinfo=UTC), None) for _ in range(4))
    )
    again = await make_partitions(side.pool, datetime(2026, 11, 23, tzinfo=UTC), None)
    assert sum(map(len, made)) + len(again) == 11


async def test_a_long_reader_delays_partitions_and_nobody_else(
    side: WriteSide, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """While a report reads everything, batches commit and new days wait; afterwards they are made."""
    async with connection.transaction():
        await connection.execute("SELECT count(*) FROM measurements")
        making = asyncio.create_task(make_partitions(side.pool, now(), None))
        payload = json.dumps({"id": "1", "ts": "2026-11-20T00:00:00Z", "x": 1}).encode()
        (outcome,) = await asyncio.wait_for(side.store.commit(*decode(payload)), 10)
        assert outcome.committed == 1
        assert await making == []
    assert len(await make_partitions(side.pool, now(), None)) >= 10


async def test_a_reader_of_one_day_delays_nothing(
    side: WriteSide, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Who reads a range of days, as dashboards do, holds back neither a new day nor a writer."""
    await make_partitions(side.pool, now(), None)
    async with connection.transaction():
        await connection.execute(
            "SELECT count(*) FROM measurements WHERE ts >= $1 AND ts < $2", at(now().date()), now()
        )
        assert len(await make_partitions(side.pool, now() + timedelta(days=1), None)) == 1


# -- behind --------------------------------------------------------------------------------------------------


def history(seed: int, days: int = 3) -> list[Row]:
    """Messages of a few devices over some days, with everything in them that statistics trip over."""
    rng = random.Random(seed)  # noqa: S311  # test data
    keys = ["a", "B", "é", "a\x01", "a b", "\U0001f600", "10", "9"]
    rows = []
    for i in range(400):
        ts = at(OLD, rng.randrange(days * 86_400 * 4) / 4 if i % 3 else rng.choice([0.5, 86_400.25]))
        metrics: dict[str, object] = {"x": rng.choice([rng.uniform(-50, 50), rng.randrange(-9, 9), -0.0])}
        if rng.random() < 0.3:
            metrics["on"] = rng.random() < 0.5
        if rng.random() < 0.3:
            metrics["state"] = rng.choice(["idle", 'it\'s \\ odd "é"', "", 7])
        if rng.random() < 0.1:
            metrics |= {"big": 2**53 + rng.randrange(1000), "huge": 1.5e308, "tiny": 5e-324}
        received = at(OLD, 9e5 + rng.randrange(10**6))
        region = rng.choice(["north", "south", None])
        key = rng.choice(keys) + rng.choice(["", str(i)])
        rows.append(Row(f"d{i % 4}", ts, received, key, region, json.dumps(metrics)))
    return rows


def expected(rows: list[Row]) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    """The statistics by the rules of `retired_statistics`, computed from the messages one by one."""
    values: dict[tuple[str, str, str], list[tuple[tuple[Any, ...], Any]]] = defaultdict(list)
    for each in rows:
        place = each.ts, each.message_key.encode(), each.received_at
        for name, value in [("", None), *json.loads(each.metrics, parse_int=float).items()]:
            values[each.device_id, each.region or "", name].append((place, value))
    result = {}
    for group, found in values.items():
        numbers = [float(value) for _, value in found if isinstance(value, (bool, int, float))]
        newest = max(place for place, _ in found)
        candidates = [value for place, value in found if place == newest]
        total = float(max(-LARGEST, min(LARGEST, sum(map(Fraction, numbers))))) if numbers else None
        result[group] = (
            len(numbers) if group[2] else len(found),
            total,
            min(numbers, default=None),
            max(numbers, default=None),
            candidates,
            (newest[0], newest[1].decode(), newest[2]),
        )
    return result


async def check_retired(connection: asyncpg.Connection[asyncpg.Record], rows: list[Row]) -> None:
    found = {
        (each["device_id"], each["region"], each["metric"]): each
        for each in await connection.fetch("SELECT * FROM retired_statistics")
    }
    wanted = expected(rows)
    assert found.keys() == wanted.keys()
    for group, (count, total, low, high, last, mark) in wanted.items():
        got = found[group]
        assert (got["count"], got["min"], got["max"]) == (count, low, high), group
        assert got["sum"] == (None if total is None else pytest.approx(total, rel=1e-9, abs=1e-9)), group
        assert (got["last_ts"], got["last_key"], got["last_received_at"]) == mark, group
        value = None if got["last_value"] is None else json.loads(got["last_value"], parse_int=float)
        assert value in last, group


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_what_is_dropped_stays_in_the_statistics(
    side: WriteSide, connection: asyncpg.Connection[asyncpg.Record], seed: int
) -> None:
    """Partitions and strays, in several rounds, add up to what the messages one by one come to."""
    rows = history(seed)
    await connection.execute("SELECT create_measurement_partitions($1, $2)", OLD, OLD + timedelta(days=1))
    kept = [row("kept", now(), x=1), row("future", now() + timedelta(days=1), x=2)]
    await insert(connection, [*rows[:250], *kept])
    assert await retire(side.pool, now(), KEEP) == 250
    await check_retired(connection, rows[:250])
    await insert(connection, rows[250:])
    assert await retire(side.pool, now(), KEEP) == 150
    await check_retired(connection, rows)
    assert await partitions(connection) == set()
    assert await connection.fetchval("SELECT count(*) FROM measurements") == len(kept)
    assert await retire(side.pool, now(), KEEP) == 0


async def test_whole_days_only(side: WriteSide, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """A partition stays until its last instant is older than the retention."""
    today = now().date()
    await connection.execute("SELECT create_measurement_partitions($1, $2)", today - timedelta(days=4), today)
    midnight = at(today) + timedelta(days=1)
    await insert(connection, [row(str(i), at(today - timedelta(days=i), 5), x=1) for i in range(5)])
    assert await retire(side.pool, midnight - timedelta(seconds=1), timedelta(days=3)) == 1
    assert len(await partitions(connection)) == 4


async def test_a_clock_that_is_ahead_drops_nothing_young(
    side: WriteSide, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Age is measured by the gateway's clock and the server's, and the younger counts."""
    await make_partitions(side.pool, now(), None)
    await insert(connection, [row("1", now(), x=1), row("2", now() + timedelta(days=30), x=1)])
    assert await retire(side.pool, now() + timedelta(days=3000), KEEP) == 0
    assert await connection.fetchval("SELECT count(*) FROM measurements") == 2


async def test_strays_leave_in_small_pieces(
    side: WriteSide, connection: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the default partition are retired a piece a transaction, the young ones left alone."""
    monkeypatch.setattr(retention_module, "_PIECE_ROWS", 7)
    await insert(connection, [row(str(i), at(OLD, i), x=i) for i in range(30)])
    await insert(connection, [row("young", now() + timedelta(days=40), x=1)])
    assert await retire(side.pool, now(), KEEP) == 30
    total = await connection.fetchrow("SELECT count, sum FROM retired_statistics WHERE metric = 'x'")
    assert total is not None
    assert tuple(total) == (30, 435.0)
    assert await connection.fetchval("SELECT count(*) FROM measurements") == 1


async def test_gateways_that_retire_at_once(
    side: WriteSide, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Several gateways retire each measurement once between them."""
    await connection.execute("SELECT create_measurement_partitions($1, $2)", OLD, OLD + timedelta(days=2))
    rows = history(4, days=5)
    await insert(connection, rows)
    done = await asyncio.gather(*(retire(side.pool, now(), KEEP) for _ in range(4)))
    retired = sum(done) + await retire(side.pool, now(), KEEP)
    assert retired == len(rows)
    await check_retired(connection, rows)


async def test_a_long_reader_delays_the_drop_and_nobody_else(
    side: WriteSide, connection: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a report reads everything, batches commit and nothing is retired; afterwards it is, once."""
    monkeypatch.setattr(retention_module, "_ATTEMPTS", 3)
    monkeypatch.setattr(retention_module, "_PAUSE_S", 0.01)
    await connection.execute("SELECT create_measurement_partitions($1, $1)", OLD)
    rows = [row(str(i), at(OLD, i), x=i) for i in range(100)]
    await insert(connection, rows)
    async with connection.transaction(isolation="repeatable_read"):
        assert await connection.fetchval("SELECT count(*) FROM measurements") == 100
        retiring = asyncio.create_task(retire(side.pool, now(), KEEP))
        for i in range(20):
            payload = json.dumps({"id": f"w{i}", "ts": "2026-11-20T00:00:00Z", "x": 1}).encode()
            await asyncio.wait_for(side.store.commit(*decode(payload)), 10)
        assert await retiring == 0
        assert await connection.fetchval("SELECT count(*) FROM measurements") == 100
    assert await connection.fetchval("SELECT count(*) FROM retired_statistics") == 0
    assert await retire(side.pool, now(), KEEP) == 100
    await check_retired(connection, rows)


async def test_a_row_that_comes_while_its_day_is_retired(
    side: WriteSide, connection: asyncpg.Connection[asyncpg.Record], database: str
) -> None:
    """A late row that was not added up keeps its partition from being dropped; the next turn takes both."""
    await connection.execute("SELECT create_measurement_partitions($1, $1)", OLD)
    rows = [row(str(i), at(OLD, i), x=i) for i in range(3)]
    await insert(connection, rows[:2])
    watcher = await asyncpg.connect(database)
    async with connection.transaction():
        await insert(connection, rows[2:])
        retiring = asyncio.create_task(retire(side.pool, now(), KEEP))
        async with asyncio.timeout(20):
            while not await watcher.fetchval(WAITING_FOR_THE_DAY):
                await watcher.execute("SELECT pg_sleep(0.01)")
    assert await retiring == 0
    assert await watcher.fetchval("SELECT count(*) FROM measurements") == 3
    assert await watcher.fetchval("SELECT count(*) FROM retired_statistics") == 0
    assert await retire(side.pool, now(), KEEP) == 3
    await check_retired(connection, rows)
    await watcher.close()


async def test_sums_stay_finite(side: WriteSide, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Readings that add up to more than a double holds saturate, within a round and across rounds."""
    for turn in range(2):
        await insert(connection, [row(f"{turn}-{i}", at(OLD, i), x=1.7e308, y=-1e308) for i in range(2)])
        await retire(side.pool, now(), KEEP)
    sums = await connection.fetch("SELECT sum FROM retired_statistics WHERE metric <> '' ORDER BY metric")
    assert [each["sum"] for each in sums] == [LARGEST, -LARGEST]
