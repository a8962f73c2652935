"""History on a real PostgreSQL: each event once, in its own minute, whatever happens on the way."""

from __future__ import annotations

import asyncio
import math
import random
import threading
from collections import defaultdict
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from contract.events import Event, Scalar, encode_events, format_time
from projector.history import memory as memory_module
from projector.history import recorder as recorder_module
from projector.history.audit import Auditor
from projector.history.minutes import PLACE_SIZE, ROW_SIZE, Minutes
from projector.history.recorder import Recorder
from projector.history.store import Span, Store, add
from projector.lag import Freshness
from projector.meters import Meters
from projector.outbox import Outbox, queries
from runtime.errors import Stop
from runtime.http import Health
from tests.support.committed import Committed, raw
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    import asyncpg

    from projector.history.minutes import Columns
    from projector.history.store import Mean
    from runtime.postgres import Connection

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)
METRICS: list[dict[str, Scalar]] = [{"t": 1}, {"t": 2.5, "u": 1e300}, {"t": True}, {"t": "x", "u": -3}, {}]
TABLES = ("measurements_1m", "measurements_1h", "regions_1m", "regions_1h")
BLOCKED = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


class Reader:
    """A recorder with what it stands on."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self.health = Health()
        self.shown: list[Mean] = []
        self.meters = Meters(CollectorRegistry())
        self.recorder = Recorder(
            Store(pool),
            Outbox(pool, "history"),
            auditor=Auditor(pool),
            shown=self._show,
            health=self.health,
            meters=self.meters,
            now=lambda: NOW,
        )

    async def _show(self, means: list[Mean]) -> None:
        self.shown += means

    async def turn(self, *, flush: bool = True) -> None:
        """Twice, because what has just been committed is given a turn to come by itself."""
        for _ in range(2):
            await self.recorder.turn(flush=flush)


class Plant(NamedTuple):
    """A database with a write side and a recorder."""

    pool: asyncpg.Pool[asyncpg.Record]
    projector: asyncpg.Pool[asyncpg.Record]
    written: Committed
    reader: Reader
    auditor: Auditor

    def another(self) -> Reader:
        """One more recorder, as of another projector."""
        return Reader(self.projector)

    async def history(self) -> dict[tuple[str, ...], tuple[object, ...]]:
        """(table, id, metric, bucket) → count, sum, min, max and, of devices, region."""
        found: dict[tuple[str, ...], tuple[object, ...]] = {}
        for table in TABLES:
            for row in await self.pool.fetch(f"SELECT * FROM {table}"):  # noqa: S608  # of four
                key = table, row.get("device_id") or row["region"], row["metric"], format_time(row["bucket"])
                region = (row["region"],) if table.startswith("m") else ()
                found[key] = row["count"], pytest.approx(row["sum"]), row["min"], row["max"], *region
        return found


@asynccontextmanager
async def planted(dsn: str) -> AsyncIterator[Plant]:
    async with open_pools(dsn) as pools:
        own = pools.projector
        yield Plant(pools.owner, own, Committed(pools), Reader(own), Auditor(own))


@pytest.fixture
async def plant(database: str) -> AsyncIterator[Plant]:
    """Nothing committed yet."""
    async with planted(database) as made:
        yield made


def event(
    device: str,
    seconds: float,
    *,
    region: str | None = "north",
    metrics: dict[str, Scalar] | None = None,
    **more: Scalar,
) -> Event:
    """An event so many seconds past nine."""
    ts = format_time(NINE + timedelta(seconds=seconds))
    return Event(device, region, ts, "2026-11-23T10:00:00.000000Z", uuid4().hex, {**(metrics or {}), **more})


def expected(events: Iterable[Event]) -> dict[tuple[str, ...], tuple[object, ...]]:
    """History by its definition, the slow way."""
    groups: defaultdict[tuple[str, ...], list[tuple[Event, float]]] = defaultdict(list)
    for each in events:
        for metric, value in each.metrics.items():
            if isinstance(value, str):
                continue
            for size, zeros in ((16, ":00.000000Z"), (13, ":00:00.000000Z")):
                bucket = each.ts[:size] + zeros
                name = "1m" if size == 16 else "1h"
                groups[f"measurements_{name}", each.device_id, metric, bucket].append((each, float(value)))
                groups[f"regions_{name}", each.region or "", metric, bucket].append((each, float(value)))
    result = {}
    for key, members in groups.items():
        values = [value for _, value in members]
        named = max(((e.ts, e.region) for e, _ in members if e.region), default=(None, None))[1]
        region = (named,) if key[0].startswith("m") else ()
        result[key] = len(values), pytest.approx(sum(values)), min(values), max(values), *region
    return result


def quiet(_done: int, _of: int) -> None:
    """Show no progress."""


async def test_each_event_in_its_own_minute(plant: Plant) -> None:
    """Numbers are counted by device and region, by minute and hour; late ones where they belong."""
    await plant.written.commit(
        event("a", 1, t=1.5, ok=True, s="x"), event("a", 59.999, t=2), event("b", 60, t=3)
    )
    await plant.written.commit(
        event("a", 3, region="south", t=-4), event("a", 1800, region=None, t=5, late=1)
    )
    await plant.reader.turn()
    await plant.written.commit(event("a", 2, t=100), event("a", -7200, t=7), event("b", 61, region="", t=0.5))
    await plant.reader.turn()
    assert await plant.history() == expected(plant.written.events)
    row = await plant.pool.fetchrow(
        "SELECT * FROM measurements_1m WHERE device_id = 'a' AND bucket = $1", NINE
    )
    assert row is not None
    assert (row["metric"], row["region"], row["region_at"]) in {
        ("t", "north", NINE + timedelta(seconds=59.999)),
        ("ok", "north", NINE + timedelta(seconds=1)),
    }
    found = await plant.auditor.verify(quiet, limit=9)
    assert (found.equal, found.differences, found.cursors) == (True, [], {0: 3})


@pytest.mark.parametrize("seed", range(4))
async def test_any_way_to_the_same_history(plant: Plant, seed: int) -> None:
    """Rows handed over late, twice, with gaps or not at all, to two recorders that write at any time."""
    rng = random.Random(seed)  # noqa: S311  # a test's choice
    both = [plant.reader, plant.another()]
    for turn in range(40):
        events = [
            event(
                f"d{rng.randrange(4)}",
                rng.choice([0, 0, 0, 30, 61, 4000, -90_000]) + rng.randrange(40),
                region=rng.choice([None, "north", "south"]),
                metrics=rng.choice(METRICS),
            )
            for _ in range(rng.randrange(6))
        ]
        await plant.written.commit(*events, stream=rng.randrange(2))
        for each in both:
            stream = rng.randrange(2)
            by_stream = [row for row in plant.written.rows if row.stream == stream]
            start = rng.randrange(max(1, len(by_stream) - 3), len(by_stream) + 1) if by_stream else 0
            if rows := by_stream[start - 1 :]:
                each.recorder.take(rows)
            if rng.random() < 0.3:
                await each.recorder.turn(flush=rng.random() < 0.5)
        if not turn % 5:
            await open_from(plant, NINE + timedelta(hours=rng.randrange(-2, 3)))
        if not turn % 8:
            assert (await plant.auditor.verify(quiet, limit=3)).differences == []
    await plant.reader.turn()
    await Store(plant.projector).make_hours()
    assert await plant.history() == expected(plant.written.events)
    heads = await plant.pool.fetch("SELECT stream, head FROM streams")
    cursors = await plant.pool.fetch("SELECT stream, n FROM projections WHERE projection = 'history'")
    assert sorted(map(tuple, cursors)) == sorted(map(tuple, heads))


async def test_what_comes_by_itself_is_not_read(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that follow without a gap are taken as they come; the outbox is not asked for them."""
    await plant.written.commit(event("a", 1, t=1))
    await plant.reader.turn()

    async def never(*_arguments: object) -> None:
        pytest.fail("the outbox was read")

    monkeypatch.setattr(Outbox, "page", never)
    for second in range(2, 6):
        plant.reader.recorder.take([await plant.written.commit(event("a", second, t=1))])
        await plant.reader.turn(flush=False)
    assert await plant.history() == expected(plant.written.events[:1]), "it is lazy"
    await plant.reader.turn()
    assert await plant.history() == expected(plant.written.events)


