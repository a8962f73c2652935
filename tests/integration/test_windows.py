"""Windows of a device: history and memory together are each value once, whatever is going on."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from msgspec.structs import asdict
from prometheus_client import CollectorRegistry

import projector.history.windows as windows_module
from contract.events import Event, Scalar, format_time
from projector.history.audit import Auditor
from projector.history.minutes import Minutes
from projector.history.packing import Packer
from projector.history.recorder import Recorder
from projector.history.series import History
from projector.history.store import Span, Store, add
from projector.history.windows import MetricWindows, Windows, _add_memory, _Metric
from projector.meters import Meters
from projector.outbox import Outbox
from projector.views import Seen
from runtime.errors import Retry
from runtime.http import Health
from tests.support.committed import Committed
from tests.support.roles import as_kind, open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from projector.history.store import Mean
    from projector.history.windows import DeviceWindows
    from tests.support.roles import Pools

SPANS = {"24h": timedelta(hours=24), "1h": timedelta(hours=1), "5m": timedelta(minutes=5)}
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


class Site:
    """A database with a write side, a recorder, and windows that see both."""

    def __init__(self, pools: Pools, history: History) -> None:
        self.pool = pools.owner
        self.projector = pools.projector
        self.written = Committed(pools)
        self.now = datetime.now(UTC)
        self.recorder = self.another()
        self.history = history
        self.windows = Windows(history, lambda: self.now, kept_s=0)
        self.windows.use(self.recorder.memory)

    def another(self) -> Recorder:
        """One more recorder, as of another projector."""

        async def unseen(_: list[Mean]) -> None:
            pass

        return Recorder(
            Store(self.projector),
            Outbox(self.projector, "history"),
            auditor=Auditor(self.projector),
            shown=unseen,
            health=Health(),
            meters=Meters(CollectorRegistry()),
            now=lambda: self.now,
        )

    async def begin(self) -> None:
        """Give the recorder a stream, all of which is in history."""
        await self.send()
        for _ in range(3):
            await self.recorder.turn(flush=True)

    async def send(self, *events: Event) -> None:
        """Commit events as a row, and let the recorder have it as the topic brings it."""
        self.recorder.take([await self.written.commit(*events)])

    def event(
        self,
        ago: timedelta,
        *,
        device: str = "a",
        region: str = "r",
        metrics: dict[str, Scalar] | None = None,
        **more: Scalar,
    ) -> Event:
        """An event of some time ago."""
        ts = format_time(self.now - ago)
        return Event(device, region, ts, format_time(self.now), uuid4().hex, {**(metrics or {}), **more})

    async def somebody_waits(self) -> None:
        """Wait until a question to the database waits for a lock."""
        while not await self.pool.fetchval(WAITING):  # noqa: ASYNC110  # PostgreSQL tells nobody
            await asyncio.sleep(0)

    async def of(self, *metrics: str, device: str = "a") -> DeviceWindows:
        """Windows of a device."""
        return await self.windows.of(device, metrics)


@asynccontextmanager
async def made(dsn: str) -> AsyncIterator[Site]:
    history = History(as_kind(dsn, "projector"), "test")
    async with open_pools(dsn) as pools:
        site = Site(pools, history)
        await site.begin()
        yield site
    await history.aclose()


@pytest.fixture
async def site(database: str) -> AsyncIterator[Site]:
    """Nothing measured yet."""
    async with made(database) as site:
        yield site


def expected(events: Iterable[Event], metric: str, now: datetime, device: str = "a") -> MetricWindows:
    """A metric's windows by their definition, the slow way."""
    running = now.replace(second=0, microsecond=0)
    values = [
        (datetime.fromisoformat(event.ts).replace(second=0, microsecond=0), float(event.metrics[metric]))
        for event in events
        if event.device_id == device and not isinstance(event.metrics.get(metric, ""), str)
    ]
    found: dict[str, Any] = {}
    for name, span in SPANS.items():
        its = [value for minute, value in values if running - span <= minute <= running]
        found[f"count_{name}"] = len(its)
        if its:
            found[f"avg_{name}"] = pytest.approx(sum(its) / len(its))
            found[f"min_{name}"], found[f"max_{name}"] = min(its), max(its)
    hour = [(minute, value) for minute, value in values if running - SPANS["1h"] <= minute <= running]
    if hour:
        first, last = min(hour)[0], max(hour)[0]
        means = [
            sum(its) / len(its) for its in ([v for m, v in hour if m == minute] for minute in (first, last))
        ]
        hours = (last - first) / timedelta(hours=1)
        found["rate_1h"] = pytest.approx((means[1] - means[0]) / hours) if hours >= 1 / 6 else None
    return MetricWindows(**found)


async def test_a_value_of_a_moment_ago(site: Site) -> None:
    """What has just come is in every window, though history is written when a minute is over."""
    await site.send(site.event(timedelta(), t=4, status="on"))
    await site.send(site.event(timedelta(), t=6), site.event(timedelta(), device="b", t=1000))
    found = await site.of("t")
    assert found.metrics["t"] == MetricWindows(5, 4, 6, 2, 5, 4, 6, 2, 5, 4, 6, 2)
    assert found.history.behind_rows == 0
    assert await site.pool.fetchval("SELECT count(*) FROM measurements_1m") == 0


