"""The script that changes the views, on a real Redis."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from redis.asyncio import Redis

from contract.events import Event, Scalar
from contract.views import DAMAGED, UNFINISHED
from projector.query import MetricStats, Queries
from projector.views import Cursor, Keys, Run, Views
from runtime.errors import Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEYS = Keys("p:")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the test's Redis."""
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def views(redis: Redis) -> Views:
    """Empty views."""
    return Views(redis, KEYS)


def event(device: str, second: int, *, region: str | None = "north", **metrics: Scalar) -> Event:
    """An event at a second past nine."""
    ts, received_at = f"2026-11-23T09:00:{second:02d}.250000Z", f"2026-11-23T09:01:{second:02d}.000000Z"
    return Event(device, region, ts, received_at, f"k{second}", metrics)


def run(n: int, *events: Event, last: int | None = None, epoch: str = "e") -> Run:
    """A run that begins with row `n`."""
    return Run(0, epoch, n, last or n, events)


async def hash_of(redis: Redis, key: str) -> dict[str, str]:
    """A hash as text."""
    raw = await cast("Awaitable[dict[bytes, bytes]]", redis.hgetall(key))
    return {field.decode(): value.decode() for field, value in raw.items()}


async def everything(redis: Redis) -> dict[Any, Any]:
    """Every key with its serialised value."""
    return {key: await redis.dump(key) for key in await redis.keys()}


async def test_device_hash_is_as_documented(redis: Redis, views: Views) -> None:
    """A device's hash has the fields that INTERFACE names, and no others."""
    await views.apply(run(1, event("d", 1, t=20.5, state="on"), event("d", 2, t=21)), NOW)
    assert await hash_of(redis, "p:device:stats:d") == {
        "device_id": "d",
        "region": "north",
        "last_seen": "2026-11-23T09:00:02.250000Z",
        "last_seen_ms": "1795424402250",
        "updated_at": "2026-11-23T12:00:00.000000Z",
        "updated_ms": "1795435200000",
        "sample_count": "2",
        "last_t": "21",
        "min_t": "20.5",
        "max_t": "21",
        "avg_t": "20.75",
        "sum_t": "41.5",
        "count_t": "2",
        "last_state": "on",
    }


async def test_region_hash_is_as_documented(redis: Redis, views: Views) -> None:
    """A region's hash has the fields that INTERFACE names, and no others."""
    await views.apply(run(1, event("a", 1, t=1), event("b", 2, t=2)), NOW)
    assert await hash_of(redis, "p:region:stats:north") == {
        "region": "north",
        "device_count": "2",
        "last_seen": "2026-11-23T09:00:02.250000Z",
        "last_seen_ms": "1795424402250",
        "updated_at": "2026-11-23T12:00:00.000000Z",
        "updated_ms": "1795435200000",
        "sample_count": "2",
        "last_t": "2",
        "min_t": "1",
        "max_t": "2",
        "avg_t": "1.5",
        "sum_t": "3",
        "count_t": "2",
    }


async def test_decimal_readings_add_up(redis: Redis, views: Views) -> None:
    """Sums of decimal readings show no dust of binary fractions, however many runs they took."""
    for n in range(1, 1001):
        await views.apply(run(n, event("d", 1, t=0.1)), NOW)
    found = await hash_of(redis, KEYS.device("d"))
    assert (found["sum_t"], found["avg_t"]) == ("100", "0.1")


async def test_guard(redis: Redis, views: Views) -> None:
    """A run is applied once, and only behind the cursor and in the same history; else nothing changes."""
    assert await views.apply(run(1, event("d", 1, t=1), last=3), NOW) == ("applied", 3, "")
    before = await everything(redis)
    assert await views.apply(run(1, event("d", 1, t=1), last=3), NOW) == ("duplicate", 3, "")
    assert await views.apply(run(2, event("d", 1, t=1)), NOW) == ("duplicate", 3, "")
    assert await views.apply(run(5, event("d", 1, t=1)), NOW) == ("gap", 3, "")
    assert await views.apply(run(2, event("d", 1, t=1), last=9), NOW) == ("gap", 3, "")
    assert await views.apply(run(4, event("d", 1, t=1), epoch="other"), NOW) == ("epoch", 3, "")
    assert await everything(redis) == before
    assert await views.marks() == {0: Cursor(3, "e")}