async def test_a_minute_is_written_once_when_it_is_over(plant: Plant) -> None:
    """Nothing is written before a row of the next minute has come, and then once, with all that was sent."""
    await plant.written.commit(event("a", -60, t=1), at=NINE - timedelta(minutes=1))
    await plant.reader.turn()
    versions: defaultdict[tuple[str, datetime], set[int]] = defaultdict(set)
    written_at = []
    for second in range(0, 130, 10):
        events = (
            event("a", second, t=second),
            event("ahead", second + 3600, t=1),
            event("b", second - 0.5, t=1),
        )
        row = await plant.written.commit(*events, at=NINE + timedelta(seconds=second))
        plant.reader.recorder.take([row])
        before = await plant.history()
        await plant.reader.turn(flush=False)
        if before != await plant.history():
            written_at.append(second)
            assert await plant.history() == expected(plant.written.events[:-3])
        for found in await plant.pool.fetch("SELECT device_id, bucket, xmin::text::int FROM open_minutes"):
            versions[found["device_id"], found["bucket"]].add(found["xmin"])
    assert written_at == [60, 120], "not before the minute is over, and once"
    twice = [key for key, each in versions.items() if len(each) > 1]
    assert twice == [("b", NINE)], "it was under way when the minute ended"
    await plant.reader.turn()
    assert await plant.history() == expected(plant.written.events)