@pytest.mark.parametrize("seed", range(4))
async def test_windows_are_what_was_measured(site: Site, seed: int) -> None:
    """Out of hours, minutes and memory come the windows of the definition, also of what is late or ahead."""
    rng = random.Random(seed)  # noqa: S311  # replayable
    site.now = site.now.replace(minute=rng.randrange(60))
    for age in (1560, 1441, 1440, 1439, 90, 61, 60, 59, 11, 6, 5, 4, 0, -1, -60):
        site.written.rows[0].events.append(site.event(timedelta(minutes=age), t=age, u=0.1))
    events = site.written.rows.pop(0).events
    for _ in range(60):
        ago = timedelta(seconds=rng.choice((300, 3600, 90_000)) * rng.random())
        region, device = rng.choice("xy"), rng.choice("aaab")
        value: Scalar = rng.choice((rng.uniform(-5, 5), 3, True, "text"))
        events.append(site.event(ago, device=device, region=region, t=value))
    rng.shuffle(events)
    await site.send(*events[:40])
    await site.recorder.turn(flush=True)
    await Store(site.projector).make_hours()
    while await Packer(site.projector).turn():
        pass
    assert await site.pool.fetchval("SELECT count(*) FROM packed_minutes")
    await site.send(*events[40:60])
    await site.recorder.turn(flush=True)
    await site.send(*events[60:])
    for later in (0, 59, 3, 125):
        site.now += timedelta(minutes=later)
        found = await site.of("t", "u", "unheard")
        for metric in ("t", "u"):
            assert asdict(found.metrics[metric]) == asdict(expected(events, metric, site.now)), metric
        assert found.metrics["unheard"] == MetricWindows()


async def test_what_is_being_written_is_there_once(site: Site) -> None:
    """Neither before the transaction that writes a minute is over, nor after, is a value lost or doubled."""
    await site.send(site.event(timedelta(), t=1), site.event(timedelta(hours=1), t=2))
    async with site.pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE regions_1m IN SHARE MODE")
        writing = asyncio.create_task(site.recorder.turn(flush=True))
        await site.somebody_waits()
        await site.send(site.event(timedelta(), t=3))
        assert (await site.of("t")).metrics["t"].count_24h == 3
    counts = set()
    while not writing.done():
        counts.add((await site.of("t")).metrics["t"].count_24h)
    await writing
    counts.add((await site.of("t")).metrics["t"].count_24h)
    assert counts == {3}


async def test_two_projectors(site: Site) -> None:
    """What another has written since is not counted twice; what is left out is said, and is back soon."""
    await site.send(site.event(timedelta(), t=1))
    other = site.another()
    for _ in range(2):
        await other.turn(flush=True)
    await site.send(site.event(timedelta(), t=2))
    found = await site.of("t")
    assert (found.metrics["t"].count_5m, found.history.behind_rows) == (1, 1)
    for _ in range(2):  # what has just been committed is given a turn to come by itself
        await site.recorder.turn()
    found = await site.of("t")
    assert (found.metrics["t"].count_5m, found.history.behind_rows) == (2, 0)


async def test_another_writes_while_history_is_read(site: Site) -> None:
    """What is in memory and is written between two questions to history is counted once."""
    await site.send(site.event(timedelta(), t=1))
    row, minutes = site.written.rows[-1], Minutes()
    minutes.add(row.events)
    span = Span(row.stream, row.epoch, row.n - 1, row.n, [Seen(row.n, row.created_at)])
    async with site.pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE measurements_1h IN ACCESS EXCLUSIVE MODE")
        asking = asyncio.create_task(site.of("t"))
        await site.somebody_waits()
        assert await add(other, span, minutes) is not None
    assert (await asking).metrics["t"].count_5m == 1


async def test_history_alone(site: Site, database: str) -> None:
    """Where there is no recorder, windows are what history has, and say how far it is behind."""
    history = History(as_kind(database, "projector"), "other")
    windows = Windows(history, lambda: site.now)
    await site.send(site.event(timedelta(), t=1))
    await site.recorder.turn(flush=True)
    await site.send(site.event(timedelta(), t=2))
    await site.send(site.event(timedelta(), t=3))
    site.now += timedelta(seconds=30)
    found = await windows.of("a", ["t"])
    assert (found.metrics["t"].max_24h, found.history.behind_rows) == (1, 2)
    assert found.history.behind_seconds == pytest.approx(30, abs=10)
    await history.aclose()


async def test_history_that_is_not_whole(site: Site) -> None:
    """A history that has not begun, and will be made anew, is none to be read."""
    await site.pool.execute("DELETE FROM projections WHERE projection = 'history'")
    await site.pool.execute("DELETE FROM outbox WHERE n = 1")
    with pytest.raises(Retry, match="made anew"):
        await site.of("t")


