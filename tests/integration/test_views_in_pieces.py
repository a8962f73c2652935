"""A run that is set in several calls, on a real Redis: whatever happens in between, it counts once, whole."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from contract.events import Event, EventBatch, Scalar
from contract.views import STAGED, UNFINISHED
from projector.expiry.devices import Expiry
from projector.meters import Meters
from projector.repair import pages
from projector.views import Keys, Run, Views, apply, change, setting, writes
from projector.views.read import METRICS_A_CALL, READ, in_calls, read_views
from projector.views.state import Wanted
from runtime import faults
from runtime.errors import Retry
from runtime.http import Health
from tests.support.committed import Committed
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    RunCommand = Callable[..., Awaitable[RunningCommand]]

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEYS = Keys("p:")
PIECE = 100


class Died(BaseException):
    """A projector's end."""


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the test's Redis."""
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few views fit into a call."""
    monkeypatch.setattr(writes, "PIECE", PIECE)


def event(device: str, second: int, *, region: str | None = "north", **metrics: Scalar) -> Event:
    """An event at a second past nine."""
    ts, received_at = f"2026-11-23T09:00:{second:02d}.250000Z", f"2026-11-23T09:01:{second:02d}.000000Z"
    return Event(device, region, ts, received_at, f"k{second}", metrics)


def fleet(n: int, *, wide: int = 60) -> Run:
    """A run of forty devices in four regions, some of which move, and one with many metrics."""
    many: dict[str, Any] = {f"m{i}": i + n for i in range(wide)}
    events = [event(f"d{i}", n, region=f"r{(i + n * (i % 3)) % 4}", t=i + n, u=n / 3) for i in range(40)]
    return Run(0, "e", n, n, [*events, event("wide", n, **many)])


async def everything(redis: Redis) -> dict[Any, Any]:
    """Every key with what it holds; not who wrote it."""
    found: dict[Any, Any] = {}
    for key in await redis.keys():
        kind = await redis.type(key)
        if kind == b"hash":
            found[key] = await redis.hgetall(key)
            found[key].pop(b"version", None)
        elif kind == b"zset":
            found[key] = await redis.zrange(key, 0, -1, withscores=True)
    return found


def rounded(found: dict[Any, Any]) -> dict[Any, Any]:
    """The same without the last digits of sums and averages, which each write rounds."""
    return {
        key: {field: _round(field, value) for field, value in its.items()} if isinstance(its, dict) else its
        for key, its in found.items()
    }


def _round(field: bytes, value: bytes) -> bytes | float:
    return round(float(value), 9) if field.startswith((b"sum_", b"avg_")) else value


def after(passing: int, then: Callable[[], object], where: str = "staged") -> Callable[[str], None]:
    """A fault point at which something happens at one passing."""
    passed = 0

    def point(name: str) -> None:
        nonlocal passed
        passed += name == where
        if passed == passing and name == where:
            then()

    return point


def die() -> None:
    raise Died


async def expected(redis: Redis, runs: int) -> dict[Any, Any]:
    """What so many runs make when each is set in one call."""
    views = Views(redis, KEYS)
    for n in range(1, runs + 1):
        assert (await views.apply(fleet(n), NOW)).status == "applied"
    found = await everything(redis)
    await redis.flushdb()
    return found


async def pieces_of(redis: Redis, monkeypatch: pytest.MonkeyPatch, where: str = "staged") -> int:
    """How many calls the second run takes beside the one that decides: after it, or before."""
    count = 0

    def one(name: str) -> None:
        nonlocal count
        count += name == where

    views = Views(redis, KEYS)
    await views.apply(fleet(1), NOW)
    with monkeypatch.context() as patched:
        patched.setattr(faults, "point", one)
        await views.apply(fleet(2), NOW)
    await redis.flushdb()
    return count


async def dies(
    views: Views, run: Run, monkeypatch: pytest.MonkeyPatch, passing: int, where: str = "staged"
) -> None:
    """Apply a run and die after that many pieces beside the first, or calls before that."""
    with monkeypatch.context() as patched:
        patched.setattr(faults, "point", after(passing, die, where))
        with pytest.raises(Died):
            await views.apply(run, NOW)


async def test_whoever_comes_next_sets_what_is_left(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A projector dies after any piece: the next one goes on, and all is as if set in one call."""
    whole = await expected(redis, 3)
    monkeypatch.setattr(writes, "PIECE", PIECE)
    pieces = await pieces_of(redis, monkeypatch)
    assert pieces > 10
    for passing in range(1, pieces + 1):
        views = Views(redis, KEYS)
        await views.apply(fleet(1), NOW)
        await dies(views, fleet(2), monkeypatch, passing)
        assert (await views.marks())[0].n == 2, "the first call decides"
        successor = Views(redis, KEYS) if passing % 2 else views
        assert (await successor.apply(fleet(2), NOW)).status == "duplicate"
        assert (await successor.apply(fleet(3), NOW)).status == "applied"
        assert await everything(redis) == whole
        await redis.flushdb()


