"""Views against PostgreSQL: verified, damaged, rebuilt, on real servers."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import pytest
from redis.asyncio import Redis

from contract.views import UNFINISHED
from projector.repair.replica import AlreadyRunningError, open_replica
from projector.repair.swap import Swap
from projector.repair.verify import Verification, Verifier
from projector.views import Outcome, Run, Views
from runtime.errors import Retry, Stop
from tests.support.both_sides import KEYS, NOW, Side, event, quiet
from tests.support.both_sides import said as said_online
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import datetime

    from projector.repair.pages import Page
    from projector.repair.replica import Replica


@pytest.fixture
async def side(database: str, redis_url: str) -> AsyncIterator[Side]:
    """Three devices in two regions, committed and applied."""
    async with (
        open_pools(database) as pools,
        Redis.from_url(redis_url) as redis,
    ):
        side = Side(pools, redis)
        await side.apply(event("a", 1, t=1.5), event("b", 2, t=2, state="on"))
        await side.apply(event("c", 3, region="south", t=0.1), event("a", 0, region=None, u='x\\y\t"é'))
        yield side


class Killed(Exception):  # noqa: N818  # no error
    """The process ends here."""


def said(result: Verification) -> set[tuple[str, str, str | None, str | None, str | None]]:
    """The differences, whatever their order."""
    return {(d.kind, d.key.removeprefix("p*:"), d.field, d.expected, d.found) for d in result.differences}


async def test_equal(side: Side) -> None:
    """Views that hold what PostgreSQL says are equal, and nothing of the comparison stays behind."""
    result = await side.verify()
    assert (result.equal, result.differences, result.events) == (True, [], 4)
    assert (result.devices, result.regions, result.cursors) == (3, 2, {0: 2})
    assert await side.keys() == set()
    assert await side.pool.fetchval("SELECT count(*) FROM projections") == 0


async def test_what_has_dropped_metrics(side: Side) -> None:
    """Which metrics have made room, and when, is nobody's fault; all else of such views is compared."""
    for n in range(5):
        metrics: Any = {f"m{n}_{i}": i for i in range(250)}
        await side.apply(event("a", 10 + n, t=n, **metrics))
    key = KEYS.device("a")
    assert await side.redis.hget(key, "metrics_dropped") == b"252"
    assert said(await side.verify()) == set()
    await side.rebuilder.rebuild(quiet)
    assert said(await side.verify()) == set()
    assert await side.redis.hget(key, "count_m4_7") == b"1"
    await side.redis.hset(key, "sample_count", "1")
    assert said(await side.verify()) == {("differs", "device:stats:a", "sample_count", "7", "1")}


async def test_whether_devices_are_online(side: Side) -> None:
    """Verified with its time and the message that said it, and made anew, also once that is retired."""
    await side.apply(said_online("a", 10, online=True), said_online("b", 11, online=True))
    await side.apply(said_online("b", 12, online=False), said_online("b", 13, online=False))
    assert said(await side.verify()) == set()
    await side.redis.hset(KEYS.device("b"), "online", "true")
    await side.redis.hdel(KEYS.device("a"), "online_since")
    await side.redis.hset(KEYS.device("c"), "online", "true")
    since = "2026-11-23T09:00:10.250000Z"
    assert said(await side.verify()) == {
        ("differs", "device:stats:a", "online_since", since, None),
        ("differs", "device:stats:b", "online", "false", "true"),
        ("differs", "device:stats:c", "online", None, "true"),
    }
    await side.pool.execute("SELECT retire_measurements('DELETE FROM measurements RETURNING *')")
    await side.pool.execute(
        "INSERT INTO device_presence SELECT 'gone', true, now(), now(), 'k', now(), now(), 'k'"
    )
    await side.rebuilder.rebuild(quiet)
    assert said(await side.verify()) == set()
    assert await side.redis.hmget(KEYS.device("b"), ["online", "online_since"]) == [
        b"false",
        b"2026-11-23T09:00:12.250000Z",
    ]
    assert not await side.redis.exists(KEYS.device("gone"))


