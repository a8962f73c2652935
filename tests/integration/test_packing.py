"""Minutes that are packed on a real PostgreSQL: read as before, whatever happens while they are."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, Protocol
from uuid import uuid4

import pytest
import structlog

from contract.events import Event, Scalar, format_time
from projector.history import packing as packing_module
from projector.history.audit import Auditor
from projector.history.minutes import Minutes
from projector.history.packing import Packer
from projector.history.series import History, Point
from projector.history.store import Span, Store, add, lock
from tests.support.committed import Committed
from tests.support.roles import as_kind, open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import asyncpg

    from runtime.postgres import Connection

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTES = "SELECT device_id, metric, bucket, region, region_at, count, sum, min, max FROM measurements_1m"
Row = tuple[object, ...]


class Plant(NamedTuple):
    """A database whose history is written as soon as it is committed."""

    pool: asyncpg.Pool[asyncpg.Record]
    projector: asyncpg.Pool[asyncpg.Record]
    written: Committed
    store: Store
    packer: Packer
    auditor: Auditor

    async def measure(self, *events: Event) -> None:
        """Store events, and their history."""
        row = await self.written.commit(*events)
        if row.n == 1:
            await self.store.begin(0)
        minutes = Minutes()
        minutes.add(row.events)
        async with self.store.turn() as connection:
            assert await add(connection, Span(0, row.epoch, row.n - 1, row.n, []), minutes) is not None

    async def pack(self) -> int:
        """Pack all that is over; returns how many turns that took."""
        await self.store.make_hours()
        turns = 0
        while await self.packer.turn():
            turns += 1
        return turns

    async def minutes(self) -> dict[tuple[str, str, datetime], Row]:
        """What is read, by device, metric and bucket."""
        rows = [tuple(row) for row in await self.pool.fetch(MINUTES)]
        found = {row[:3]: row[3:] for row in rows}
        assert len(found) == len(rows), "each is there once"
        return found

    async def of(self, table: str) -> int:
        """How many rows a table has."""
        return int(await self.pool.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608  # of three

    async def differences(self) -> list[str]:
        """What is wrong about history."""
        found = await self.auditor.verify(quiet, limit=9)
        return [f"{each.kind} {each.key} {each.field}" for each in found.differences]


@pytest.fixture
async def plant(database: str) -> AsyncIterator[Plant]:
    """Nothing there yet. Sessions have a time zone that is not whole hours from UTC."""
    async with planted(database, "Asia/Kathmandu") as made:
        yield made


@asynccontextmanager
async def planted(dsn: str, zone: str) -> AsyncIterator[Plant]:
    async with open_pools(dsn, max_size=5, TimeZone=zone) as pools:
        own = pools.projector
        yield Plant(pools.owner, own, Committed(pools), Store(own), Packer(own), Auditor(own))


def event(device: str, seconds: float, *, region: str | None = "north", **metrics: Scalar) -> Event:
    """An event so many seconds past nine."""
    ts = format_time(NINE + timedelta(seconds=seconds))
    return Event(device, region, ts, "2026-11-23T10:00:00.000000Z", uuid4().hex, metrics)


def quiet(_done: int, _of: int) -> None:
    """Show no progress."""


def some_events(rng: random.Random, *, hours: int) -> list[Event]:
    """Of few devices within so many hours, so that many share a minute."""
    regions = [None, "", "north", "süd", "r" * 300, "north"]
    values: list[Scalar] = [1, 2.5, 0.1, 1 / 3, -0.0, True, 1.7e308, 123456789.123456789]
    regular = rng.random() < 0.3
    return [
        event(
            rng.choice(["a", "b", "ünï", "d" * 128]),
            60 * rng.randrange(60 * hours) + (5 if regular else rng.randrange(60_000_000) / 1e6),
            region="north" if regular else rng.choice(regions),
            **{rng.choice(["t", "u", "m" * 128]): 1 if regular else rng.choice(values)},
        )
        for _ in range(rng.randrange(1, 400))
    ]


@pytest.mark.parametrize("seed", range(12))
async def test_what_is_read_is_what_was_there(plant: Plant, seed: int) -> None:
    """Packing changes nothing of any minute, nor do late ones change others than their own."""
    rng = random.Random(seed)  # noqa: S311  # a test's choice
    await plant.measure(*some_events(rng, hours=3))
    before = await plant.minutes()
    await plant.pack()
    assert await plant.minutes() == before
    assert await plant.differences() == []
    late = some_events(rng, hours=4)
    await plant.measure(*late)
    touched = {
        (e.device_id, name, datetime.fromisoformat(e.ts[:16] + "Z")) for e in late for name in e.metrics
    }
    after = await plant.minutes()
    assert touched <= set(after)
    assert {key: row for key, row in after.items() if key not in touched} == {
        key: row for key, row in before.items() if key not in touched
    }
    assert await plant.differences() == []
    assert await plant.of("late_minutes") == 0
    rows = await plant.pool.fetch("SELECT minutes FROM packed_minutes")
    assert all(row["minutes"] is None or row["minutes"] == sorted(set(row["minutes"])) for row in rows)


async def test_an_hour_a_turn(plant: Plant) -> None:
    """What an upgrade finds, strays of long ago too, is packed by the hour; an empty one costs no turn."""
    await plant.measure(*(event("a", -days * 86_400, t=days) for days in (0, 1, 20_000)), event("a", 61, t=1))
    before = await plant.minutes()
    assert await plant.pack() == 3
    assert await plant.minutes() == before
    assert await plant.of("unpacked_minutes") == 4
    assert await plant.pack() == 0


@pytest.mark.parametrize(
    ("zone", "day"), [("Europe/Berlin", (2026, 3, 29)), ("America/New_York", (2026, 3, 8))]
)
async def test_the_day_clocks_go_forward(database: str, zone: str, day: tuple[int, int, int]) -> None:
    """A session's own time zone makes no day shorter: what came in its last hour alone is packed too."""
    last = datetime(*day, 23, 10, tzinfo=UTC)
    async with planted(database, zone) as plant:
        await plant.measure(
            event("a", (last - 13 * HOUR - NINE).total_seconds(), t=1),
            event("a", (last - NINE).total_seconds(), t=1, nightly=1),
        )
        before = await plant.minutes()
        await plant.pack()
        assert await plant.of("unpacked_minutes") == 3
        assert await plant.minutes() == before


