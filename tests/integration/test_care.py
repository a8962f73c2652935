"""Muted and retired devices and wrong clocks, between projectors, PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from contract.changes import decode_change
from contract.events import Event, format_time
from projector.devices import words
from projector.outbox import queries
from projector.post import AT_ONCE
from projector.watch import watcher as watcher_module
from projector.watch.care import Cares
from projector.watch.gauges import Gauges
from projector.watch.said import Watch
from projector.watch.watcher import Watcher
from runtime.errors import Stop
from runtime.http import Health
from runtime.mqtt import Disconnected
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from contract.changes import DeviceChange
    from projector.watch.care import What
    from runtime.mqtt import Message, Session
    from tests.support.roles import Pools

START = 0  # of each test: this file may have been read long before
MINUTE = 60
HEARD_EVERY = watcher_module.HEARD_EVERY


class Broker:
    """Takes what is published."""

    def __init__(self) -> None:
        self.taken: list[DeviceChange] = []
        self.is_there = True

    async def publish(self, messages: Sequence[Message]) -> None:
        """Take all, while it is there."""
        if not self.is_there:
            raise Disconnected("away")
        self.taken += [decode_change(message.payload) for message in messages]


class Plant:
    """A database, a Redis, and projectors that nobody runs, which tell one broker."""

    def __init__(self, pools: Pools, redis: Redis) -> None:
        self.pool = pools.owner
        self.projector = pools.projector
        self.redis = redis
        self.broker = Broker()

    async def watcher(self) -> Watcher:
        """A projector's watch that has begun."""
        watcher = Watcher(
            self.redis,
            self.projector,
            cast("Session", self.broker),
            prefix="",
            topic="events",
            forget_after_s=None,
            health=Health(),
            gauges=Gauges(CollectorRegistry()),
            watch=Watch(),
            now=lambda: datetime.now(UTC),
            cares=Cares(),
        )
        await watcher.begin()
        await watcher._rows.catch_up()
        await watcher.load()
        return watcher

    async def know(self, *ids: str) -> None:
        """PostgreSQL has these devices."""
        await self.pool.executemany(
            "INSERT INTO devices VALUES ($1, 'north', now(), now())", [(id_,) for id_ in ids]
        )

    async def say(self, what: What, *ids: str, lasting: timedelta | None = None) -> list[str]:
        """Say something of devices; returns those that change."""
        said = await words.say(self.projector, what, ids, lasting=lasting, by="ann", reason="why")
        return [care.device_id for care in said]

    def told(self) -> list[tuple[str, str]]:
        """What was told since the last time."""
        told: list[tuple[str, str]] = [(change.device_id, change.state) for change in self.broker.taken]
        self.broker.taken.clear()
        return told


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.START", int(datetime.now(UTC).timestamp()))


@pytest.fixture(autouse=True)
def _heard_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "HEARD_EVERY", 1)


@pytest.fixture
async def plant(database: str, redis_url: str) -> AsyncIterator[Plant]:
    """A plant of which nothing is known yet."""
    async with (
        open_pools(database) as pools,
        Redis.from_url(redis_url) as redis,
    ):
        yield Plant(pools, redis)


def hear(watcher: Watcher, first: int, last: int, *ids: str, lag: int = 1) -> None:
    """Each minute these devices send a message each, by a clock that is behind by so many seconds."""
    for minute in range(first, last):
        at = START + minute * MINUTE
        ts = format_time(datetime.fromtimestamp(at - lag, UTC))
        watcher._hear(0, at, [Event(id_, "north", ts, "", "", {}) for id_ in ids])
        watcher._silence.turn()
        watcher._silence.learn({id_: [] for id_ in list(watcher._silence.unsure)})


async def test_a_mute_that_ended_while_no_projector_ran(plant: Plant) -> None:
    """The first that begins ends it and tells so, one of two; and what was said meanwhile is told then."""
    await plant.know("a", "b", "c")
    await plant.say("muted", "a", "b", lasting=timedelta(0))
    await plant.say("retired", "c")
    one, other = await plant.watcher(), await plant.watcher()
    assert not any(id_ in one._cares for id_ in "ab")
    for watcher in (one, other, one):
        await watcher.turn()
    ended, other_ended, retired = sorted(plant.broker.taken, key=lambda change: change.device_id)
    assert (ended.state, other_ended.state, retired.state) == ("unmuted", "unmuted", "retired")
    assert (ended.by, ended.reason, ended.until) == (None, "why", ended.at)
    assert (retired.by, retired.until) == ("ann", None)
    plant.told()
    again = await plant.watcher()
    await again.turn()
    assert plant.told() == []
    await plant.say("muted", "b", lasting=timedelta(0))
    await again.turn()
    assert plant.told() == [("b", "unmuted")]
    row = await plant.pool.fetchrow("SELECT what, said_by, reason FROM device_care WHERE device_id = 'a'")
    assert row is not None
    assert tuple(row) == ("expired", "ann", "why")