@pytest.mark.parametrize(
    "gone", [[KEYS.cursor], [KEYS.cursor, KEYS.epoch]], ids=["the cursor", "the cursor and the epoch"]
)
async def test_views_without_their_cursor(redis: Redis, views: Views, gone: list[str]) -> None:
    """Views that have lost what says how far they are take nothing, and marks say so; an empty set does."""
    await views.apply(run(1, event("d", 1, t=1)), NOW)
    await redis.delete(*gone)
    before = await everything(redis)
    assert await views.apply(run(1, event("d", 1, t=1)), NOW) == ("epoch", 0, "")
    assert await everything(redis) == before
    assert (await views.marks())[0] == Cursor(0, DAMAGED)
    await redis.flushdb()
    assert (await views.marks())[0] == Cursor(0, None)
    assert await views.apply(run(1, event("d", 1, t=1)), NOW) == ("applied", 1, "")


@pytest.mark.parametrize("key", [KEYS.device("d"), KEYS.region("south"), KEYS.region("north")])
@pytest.mark.parametrize("restarted", [False, True], ids=["remembered", "restarted"])
async def test_a_view_that_is_gone(redis: Redis, views: Views, key: str, *, restarted: bool) -> None:
    """A view whose marks are there does not begin anew; also a region's that a device leaves."""
    await views.apply(run(1, event("d", 1, region="south", t=1), event("e", 1, region="north", t=1)), NOW)
    if restarted:
        views = Views(redis, KEYS)
    await redis.delete(key)
    before = await everything(redis)
    north = run(2, event("d", 2, region="north", t=2))
    assert await views.apply(north, NOW) == ("lost", 1, key)
    assert {k: v for k, v in (await everything(redis)).items() if k != KEYS.epoch.encode()} == {
        k: v for k, v in before.items() if k != KEYS.epoch.encode()
    }
    assert await views.apply(north, NOW) == ("epoch", 1, "")
    assert (await views.marks())[0].epoch == UNFINISHED


@pytest.mark.parametrize("key", [KEYS.device_marks, KEYS.region_marks, KEYS.last_seen])
@pytest.mark.parametrize("device", ["a", "new"])
async def test_a_key_of_all_views_is_gone(redis: Redis, views: Views, key: str, device: str) -> None:
    """Who comes next, known or not, does not begin it anew, with the others missing from it."""
    await views.apply(run(1, event("a", 1, t=1), event("b", 1, t=1)), NOW)
    await redis.delete(key)
    assert await views.apply(run(2, event(device, 2, t=2)), NOW) == ("lost", 1, key)
    assert not await redis.exists(key)
    assert (await views.marks())[0].epoch == UNFINISHED


@pytest.mark.parametrize("restarted", [False, True], ids=["remembered", "restarted"])
async def test_the_marks_of_one_view_are_gone(redis: Redis, views: Views, *, restarted: bool) -> None:
    """Nothing takes a late message for the newest because nobody knows any more what was."""
    await views.apply(run(1, event("a", 5, t=1), event("b", 5, t=1)), NOW)
    await redis.hdel(KEYS.device_marks, "b")
    late = run(2, event("b", 2, t=2))
    if restarted:
        assert await Views(redis, KEYS).apply(late, NOW) == ("lost", 1, KEYS.device("b"))
    else:
        assert await views.apply(late, NOW) == ("applied", 2, "")
    assert (await hash_of(redis, KEYS.device("b")))["last_t"] == "1"


async def test_without_regions_no_marks_of_theirs_are_missed(views: Views) -> None:
    """Devices that name no region have none to lose."""
    for n in (1, 2):
        assert await views.apply(run(n, event("a", n, region=None, t=1)), NOW) == ("applied", n, "")


async def test_views_made_anew_are_not_given_up(views: Views) -> None:
    """Who found a cursor where no row is finds views before it, made anew by another projector meanwhile."""
    await views.apply(run(1, event("a", 1), last=4), NOW)
    await views.give_up({0: 9, 1: 1})
    assert (await views.marks())[0].epoch == "e"
    await views.give_up({1: 1, 0: 4})
    assert (await views.marks())[0].epoch == UNFINISHED
    assert (await views.apply(run(5, event("a", 2)), NOW)).status == "epoch"


async def test_one_stream_without_its_cursor(redis: Redis, views: Views) -> None:
    """Of several streams one has lost its cursor: the views are damaged, whichever is asked for."""
    await views.apply(run(1, event("d", 1, t=1)), NOW)
    other = run(1, event("e", 1, t=1))._replace(stream=1)
    assert await views.apply(other, NOW) == ("applied", 1, ""), "a stream that is new is none"
    await redis.hdel(KEYS.cursor, "1")
    assert await views.apply(other, NOW) == ("epoch", 0, "")
    assert {(await views.marks())[stream].epoch for stream in (0, 1)} == {DAMAGED}