async def test_a_clock_that_was_ahead(plant: Plant) -> None:
    """Hours without rows are not packed, so nothing is beyond the newest row, whatever the time was."""
    await plant.measure(event("a", 1, t=1), event("a", 7201, t=1))
    assert await plant.pack() == 2
    until = await plant.pool.fetchval("SELECT packed_until FROM rollups WHERE rollup = '1m'")
    assert until == NINE + 3 * HOUR
    await plant.measure(event("a", 3 * 3600 + 1, t=1), event("b", 1, t=1))
    assert (await plant.of("unpacked_minutes"), await plant.pack()) == (3, 1)
    assert await plant.differences() == []


async def test_with_nothing_to_do_nobody_waits(plant: Plant) -> None:
    """A look does not need history, and history does not wait for it."""
    await plant.measure(event("a", 1, t=1))
    await plant.pack()
    async with plant.pool.acquire() as other, other.transaction():
        await lock(other)
        assert not await plant.packer.turn()


async def test_an_hour_is_packed_by_metrics(plant: Plant) -> None:
    """What has no limit to its size is done in transactions that have one."""
    metrics = {f"m{number}": number for number in range(40)}
    await plant.measure(event("a", 1, region="north", **metrics))
    assert await plant.pack() == 1
    assert await plant.of("unpacked_minutes") == 40
    assert await plant.pool.fetchval("SELECT count(DISTINCT xmin::text) FROM packed_minutes") > 1
    assert await plant.differences() == []