async def test_every_damage_is_told_exactly(side: Side) -> None:
    """Whatever is changed, removed or added by hand is reported, and nothing else; a rebuild mends it."""
    redis = side.redis
    await redis.hset(KEYS.device("a"), "sum_t", "99")
    await redis.hset(KEYS.device("a"), "min_x", "1")
    await redis.hdel(KEYS.region("north"), "device_count")
    await redis.delete(KEYS.device("b"))
    await redis.hset(KEYS.device("alien"), "sample_count", "1")
    await redis.zadd(KEYS.last_seen, {"c": 5, "ghost": 7})
    await redis.hdel(KEYS.region_marks, "south")
    await redis.hset(KEYS.region_marks, "nowhere", "rubbish")
    await redis.delete(KEYS.device("c"))
    await redis.set(KEYS.device("c"), "text")
    result = await side.verify()
    wrong_type = "WRONGTYPE Operation against a key holding the wrong kind of value"
    mark = '{"newest":[1795424403250000,"2026-11-23T09:01:00.000000Zk\\\\3\\u0000c"],"home":null,'
    mark += '"metrics":{"t":[1795424403250000,"2026-11-23T09:01:00.000000Zk\\\\3\\u0000c"]}}'
    (south,) = [d for d in result.differences if d.field == "south"]
    assert south.expected is not None
    assert msgspec.json.decode(south.expected) == msgspec.json.decode(mark)
    assert said(result) == {
        ("differs", "device:stats:a", "sum_t", "1.5", "99"),
        ("differs", "device:stats:a", "min_x", None, "1"),
        ("differs", "region:stats:north", "device_count", "2", None),
        ("missing", "device:stats:b", None, "a hash of 14 fields", None),
        ("extra", "device:stats:alien", None, None, "a hash of 1 fields"),
        ("differs", "devices:last_seen", "c", "1795424403250", "5"),
        ("extra", "devices:last_seen", "ghost", None, "7"),
        ("missing", "projector:marks:regions", "south", south.expected, None),
        ("extra", "projector:marks:regions", "nowhere", None, "unreadable"),
        ("differs", "device:stats:c", None, "a hash", wrong_type),
    }
    assert (result.equal, result.differing, result.missing, result.extra) == (False, 5, 2, 3)
    assert len((await side.verify(limit=2)).differences) == 2

    rebuilt = await side.rebuilder.rebuild(quiet)
    assert (rebuilt.views, rebuilt.events, rebuilt.cursors) == (5, 4, {0: 2})
    assert said(await side.verify()) == set()
    assert await side.keys() == set()
    await side.apply(event("a", 4, region="south", t=7))
    assert (await side.verify()).equal