async def test_a_word_is_heard_within_a_few_turns(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are few enough for people, and many for a database that is asked each time."""
    monkeypatch.setattr(watcher_module, "HEARD_EVERY", HEARD_EVERY)
    await plant.know("a")
    watcher = await plant.watcher()
    await watcher.turn()
    await plant.say("retired", "a")
    for _ in range(3):
        await watcher.turn()
    assert plant.told() == [("a", "retired")]


async def test_a_message_says_what_a_device_is_called(plant: Plant) -> None:
    """Beside its id; of one that has no name it says so."""
    await plant.know("a", "b")
    await plant.pool.execute("UPDATE devices SET name = 'Pump 3' WHERE device_id = 'a'")
    watcher = await plant.watcher()
    await plant.say("retired", "a", "b")
    await watcher.turn()
    assert sorted((change.device_id, change.name) for change in plant.broker.taken) == [
        ("a", "Pump 3"),
        ("b", None),
    ]


async def test_what_is_wrong_once_a_mute_is_over_is_told_by_one(plant: Plant) -> None:
    """Two projectors, of which one is a turn behind, and a Redis that was emptied meanwhile."""
    await plant.know("a", "b")
    one, other = await plant.watcher(), await plant.watcher()
    for watcher in (one, other):
        hear(watcher, 0, 60, "a", "b")
    await plant.say("muted", "a", lasting=timedelta(hours=1))
    await one.turn()
    for watcher in (one, other):
        await watcher.turn()
        hear(watcher, 60, 120, "b", lag=3600)
    assert plant.told() == [("a", "muted")]
    assert await plant.redis.hgetall("projector:care") == {b"a": b"muted"}
    for _ in range(watcher_module.WRITTEN_AGAIN):
        await one.turn()
        await other.turn()
    assert plant.told() == [("b", "clock_wrong")]
    await plant.redis.flushdb()
    for _ in range(watcher_module.WRITTEN_AGAIN):
        await one.turn()
        await other.turn()
    assert await plant.redis.hgetall("projector:care") == {b"a": b"muted"}
    assert await plant.redis.hkeys("projector:clocks") == [b"b"]
    assert await plant.redis.hkeys("projector:silent") == [b""]
    await plant.say("unmuted", "a")
    for watcher in (one, other, one, other):
        await watcher.turn()
    assert plant.told() == [("a", "unmuted"), ("a", "silent")]
    assert await plant.redis.hgetall("projector:care") == {}

    third = await plant.watcher()
    hear(third, 120, 180, "a", "b")
    hear(one, 120, 180, "a", "b")
    for watcher in (third, one):
        await watcher.turn()
    assert sorted(plant.told()) == [("a", "ok"), ("b", "clock_right")]


async def test_a_clock_found_wrong_while_redis_was_emptied_is_told(plant: Plant) -> None:
    """What waits to be told is not written down as told."""
    await plant.know("a", "b")
    one = await plant.watcher()
    hear(one, 0, 60, "a", "b")
    hear(one, 60, 120, "a", lag=3600)
    await plant.redis.flushdb()
    await one._write_again()
    assert await plant.redis.hgetall("projector:clocks") == {}
    await one.turn()
    assert ("a", "clock_wrong") in plant.told()


async def test_a_retired_device_that_sends_is_told_by_one(plant: Plant) -> None:
    """What was on its way when it was retired puts it not into service again; what came after does."""
    await plant.know("a", "b")
    one, other = await plant.watcher(), await plant.watcher()
    await plant.say("retired", "a")
    for watcher in (one, other):
        await watcher.turn()
    plant.told()
    for watcher in (one, other):
        hear(watcher, -60, -1, "a", "b")
        await watcher.turn()
    assert plant.told() == []
    for watcher in (one, other, one, other):
        hear(watcher, 5, 6, "a")
        await watcher.turn()
    assert plant.told() == [("a", "ok")]
    assert not one._cares.retired
    assert not other._cares.retired


async def test_words_are_said_of_all_or_none(plant: Plant) -> None:
    """One id that nobody knows, and nothing is changed; what changes nothing is not said again."""
    await plant.know("a", "b")
    with pytest.raises(Stop, match="'c'"):
        await plant.say("retired", "a", "c")
    assert await plant.pool.fetchval("SELECT count(*) FROM device_care") == 0
    assert await plant.say("retired", "a", "a") == ["a"]
    assert await plant.say("retired", "a", "b") == ["b"]
    with pytest.raises(Stop, match="'a', 'b': retired"):
        await plant.say("muted", "b", "a", lasting=timedelta(hours=1))
    assert await plant.say("unmuted", "a") == []
    assert await plant.say("unretired", "a", "b") == ["a", "b"]
    for _ in range(2):
        assert await plant.say("muted", "a", lasting=timedelta(hours=1)) == ["a"]
    assert await plant.say("unretired", "a") == [], "it is muted, and stays so"


async def test_a_version_is_never_passed_by(plant: Plant) -> None:
    """Who speaks waits for who has spoken and not committed, so a reader misses nobody's word."""
    await plant.know("a", "b")
    async with plant.pool.acquire() as first, plant.pool.acquire() as second:
        transaction = first.transaction()
        await transaction.start()
        await first.execute(queries.lock_care)
        await first.fetch(queries.say_care, ["a"], "retired", None, "ann", "")
        await second.execute("SET lock_timeout = '100ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            async with second.transaction():
                await second.execute(queries.lock_care)
        assert await plant.pool.fetch(queries.care_since, 0, 10) == [], "readers wait for nobody"
        await transaction.commit()
        await second.execute("RESET lock_timeout")
    await plant.say("retired", "b")
    versions = await plant.pool.fetch("SELECT version FROM device_care ORDER BY device_id")
    assert versions[0]["version"] < versions[1]["version"]


@pytest.mark.parametrize("said_after", [False, True])
async def test_words_that_a_backup_does_not_have(plant: Plant, *, said_after: bool) -> None:
    """Those that are gone hold no more, and what comes is heard, whatever numbers it has."""
    await plant.know("a", "b", "c", "d")
    one = await plant.watcher()
    hear(one, -120, -60, "a", "b", "c")
    await plant.say("retired", "d")
    await one.turn()
    backup = await plant.pool.fetch("SELECT * FROM device_care")
    version = await plant.pool.fetchval("SELECT last_value FROM device_care_versions")
    await plant.say("muted", "a", lasting=timedelta(hours=1))
    await plant.say("retired", "b")
    for _ in range(2):
        await one.turn()
        hear(one, -60, 0, "c")
    assert plant.told() == [("d", "retired"), ("a", "muted"), ("b", "retired")]
    await plant.pool.execute("TRUNCATE device_care")
    await plant.pool.executemany("INSERT INTO device_care VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", backup)
    await plant.pool.execute("SELECT setval('device_care_versions', $1)", version)
    if said_after:
        await plant.say("retired", "c")
        await plant.say("muted", "b", lasting=timedelta(hours=1))
        await plant.say("muted", "b", lasting=timedelta(hours=2))
    await one.turn()
    await one.turn()
    assert set(one._cares) == ({"b", "c", "d"} if said_after else {"d"})
    assert one._cares.retired == ({"c", "d"} if said_after else {"d"})
    silent = [("a", "silent")] if said_after else [("a", "silent"), ("b", "silent")]
    assert sorted(plant.told()) == sorted(
        [*silent, *([("b", "muted"), ("c", "retired")] if said_after else [])]
    )
    assert set(await plant.redis.hkeys("projector:care")) == {id_.encode() for id_ in one._cares}


async def test_nobody_waits_for_who_has_the_lock(plant: Plant) -> None:
    """A command that stands still holds up neither the watch, nor, for longer than it may, others' words."""
    await plant.know("a", "b", "c")
    one = await plant.watcher()
    await plant.say("muted", "a", lasting=timedelta(0))
    await plant.say("retired", "b")
    async with plant.pool.acquire() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute(queries.lock_care)
        hear(one, 5, 6, "b")
        async with asyncio.timeout(5):
            await one.turn()
        assert "a" in one._cares
        await transaction.rollback()
    plant.told()
    await one.turn()
    assert sorted(plant.told()) == [("a", "unmuted"), ("b", "ok")]


async def test_the_table_is_not_locked_for_nothing(plant: Plant) -> None:
    """A mute that is over by this machine's clock, and not by PostgreSQL's, is waited for without it."""
    await plant.know("a")
    one = await plant.watcher()
    await plant.say("muted", "a", lasting=timedelta(hours=1))
    await one._carer.hear(one._silence, datetime.now(UTC) + timedelta(hours=2))
    async with plant.pool.acquire() as other, other.transaction():
        await other.execute(queries.lock_care)
        said = one._carer._say
        asked: list[str] = []

        async def say(query: str, *arguments: Any) -> bool:  # noqa: ANN401  # as of the carer
            asked.append(query)
            return await said(query, *arguments)

        one._carer._say = say  # type: ignore[method-assign]  # that it is asked at all is what costs
        await one._carer.hear(one._silence, datetime.now(UTC) + timedelta(hours=2))
    assert asked == []


async def test_a_message_that_comes_while_others_are_put_back_counts(plant: Plant) -> None:
    """It may be the only one of its device."""
    await plant.know("a", "b")
    one = await plant.watcher()
    await plant.say("retired", "a", "b")
    await one.turn()
    plant.told()
    said = one._carer._say

    async def say(query: str, *arguments: Any) -> bool:  # noqa: ANN401  # as of the carer
        is_said = await said(query, *arguments)
        if "a" in arguments[0]:
            hear(one, 6, 7, "b")
        return is_said

    one._carer._say = say  # type: ignore[method-assign]  # at this moment
    hear(one, 5, 6, "a")
    for _ in range(3):
        await one.turn()
    assert plant.told() == [("a", "ok"), ("b", "ok")]


async def test_a_retired_device_that_sent_while_nobody_ran(plant: Plant) -> None:
    """The next projector that begins puts it back, by when its message came."""
    await plant.know("a", "b", "c")
    await plant.say("retired", "a", "b", "c")
    for id_, received_s, measured_s in (("a", 5, -600), ("b", -60, -60), ("c", 5, -86_400)):
        await plant.pool.execute(
            "INSERT INTO measurements (device_id, ts, received_at, message_key, metrics)"
            " VALUES ($1, $2, $3, 'k', '{}')",
            id_,
            datetime.fromtimestamp(START + measured_s, UTC),
            datetime.now(UTC) + timedelta(seconds=received_s),
        )
    one = await plant.watcher()
    for _ in range(2):
        await one.turn()
    assert sorted(plant.told()) == [("a", "ok"), ("b", "retired"), ("c", "retired")]


async def test_words_wait_in_postgresql_for_the_broker(plant: Plant) -> None:
    """While it is away no more are claimed than are published at once: who is killed takes few along."""
    ids = [f"d{n:04}" for n in range(1200)]
    await plant.know(*ids)
    one = await plant.watcher()
    await plant.say("retired", *ids)
    plant.broker.is_there = False
    for _ in range(4):
        await one.turn()
    assert await plant.pool.fetchval("SELECT count(told_by) FROM device_care") == AT_ONCE
    plant.broker.is_there = True
    for _ in range(4):
        await one.turn()
    assert sorted(plant.told()) == [(id_, "retired") for id_ in ids]


async def test_a_claim_whose_answer_was_lost_is_made_again(plant: Plant) -> None:
    """Whoever made it has it still, and nobody else has."""
    await plant.know("a", "b")
    one, other = await plant.watcher(), await plant.watcher()
    await plant.say("retired", "a", "b")
    for watcher in (one, other):
        await watcher._hear_people()
    words_ = one._carer.untold.copy()
    assert len(await one._carer.claim(AT_ONCE)) == 2
    one._carer.untold = words_
    assert await other._carer.claim(AT_ONCE) == []
    assert len(await one._carer.claim(AT_ONCE)) == 2


async def test_a_copy_is_brought_up_to_date_word_by_word(plant: Plant) -> None:
    """What somebody else has written is gone after a start; then only what was said is written."""
    ids = [f"d{n:04}" for n in range(1500)]
    await plant.know(*ids)
    await plant.say("retired", *ids)
    await plant.redis.hset("projector:care", mapping={f"old{n}": "muted" for n in range(1500)})
    one = await plant.watcher()
    await one.turn()
    assert set(await plant.redis.hkeys("projector:care")) == {id_.encode() for id_ in ids}
    assert len({id(care.reason) for care in map(one._cares.get, ids) if care}) == 1, "they are kept once"
    await plant.redis.config_resetstat()
    await plant.say("unretired", "d0007")
    await plant.say("muted", "d0007", lasting=timedelta(hours=1))
    await one.turn()
    assert await plant.redis.hget("projector:care", "d0007") == b"muted"
    calls = await plant.redis.info("commandstats")
    assert calls["cmdstat_hset"]["calls"] == 1
    assert not {"cmdstat_hkeys", "cmdstat_hscan"} & set(calls)
