"""What the live page's board sees on real servers, and what it makes of one that is away."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import AsyncMock

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from contract.events import Event, format_time
from contract.views import FORMAT, UNFINISHED, VIEWS_FORMAT
from projector.levels import ToldLevel
from projector.live import census, choices, columns
from projector.live.board import Board
from projector.live.fields import Fields
from projector.live.frames import Frames
from projector.live.index import Index
from projector.live.orders import Order
from projector.live.state import AtSite
from projector.live.truth import Truth
from projector.meters import Meters
from projector.query import Queries
from projector.views import Keys
from projector.watch.care import Care
from projector.watch.drift import AHEAD, BEHIND
from projector.watch.said import Watch
from projector.watch.silence import Silence
from runtime.errors import Retry
from runtime.http import Health
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import asyncpg

    from projector.watch.care import What
    from tests.support.roles import Pools

KEYS = Keys("p:")
HOUR = timedelta(hours=1)


def event(device: str, measured: datetime) -> Event:
    """A message of a device."""
    return Event(device, "north", format_time(measured), "", "", {})


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The board's."""
    return Clock()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the test's Redis."""
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def pools(database: str) -> AsyncIterator[Pools]:
    """Connections to a database without dead letters."""
    async with open_pools(database) as made:
        yield made


@pytest.fixture
def pool(pools: Pools) -> asyncpg.Pool[asyncpg.Record]:
    """Its owner's."""
    return pools.owner


@pytest.fixture
def watch() -> Watch:
    """A watch that has not begun."""
    return Watch()


@pytest.fixture
def board(redis: Redis, pools: Pools, clock: Clock, watch: Watch) -> Board:
    """A board that has both servers."""
    made = Board(
        redis,
        KEYS,
        queries=Queries(redis, KEYS),
        meters=Meters(CollectorRegistry()),
        health=Health(),
        watch=watch,
        now=clock,
    )
    made.use(pools.projector)
    return made


async def see(redis: Redis, device: str, at: datetime) -> None:
    """Put a device into the views."""
    last_seen_ms = int(at.timestamp() * 1000)
    await redis.zadd(KEYS.last_seen, {device: last_seen_ms})
    await redis.hset(KEYS.device(device), mapping={"last_seen_ms": last_seen_ms, "last_t": 1})


async def test_who_is_not_watched_is_unknown(board: Board, redis: Redis, clock: Clock, watch: Watch) -> None:
    """Devices for which the watch has no room are among those of which nothing is known."""
    silence = Silence({}, most=1)
    for device in ("a", "b", "c"):
        await see(redis, device, clock.now)
        silence.know(device, "north")
    watch.begins(silence)
    silence.hear(0, int(clock.now.timestamp()), [Event("a", "north", "", "", "", {})])
    state = await board.look()
    assert (state.devices.total, state.devices.silent, state.devices.unknown) == (3, 0, 2)


