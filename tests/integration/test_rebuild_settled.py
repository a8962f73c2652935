"""Views made anew from days that are settled, against the measurements, on real servers."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from redis.asyncio import Redis

from contract.events import Event
from gateway import days as days_module
from gateway import retention as retention_module
from gateway import stride as stride_module
from gateway.retention import retire
from gateway.settling import settle
from projector.repair import truth as truth_module
from runtime.postgres import lent, load_queries
from tests.support.both_sides import KEYS, Side, quiet
from tests.support.measured import make_days
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

queries = load_queries("tests.support")
FIRST = datetime(2020, 3, 1, tzinfo=UTC)
DAYS = 3


@pytest.fixture
async def side(database: str, redis_url: str) -> AsyncIterator[Side]:
    """Both sides, with partitions for some old days."""
    async with (
        open_pools(database) as pools,
        Redis.from_url(redis_url) as redis,
    ):
        last = FIRST.date() + timedelta(days=DAYS - 1)
        await make_days(pools.owner, FIRST.date(), last)
        yield Side(pools, redis)


def events(rng: random.Random, n: int) -> list[Event]:
    """Messages with everything in them that views hold."""
    found = []
    for i in range(n):
        at = FIRST + timedelta(seconds=rng.randrange(DAYS * 86_400))
        received = at + timedelta(seconds=rng.choice([1, 1, 1, 90_000, -1000]))
        metrics: dict[str, Any] = {"t": rng.choice([1.5, -0.0, 2**53 + 1, 0.1, -7])}
        if rng.random() < 0.3:
            metrics |= {"größe": rng.choice([1e300, -1e300, 5e-324]), "on": rng.random() < 0.5}
        if rng.random() < 0.3:
            metrics["state"] = rng.choice(["idle", 'it\'s \\ odd "é"\t', "", 7])
        tags = {"línea": f"L{rng.randrange(3)}", "x": "\\"} if rng.random() < 0.2 else None
        device, region = f"gerät-{rng.randrange(6)}", rng.choice(["north", "süd", None])
        key = rng.choice(["a", "é", "\U0001f600", f"k\\{i}"])
        found.append(Event(device, region, as_text(at), as_text(received), key, metrics, tags))
    return found


def as_text(at: datetime) -> str:
    """As events give times."""
    return f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"


async def keep(side: Side, retention: timedelta | None = None) -> int:
    """A turn of the gateway's chores."""
    now = datetime.now(UTC)
    async with lent(side.pools.gateway) as connection:
        settled = await settle(connection, now, retention)
        if retention:
            await retire(connection, now, retention)
    return settled


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_as_every_measurement_would_make_them(
    side: Side, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """With late rows, folded or not, and a day retired: what a rebuild makes, verification finds equal."""
    monkeypatch.setattr(stride_module, "_FIRST", 1)
    monkeypatch.setattr(days_module, "_REST", 0.0)
    rng = random.Random(seed)  # noqa: S311  # test data
    await side.commit(*events(rng, 300))
    assert await keep(side) == DAYS
    rebuilt = await side.rebuilder.rebuild(quiet)
    assert (rebuilt.events, rebuilt.settled) == (300, 300)
    assert (await side.verify()).differences == []
    await side.commit(*events(rng, 40))
    rebuilt = await side.rebuilder.rebuild(quiet)
    assert (rebuilt.events, rebuilt.settled) == (340, 300)
    assert (await side.verify()).differences == []
    await keep(side)
    rebuilt = await side.rebuilder.rebuild(quiet)
    assert (rebuilt.events, rebuilt.settled) == (340, 340)
    assert (await side.verify()).differences == []
    await side.commit(*events(rng, 20))
    await keep(side, datetime.now(UTC) - FIRST - timedelta(days=1))
    rebuilt = await side.rebuilder.rebuild(quiet)
    assert 0 < rebuilt.settled == rebuilt.events < 360, "the first day is retired"
    result = await side.verify()
    assert (result.differences, result.events) == ([], rebuilt.events)


async def test_while_a_day_leaves(side: Side, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its statistics have moved and its rows are still there: neither counts them twice, nor a late one."""
    monkeypatch.setattr(retention_module, "_ATTEMPTS", 1)
    rng = random.Random(7)  # noqa: S311  # test data
    await side.commit(*events(rng, 100))
    await keep(side)
    reader = await asyncpg.connect(database)
    async with reader.transaction():
        await reader.execute("SELECT FROM measurements")
        await keep(side, timedelta(days=90))
        await side.commit(*events(rng, 10))
        for settled in (True, False):
            await side.rebuilder.rebuild(quiet, settled=settled)
            assert (await side.verify()).differences == []
            assert await sample_count(side) == 110
    await reader.close()
    await keep(side, timedelta(days=90))
    await side.rebuilder.rebuild(quiet)
    assert (await side.verify()).events == 0
    assert await sample_count(side) == 110


async def sample_count(side: Side) -> int:
    """Of all devices."""
    found = [await side.redis.hget(KEYS.device(f"gerät-{i}"), "sample_count") for i in range(6)]
    return sum(int(each) for each in found if each)


async def test_what_stands_there_is_wrong(side: Side) -> None:
    """Verification does not go by it, nor does a rebuild from measurements; and all can be settled again."""
    await side.commit(*events(random.Random(5), 50))  # noqa: S311  # test data
    await keep(side)
    await side.pool.execute("UPDATE settled_statistics SET count = count + 1 WHERE metric = 't'")
    await side.rebuilder.rebuild(quiet)
    found = {difference.field for difference in (await side.verify(limit=1000)).differences}
    assert found == {"count_t", "avg_t"}
    rebuilt = await side.rebuilder.rebuild(quiet, settled=False)
    assert (rebuilt.events, rebuilt.settled) == (50, 0)
    assert (await side.verify()).differences == []
    assert await side.pool.fetchval("SELECT settle_again()") == DAYS
    await side.rebuilder.rebuild(quiet)
    assert (await side.verify()).differences == []
    await keep(side)
    rebuilt = await side.rebuilder.rebuild(quiet)
    assert (rebuilt.events, rebuilt.settled) == (50, 50)
    assert (await side.verify()).differences == []


async def test_a_row_that_was_removed_unnoticed(side: Side) -> None:
    """Verification counts: views that are right are told from days that are not."""
    await side.commit(*events(random.Random(9), 50))  # noqa: S311  # test data
    await keep(side)
    await side.commit(*events(random.Random(10), 10))  # noqa: S311  # test data
    await side.rebuilder.rebuild(quiet)
    assert (await side.verify()).differences == []
    await side.pool.execute(
        "SET session_replication_role = replica;"
        " DELETE FROM measurements_p20200301 WHERE ctid IN (SELECT ctid FROM measurements_p20200301 LIMIT 2);"
        " RESET session_replication_role"
    )
    await side.rebuilder.rebuild(quiet, settled=False)
    (difference,) = (await side.verify()).differences
    assert (difference.kind, difference.key) == ("differs", "settled_days measurements_p20200301")
    assert int(difference.expected or 0) == int(difference.found or 0) - 2
    await side.pool.execute("SELECT settle_again()")
    await keep(side)
    assert (await side.verify()).differences == []


async def test_statistics_that_take_long_to_sort(
    side: Side, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that puts a year of a large fleet in order is silent until then, and no dead one."""
    await side.commit(*events(random.Random(8), 50))  # noqa: S311  # test data
    await keep(side)
    monkeypatch.setattr(truth_module, "STALL_S", 0.1)
    other = await asyncpg.connect(database)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("LOCK TABLE settled_statistics")
    rebuilding = asyncio.create_task(side.rebuilder.rebuild(quiet))
    while not (rebuilding.done() or await side.pool.fetchval(queries.somebody_waits)):
        pass
    await other.execute("SELECT pg_sleep(0.5)")  # several times as long as a stall
    await transaction.rollback()
    await other.close()
    assert (await rebuilding).settled == 50


async def test_views_that_are_mended(side: Side) -> None:
    """Views that cannot follow any more are mended from settled days too, and go on from there."""
    rng = random.Random(6)  # noqa: S311  # test data
    await side.commit(*events(rng, 50))
    await keep(side)
    await side.pool.execute("DELETE FROM outbox")  # trimmed
    mended = await side.rebuilder.mend(quiet)
    assert mended is not None
    assert (mended.events, mended.settled) == (50, 50)
    await side.apply(*events(rng, 10))
    assert (await side.verify()).differences == []
    assert await side.redis.exists(KEYS.device("gerät-1"))