@pytest.mark.parametrize(
    "key",
    [
        KEYS.device("b"),
        KEYS.region("south"),
        KEYS.last_seen,
        KEYS.clock_ahead,
        KEYS.expired,
        KEYS.device_marks,
        KEYS.region_marks,
        KEYS.cursor,
        KEYS.epoch,
    ],
)
async def test_wrong_type_leaves_nothing_applied(redis: Redis, views: Views, key: str) -> None:
    """A key of the wrong type among ours: the run waits, the reason names the key, nothing has changed."""
    await redis.set(key, "not ours")
    before = await everything(redis)
    both = run(1, event("a", 1, t=1), event("b", 2, region="south", t=2))
    with pytest.raises(Retry, match=f"{key}: WRONGTYPE"):
        await views.apply(both, NOW)
    assert await everything(redis) == before
    await redis.delete(key)
    assert await views.apply(both, NOW) == ("applied", 1, "")
    assert {(await hash_of(redis, KEYS.device(id_)))["sample_count"] for id_ in ("a", "b")} == {"1"}


async def test_two_projectors_by_turns(redis: Redis, views: Views) -> None:
    """What another projector wrote meanwhile is read again, on whichever stream."""
    other = Views(redis, KEYS)
    for n in (1, 3, 5):
        for stream, row, writer in ((0, n, views), (1, n, other), (1, n + 1, views), (0, n + 1, other)):
            outcome = await writer.apply(run(row, event("d", row, t=1))._replace(stream=stream), NOW)
            assert outcome == ("applied", row, "")
    assert (await hash_of(redis, KEYS.device("d")))["sum_t"] == "12"
    assert (await views.marks())[0].n == (await other.marks())[1].n == 6


async def test_a_projector_that_leaves_no_word(redis: Redis, views: Views) -> None:
    """One of the version before moves a cursor and nothing else that tells of it: it is noticed too."""
    await views.apply(run(1, event("d", 1, t=1)), NOW)
    for moved in ("0", "1"):
        for field in ("sample_count", "sum_t", "count_t"):
            await redis.hincrby(KEYS.device("d"), field, 1)
        await redis.hset(KEYS.cursor, moved, str(int(await redis.hget(KEYS.cursor, moved) or 0) + 1))
        n = (await views.marks())[0].n + 1
        assert await views.apply(run(n, event("d", n, t=1)), NOW) == ("applied", n, "")
    assert (await hash_of(redis, KEYS.device("d")))["sum_t"] == "5"


@pytest.mark.parametrize("tags", [["no JSON"], ['{"a":"b"}', "x", 3]])
async def test_marks_that_are_none_are_named(redis: Redis, views: Views, tags: list[object]) -> None:
    """What cannot be a mark of ours is somebody else's, and no fault of the row."""
    marks = (1, "k", "[]", None, None, None, *tags)
    await views.apply(run(1, event("e", 1, t=1)), NOW)
    await redis.hset(KEYS.device_marks, "d", b"".join(map(msgspec.msgpack.encode, marks)))
    await redis.hset(KEYS.device("d"), "sample_count", "1")
    with pytest.raises(Retry, match=KEYS.device("d")):
        await views.apply(run(2, event("d", 1, t=1)), NOW)


async def test_foreign_value_leaves_nothing_applied(redis: Redis, views: Views) -> None:
    """A sum that is no number, where it is read: the same. Who remembers it sets it right."""
    await views.apply(run(1, event("a", 1, t=1), event("b", 2, t=2)), NOW)
    await redis.hset(KEYS.device("b"), "sum_t", "much")
    before = await everything(redis)
    second = run(2, event("a", 3, t=1), event("b", 4, t=2))
    with pytest.raises(Retry, match=KEYS.device("b")):
        await Views(redis, KEYS).apply(second, NOW)
    assert await everything(redis) == before
    assert await views.apply(second, NOW) == ("applied", 2, "")
    assert await redis.hget(KEYS.device("b"), "sum_t") == b"4"


async def test_out_of_memory_leaves_nothing_applied(redis: Redis, views: Views) -> None:
    """A Redis without memory to spare refuses the run as a whole."""
    await views.apply(run(1, event("a", 1, t=1)), NOW)
    before = await everything(redis)
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(Retry):
            await views.apply(run(2, event("a", 2, t=1)), NOW)
    finally:
        await redis.config_set("maxmemory", 0)
    assert await everything(redis) == before


async def test_moving_between_regions(redis: Redis, views: Views) -> None:
    """A move takes the device out of its old region's count, even when the run names that region nowhere."""

    async def counts() -> list[str]:
        return [(await hash_of(redis, KEYS.region(name)))["device_count"] for name in ("north", "south")]

    await views.apply(run(1, event("a", 1), event("b", 1), event("c", 1, region="south")), NOW)
    assert await counts() == ["2", "1"]
    await views.apply(run(2, event("a", 3, region="south")), NOW)
    assert await counts() == ["1", "2"]
    await views.apply(run(3, event("a", 2, region="north")), NOW)
    assert await counts() == ["1", "2"], "late data moves nobody"
    await views.apply(run(4, event("a", 4, region=None)), NOW)
    assert (await hash_of(redis, KEYS.device("a")))["region"] == "south"