async def test_a_stream_that_history_has_not_begun(site: Site) -> None:
    """What a new gateway writes is behind until the recorder begins its stream; the rest is there."""
    await site.send(site.event(timedelta(), t=1))
    await site.written.commit(site.event(timedelta(), t=2), stream=1)
    found = await site.of("t")
    assert (found.metrics["t"].count_5m, found.history.behind_rows) == (1, 1)
    for _ in range(3):
        await site.recorder.turn()
    found = await site.of("t")
    assert (found.metrics["t"].count_5m, found.history.behind_rows) == (2, 0)


async def test_how_old_is_what_is_lacking(site: Site) -> None:
    """Of what is not there, not of the last that is."""
    row = await site.written.commit(site.event(timedelta(), t=1), at=site.now - timedelta(seconds=80))
    site.recorder.take([row])
    await site.written.commit(site.event(timedelta(), t=2), at=site.now - timedelta(seconds=3))
    await site.written.commit(site.event(timedelta(), t=3), at=site.now)
    history = (await site.of("t")).history
    assert (history.behind_rows, history.behind_seconds) == (2, 3)


async def test_one_question_for_all_who_ask(site: Site) -> None:
    """Who asks meanwhile, or a moment later, is given the same answer; a failure is nobody else's."""
    await site.send(site.event(timedelta(), t=1))
    windows = Windows(site.history, lambda: site.now, kept_s=60)
    windows.use(site.recorder.memory)
    first, *others = await asyncio.gather(*(windows.of("a", ["t"]) for _ in range(20)))
    later = await windows.of("a", ["t"])
    assert all(each is first for each in (*others, later))
    assert (await windows.of("a", ["t", "u"])).metrics.keys() == {"t", "u"}
    await site.pool.execute("ALTER TABLE streams RENAME TO away")
    for _ in range(2):
        with pytest.raises(Retry, match="schema"):
            await windows.of("b", ["t"])
    await site.pool.execute("ALTER TABLE away RENAME TO streams")
    assert (await windows.of("b", ["t"])).metrics["t"].count_5m == 0


async def test_charts_do_not_wait_for_windows(site: Site) -> None:
    """However many devices' windows are asked for: they take turns, and leave a connection to others."""
    await site.send(site.event(timedelta(), t=1))
    async with site.pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE measurements_1h IN ACCESS EXCLUSIVE MODE")
        asking = [asyncio.create_task(site.of("t", device=device)) for device in "abcd"]
        await site.somebody_waits()
        await site.history.series("a", "t", site.now - timedelta(hours=1), site.now, timedelta(minutes=1))
        assert not any(task.done() for task in asking)
    assert [(await task).metrics["t"].count_5m for task in asking] == [1, 0, 0, 0]


async def test_much_in_memory_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have their turn after each few values, and only what was asked for is looked at."""
    monkeypatch.setattr(windows_module, "AT_ONCE", 10)
    row = ["", 1, *(1.0 for _ in range(30))]
    rows = [(f"2026-11-23T09:{minute:02}", tuple("abcdefghij"), row) for minute in range(60)]
    found = {name: _Metric() for name in "ab"}
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    waiting = asyncio.create_task(others())
    await _add_memory(found, rows, [datetime(2026, 11, 23, 9, tzinfo=UTC)] * 3)
    waiting.cancel()
    assert turns >= 59
    assert [each.sums[0].count for each in found.values()] == [60, 60]


async def test_what_is_not_kept(site: Site) -> None:
    """A window that begins before what history keeps is not shown as if it were whole."""
    await site.send(*(site.event(timedelta(minutes=ago), t=ago) for ago in (0, 30, 100)))
    await site.pool.execute(
        "UPDATE rollups SET kept_since = $1 WHERE rollup = '1m'", site.now - timedelta(hours=2)
    )
    windows = await site.of("t")
    assert (windows.since_24h, windows.since_1h is None) == (None, False)
    found = windows.metrics["t"]
    assert (found.avg_24h, found.max_24h, found.count_24h) == (None, None, 0)
    assert (found.max_1h, found.count_1h, found.rate_1h) == (30, 2, -60)


async def test_sums_of_a_day_stay_finite(site: Site) -> None:
    """Minutes that are as large as a double holds have a mean."""
    huge = 1.7e308
    await site.send(*(site.event(timedelta(minutes=ago), t=huge) for ago in range(60)))
    await site.recorder.turn(flush=True)
    await site.send(site.event(timedelta(minutes=60), t=huge))
    found = (await site.of("t")).metrics["t"]
    assert found.avg_24h == pytest.approx(huge)
    assert (found.max_24h, found.rate_1h) == (huge, 0)


async def test_a_thousand_metrics(site: Site) -> None:
    """As many metrics as a view has are answered, each for itself; of none there is nothing."""
    names = [f"m{i}" for i in range(1000)]
    metrics: dict[str, Scalar] = {name: i for i, name in enumerate(names)}
    await site.send(*(site.event(timedelta(minutes=20 * i), metrics=metrics) for i in range(3)))
    await site.recorder.turn(flush=True)
    found = (await site.of(*names)).metrics
    assert {name: each.avg_1h for name, each in found.items()} == metrics
    assert (await site.of()).metrics == {}