async def test_a_flood_of_yesterdays_data(plant: Plant) -> None:
    """What devices had stored while they were away is merged at once into what is there."""
    await plant.written.commit(
        *(event("a", -86_400 + minute * 60, t=minute) for minute in range(200)), at=NINE
    )
    await plant.reader.turn()
    for part in range(20):
        rows = (event(f"d{i % 5}", -86_400 + i * 30 + part, t=i) for i in range(part * 20, part * 20 + 20))
        late = (event("a", -86_400 + i * 60 + 1, t=i) for i in range(part * 10, part * 10 + 10))
        row = await plant.written.commit(*rows, *late, at=NINE + timedelta(seconds=part))
        plant.reader.recorder.take([row])
    with capture_logs() as logs:
        await plant.reader.turn()
    assert [line["last"] for line in logs if line["event"] == "history_written"] == [21], "one transaction"
    assert await plant.history() == expected(plant.written.events)


async def open_from(plant: Plant, hour: datetime) -> None:
    """Let two hours be open, as if it were that time; those that were are made first."""
    plant.reader.recorder._hours_at = math.inf  # it would see that it is not
    await Store(plant.projector).make_hours()
    await plant.pool.execute("UPDATE rollups SET open_since = $1 WHERE rollup = '1h'", hour)


async def test_an_hour_is_made_of_its_minutes(plant: Plant) -> None:
    """An open hour is begun with its first minute, then left alone until it is made; late ones are added."""
    store = Store(plant.projector)
    await open_from(plant, NINE)
    for minute in (0, 1, 61, 121, -1):
        for device in "ab":
            await plant.written.commit(event(device, minute * 60, t=minute), event(device, minute * 60, t=7))
        await plant.reader.turn()
    hour = "SELECT sum FROM measurements_1h WHERE device_id = 'a' AND bucket = $1"
    assert await plant.pool.fetchval(hour, NINE) == 7
    assert (await plant.auditor.verify(quiet, limit=9)).equal, "it goes by its minutes"
    assert await plant.pool.fetchval(hour, NINE + timedelta(hours=2)) == 128, "not open"
    await store.make_hours()
    assert not await store.hours_due()
    assert await plant.history() == expected(plant.written.events)
    before = await plant.pool.fetch("SELECT xmin::text FROM measurements_1h ORDER BY device_id, bucket")
    await open_from(plant, NINE)
    await store.make_hours()
    assert before == await plant.pool.fetch(
        "SELECT xmin::text FROM measurements_1h ORDER BY device_id, bucket"
    )
    await plant.written.commit(event("a", 30, region="south", t=5))
    await plant.reader.turn()
    assert await plant.history() == expected(plant.written.events)