async def test_views_move_on_while_they_are_verified(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows applied before each look at the live views are expected there; damage is found all the same."""
    await side.redis.hset(KEYS.device("a"), "sum_t", "99")
    seconds = iter(range(10, 60))
    read_live = Verifier._read_live

    async def move_first(*arguments: Any) -> Page:  # noqa: ANN401  # passed on as they are
        second = next(seconds)
        await side.apply(event("b", second, t=1), event(f"new{second}", second, region="east", t=1))
        return await read_live(*arguments)

    monkeypatch.setattr(Verifier, "_read_live", move_first)
    result = await side.verify()
    assert said(result) == {("differs", "device:stats:a", "sum_t", "1.5", "99")}
    assert result.cursors == {0: 4}, "a page of devices and one of regions"


async def test_nothing_to_compare_with(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views that stand still behind, or belong to another history, are not compared; the error says so."""
    monkeypatch.setattr("projector.repair.verify.STANDSTILL_S", 0.2)
    await side.commit(event("a", 7, t=1))
    with pytest.raises(Stop, match="stand still at row 2 of stream 0, with 3 committed"):
        await side.verify()
    await side.pool.execute("UPDATE streams SET epoch = $1", uuid4())
    with pytest.raises(Stop, match="stream 0: epoch_changed"):
        await side.verify()
    assert await side.keys() == set()


async def test_views_that_are_set_in_part(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a run that nobody sets are waited for, and then the error says so."""
    monkeypatch.setattr("projector.repair.verify.STANDSTILL_S", 0.2)
    await side.redis.hset(KEYS.epoch, "staged", "1")
    with pytest.raises(Stop, match="stand still at a run that is set in part: see that `projector run` runs"):
        await side.verify()
    await side.redis.hdel(KEYS.epoch, "staged")
    assert (await side.verify()).equal


async def test_flushed_views_come_back(side: Side) -> None:
    """Without anything in Redis and with the outbox trimmed, a rebuild makes the same views."""
    before = {key: await side.redis.hgetall(key) for key in await side.redis.keys(b"*stats*")}
    await side.redis.flushdb()
    await side.pool.execute("DELETE FROM outbox")
    assert await side.rebuilder.mend(quiet)
    assert {key: await side.redis.hgetall(key) for key in await side.redis.keys(b"*stats*")} == before
    assert (await side.views.marks())[0][:2] == (2, side.rows[-1].epoch)
    reported = await side.pool.fetch("SELECT projection, n FROM projections")
    assert [tuple(row) for row in reported] == [("redis", 2)]


async def test_another_history(side: Side) -> None:
    """Views of a history that PostgreSQL does not have any more give way to what it has."""
    await side.pool.execute("DELETE FROM measurements WHERE device_id <> 'c'")
    await side.pool.execute("DELETE FROM outbox WHERE n > 1")
    await side.pool.execute("UPDATE stream_leases SET epoch = $1, head = 1", uuid4())
    await side.redis.hset(KEYS.cursor, "7", "3")  # of a stream that is not there any more
    assert await side.rebuilder.mend(quiet)
    assert sorted(await side.redis.keys(b"*stats*")) == [b"p*:device:stats:c", b"p*:region:stats:south"]
    assert await side.redis.hgetall(KEYS.cursor) == {b"0": b"1"}
    assert await side.rebuilder.mend(quiet) is None
    await side.apply(event("c", 9, t=1))
    assert (await side.verify()).equal


async def test_what_happens_meanwhile_is_counted_once(side: Side) -> None:
    """A row that the live views got after the replica's last one, its device new, is not lost or doubled."""
    async with open_replica(
        "rebuild", side.redis, side.pools.projector, keys=KEYS, now=lambda: NOW
    ) as replica:
        await replica.build(quiet, settled=True)
        row = event("new", 6, region="east", t=1)
        await side.apply(row)
        assert await Swap(side.redis, KEYS).put_in_place(replica) == 5
    assert (await side.views.marks())[0][:2] == (2, side.rows[-1].epoch)
    assert await side.redis.exists(KEYS.device("new"), KEYS.region("east")) == 0
    again = await side.views.apply(Run(0, side.rows[-1].epoch, 3, 3, [row]), NOW)
    assert again == ("applied", 3, "")
    assert (await side.verify()).differences == []


async def test_rebuild_is_invisible_until_it_is_whole(side: Side) -> None:
    """As long as the replica is built the live views stay as they are."""
    await side.redis.hset(KEYS.device("a"), "sum_t", "99")
    async with open_replica(
        "rebuild", side.redis, side.pools.projector, keys=KEYS, now=lambda: NOW
    ) as replica:
        await replica.build(quiet, settled=True)
        assert await side.redis.hget(KEYS.device("a"), "sum_t") == b"99"
        assert await side.redis.hget(replica.keys.device("a"), "sum_t") == b"1.5"
        names = await side.pool.fetch("SELECT projection, n FROM projections")
        assert [(row["projection"][:8], row["n"]) for row in names] == [("rebuild-", 2)]
        with pytest.raises(AlreadyRunningError, match="another rebuild of these views is under way"):
            await side.rebuilder.rebuild(quiet)


@pytest.mark.parametrize("step", [1, 2, 3, 4])
async def test_killed_while_it_is_put_in_place(
    side: Side, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Whatever step of a swap is the last: each view is whole, nothing is applied, and a rebuild mends it."""

    def die_after_it(_name: str, passed: Iterator[int] = count(1)) -> None:  # noqa: B008  # shared on purpose
        if next(passed) == step:
            raise Killed

    await side.redis.hset(KEYS.device("alien"), "sample_count", "1")
    before = {key: await side.redis.hgetall(key) for key in await side.redis.keys(b"*:stats:?")}
    swap = Swap(side.redis, KEYS)
    async with open_replica(
        "rebuild", side.redis, side.pools.projector, keys=KEYS, now=lambda: NOW
    ) as replica:
        await replica.build(quiet, settled=True)
        monkeypatch.setattr("projector.repair.swap.faults.point", die_after_it)
        with pytest.raises(Killed):
            await swap.put_in_place(replica)
    assert {key: await side.redis.hgetall(key) for key in await side.redis.keys(b"*:stats:?")} == before
    assert await side.redis.exists(KEYS.device("alien")) == (step < 4)
    marks = await side.views.marks()
    assert (marks[0][:2], marks[7][:2]) == ((2, UNFINISHED), (0, UNFINISHED))
    row = event("new", 6, region="east", t=1)
    for stream, epoch, n in ((0, side.rows[-1].epoch, 3), (7, "of a new stream", 1)):
        refused = await side.views.apply(Run(stream, epoch, n, n, [row]), NOW)
        assert refused.status == "epoch"
    with pytest.raises(Stop, match="stream 0: swap_unfinished"):
        await side.verify()
    assert await side.rebuilder.mend(quiet)
    assert (await side.verify()).differences == []
    await side.apply(row)
    assert (await side.verify()).equal


async def test_a_replica_moves_on_in_bounded_runs(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call does not keep Redis from others for longer because it is a replica's."""
    monkeypatch.setattr("projector.repair.replica.RUN", 4)
    runs: list[tuple[int, int]] = []
    apply = Views.apply

    async def noted(views: Views, run: Run, now: datetime) -> Outcome:
        runs.append((run.first, run.last))
        return await apply(views, run, now)

    monkeypatch.setattr(Views, "apply", noted)
    async with open_replica(
        "verify", side.redis, side.pools.projector, keys=KEYS, now=lambda: NOW
    ) as replica:
        await replica.build(quiet, settled=True)
        for device in "defg":
            await side.commit(event(device, 9, t=1, u=2, v=3) if device == "f" else event(device, 9, t=1))
        runs.clear()
        await replica.advance(0, 6)
        assert runs == [(3, 4), (5, 5), (6, 6)]
        assert replica.cursors[0].n == 6


async def test_many_views_are_put_in_place(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """More devices than are held at once, applied at once, put in place at once: all of them arrive whole.

    And what the new set has not is removed.
    """
    monkeypatch.setattr("projector.repair.truth.PAGE_BYTES", 5000)
    monkeypatch.setattr("projector.repair.truth.GATHERED_METRICS", 100)
    monkeypatch.setattr("projector.repair.truth.ROWS_A_PART", 21)  # not at a device's end
    monkeypatch.setattr("projector.repair.swap.VIEWS_A_STEP", 7)
    for row in range(3):
        await side.commit(
            *(event(f"many{n}", n % 60, region=f"r{(n + row) % 30}", t=row) for n in range(300))
        )
    for n in range(1500):
        await side.redis.hset(KEYS.device(f"alien{n}"), "sample_count", "1")
    rebuilt = await side.rebuilder.rebuild(quiet)
    assert rebuilt.views == 3 + 2 + 300 + 30
    counts = [await side.redis.hget(KEYS.region(f"r{n}"), "device_count") for n in range(30)]
    assert sum(int(count or 0) for count in counts) == 300
    assert (await side.verify()).differences == []


async def test_lost_lock_changes_nothing(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was paused for so long that another took over puts nothing in place."""
    before = await dump(side.redis)
    put_in_place = Swap.put_in_place

    async def steal_first(swap: Swap, replica: Replica) -> int:
        await side.redis.set("p*:projector:lock:rebuild", "other")
        return await put_in_place(swap, replica)

    monkeypatch.setattr(Swap, "put_in_place", steal_first)
    with pytest.raises(Retry, match="lost"):
        await side.rebuilder.rebuild(quiet)
    assert await side.redis.get("p*:projector:lock:rebuild") == b"other"
    await side.redis.delete("p*:projector:lock:rebuild")
    assert await dump(side.redis) == before


@pytest.mark.parametrize("lacks", ["rows", "a step"])
async def test_a_server_that_lacks_the_last_writes_takes_no_step(
    side: Side, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    """Who took over from another may lack rows of the replica, or a step of the swap: that begins anew."""

    async def lose() -> None:
        if lacks == "rows":
            await side.redis.hset(replica.keys.cursor, "0", "1")
        else:
            await side.redis.hset(KEYS.epoch, "swapped", "1")

    place = Swap._ids

    async def after_a_step(swap: Swap, marks: str) -> AsyncIterator[list[bytes]]:
        async for ids in place(swap, marks):
            yield ids
            await lose()

    async with open_replica(
        "rebuild", side.redis, side.pools.projector, keys=KEYS, now=lambda: NOW
    ) as replica:
        await replica.build(quiet, settled=True)
        if lacks == "rows":
            await lose()
        else:
            monkeypatch.setattr(Swap, "_ids", after_a_step)
        with pytest.raises(Retry, match="lost"):
            await Swap(side.redis, KEYS).put_in_place(replica)
    monkeypatch.undo()
    assert ((await side.views.marks())[0].epoch == UNFINISHED) == (lacks == "a step")
    await side.rebuilder.rebuild(quiet)
    assert (await side.verify()).equal


async def test_leftovers_are_removed(side: Side) -> None:
    """What a run that died left behind goes with the next one, reports that nobody renews among it."""
    await side.redis.hset("p*:projector:rebuild:dead:device:stats:a", "sample_count", "1")
    await side.pool.execute(
        """INSERT INTO projections (projection, stream, n, epoch, updated_at) VALUES
        ('rebuild-dead', 0, 0, gen_random_uuid(), now() - interval '11 minutes'),
        ('verify-alive', 0, 0, gen_random_uuid(), now() - interval '9 minutes')"""
    )
    await side.rebuilder.rebuild(quiet)
    assert await side.keys() == set()
    names = await side.pool.fetch("SELECT projection FROM projections ORDER BY 1")
    assert [row["projection"] for row in names] == ["redis", "verify-alive"]


async def dump(redis: Redis) -> dict[Any, Any]:
    """Every key with its serialised value."""
    return {key: await redis.dump(key) for key in await redis.keys()}