async def test_a_packer_that_is_stuck_says_so(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the oldest hour has waited is told, and why, again after a while, until it works again."""
    behind: list[float] = []
    packer = Packer(plant.projector, behind.append)
    assert not await packer.turn()
    await plant.measure(event("a", 1, t=1))
    with structlog.testing.capture_logs() as logs:
        assert not await packer.turn()
        assert not await packer.turn()
        monkeypatch.setattr(packing_module, "TELL_AGAIN_S", 0.0)
        assert not await packer.turn()
        await plant.store.make_hours()
        while await packer.turn():
            pass
    waits = datetime.now(UTC) - NINE - 4 * HOUR
    assert behind == [0, *[pytest.approx(waits.total_seconds(), abs=2 * 3600)] * 4, 0]
    told = [each["event"] for each in logs if each["log_level"] != "debug"]
    assert told == ["packing_waiting", "packing_waiting", "packing_works_again"]


async def test_the_last_hours_are_rows(plant: Plant) -> None:
    """An hour is packed two hours after its end, and not before what is made of its minutes is made."""
    now = datetime.now(UTC)
    ages = [now - NINE - timedelta(minutes=minutes) for minutes in range(0, 300, 20)]
    await plant.measure(*(event("a", age.total_seconds(), t=1) for age in ages))
    assert not await plant.packer.turn(), "no hours were made"
    assert await plant.of("packed_minutes") == 0
    await plant.pack()
    oldest = await plant.pool.fetchval("SELECT packed_until FROM rollups WHERE rollup = '1m'")
    assert now - 3 * HOUR < oldest <= datetime.now(UTC) - 2 * HOUR
    assert await plant.of("measurements_1m") == len(ages)
    assert await plant.of("unpacked_minutes") >= 6


async def test_packing_does_not_run_ahead_of_history(plant: Plant) -> None:
    """What a projector has to catch up with becomes rows first: an hour is packed once, not a flush."""
    await plant.measure(event("a", 1, t=1), event("a", 3601, t=1))
    await plant.store.make_hours()
    await plant.written.commit(event("a", 1, t=1), at=NINE + 3 * HOUR)
    assert await plant.pack() == 1
    assert await plant.pool.fetchval("SELECT packed_until FROM rollups WHERE rollup = '1m'") == NINE + HOUR


async def test_a_clock_that_is_set_back(plant: Plant) -> None:
    """What a server's clock that was ahead had packed is added to like any, hours by device too."""
    await plant.measure(event("a", 1, t=1))
    await plant.pack()
    await plant.pool.execute("UPDATE rollups SET open_since = $1 WHERE rollup = '1h'", NINE)
    await plant.measure(event("a", 2, t=1), event("a", 3601, t=1))
    assert await plant.differences() == []
    await plant.store.make_hours()
    assert await plant.differences() == []


@pytest.mark.parametrize("packed", [True, False])
async def test_many_late_minutes_at_once(plant: Plant, *, packed: bool) -> None:
    """A device that was away brings whole hours of minutes, for packed rows and where there are none."""
    if packed:
        await plant.measure(*(event("a", 120 * minute + 1, t=minute) for minute in range(60)))
    else:
        await plant.measure(event("b", 86_400, t=1))
    await plant.pack()
    await plant.measure(*(event("a", 60 * minute + 30, region="south", t=1.7e308) for minute in range(120)))
    await plant.measure(*(event("a", 60 * minute + 40, region=None, t=1.7e308) for minute in range(60)))
    assert await plant.differences() == []
    assert await plant.of("packed_minutes") == (2 if packed else 3)
    found = (await plant.minutes())["a", "t", NINE]
    assert found[0] == "south"
    assert found[2:4] == (3 if packed else 2, 1.79769313486231e308)


async def test_late_minutes_keep_every_digit(plant: Plant, meanwhile: Meanwhile) -> None:
    """A sum of one value is that value, for packed rows, where there are none, and packed a second time."""
    value = 0.1 + 0.2
    await plant.measure(event("a", 1, t=value), event("a", 61, t=1))
    await plant.store.make_hours()
    meanwhile(lambda: plant.measure(event("a", 121, t=value)))
    assert await plant.packer.turn()
    await plant.measure(event("a", 181, t=value), event("b", 1, t=value))
    found = await plant.minutes()
    assert {row[3:] for row in found.values()} == {(value, value, value), (1, 1, 1)}
    assert await plant.of("unpacked_minutes") == 5


async def test_what_is_older_than_what_is_kept_is_dropped(plant: Plant) -> None:
    """Late minutes of days that were dropped are not packed again."""
    await plant.measure(event("a", 86_400, t=1))
    await plant.pack()
    await plant.pool.execute("UPDATE rollups SET kept_since = $1 WHERE rollup = '1m'", NINE + HOUR)
    await plant.measure(event("a", 1, t=1), event("a", 7201, t=1))
    assert await plant.of("measurements_1m") == 2


# -- what happens meanwhile ----------------------------------------------------------------------------------


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Has something done once, between a packing and its end, or before the lock of a packing."""

    def arrange(act: Callable[[], Awaitable[object]], *, lock_number: int = 2) -> None:
        calls = count(1)

        async def act_first(connection: Connection, *, patiently: bool = False) -> None:
            assert await connection.fetchval("SHOW jit") == "off", "all would wait for that"
            if next(calls) == lock_number:
                assert patiently == (lock_number == 2), "what took long is not given up after five seconds"
                await act()
            await lock(connection, patiently=patiently)

        monkeypatch.setattr(packing_module, "lock", act_first)

    return arrange


class Meanwhile(Protocol):
    """What arranges it."""

    def __call__(self, act: Callable[[], Awaitable[object]], *, lock_number: int = 2) -> None:
        """Have it done once."""


async def test_late_minutes_between_look_and_lock(plant: Plant, meanwhile: Meanwhile) -> None:
    """Nothing is passed over that comes for an hour before the one that a look found."""
    await plant.measure(event("a", 3601, t=1))
    await plant.store.make_hours()
    meanwhile(lambda: plant.measure(event("a", 1, t=1)), lock_number=1)
    assert await plant.pack() == 2
    assert await plant.differences() == []
    assert await plant.of("unpacked_minutes") == 2


async def test_late_minutes_while_they_are_packed(plant: Plant, meanwhile: Meanwhile) -> None:
    """What comes for an hour that is being packed is there before, meanwhile and after, once."""
    await plant.measure(*(event(device, 60 * minute, t=1) for device in "ab" for minute in range(5)))
    await plant.store.make_hours()

    async def come() -> None:
        await plant.measure(event("a", 61, region="south", t=9), event("new", 1, t=1), event("b", 3601, t=1))
        await plant.measure(event("a", 62, t=9))
        assert await plant.differences() == []

    meanwhile(come)
    assert await plant.packer.turn()
    assert await plant.differences() == []
    assert await plant.of("late_minutes") == 0
    assert await plant.of("unpacked_minutes") == 11
    assert (await plant.minutes())["a", "t", NINE + timedelta(minutes=1)][2:4] == (3, 19)


class _KilledError(Exception):
    """Stands for the end of a process."""


@pytest.mark.parametrize("by", [_KilledError, asyncio.CancelledError])
async def test_killed_while_it_packs(plant: Plant, meanwhile: Meanwhile, by: type[BaseException]) -> None:
    """What was packed does not count, nobody waits for the dead, and the next begins anew."""
    await plant.measure(*(event("a", 60 * minute, t=1) for minute in range(5)))
    await plant.store.make_hours()

    async def die() -> None:
        raise by

    meanwhile(die)
    with pytest.raises(by):
        await plant.packer.turn()
    assert await plant.of("packed_minutes") == 1
    await plant.measure(event("a", 61, t=9), event("new", 1, t=1))
    assert await plant.differences() == []
    assert await plant.of("measurements_1m") == 6
    while not await plant.packer.turn():  # noqa: ASYNC110  # the server has to see that the other is gone
        await asyncio.sleep(0.01)
    assert await plant.differences() == []
    assert (await plant.of("unpacked_minutes"), await plant.of("late_minutes")) == (6, 0)


async def test_one_packs_at_a_time(plant: Plant, meanwhile: Meanwhile) -> None:
    """A second projector finds that the first is at it, and an hour is packed once."""
    await plant.measure(event("a", 1, t=1), event("a", 3601, t=1))
    await plant.store.make_hours()
    others: list[bool] = []

    async def another() -> None:
        others.append(await Packer(plant.projector).turn())

    meanwhile(another)
    assert await plant.packer.turn()
    assert others == [False]
    assert await Packer(plant.projector).turn(), "its turn is over"
    assert await plant.of("unpacked_minutes") == 2


async def test_mended_while_it_is_packed(plant: Plant, meanwhile: Meanwhile) -> None:
    """A rebuild that puts rows right wins: what was packed of the wrong ones is thrown away."""
    await plant.measure(event("a", 1, t=1), event("b", 1, t=1))
    await plant.store.make_hours()
    await plant.pool.execute("UPDATE open_minutes SET sum = 7 WHERE device_id = 'a'")
    meanwhile(lambda: plant.auditor.rebuild(quiet))
    assert await plant.packer.turn()
    assert await plant.differences() == []
    assert await plant.of("measurements_1m") == 2
    assert await plant.packer.turn(), "once more"
    assert await plant.differences() == []
    assert await plant.of("unpacked_minutes") == 2


async def test_every_snapshot_is_whole(plant: Plant) -> None:
    """While one writes, two pack and one reads: whoever looks finds what the cursor says."""
    rng = random.Random(1)  # noqa: S311  # a test's choice
    amounts = [0]
    await plant.measure(event("a", 0, t=0))
    await plant.store.make_hours()
    done = asyncio.Event()

    async def write() -> None:
        for _ in range(60):
            seconds = [rng.randrange(12 * 3600) for _ in range(30)]
            amounts.append(amounts[-1] + sum(seconds))
            await plant.measure(*(event("abc"[at % 3], at, t=at) for at in seconds))
        done.set()

    async def pack() -> None:
        while not done.is_set():
            await Packer(plant.projector).turn()
            await asyncio.sleep(0.01)

    async def read() -> int:
        looks = 0
        while not done.is_set():
            found = await plant.pool.fetchrow(
                "SELECT (SELECT n FROM projections WHERE projection = 'history') AS n, sum(sum)"
                " FROM measurements_1m"
            )
            assert found is not None
            assert found["sum"] == amounts[found["n"] - 1]
            looks += 1
        return looks

    _, _, _, looks = await asyncio.gather(write(), pack(), pack(), read())
    assert looks > 10
    assert await plant.of("packed_minutes") > 0
    assert await plant.differences() == []


# -- reading and mending -------------------------------------------------------------------------------------


async def test_a_series_over_the_border(plant: Plant, database: str) -> None:
    """Packed minutes and rows are one series."""
    await plant.measure(*(event("a", 60 * minute, t=minute) for minute in range(50, 70)))
    await plant.store.make_hours()
    await plant.packer.turn()
    assert (await plant.of("unpacked_minutes"), await plant.of("open_minutes")) == (10, 20)
    history = History(as_kind(database, "projector"), "test")
    since = NINE + timedelta(minutes=55)
    found = await history.series("a", "t", since, since + timedelta(minutes=10), timedelta(minutes=5))
    await history.aclose()
    assert found is not None
    assert found.points == [
        Point(format_time(since), 5, 57, 55, 59),
        Point(format_time(since + timedelta(minutes=5)), 5, 62, 60, 64),
    ]


async def test_a_damaged_packed_row_is_told_to_the_minute_and_mended(plant: Plant) -> None:
    """What is changed, removed and added by hand is named by minute; rows that are right stay as they are."""
    await plant.measure(
        *(event(device, 60 * minute, t=minute) for device in ("a", "b", "c") for minute in range(60))
    )
    await plant.measure(event("d", 1, t=1))
    await plant.pack()
    execute = plant.pool.execute
    await execute("UPDATE packed_minutes SET sums[3] = 9, maxs = sums WHERE device_id = 'a'")
    await execute(
        "UPDATE packed_minutes"
        " SET minutes = '{0, 1}', sums = sums[1:2], ats = '{0}', regions = '{north, south}'"
        " WHERE device_id = 'b'"
    )
    await execute("DELETE FROM packed_minutes WHERE device_id = 'd'")
    await execute(
        "INSERT INTO packed_minutes"
        " SELECT 'ghost', metric, hour, '{7}', NULL, '{1}' FROM packed_minutes LIMIT 1"
    )
    before = {row["ctid"] for row in await plant.pool.fetch("SELECT ctid FROM packed_minutes")}
    found = await plant.auditor.verify(quiet, limit=99)
    assert (found.missing, found.extra) == (59, 1)
    named = {(each.kind, each.key.removeprefix("measurements_1m "), each.field) for each in found.differences}
    assert named >= {
        ("differs", "a t 2026-11-23T09:02Z", "sum"),
        ("differs", "b t 2026-11-23T09:01Z", "region"),
        ("missing", "b t 2026-11-23T09:02Z", None),
        ("missing", "d t 2026-11-23T09:00Z", None),
        ("extra", "ghost t 2026-11-23T09:07Z", None),
    }
    assert not (await plant.auditor.rebuild(quiet)).equal
    assert await plant.differences() == []
    after = {row["ctid"] for row in await plant.pool.fetch("SELECT ctid FROM packed_minutes")}
    assert len(before & after) == 1, "that of c"
    assert await plant.of("late_minutes") == 0


async def test_history_that_was_lost_is_made_packed(plant: Plant) -> None:
    """A rebuild from nothing puts minutes where they belong, packed or not."""
    await plant.measure(*(event("a", 60 * minute, t=minute) for minute in range(130)))
    await plant.store.make_hours()
    await plant.packer.turn()
    await plant.packer.turn()
    before = await plant.minutes()
    await plant.pool.execute("TRUNCATE open_minutes, packed_minutes")
    await plant.auditor.rebuild(quiet)
    assert await plant.minutes() == before
    assert (await plant.of("unpacked_minutes"), await plant.of("open_minutes")) == (120, 10)
    assert await plant.pool.fetchval("SELECT pg_relation_size('late_minutes')") == 0, "none of it was there"