async def test_an_hour_is_made_when_what_waited_is_read(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was behind does not show the first minute of an open hour alone until the next ten are over."""
    monkeypatch.setattr(memory_module, "FLUSH_SIZE", 1)
    monkeypatch.setattr(plant.reader.recorder, "_hours_at", float("inf"))
    await open_from(plant, NINE)
    for minute in range(4):
        await plant.written.commit(event("a", minute * 60, t=1))
    for _ in range(2):  # what has been committed is read a turn later
        await plant.reader.turn()
    assert await plant.pool.fetchval("SELECT sum FROM measurements_1h WHERE bucket = $1", NINE) == 4
    made = await plant.pool.fetchval(made_at := "SELECT made_at FROM rollups WHERE rollup = '1h'")
    for minute in range(4, 8):  # who never catches up has other things to do
        await plant.written.commit(event("a", minute * 60, t=1))
        await plant.reader.turn()
    assert await plant.pool.fetchval(made_at) == made


async def test_hours_are_made_once_by_two(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who had to wait for another that made them finds that they are not due any more."""
    store = Store(plant.projector)
    await open_from(plant, NINE)
    monkeypatch.setattr(plant.reader.recorder, "_hours_at", 0.0)
    made = "SELECT made_at, xmin::text FROM rollups WHERE rollup = '1h'"
    async with store.turn() as connection:
        turn = asyncio.create_task(plant.reader.recorder.turn())
        while not await plant.pool.fetchval(BLOCKED):  # noqa: ASYNC110  # PostgreSQL tells nobody
            await asyncio.sleep(0.01)
        await connection.execute(queries.make_hours)
        before = await connection.fetchrow(made)
    await turn
    assert await plant.pool.fetchrow(made) == before


async def test_what_is_added_is_summed_up_beside_the_loop(plant: Plant) -> None:
    """A large minute holds up nobody while it is written."""
    row = await plant.written.commit(event("a", 1, t=1))
    store, threads = Store(plant.projector), set()

    class Watched(Minutes):
        def devices(self) -> Iterator[Columns]:
            threads.add(threading.current_thread())
            yield from super().devices()

    minutes = Watched()
    minutes.add(row.events)
    assert await store.begin(0)
    async with store.turn() as connection:
        assert await add(connection, Span(0, row.epoch, 0, 1, []), minutes) is not None
    assert threads
    assert threading.main_thread() not in threads


async def test_open_hours_are_mended(plant: Plant) -> None:
    """A rebuild makes the hours that are open anew, those that should not be there too."""
    await open_from(plant, NINE)
    for second in (1, 61):
        await plant.written.commit(event("a", second, t=second))
        await plant.reader.turn()
    await plant.pool.execute(
        "INSERT INTO measurements_1h SELECT 'ghost', metric, bucket, region, region_at, count, sum, min, max "
        "FROM measurements_1h; UPDATE open_minutes SET count = 9"
    )
    await plant.auditor.rebuild(quiet)
    assert await plant.history() == expected(plant.written.events)


async def test_a_quiet_minute_is_written_too(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing comes any more nobody waits for a next minute; nor when clocks were set back."""
    for limit in ("QUIET_S", "LONGEST_S"):
        await plant.written.commit(event("a", 1, t=1), at=NINE)
        await plant.reader.turn()
        await plant.written.commit(event("a", 2, t=1), at=NINE - timedelta(hours=1))
        await plant.reader.turn(flush=False)
        assert await plant.history() == expected(plant.written.events[:-1])
        with monkeypatch.context() as patch:
            patch.setattr(memory_module, limit, 0.0)
            await plant.reader.turn(flush=False)
        assert await plant.history() == expected(plant.written.events)


async def test_killed_with_minutes_in_memory(plant: Plant) -> None:
    """What a projector had in memory when it died is read again by the next, each event once."""
    reader = plant.reader
    for minute in range(5):
        for second in (1, 20, 59):
            at = NINE + timedelta(minutes=minute, seconds=second)
            late = event("late", minute * 60 + second - 50, t=1)
            row = await plant.written.commit(event("a", minute * 60 + second, t=1), late, at=at)
            reader.recorder.take([row])
            await reader.turn(flush=False)
        reader = plant.another()
        assert (await plant.auditor.verify(quiet, limit=3)).differences == []
    await reader.turn()
    assert await plant.history() == expected(plant.written.events)


async def test_rows_of_a_lost_time_are_not_written(plant: Plant) -> None:
    """A database that is restored has a history that fits it; what was in memory of a lost time is not."""
    kept = await plant.written.commit(event("a", 1, t=1))
    await plant.reader.turn()
    backup = await plant.pool.fetch("SELECT * FROM projections")
    lost = [await plant.written.commit(event("a", second, t=99)) for second in (2, 3)]
    plant.reader.recorder.take(lost[:1])
    await plant.reader.recorder.turn()
    async with plant.pool.acquire() as connection, connection.transaction():  # as a backup would have it
        await connection.execute(
            "DELETE FROM measurements WHERE metrics->>'t' = '99'; DELETE FROM outbox WHERE n > 1"
        )
        await connection.execute("UPDATE stream_leases SET head = 1, epoch = $1", uuid4())
        assert [row["n"] for row in backup] == [1]
    plant.reader.recorder.take(lost[1:])
    plant.written.rows[:] = [kept]
    await plant.reader.turn()
    for second in (4, 5, 6):
        await plant.written.commit(event("a", second, t=2))
    await plant.reader.turn()
    assert await plant.history() == expected(plant.written.events)


async def test_rows_in_place_of_lost_ones(plant: Plant) -> None:
    """A restored database, its epoch the same, has come further than memory when looked at: it counts."""
    kept = await plant.written.commit(event("a", 1, t=1))
    await plant.reader.turn()
    lost = [await plant.written.commit(event("a", second, t=99)) for second in (2, 3)]
    plant.reader.recorder.take(lost)
    async with plant.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "DELETE FROM measurements WHERE metrics->>'t' = '99'; DELETE FROM outbox WHERE n > 1"
        )
        await connection.execute("UPDATE stream_leases SET head = 1")
    plant.written.rows[:] = [kept]
    for second in (4, 5, 6):
        await plant.written.commit(event("a", second, t=2))
    plant.reader.recorder.take(plant.written.rows[-1:])
    await plant.reader.turn()
    assert await plant.history() == expected(plant.written.events)


@pytest.mark.parametrize("committed", [False, True])
async def test_cancelled_while_it_writes(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, *, committed: bool
) -> None:
    """A stop in the middle of writing, before COMMIT or after it, loses and doubles nothing."""
    await plant.reader.turn()
    plant.reader.recorder.take([await plant.written.commit(event("a", 1, t=1))])
    turn = Store.turn

    @asynccontextmanager
    async def cut_off(store: Store) -> AsyncIterator[Connection]:
        async with turn(store) as connection:
            yield connection
            if not committed:
                raise asyncio.CancelledError
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(Store, "turn", cut_off)
        with pytest.raises(asyncio.CancelledError):
            await plant.reader.turn()
    await plant.reader.turn()
    assert await plant.history() == expected(plant.written.events)


async def test_memory_is_bounded(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into memory is left to the outbox, and nothing is lost by it."""
    held: list[int] = []
    a_device = ROW_SIZE + 1

    class Watched(Minutes):
        def add(self, events: Iterable[Event]) -> None:
            super().add(events)
            held.append(self.size)

    monkeypatch.setattr(memory_module, "Minutes", Watched)
    monkeypatch.setattr(memory_module, "FLUSH_SIZE", PLACE_SIZE + 4 * a_device)
    monkeypatch.setattr(memory_module, "MOST_SIZE", PLACE_SIZE + 8 * a_device)
    monkeypatch.setattr(recorder_module, "PAGE_EVENTS", 1)
    await plant.written.commit(event("first", 0, t=1))
    await plant.reader.turn()
    held.clear()
    for i in range(12):
        row = await plant.written.commit(event(f"d{i}", i, t=1), at=NINE)  # all in one minute
        plant.reader.recorder.take([row])
        assert held[-1] == PLACE_SIZE + min(i + 1, 8) * a_device
    await plant.reader.turn(flush=False)
    await plant.reader.turn(flush=False)
    await plant.reader.turn()
    assert max(held) <= PLACE_SIZE + 8 * a_device
    assert await plant.history() == expected(plant.written.events)


async def test_planted_drift_is_told_exactly_and_mended(plant: Plant) -> None:
    """Whatever is changed, removed or added by hand is reported, nothing else; right rows are left alone."""
    await plant.written.commit(*(event(d, s, t=s, u=1) for d in "ab" for s in (1, 2, 61, 3600)))
    await plant.reader.turn()
    await plant.written.commit(event("a", 5, t=9))  # after the cursor
    execute = plant.pool.execute
    await execute(
        """UPDATE open_minutes SET sum = sum + 1, region = 'x'
        WHERE (device_id, metric, bucket) = ('a', 't', $1)""",
        NINE,
    )
    await execute("DELETE FROM measurements_1h WHERE (device_id, metric, bucket) = ('b', 'u', $1)", NINE)
    await execute("INSERT INTO regions_1m VALUES ('t', $1, 'south', 1, 2, 2, 2)", NINE)
    await execute("UPDATE regions_1h SET count = 7 WHERE metric = 'u' AND bucket = $1", NINE)
    before = {row["ctid"] for row in await plant.pool.fetch("SELECT ctid FROM open_minutes")}
    found = await plant.auditor.verify(quiet, limit=20)
    assert (found.equal, found.differing, found.missing, found.extra) == (False, 3, 1, 1)
    assert {(d.kind, d.key, d.field, d.expected, d.found) for d in found.differences if d.field} == {
        ("differs", "measurements_1m a t 2026-11-23T09:00Z", "sum", "3", "4"),
        ("differs", "measurements_1m a t 2026-11-23T09:00Z", "region", "north", "x"),
        ("differs", "regions_1h north u 2026-11-23T09:00Z", "count", "6", "7"),
    }
    assert {(d.kind, d.key) for d in found.differences if not d.field} == {
        ("missing", "measurements_1h b u 2026-11-23T09:00Z"),
        ("extra", "regions_1m south t 2026-11-23T09:00Z"),
    }
    assert len((await plant.auditor.verify(quiet, limit=2)).differences) == 2
    mended = await plant.auditor.rebuild(quiet)
    assert (mended.differing, mended.missing, mended.extra) == (3, 1, 1)
    assert (await plant.auditor.verify(quiet, limit=1)).equal
    after = {row["ctid"] for row in await plant.pool.fetch("SELECT ctid FROM open_minutes")}
    assert len(before & after) == len(before) - 1
    await plant.reader.turn()
    assert await plant.history() == expected(plant.written.events)


@pytest.mark.parametrize("cause", ["cursor_missing", "cursor_too_old", "cursor_beyond_head"])
async def test_mends_what_it_cannot_follow(plant: Plant, cause: str) -> None:
    """A history that cannot go on from its cursor is made anew from the measurements, and then goes on."""
    for second in range(5):
        await plant.written.commit(event("a", second, t=1))
    if cause != "cursor_missing":
        await plant.pool.execute(
            "INSERT INTO projections SELECT 'history', 0, $1, epoch FROM streams",
            {"cursor_too_old": 2}.get(cause, 9),
        )
    await plant.pool.execute("DELETE FROM outbox WHERE n < 4")
    await plant.pool.execute("INSERT INTO regions_1m VALUES ('t', $1, 'ghost', 1, 2, 2, 2)", NINE)
    await plant.reader.turn()
    assert await plant.history() == expected(plant.written.events)
    plant.reader.recorder.take([await plant.written.commit(event("a", 70, t=1))])
    await plant.reader.turn()
    assert await plant.history() == expected(plant.written.events)
    assert (await plant.auditor.verify(quiet, limit=1)).cursors == {0: 6}


async def test_an_unreadable_row_halts_until_it_is_mended(plant: Plant) -> None:
    """A row that holds no events stops its own stream, visibly; others go on, and so does it once mended."""
    for stream in (0, 1):
        for second in (1, 2):
            await plant.written.commit(event("a", second, t=1), stream=stream)
    payload = await plant.pool.fetchval("SELECT payload FROM outbox WHERE stream = 0 AND n = 2")
    await plant.pool.execute("UPDATE outbox SET payload = 'x' WHERE stream = 0 AND n = 2")
    await plant.reader.turn()
    assert plant.reader.health.reasons() == {"history_0": "undecodable_row"}
    assert await plant.pool.fetchval("SELECT count FROM measurements_1m") == 3
    await plant.pool.execute("UPDATE outbox SET payload = $1 WHERE stream = 0 AND n = 2", payload)
    await plant.reader.turn()
    assert plant.reader.health.reasons() == {}
    assert await plant.history() == expected(plant.written.events)
    assert plant.reader.meters.history_freshness() == Freshness(format_time(NOW), 0, 0.0)


async def test_a_time_that_is_none_ends_nothing(plant: Plant) -> None:
    """What the topic brings is not trusted: the outbox is asked, and only a row that is bad there halts."""
    await plant.written.commit(event("a", 1, t=1))
    await plant.reader.turn()
    good = await plant.written.commit(event("a", 2, t=2))
    wrong = [msgspec.structs.replace(good.events[0], ts="2026-13-23T09:00:02.000000Z")]
    plant.reader.recorder.take([msgspec.structs.replace(good, events=wrong)])
    await plant.reader.recorder.turn(flush=True)
    assert "history" in plant.reader.health.reasons()
    await plant.reader.turn()
    assert plant.reader.health.reasons() == {}
    assert await plant.history() == expected(plant.written.events)
    await plant.written.commit(event("a", 3, t=3))
    await plant.written.commit(event("a", 4, t=4))
    bad = encode_events([msgspec.structs.replace(raw(good.events[0]), received_at="yesterday")])
    await plant.pool.execute("UPDATE outbox SET payload = $1 WHERE n = 4", bad)
    await plant.reader.turn()
    assert plant.reader.health.reasons() == {"history_0": "undecodable_row"}
    assert await plant.pool.fetchval("SELECT sum(count)::int FROM measurements_1m") == 3


async def test_a_rebuild_passes_an_unreadable_row(plant: Plant) -> None:
    """Measurements are the truth: a rebuild needs no outbox row, and history goes on behind the last."""
    for second in (1, 2, 3):
        await plant.written.commit(event("a", second, t=1))
    await plant.pool.execute("UPDATE outbox SET payload = 'x' WHERE n = 2")
    await plant.reader.turn()
    assert plant.reader.health.reasons() == {"history_0": "undecodable_row"}
    with pytest.raises(Stop, match=r"outbox row 2 of stream 0.*projector rebuild --only history"):
        await plant.auditor.verify(quiet, limit=1)
    assert (await plant.auditor.rebuild(quiet)).cursors == {0: 3}
    await plant.written.commit(event("a", 70, t=1))
    await plant.reader.turn()
    assert plant.reader.health.reasons() == {}
    assert await plant.history() == expected(plant.written.events)


async def test_waits_for_a_rebuild(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who changes history for longer than usual is told of, and nothing in memory is lost or read again."""
    await plant.written.commit(event("a", 1, t=1))
    await plant.reader.turn()
    plant.reader.recorder.take([await plant.written.commit(event("a", 2, t=1))])
    await plant.pool.execute("DELETE FROM outbox")  # so it can only come from memory
    async with plant.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE rollups IN SHARE ROW EXCLUSIVE MODE")
        await plant.reader.recorder.turn(flush=True)
        assert plant.reader.health.reasons() == {}
        monkeypatch.setattr(recorder_module, "PATIENCE_S", 0.0)
        await plant.reader.recorder.turn(flush=True)
        assert plant.reader.health.reasons() == {"history": "another is changing it"}
    with capture_logs() as logs:
        await plant.reader.turn()
    assert [line["event"] for line in logs if line["log_level"] != "debug"] == ["available"]
    assert plant.reader.health.reasons() == {}
    assert await plant.history() == expected(plant.written.events)


async def test_a_faster_projector_is_no_reason_to_mend(plant: Plant) -> None:
    """Of two that find no cursor one mends and says so; the other finds that there is nothing to do."""
    for second in (1, 2):
        await plant.written.commit(event("a", second, t=1))
    await plant.pool.execute("DELETE FROM outbox WHERE n = 1")
    with capture_logs() as logs:
        assert await plant.auditor.mend("cursor_missing")
        assert not await plant.auditor.mend("cursor_missing")
    assert [line["event"] for line in logs] == ["history_mending", "history_rebuilt"]


async def test_two_that_hold_the_same_rows(plant: Plant) -> None:
    """Two projectors that have read the same rows before either writes: they are in history once."""
    await plant.written.commit(event("a", 1, t=1))
    store = Store(plant.projector)
    assert await store.begin(0)
    span = Span(0, (await store.look())[0].epoch, 0, 1, [])
    outcomes: list[list[Mean] | None] = [[], None]
    for added in outcomes:
        async with store.turn() as connection:
            assert await add(connection, span, Minutes()) == added


async def test_a_beginning_takes_a_turn(plant: Plant) -> None:
    """Another projector begins a stream and moves on meanwhile: it is not put back to the beginning."""
    await plant.written.commit(event("a", 1, t=1))
    store = Store(plant.projector)
    epoch = (await store.look())[0].epoch
    async with store.turn() as connection:
        for n in (0, 1):
            await connection.execute("SELECT move_projection('history', 0, $1, $2)", n, epoch)
        late = asyncio.create_task(store.begin(0))
        while not await plant.pool.fetchval(BLOCKED):  # noqa: ASYNC110  # PostgreSQL tells nobody
            await asyncio.sleep(0.005)
    assert not await late
    assert [row["n"] for row in await plant.pool.fetch("SELECT n FROM projections")] == [1]