async def test_whoever_dies_before_the_call_that_decides_has_done_nothing(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A projector dies while it puts pieces in the list: nothing has changed, and the list is nobody's."""
    whole = await expected(redis, 3)
    monkeypatch.setattr(writes, "PIECE", PIECE)
    monkeypatch.setattr(setting, "TOGETHER", 2)
    calls = await pieces_of(redis, monkeypatch, "listed")
    assert calls > 4
    for passing in range(1, calls + 1):
        views = Views(redis, KEYS)
        await views.apply(fleet(1), NOW)
        before = await everything(redis)
        await dies(views, fleet(2), monkeypatch, passing, "listed")
        assert await redis.exists(KEYS.staged)
        assert await everything(redis) == before
        successor = Views(redis, KEYS) if passing % 2 else views
        assert await successor.settle() == ""
        assert (await successor.apply(fleet(2), NOW)).status == "applied"
        assert (await successor.apply(fleet(3), NOW)).status == "applied"
        assert await everything(redis) == whole
        await redis.flushdb()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("meddling", ["begins a list", "writes", "stages", "removes it"])
@pytest.mark.parametrize("piece_number", [2, 7])
async def test_who_shares_a_list_writes_nothing_of_it(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, meddling: str, piece_number: int
) -> None:
    """Another projector puts its pieces in the list, or writes, meanwhile: each run counts once, whole."""
    for n in (1, 2, 3):
        await Views(redis, KEYS).apply(fleet(n), NOW)
    whole = await everything(redis)
    await redis.flushdb()
    monkeypatch.setattr(setting, "TOGETHER", 2)
    views, other = Views(redis, KEYS), Views(redis, KEYS)
    await views.apply(fleet(1), NOW)
    add = setting.Setting.add
    added = 0

    async def meddled(own: setting.Setting, pieces: setting.Pieces, piece: tuple[bytes, bytes]) -> bool:
        nonlocal added
        added += 1
        if added == piece_number:
            monkeypatch.setattr(setting.Setting, "add", add)
            if meddling == "begins a list":
                await dies(other, fleet(2), monkeypatch, 2, "listed")
            elif meddling == "stages":
                await dies(other, fleet(2), monkeypatch, 1)
            elif meddling == "removes it":
                await redis.delete(KEYS.staged)
            else:
                await other.apply(fleet(2), NOW)
        return await add(own, pieces, piece)

    monkeypatch.setattr(setting.Setting, "add", meddled)
    assert (await views.apply(fleet(2), NOW)).status in {"applied", "duplicate"}
    assert (await views.apply(fleet(3), NOW)).status == "applied"
    assert await everything(redis) == whole


def rows_of(run: Run) -> list[EventBatch]:
    """The row that a run of one row is."""
    return [EventBatch(1, run.stream, run.last, run.epoch, run.written_at, list(run.events))]


@pytest.mark.parametrize("bound", ["none", "metrics", "rows", "time", "memory"])
async def test_a_run_grows(redis: Redis, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """Rows that are there already are applied in one run, as many as may be: as if in one run each."""
    whole = await expected(redis, 6)
    if bound == "metrics":
        monkeypatch.setattr("projector.views.pace.RUN_METRICS", 100)
    elif bound == "rows":
        monkeypatch.setattr("projector.views.pace.RUN_ROWS", 1)
    elif bound == "time":
        monkeypatch.setattr("projector.views.pace.RUN_S", 0.0)
    views = Views(redis, KEYS, remember=50) if bound == "memory" else Views(redis, KEYS)

    async def more(after: int) -> tuple[Sequence[EventBatch], datetime]:
        return (rows_of(fleet(after + 1)) if after < 6 else []), NOW

    assert (await views.apply(fleet(1), NOW)).cursor == 1
    cursors = [1]
    while cursors[-1] < 6:
        outcome = await views.apply(fleet(cursors[-1] + 1), NOW, more)
        assert outcome.status == "applied"
        cursors.append(outcome.cursor)
    assert cursors == ([1, 6] if bound == "none" else [1, 2, 3, 4, 5, 6])
    assert rounded(await everything(redis)) == rounded(whole)


async def test_others_have_their_turn_between_the_parts_of_a_run(redis: Redis) -> None:
    """Also when nothing is to be read for it: the topic, pages and other streams are heard meanwhile."""
    views, turns, seen = Views(redis, KEYS), 0, []

    async def more(after: int) -> tuple[Sequence[EventBatch], datetime]:
        seen.append(turns)
        return (rows_of(fleet(after + 1)) if after < 6 else []), NOW

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    await views.apply(fleet(1), NOW)
    beside = asyncio.create_task(others())
    assert (await views.apply(fleet(2), NOW, more)).cursor == 6
    beside.cancel()
    assert len(seen) == len(set(seen)) == 5


@pytest.mark.parametrize(("pause_s", "cursor"), [(0.0, 3), (60.0, 6)])
async def test_a_run_leaves_what_comes(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, pause_s: float, cursor: int
) -> None:
    """What comes while a run is worked out makes nobody wait, unless it comes so fast that gathering pays."""
    monkeypatch.setattr("projector.views.apply.linger_s", lambda *_: pause_s)
    views = Views(redis, KEYS)

    async def more(after: int) -> tuple[Sequence[EventBatch], datetime]:
        return (rows_of(fleet(after + 1)) if after < 6 else []), NOW

    outcome = await views.apply(fleet(1)._replace(known=3), NOW, more)
    assert (outcome.status, outcome.cursor) == ("applied", cursor)
    assert (await views.apply(fleet(cursor + 1), NOW)).status == "applied"


async def test_a_run_that_grew_is_refused(redis: Redis) -> None:
    """Another writes while a run grows: none of it is applied, and what the views lack is to come again."""
    whole = await expected(redis, 3)
    views, other = Views(redis, KEYS), Views(redis, KEYS)
    await views.apply(fleet(1), NOW)
    await other.apply(fleet(1), NOW)

    async def more(after: int) -> tuple[Sequence[EventBatch], datetime]:
        await other.apply(fleet(2), NOW)
        return (rows_of(fleet(after + 1)) if after < 3 else []), NOW

    outcome = await views.apply(fleet(2), NOW, more)
    assert outcome == ("gap", 2, "")
    assert (await views.apply(fleet(3), NOW)).status == "applied"
    assert await everything(redis) == whole


def broken(cut: int) -> Callable[..., Awaitable[Any]]:
    """Calls of scripts of which one does not arrive, and the answer to the next one is lost."""
    calls = 0
    execute: Any = Redis.execute_command

    async def call(client: Redis, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  # passed on
        nonlocal calls
        calls += arguments[0] == "EVALSHA"
        if arguments[0] == "EVALSHA" and calls == cut:
            raise ConnectionResetError
        reply = await execute(client, *arguments, **options)
        if arguments[0] == "EVALSHA" and calls == cut + 1:
            raise ConnectionResetError
        return reply

    return call


@pytest.mark.usefixtures("small")
async def test_answers_that_are_lost(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks at any call, before or after Redis has done it: each run counts once, whole."""
    views = Views(redis, KEYS)
    for n in (1, 2, 3):
        await views.apply(fleet(n), NOW)
    whole = await everything(redis)
    for cut in range(1, 60, 2):
        await redis.flushdb()
        with monkeypatch.context() as patched:
            patched.setattr(Redis, "execute_command", broken(cut))
            views, n = Views(redis, KEYS), 1
            while n <= 3:
                try:
                    outcome = await views.apply(fleet(n), NOW)
                except Retry:
                    continue
                assert outcome.status in {"applied", "duplicate"}
                n = outcome.cursor + 1
        assert await everything(redis) == whole


@pytest.mark.usefixtures("small")
async def test_two_projectors_at_once(redis: Redis) -> None:
    """Two set the same runs at the same time, in pieces: each run counts once."""
    for n in (1, 2, 3):
        await Views(redis, KEYS).apply(fleet(n), NOW)
    whole = await everything(redis)
    await redis.flushdb()

    async def project() -> None:
        views, n = Views(redis, KEYS), 1
        while n <= 3:
            try:
                n = (await views.apply(fleet(n), NOW)).cursor + 1
            except Retry:  # the other was always faster
                n = (await views.marks())[0].n + 1

    await asyncio.gather(project(), project())
    assert await everything(redis) == whole


async def staged(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Views:
    """Views of which some pieces are to be set, and nobody does."""
    views = Views(redis, KEYS)
    await views.apply(fleet(1), NOW)
    await dies(views, fleet(2), monkeypatch, 1)
    return views


@pytest.mark.usefixtures("small")
async def test_another_that_remembers_is_refused(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows what the views hold, but not that a part is to be set, changes nothing before that is."""
    views = await staged(redis, monkeypatch)
    before = await everything(redis)
    applied = int(await redis.hget(KEYS.epoch, STAGED) or 0)
    assert applied > 10
    word = cast("bytes", await redis.hget(KEYS.epoch, "version"))
    version = f"{word.decode()}:2"
    piece = writes.Piece().packed("2026-11-23T12:00:00.000000Z", "0")
    pieces = setting.Pieces("another")
    pieces.held.append(piece)
    answer = await setting.Setting(redis, KEYS).write(fleet(3), pieces, expected=version, lost="")
    assert answer == ("stale", 2, version)
    assert await everything(redis) == before
    assert (await views.apply(fleet(3), NOW)).status == "applied"


@pytest.mark.usefixtures("small")
async def test_nobody_reads_what_is_set_in_part(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is worked out from views must be worked out from whole ones: the rest could be set meanwhile."""
    views = await staged(redis, monkeypatch)
    wanted = [Wanted("wide", ["m1"])]
    script = redis.register_script(READ)
    assert not (await read_views(script, KEYS, fleet(3), wanted, [])).follows
    await views.settle()
    assert (await read_views(script, KEYS, fleet(3), wanted, [])).follows


@pytest.mark.usefixtures("small")
async def test_pieces_that_are_lost(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of the pieces are gone, and others are there: that is no run, and the set is made anew."""
    views = await staged(redis, monkeypatch)
    await redis.ltrim(KEYS.staged, 2, -1)
    assert await views.apply(fleet(3), NOW) == ("lost", 2, KEYS.staged)
    assert (await views.marks())[0].epoch == UNFINISHED


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("tells", ["a word", "a cursor"])
async def test_one_that_knows_nothing_of_pieces(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, tells: str
) -> None:
    """One of another version has gone on from views of which a part was not set: they are made anew."""
    views = await staged(redis, monkeypatch)
    if tells == "a word":
        await redis.hset(KEYS.epoch, "version", "old")
    else:
        await redis.hset(KEYS.cursor, "0", "3")
    assert await views.settle() == KEYS.staged
    assert (await views.marks())[0].epoch == UNFINISHED


@pytest.mark.usefixtures("small")
async def test_views_that_are_being_replaced(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of the set that was are not set into the one that takes its place."""
    await staged(redis, monkeypatch)
    await redis.hset(KEYS.epoch, UNFINISHED, "1")
    before = await everything(redis)
    await Views(redis, KEYS).settle()
    assert await everything(redis) == before


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("gone", [KEYS.device("wide"), KEYS.region("r3"), KEYS.staged])
async def test_a_view_that_is_gone_meanwhile(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """A view, or the pieces, are lost before they are set: the set is marked as one to be made anew."""
    views = await staged(redis, monkeypatch)
    await redis.delete(gone)
    assert await views.apply(fleet(3), NOW) == ("lost", 2, gone)
    assert (await views.marks())[0].epoch == UNFINISHED
    assert (await Views(redis, KEYS).apply(fleet(3), NOW)).status == "epoch"


@pytest.mark.usefixtures("small")
async def test_what_is_in_the_way_is_waited_for(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view's key holds something else, or Redis is full: the pieces wait, and nothing else is set."""
    for n in (1, 2, 3):
        await Views(redis, KEYS).apply(fleet(n), NOW)
    whole = await everything(redis)
    await redis.flushdb()
    views = await staged(redis, monkeypatch)
    key = KEYS.device("wide")
    kept = cast("bytes", await redis.dump(key))
    await redis.set(key, "not ours")
    for _ in range(2):
        with pytest.raises(Retry, match=f"{key}: WRONGTYPE"):
            await views.apply(fleet(3), NOW)
    await redis.delete(key)
    await redis.restore(key, 0, kept)
    await redis.config_set("maxmemory", 1)
    with pytest.raises(Retry):
        await views.apply(fleet(3), NOW)
    await redis.config_set("maxmemory", 0)
    assert (await views.apply(fleet(3), NOW)).status == "applied"
    assert await everything(redis) == whole


@pytest.mark.usefixtures("small")
async def test_meanwhile_others_leave_the_views_alone(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody expires, and a page says that it cannot be compared, until the pieces are set."""
    views = await staged(redis, monkeypatch)
    before = await everything(redis)
    expiry = Expiry(
        redis, KEYS, after_s=1, health=Health(), meters=Meters(CollectorRegistry()), now=lambda: NOW
    )
    assert await expiry._expire(1 << 60, [b"d1", b"d2"]) == 0  # what a turn does once it is time
    assert await everything(redis) == before
    devices, _ = pages.families(KEYS)
    assert (await pages.read_page(redis, KEYS, devices, ["d1"], "p:guard")).cursors.staged
    await views.apply(fleet(3), NOW)
    assert not (await pages.read_page(redis, KEYS, devices, ["d1"], "p:guard")).cursors.staged
    assert await redis.hget(KEYS.epoch, STAGED) is None
    assert not await redis.exists(KEYS.staged)


@pytest.mark.usefixtures("small")
async def test_a_projector_to_which_nothing_comes_sets_what_is_left(
    redis: Redis, settings: Settings, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last row of all was staged when its projector died: the next one need not wait for another row."""
    keys = Keys(settings.redis.prefix)
    async with open_pools(settings.postgres.dsn) as pools:
        row = await Committed(pools).commit(*fleet(1).events)
    run = Run(0, row.epoch, 1, 1, row.events, row.created_at)
    await dies(Views(redis, keys), run, monkeypatch, 1)
    assert await redis.hexists(keys.epoch, STAGED)
    projector = await run_command("projector", "run")
    async with asyncio.timeout(20):
        while await redis.hexists(keys.epoch, STAGED):  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.1)
    assert await projector.terminate() == 0
    assert await redis.hget(keys.device("wide"), "sample_count") == b"1"


async def test_no_call_takes_more_than_a_piece(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of ten thousands of metrics takes many calls, and ten thousand devices do; reading them too."""
    sizes: list[int] = []
    packed = writes.Piece.packed

    def counted(piece: writes.Piece, *times: str) -> tuple[bytes, bytes]:
        sizes.append(sum(map(len, piece.fields)) + sum(len(fields) for _, fields in piece.gone))
        return packed(piece, *times)

    monkeypatch.setattr(writes.Piece, "packed", counted)
    devices = [event(f"d{i}", 1, t=i) for i in range(10_000)]
    for n in (1, 2, 3):
        wide: dict[str, Any] = {f"m{n % 2}-{i}": float(i) for i in range(15_000)}
        run = Run(0, "e", n, n, [event("w", n, **wide), *devices])
        assert (await Views(redis, KEYS).apply(run, NOW)).status == "applied"
    assert max(sizes) <= 2 * writes.PIECE
    assert len(sizes) > 3 * 10
    assert await redis.hget(KEYS.device("w"), "sum_m1-14999") == b"14999", "the other rows took its place"
    assert not await redis.hexists(KEYS.device("w"), "sum_m0-14999")
    assert await redis.hget(KEYS.device("d9999"), "count_t") == b"3"
    reads = [
        sum(4 + len(wanted.names) for wanted in (*devices, *regions))
        for devices, regions in in_calls(
            [Wanted(f"d{i}", ["t", "u"]) for i in range(10_000)],
            [Wanted("north", [str(i) for i in range(15_000)])],
        )
    ]
    assert max(reads) < 2 * METRICS_A_CALL
    assert sum(reads) == 6 * 10_000 + 15_000 + 4 * 15_000 // METRICS_A_CALL


async def test_what_a_run_needs_is_looked_for_in_portions(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have their turn after some metrics, also before anything is read."""
    portions: list[int] = []
    whole = change.Lacking.add

    def noted(lacking: change.Lacking, events: Sequence[Event]) -> None:
        portions.append(sum(len(each.metrics) for each in events))
        whole(lacking, events)

    monkeypatch.setattr(apply, "AT_ONCE", 100)
    monkeypatch.setattr(change.Lacking, "add", noted)
    names: dict[str, Any] = {f"m{i}": i for i in range(50)}
    events = [event("wide", second, **names) for second in range(20)]
    assert (await Views(redis, KEYS).apply(Run(0, "e", 1, 1, events), NOW)).status == "applied"
    assert (sum(portions), max(portions)) == (1000, 100)