async def test_script_is_loaded_again(redis: Redis, views: Views) -> None:
    """A Redis that has forgotten the script, as after a restart, gets it again."""
    await views.apply(run(1, event("d", 1)), NOW)
    await redis.script_flush()
    assert await views.apply(run(2, event("d", 2)), NOW) == ("applied", 2, "")


async def test_many_devices_and_many_metrics(redis: Redis, views: Views) -> None:
    """Neither thousands of devices in a run nor thousands of metrics in a device overflow Lua's stack."""
    wide: dict[str, Any] = {f"m{n}": float(n) for n in range(3000)}
    devices = [event(f"d{n}", 1, t=n) for n in range(9000)]
    for n in (1, 2):
        assert (await views.apply(run(n, event("wide", n, **wide), *devices), NOW)).status == "applied"
    assert (await hash_of(redis, KEYS.device("wide")))["sum_m2999"] == "5998"
    assert await redis.zcard(KEYS.last_seen) == 9001


async def test_statistics_of_a_device(redis: Redis, views: Views) -> None:
    """The query side gives back what the fold put in, numbers as numbers and strings as strings."""
    await views.apply(run(1, event("d", 1, t=1.5, state="on"), event("d", 2, region=None, t=2.5)), NOW)
    queries = Queries(redis, KEYS)
    stats = await queries.device("d")
    assert stats is not None
    assert (stats.device_id, stats.region, stats.sample_count) == ("d", "north", 2)
    assert (stats.last_seen, stats.last_seen_ms) == ("2026-11-23T09:00:02.250000Z", 1795424402250)
    assert stats.metrics == {
        "state": MetricStats(last="on"),
        "t": MetricStats(last=2.5, min=1.5, max=2.5, avg=2.0, sum=4.0, count=2),
    }
    assert await queries.device("nobody") is None


async def test_names_without_end(redis: Redis) -> None:
    """A view has at most so many metrics: who came last the longest ago makes room, and is counted."""
    dropped: list[int] = []
    views = Views(redis, KEYS, most_metrics=20, dropped=dropped.append)
    for n in range(1, 31):
        beacons: Any = {f"b{n}_{i}": i for i in range(5)}
        outcome = await views.apply(run(n, event("s", n, seen=1, rssi=-n, **{f"t{n}": "x"}, **beacons)), NOW)
        assert outcome.status == "applied"
        if n == 15:
            views = Views(redis, KEYS, most_metrics=20, dropped=dropped.append)
    numbers = {"seen", "rssi"} | {f"b{n}_{i}" for n in (28, 29, 30) for i in range(5)}
    gone = 30 * 6 + 2 - 20
    for key in (KEYS.device("s"), KEYS.region("north")):
        hash_ = await hash_of(redis, key)
        for statistic in ("count", "sum", "min", "max", "avg"):
            assert {name for name in hash_ if name.startswith(f"{statistic}_")} == {
                f"{statistic}_{name}" for name in numbers
            }
        assert {name for name in hash_ if name.startswith("last_t")} == {"last_t28", "last_t29", "last_t30"}
        assert (hash_["sample_count"], hash_["count_rssi"], hash_["sum_rssi"]) == ("30", "30", "-465")
        assert (hash_["last_seen"][:19], hash_["metrics_dropped"]) == ("2026-11-23T09:00:30", str(gone))
    assert sum(dropped) == 2 * gone
    await Views(redis, KEYS, most_metrics=20).apply(run(31, event("s", 31, b1_0=7)), NOW)
    hash_ = await hash_of(redis, KEYS.device("s"))
    assert (hash_["count_b1_0"], hash_["sum_b1_0"]) == ("1", "7")
    assert hash_["metrics_dropped"] == str(gone + 1)


async def test_the_time_that_is_no_metric_stays(redis: Redis) -> None:
    """A metric `seen` has no last value of its own, and takes none with it."""
    views = Views(redis, KEYS, most_metrics=1)
    await views.apply(run(1, event("d", 1, seen=1, seen_ms=2)), NOW)
    await views.apply(run(2, event("d", 2, x=1)), NOW)
    hash_ = await hash_of(redis, KEYS.device("d"))
    assert "count_seen" not in hash_
    assert hash_["last_seen"].startswith("2026-11-23T09:00:02")
    assert int(hash_["last_seen_ms"]) > 0