async def test_who_is_silent_the_watch_says(board: Board, redis: Redis, clock: Clock, watch: Watch) -> None:
    """By when messages came: a clock that is hours off makes nobody silent, a right one nobody heard.

    Before the watch has begun, and of whom it has not heard, nothing is said.
    """
    hour = timedelta(hours=1)
    for device, at in (("slow", clock.now - 9 * hour), ("quick", clock.now), ("long", clock.now - hour)):
        await see(redis, device, at)
        await redis.hset(KEYS.device(device), "region", "north")
    await redis.hset(KEYS.region_marks, "north", "x")
    await redis.hset(KEYS.region("north"), mapping={"device_count": 3, "sample_count": 9})
    state = await board.look()
    assert (state.devices.silent, state.devices.unknown) == (None, 3)
    assert {row.standing for row in state.rows.values()} == {"unknown"}

    now = int(clock.now.timestamp())
    silence = Silence({"long": now - 7200})
    for device in ("long", "slow", "quick"):
        silence.know(device, "north")
    silence.all_known()
    watch.begins(silence)
    for second in range(now - 1800, now + 1, 60):
        heard = ["slow", *["quick"] * (second < now - 900)]
        silence.hear(0, second, [Event(device, "north", "", "", "", {}) for device in heard])
        silence.turn(second)
        silence.learn({device: [] for device in silence.unsure}, second)
    for _ in range(2):  # devices are ranked every other look
        state = await board.look()
    assert (state.devices.silent, state.devices.unknown) == (2, 0)
    assert state.devices.order == ["quick", "long", "slow"], "in their own measure"
    assert [each.silent for each in state.regions] == [2]
    assert {
        row.id: (row.standing, row.heard_ms, row.usual_ms and row.usual_ms // 1000)
        for row in state.rows.values()
    } == {
        "slow": ("ok", now * 1000, 60),
        "quick": ("silent", (now - 960) * 1000, 60),
        "long": ("silent", (now - 7200) * 1000, None),
    }
    found = await board.window("", None, 0, 9, recent=True)
    assert [row.id for row in found.rows] == ["quick", "long"]
    shown = (await board.device("slow")).row
    assert shown is not None
    assert shown.standing == "ok"


async def test_rejections_do_not_age_while_nobody_can_read_them(
    board: Board, redis: Redis, pool: asyncpg.Pool[asyncpg.Record], clock: Clock
) -> None:
    """Without PostgreSQL the last minute is the one before it was last read, and the state says when."""
    read_at = clock.now
    await see(redis, "a", read_at)
    await pool.execute(
        "INSERT INTO dead_letters (received_at, topic, device_id, reason, error, payload) "
        "VALUES ($1, 't', 'a', 'malformed_json', '', '')",
        read_at,
    )
    assert (await board.look()).letters.minute == 1
    await pool.execute("ALTER TABLE dead_letters RENAME TO away")
    clock.now += timedelta(minutes=10)
    await see(redis, "a", clock.now)
    for _ in range(2):  # devices are ranked every other look
        state = await board.look()
    assert "postgres" in state.problems
    assert state.letters_at_ms == int(read_at.timestamp() * 1000)
    assert (state.letters.minute, state.letters.reasons) == (1, {"malformed_json": 1})
    assert state.rows["a"].standing == "rejected"
    await pool.execute("ALTER TABLE away RENAME TO dead_letters")
    assert (await board.look()).letters.minute == 0


async def test_what_is_at_the_site(pool: asyncpg.Pool[asyncpg.Record], pools: Pools) -> None:
    """What each stream's gateway said last counts, whichever process it was; nothing where none is asked."""
    said = [("a", 0, 500, 2), ("b", 0, 40, 1), ("c", 1, 90, 3), ("d", 1, 0, 0)]
    for run, stream, left, ago in said:
        await pool.execute(
            "INSERT INTO spools (run, stream, place, messages_left, oldest_at, drains_in_s, noted_at) "
            "VALUES (md5($1)::uuid, $2, 1, $3, to_timestamp(1000), 4.5, to_timestamp(2000 - $4::integer))",
            run, stream, left, ago,
        )  # fmt: skip
    truth = Truth()
    truth.use(pools.projector)
    assert await truth.at_site() == {0: AtSite(40, 1_000_000, 4.5, 1_999_000)}
    await pool.execute("ALTER TABLE spools RENAME TO away")
    assert await truth.at_site() == {}
    await pool.execute("ALTER TABLE away RENAME TO spools")


async def test_anything_under_our_keys(board: Board, redis: Redis, clock: Clock) -> None:
    """Whatever somebody wrote into the views, a look shows the rest and its frame can be sent."""
    await see(redis, "a", clock.now)
    await redis.zadd(KEYS.last_seen, {"endless": "inf", "ancient": -1e300})
    await redis.hset(KEYS.device("a"), mapping={"last_seen_ms": "9" * 30, "sample_count": "many"})
    await redis.hset("p:device:spark:a", mapping={"t": "1, 2, 3", b"\xff": b"\xff" * 244})
    await redis.hset(KEYS.region_marks, "north", "x")
    await redis.hset(KEYS.region("north"), mapping={"device_count": "some", "sample_count": "9" * 30})
    for _ in range(2):
        state = await board.look()
        assert Frames().next(state).full
    assert state.problems == {}
    assert list(state.rows) == ["a"]


async def test_clocks_that_are_wrong_and_devices_that_are_retired(
    board: Board, redis: Redis, clock: Clock, watch: Watch
) -> None:
    """The watch says whose clock is wrong; who is retired is in no list but its own, and found by its id."""
    at = int(clock.now.timestamp())
    clocks = {"fast": ToldLevel(AHEAD, at * 1_000_000), "gone": ToldLevel(BEHIND, at * 1_000_000)}
    silence = Silence({"gone": at - 900, "lost": at - 600}, told_clocks=clocks)
    for device in ("quiet", "lost", "fast", "gone", "muted"):
        await see(redis, device, clock.now)
        silence.know(device, "north")
    silence.all_known()
    moment = clock.now
    for device, what, until in (("gone", "retired", None), ("muted", "muted", moment + timedelta(hours=2))):
        silence.take_care(Care(device, cast("What", what), moment, until, "ann", "why", 1, told=True))
    watch.begins(silence)
    silence.drifts.hear(silence.devices["fast"], at, event("fast", clock.now + HOUR), is_apart=True)
    state = await board.look()
    assert state.devices.order == ["lost", "fast", "muted", "quiet"]
    fleet = state.devices
    assert (fleet.total, fleet.watched, fleet.silent, fleet.muted, fleet.retired) == (4, 4, 1, 1, 1)
    assert (fleet.clocks_wrong, fleet.unknown) == (1, 2)
    assert (state.rows["fast"].clock_wrong, state.rows["fast"].clock_error_s) == (True, 3600)
    assert not state.rows["lost"].clock_wrong
    until_ms = int((moment + timedelta(hours=2)).timestamp() * 1000)
    muted = state.rows["muted"]
    assert (muted.standing, muted.until_ms, muted.care) == ("muted", until_ms, "ann: why")

    async def ids(
        part: str = "", *, clock: bool = False, recent: bool = False, retired: bool = False
    ) -> list[str]:
        found = await board.window(part, None, 0, 10, clock=clock, recent=recent, retired=retired)
        return [row.id for row in found.rows]

    assert await ids(clock=True) == ["fast"]
    assert await ids(retired=True) == ["gone"]
    assert (await ids("gon"), await ids("gone"), await ids("go", retired=True)) == ([], ["gone"], ["gone"])
    assert await ids(recent=True) == ["lost"]
    row = (await board.device("gone")).row
    assert row is not None
    assert (row.standing, row.clock_wrong) == ("retired", True)


async def test_who_said_that_it_is_offline(board: Board, redis: Redis, clock: Clock, watch: Watch) -> None:
    """Neither silent nor unknown; behind those who need attention, and in a list of its own."""
    at = int(clock.now.timestamp())
    silence = Silence({"lost": at - 600})
    for device in ("fine", "gone", "lost"):
        await see(redis, device, clock.now)
        silence.know(device, "north")
    silence.know_presence("gone", (at - 300) * 1_000_000, at * 1_000_000, online=False)
    silence.all_known()
    watch.begins(silence)
    state = await board.look()
    assert state.devices.order == ["lost", "gone", "fine"]
    fleet = state.devices
    assert (fleet.total, fleet.silent, fleet.offline, fleet.unknown) == (3, 1, 1, 1)
    row = state.rows["gone"]
    assert (row.standing, row.offline_since_ms) == ("offline", (at - 300) * 1000)
    assert state.rows["lost"].offline_since_ms is None
    found = await board.window("", None, 0, 10, offline=True)
    assert [each.id for each in found.rows] == ["gone"]


async def test_a_fleet_that_is_made_anew(
    board: Board, redis: Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the views are lost nobody is known, and everybody with the look after they are back."""
    monkeypatch.setattr(census, "PIECE", 2)
    for fleet in ("a", "b"):
        for number in range(9):
            await see(redis, f"{fleet}{number}", clock.now)
        state = await board.look()
        assert (state.devices.total, state.devices.watched) == (9, 9)
        await redis.delete(KEYS.last_seen)
        assert (await board.look()).devices.watched == 0
    assert (await board.window("a", None, 0, 1)).total == 0


async def test_views_that_are_not_whole(redis: Redis, pools: Pools, clock: Clock) -> None:
    """While they are made anew what was seen stays, with its time, and nothing is said not to be."""
    meters = Meters(CollectorRegistry())
    queries = Queries(redis, KEYS, lag=meters.lag)
    board = Board(redis, KEYS, queries=queries, meters=meters, health=Health(), watch=Watch(), now=clock)
    why = "they are empty, and PostgreSQL has not been asked yet"
    state = await board.look()
    assert (state.problems["views"], state.views_at_ms) == (why, None)
    board.use(pools.projector)
    meters.asked()
    state = await board.look()
    assert (state.problems, state.views_at_ms) == ({}, state.at_ms), "a site without a gateway so far"
    meters.of(0)
    await see(redis, "a", clock.now)
    await redis.hset(KEYS.cursor, "0", "1")
    await redis.hset(KEYS.epoch, mapping={"0": "e", FORMAT: VIEWS_FORMAT})
    state = await board.look()
    assert ("views" in state.problems, state.devices.total) == (False, 1)
    assert (await board.device("b")).row is None
    for lost in (False, True):
        if lost:
            await redis.flushdb()
        else:
            await redis.hset(KEYS.epoch, UNFINISHED, "1")
        clock.now += timedelta(seconds=1)
        again = await board.look()
        assert "views" in again.problems
        assert (again.devices, again.views_at_ms) == (state.devices, state.views_at_ms)
        with pytest.raises(Retry, match="views: "):
            await board.window("b", None, 0, 1)
        with pytest.raises(Retry, match="views: "):
            await board.device("b")


async def test_what_many_ask_for_is_looked_for_once(
    board: Board, redis: Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All devices are gone through once for each choice until they are ranked anew, and for each order."""
    looked: list[str] = []
    having = Index.having

    async def look(index: Index, part: str) -> list[str]:
        looked.append(part)
        return await having(index, part)

    sorting = AsyncMock(side_effect=columns.arranged)
    monkeypatch.setattr(Index, "having", look)
    monkeypatch.setattr(columns, "arranged", sorting)
    for device in ("a1", "a2", "b1"):
        await see(redis, device, clock.now)
    await board.look()
    for _ in range(2):
        asked = (board.window(part, None, 0, 9) for part in "ab" * 9)
        assert [found.total for found in await asyncio.gather(*asked)] == [2, 1] * 9
    assert looked == ["a", "b"]
    await see(redis, "a3", clock.now)
    for _ in range(2):  # devices are ranked every other look
        await board.look()
    assert (await board.window("a", None, 0, 9)).total == 3
    clock.now += timedelta(seconds=3)
    await board.window("a", None, 0, 9)
    assert looked[2:] == ["a", "a"]
    monkeypatch.setattr(choices, "KEPT_IDS", 4)
    for part in ("a", "b", "a", "1", "b"):
        await board.window(part, None, 0, 9)
    assert looked[4:] == ["b", "1"]
    for number in [*range(17), *range(1, 17)]:
        await board.window("", None, 0, 9, order=Order("metric", str(number), descending=False))
    assert sorting.await_count == 17


async def test_who_leaves_leaves_the_search_to_the_others(
    board: Board, redis: Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that many wait for does not end with one of them, and one that failed is done again."""
    answers: list[asyncio.Future[list[str]]] = []
    asked = asyncio.Event()

    async def look(_index: Index, _part: str) -> list[str]:
        answers.append(asyncio.get_running_loop().create_future())
        asked.set()
        return await answers[-1]

    async def ask() -> tuple[asyncio.Future[int], asyncio.Future[int]]:
        asked.clear()
        tasks = tuple(asyncio.ensure_future(total()) for _ in range(2))
        await asked.wait()
        return tasks[0], tasks[1]

    async def total() -> int:
        return (await board.window("a", None, 0, 9)).total

    monkeypatch.setattr(Index, "having", look)
    await see(redis, "a", clock.now)
    await board.look()
    failing = await ask()
    answers[0].set_exception(Retry("redis", "away"))
    for task in failing:
        with pytest.raises(Retry, match="away"):
            await task
    leaving, staying = await ask()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    answers[1].set_result(["a"])
    assert (await staying, await total(), len(answers)) == (1, 1, 2)


async def test_what_many_choices_need_is_asked_for_once(
    board: Board, redis: Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of Redis regions and tags are asked once, however many of them are chosen at the same moment."""
    asked: list[tuple[str, ...]] = []
    read = Fields.read

    def look(fields: Fields, ids: Sequence[str], names: Sequence[str]) -> AsyncIterator[Any]:
        asked.extend([tuple(names)] * bool(ids))
        return read(fields, ids, names)

    for place in ("north", "south"):
        await see(redis, place, clock.now)
        await redis.hset(KEYS.device(place), mapping={"region": place, "tag_line": place})
    monkeypatch.setattr("projector.live.fleet.SHOWN", 0)  # of whose rows the regions are known
    await board.look()
    monkeypatch.setattr(Fields, "read", look)
    found = await asyncio.gather(
        *(board.window("", place, 0, 9) for place in ("north", "south") * 5),
        *(board.window("", None, 0, 9, tag=f"line:{place}") for place in ("north", "south") * 5),
    )
    assert [window.total for window in found] == [1] * 20
    assert sorted(asked) == [("region",), ("tag_line",)]
