"""Silence told by real projectors: once, in the log, on the topic of devices and by gauges."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from structlog.testing import capture_logs

from contract.changes import DeviceChange, decode_change
from contract.events import GATEWAY_STREAMS, Event, format_time
from contract.topics import devices_topic
from projector import app
from projector import post as post_module
from projector.outbox import queries
from projector.watch import watcher as watcher_module
from projector.watch.book import Change
from projector.watch.gauges import Gauges
from projector.watch.pace import pauses_between
from projector.watch.said import Watch
from projector.watch.told import Told
from projector.watch.watcher import Watcher
from runtime.errors import Retry
from runtime.http import Health
from runtime.mqtt import Disconnected, MqttSession, Subscription, options_from
from tests.support.committed import Committed
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import asyncpg

    from runtime.mqtt import Message, Session
    from runtime.settings import Settings
    from tests.support.commands import RunningCommand
    from tests.support.roles import Pools

    RunCommand = Callable[..., Awaitable[RunningCommand]]

START = datetime(2026, 11, 23, 9, tzinfo=UTC)
SECOND = {"EDGE_PROJECTOR_HTTP": "127.0.0.1:0"}


class Site(Committed):
    """What gateways committed, and what is told of devices."""

    def __init__(self, pools: Pools, session: MqttSession) -> None:
        super().__init__(pools)
        self._session = session

    async def minutes(self, first: int, last: int, *devices: str, stream: int = 0) -> None:
        """Each minute these devices send a message each."""
        for minute in range(first, last):
            at = format_time(START + timedelta(minutes=minute))
            await self.commit(
                *(Event(id_, "north", at, at, f"{minute}", {"x": minute}) for id_ in devices), stream=stream
            )
        await self.pools.gateway.executemany(
            """INSERT INTO devices VALUES ($1, 'north', $2, $3)
            ON CONFLICT (device_id) DO UPDATE SET last_seen = excluded.last_seen""",
            [(id_, START, START + timedelta(minutes=last - 1)) for id_ in devices],
        )

    async def told(self, count: int) -> list[DeviceChange]:
        """Wait for so many messages; there must be no more that came with them."""
        found: list[DeviceChange] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                chunk = await self._session.receive()
                found += [decode_change(delivery.payload) for delivery in chunk.deliveries]
                chunk.ack()
        assert len(found) == count
        return found


@pytest.fixture
async def site(settings: Settings) -> AsyncIterator[Site]:
    """A database, and a session that hears what is told of devices."""
    subscription = Subscription(devices_topic(settings.events.topic))
    broker = settings.events_broker(f"{settings.broker.client_id}-hears")
    options = options_from(broker, subscriptions=[subscription], clean_start=True)
    async with (
        open_pools(settings.postgres.dsn) as pools,
        MqttSession(options) as session,
    ):
        await session.connected()
        yield Site(pools, session)


@asynccontextmanager
async def projectors(run_command: RunCommand, *environments: dict[str, str]) -> AsyncIterator[None]:
    """Projectors that watch; they end as they should, and find nothing undecodable."""
    running = [await run_command("projector", "run", "--log-level", "debug", **each) for each in environments]
    for each in running:
        await each.event("watch_begins")
        await each.event("connected")
    yield
    for each in running:
        assert await each.terminate() == 0
        assert not [line for line in each.events if line["event"] == "topic_message_not_believed"]


async def gauge(settings: Settings, line: str) -> None:
    """Wait until a projector's metrics have a line."""
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(20):
        while line not in (await client.get(f"http://{settings.projector.http}/metrics")).text.splitlines():  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.1)


async def test_what_devices_say_of_themselves_is_told_once(
    run_command: RunCommand, site: Site, settings: Settings
) -> None:
    """By one of two projectors; one that begins later tells what changed meanwhile, and nothing again."""

    async def say(device: str, minute: int, *, online: bool, begun: datetime = START) -> None:
        at = format_time(begun + timedelta(minutes=minute))
        await site.commit(Event(device, "north", at, at, f"{minute}", {"online": online}, None, online))

    await site.minutes(-5, 0, "a", "b", "c")
    await say("c", 0, online=False)
    async with projectors(run_command, {}, SECOND):
        await say("a", 1, online=True)
        await say("a", 2, online=False)
        await say("a", 3, online=False)
        (change,) = await site.told(1)
        assert change.device_id == "a", "who was offline before anybody watched is no news"
        at, heard_at = (format_time(START + timedelta(minutes=minute)) for minute in (2, 1))
        assert change == DeviceChange(1, "a", "north", "offline", at, heard_at, None)
        await gauge(settings, 'projector_devices{region="north",state="offline"} 2.0')
    await say("a", 4, online=True, begun=datetime.now(UTC))
    await say("b", 5, online=False, begun=datetime.now(UTC))
    async with projectors(run_command, {}, SECOND):
        changes = await site.told(2)
        assert {(each.device_id, each.state) for each in changes} == {("a", "online"), ("b", "offline")}


async def test_silence_and_return_are_told_once(
    run_command: RunCommand, site: Site, settings: Settings, redis_url: str
) -> None:
    """By one of two projectors, and not again by those that come after them."""
    await site.minutes(-20, 0, "a", "b", "dead")
    async with projectors(run_command, {}, SECOND):
        await site.minutes(0, 20, "a", "b")
        await site.minutes(20, 30, "b")
        await site.minutes(30, 31, "b", "marks")
        (change,) = await site.told(1)
        assert change == DeviceChange(
            1, "a", "north", "silent", change.at, format_time(START + timedelta(minutes=19)), 60
        )
        assert (
            START + timedelta(minutes=22) < datetime.fromisoformat(change.at) <= START + timedelta(minutes=30)
        )
        await gauge(settings, 'projector_devices{region="north",state="silent"} 2.0')
        await gauge(settings, 'projector_devices{region="north",state="ok"} 2.0')
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        silent = await redis.hgetall("projector:silent")
    assert set(silent) == {"", "a", "dead"}, "who was silent before anybody watched is no news"

    async with projectors(run_command, {}, SECOND):
        await site.minutes(31, 41, "b")
        await site.minutes(41, 44, "a", "b")
        (back,) = await site.told(1)
        assert (back.device_id, back.state) == ("a", "ok")
        assert back.at == back.heard_at in {format_time(START + timedelta(minutes=n)) for n in (41, 42)}
        await gauge(settings, 'projector_devices{region="north",state="silent"} 1.0')


async def test_what_another_projector_gave_the_views_is_heard(
    run_command: RunCommand, site: Site, settings: Settings
) -> None:
    """Nobody is called silent because the views were rebuilt or another projector was faster."""
    async with projectors(run_command, {}, SECOND, SECOND):
        for minute in range(0, 60, 2):
            await site.minutes(minute, minute + 1, "a", "b")
            await site.minutes(minute + 1, minute + 2, "b", "a", stream=1)
            if minute == 30:
                async with Redis.from_url(settings.redis.url) as redis:
                    await redis.delete("projector:cursor")
        await site.minutes(60, 70, "b", stream=1)
        (change,) = await site.told(1)
        assert (change.device_id, change.state) == ("a", "silent")


async def test_what_is_asked_of_a_device_is_bounded(site: Site, redis_url: str) -> None:
    """The last of each minute is read from the newest back along the index, not a month to be sorted."""
    await site.minutes(0, 30, "a", "b")
    bursts = [START + timedelta(minutes=10 + n // 60, seconds=n % 60) for n in range(1200)]
    await site.commit(*(Event("a", "north", format_time(at), format_time(at), f"s{at}", {}) for at in bursts))
    async with site.pool.acquire() as connection:
        await connection.execute("SELECT create_measurement_partitions('2026-11-20', '2026-11-25')")
        await connection.execute("ANALYZE")
        async with connection.transaction(readonly=True):
            await connection.execute(queries.walk_backwards)
            for query in (queries.newest_arrivals, queries.newest_minutes):
                explained = await connection.fetch(f"EXPLAIN {query}", ["a", "c"], 500)
                plan = "\n".join(row[0] for row in explained)
                assert "Index Scan Backward" in plan
                assert not re.search(r"Sort  |Seq Scan on measurements|Bitmap", plan), plan
            ((_, arrivals, messages),) = await connection.fetch(queries.newest_arrivals, ["a", "c"], 500)
            ((_, minutes),) = await connection.fetch(queries.newest_minutes, ["a", "c"], 500)
    assert ([at - START.timestamp() for at in arrivals[-2:]], messages) == ([28 * 60 + 59, 29 * 60 + 59], 500)
    assert len(arrivals) == 9
    assert [at - START.timestamp() for at in minutes] == [*range(0, 600, 60), *range(659, 1800, 60)]
    async with Redis.from_url(redis_url) as redis:
        watcher = watcher_of(redis, site.pools.projector, Broker(), now=START + timedelta(hours=1))
        watcher._silence.know("a", "north")
        watcher._silence.unsure["a"] = None
        await watcher._ask()
        device = watcher._silence.devices["a"]
    assert (device.pauses, device.at) == (pauses_between(minutes), minutes[-1])


async def test_who_is_known_at_a_start(site: Site, redis_url: str) -> None:
    """Who is told of as silent, whatever its clock says; who is gone is forgotten, a replay no gateway."""
    await site.minutes(0, 2, "a", "new")
    await site.minutes(0, 2, "late", stream=1)
    await site.minutes(0, 2, "old", stream=GATEWAY_STREAMS)
    await site.pool.execute("UPDATE devices SET last_seen = '1970-01-01' WHERE device_id IN ('a', 'old')")
    async with Redis.from_url(redis_url) as redis:
        at = int(START.timestamp())
        await Told(redis, "").claim([change(at), change(at, device="gone")], [])
        watcher = watcher_of(redis, site.pools.projector, Broker(), forget_after_s=86_400.0)
        await watcher.begin()
        await watcher._rows.catch_up()
        await watcher.load()
        await watcher.turn()
        assert set(await redis.hkeys("projector:silent")) == {b"", b"a"}
    silence = watcher._silence
    assert set(silence.devices) == {"a", "late", "new"}
    assert set(silence._streams) == {0, 1}
    written = [row.created_at for row in site.rows if row.stream == 1]
    assert silence._streams[1].newest == int(datetime.fromisoformat(written[-1]).timestamp())


class Counted:
    """A pool, and how many devices it was asked about by their ids."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool
        self.named: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # as the pool has it
        return getattr(self._pool, name)

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:  # noqa: ANN401  # likewise
        """Count and ask."""
        self.named.update(id_ for each in arguments if isinstance(each, list) for id_ in each)
        return await self._pool.fetch(query, *arguments)


async def test_who_spoke_just_before_a_start_is_known_a_moment_later(site: Site, redis_url: str) -> None:
    """Gateways write a new device after its message, and the watch may begin in between."""
    async with Redis.from_url(redis_url) as redis:
        watcher = watcher_of(redis, site.pools.projector, Broker())
        at = format_time(START)
        said = [
            Event("a", "north", at, at, "a", {"x": 1}),
            Event("b", "north", at, at, "b", {"online": False}, None, online=False),
        ]
        await site.commit(*said)
        await watcher.begin()
        await watcher._rows.catch_up()
        await watcher.load()
        assert not watcher._silence.devices
        await site.pools.gateway.execute(
            "INSERT INTO devices SELECT unnest($1::text[]), 'north', $2::timestamptz, $2", ["a", "b"], START
        )
        for _ in range(watcher_module.LOADED_AGAIN):
            await watcher.turn()
        assert list(watcher._silence.devices) == ["a", "b"]
        assert watcher._silence.presences.offline


async def test_a_start_names_each_device_once_however_many_pages_there_are(
    site: Site, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was told of as silent or offline is not sent with every page: a large fleet would wait for that."""
    monkeypatch.setattr(watcher_module, "PAGE", 10)
    at = int(START.timestamp())
    ids = [f"d{n:02d}" for n in range(60)]
    silent, offline = ids[:30], ids[30:]
    await site.pool.execute(
        "INSERT INTO devices SELECT unnest($1::text[]), 'north', '1970-01-01', '1970-01-01'", silent
    )
    await site.pool.execute(
        "INSERT INTO devices SELECT unnest($1::text[]), 'north', $2::timestamptz, $2::timestamptz",
        offline,
        START,
    )
    await site.pool.execute(
        """INSERT INTO device_presence
            (device_id, online, ts, received_at, message_key, said_at, said_received_at, said_key)
        SELECT id, id = 'd59', at, at, 'k', at, at, 'k'
        FROM unnest($1::text[]) AS id, CAST ($2 AS timestamptz) AS at""",
        offline,
        START,
    )
    pool = Counted(site.pools.projector)
    async with Redis.from_url(redis_url) as redis:
        await redis.hset("projector:silent", mapping=dict.fromkeys(silent, at - 900))
        await redis.hset("projector:offline", mapping=dict.fromkeys(offline, f"1 {(at - 60) * 1_000_000}"))
        watcher = watcher_of(
            redis, cast("asyncpg.Pool[asyncpg.Record]", pool), Broker(), forget_after_s=86_400.0
        )
        await watcher.begin()
        await watcher.load()
    assert sorted(watcher._silence.silent) == silent
    assert sorted(watcher._silence.presences.offline) == offline[:-1]
    assert pool.named == Counter(ids)


def change(at: int, *, back: int = 0, device: str = "a", was_told: bool = False) -> Change:
    """The silence after a message, or that it is over."""
    return Change(device, None, not back, at, back or at, at, 60, is_news=True, was_told=was_told)


async def test_a_claim_that_is_made_again_is_the_same(redis_url: str) -> None:
    """Whose answer is lost asks again and has the same changes to tell, and nobody else has them."""
    async with Redis.from_url(redis_url) as redis:
        one, other = Told(redis, ""), Told(redis, "")
        changes = [change(100), change(200, device="b")]
        assert await one.claim(changes, []) == changes
        one._claims._call -= 1
        assert await other.claim(changes, []) == []
        assert await one.claim(changes, []) == changes
        assert await one.claim(changes, []) == []
        assert await other.claim([change(200, back=900, device="b")], ["a"]) == [
            change(200, back=900, device="b")
        ]
        assert await redis.hgetall("projector:silent") == {}


async def test_who_is_behind_claims_nothing(redis_url: str) -> None:
    """A projector that wakes with what others have told since tells none of it; later changes are told."""
    async with Redis.from_url(redis_url) as redis:
        awake, frozen = Told(redis, ""), Told(redis, "")
        for each in (change(100), change(100, back=500)):
            assert await awake.claim([each], []) == [each]
        assert await frozen.claim([change(100), change(100, back=500)], []) == []
        assert await awake.claim([change(600)], []) == [change(600)]
        assert await frozen.claim([change(100, back=500)], []) == []
        assert await redis.hgetall("projector:silent") == {b"a": b"600"}
        for each in (change(650, back=365 * 86_400), change(700)):
            assert await frozen.claim([each], []) == [each], "a return of a year ahead holds up nothing"


async def test_a_return_is_told_though_redis_has_forgotten_the_silence(redis_url: str) -> None:
    """By whoever knows that it was told, and once; a silence that nobody told of ends unheard."""
    async with Redis.from_url(redis_url) as redis:
        one, other = Told(redis, ""), Told(redis, "")
        await one.claim([change(100)], [])
        await redis.flushdb()
        assert await one.claim([change(100, back=500)], []) == []
        back = change(100, back=500, was_told=True)
        assert await one.claim([back], []) == [back]
        assert await other.claim([back], []) == []
        for each in (change(600), change(600, back=700)):
            assert await one.claim([each], []) == [each]
        assert await other.claim([back], []) == [], "it is behind"


async def test_redis_forgets_who_is_silent(site: Site, redis_url: str) -> None:
    """It is written again and told of no second time; that a device is back is told then, or before."""
    start, broker = int(START.timestamp()), Broker()
    broker.is_there = True
    async with Redis.from_url(redis_url) as redis:
        watcher = watcher_of(redis, site.pools.projector, broker)
        silent = {"": start - 900, "a": start - 600, "b": start - 500}
        for device, at in silent.items():
            await redis.hset("projector:silent", device, str(at))
        await watcher.begin()
        for device in "ab":
            watcher._silence.know(device, None)
        watcher._silence.all_known()
        await watcher.turn()
        await redis.flushdb()
        watcher._hear(0, start, [Event("a", "north", "", "", "", {})])
        for _ in range(watcher_module.WRITTEN_AGAIN):
            await watcher.turn()
        left = {device: at for device, at in silent.items() if device != "a"}
        assert await redis.hgetall("projector:silent") == {
            device.encode(): b"%d" % at for device, at in left.items()
        }
        watcher._hear(0, start + 60, [Event("b", "north", "", "", "", {})])
        await watcher.turn()
        assert [(told.device_id, told.state) for told in broker.taken] == [("a", "ok"), ("b", "ok")]


async def test_a_return_by_a_clock_that_was_set_back_holds_up_nothing(site: Site, redis_url: str) -> None:
    """Silences are told again at once, whether the clock was set back under the watch or before it began."""
    start = int(START.timestamp())
    async with Redis.from_url(redis_url) as redis:
        for is_seen in (True, False):
            ahead = ["a", *(f"d{n}" for n in range(1500))]
            back = {**dict.fromkeys(ahead, start + 7200), "earlier": start - 60}
            await redis.hset("projector:back", items=[each for pair in back.items() for each in pair])
            broker = Broker()
            broker.is_there = True
            watcher = watcher_of(redis, site.pools.projector, broker)
            if is_seen:
                silence = watcher._silence
                watcher._hear(0, start + 7200, [])
                silence.hear(0, start + 7200, [Event("e", None, "", "", "", {})])
                silence.pending["e"] = change(start - 900, back=start + 7200, device="e")
                await Told(redis, "").claim([change(start - 900, device="e")], [])
                watcher._hear(0, start + 1800, [])
            else:
                await watcher.begin()
            await watcher.turn()
            watcher._silence.pending |= {each: change(start + 2340, device=each) for each in "ae"}
            await watcher.turn()
            assert [(told.device_id, told.state) for told in broker.taken][-2:] == [
                ("a", "silent"),
                ("e", "silent"),
            ]
            assert await redis.hgetall("projector:back") == {b"earlier": b"%d" % (start - 60)}
            await redis.flushdb()


async def test_an_answer_is_kept_for_a_day(redis_url: str) -> None:
    """Redis may be away for as long, between a claim and the same again."""
    async with Redis.from_url(redis_url) as redis:
        await Told(redis, "").claim([change(100)], [])
        (answered,) = await redis.keys("projector:claimed:*")
        assert await redis.ttl(answered) > 86_000


async def test_who_begins_while_there_is_a_watch_knows_since_when(redis_url: str) -> None:
    """Also when it was killed at once, when it is the second, and when it asks again."""
    async with Redis.from_url(redis_url) as redis:
        assert await Told(redis, "").read(1000) == ({}, 1000)
        assert await Told(redis, "").read(2000) == ({}, 1000)


class Broker:
    """Takes what is published while it is there."""

    def __init__(self) -> None:
        self.is_there = False
        self.taken: list[DeviceChange] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        """Take all, or nothing."""
        if not self.is_there:
            raise Disconnected("away")
        self.taken += [decode_change(message.payload) for message in messages]


def watcher_of(
    redis: Redis,
    pool: asyncpg.Pool[asyncpg.Record],
    broker: Broker,
    registry: CollectorRegistry | None = None,
    now: datetime = START,
    forget_after_s: float | None = None,
) -> Watcher:
    """A watcher that nobody runs."""
    return Watcher(
        redis,
        pool,
        cast("Session", broker),
        prefix="",
        topic="events",
        forget_after_s=forget_after_s,
        health=Health(),
        gauges=Gauges(registry or CollectorRegistry()),
        watch=Watch(),
        now=lambda: now,
    )


@pytest.mark.parametrize("is_there", [True, False])
async def test_the_last_words(
    site: Site, redis_url: str, monkeypatch: pytest.MonkeyPatch, *, is_there: bool
) -> None:
    """What is claimed goes out at the stop, or is counted as lost; no more is than there is room for."""
    monkeypatch.setattr(post_module, "KEPT", 2)
    broker, registry = Broker(), CollectorRegistry()
    async with Redis.from_url(redis_url) as redis:
        watcher = watcher_of(redis, site.pools.projector, broker, registry)
        watcher._silence.pending |= {device: change(100, device=device) for device in "abc"}
        for _ in range(2):
            await watcher.turn()
        assert await redis.hkeys("projector:silent") == [b"a", b"b"], "another may tell of the third"
        broker.is_there = is_there
        with capture_logs() as logs:
            await watcher.last_words()
    assert [told.device_id for told in broker.taken] == (["a", "b"] if is_there else [])
    lost = registry.get_sample_value("projector_device_changes_lost_total")
    assert lost == (0 if is_there else 2)
    assert [line["changes"] for line in logs if line["event"] == "device_changes_lost"] == (
        [] if is_there else [2]
    )


async def test_the_last_words_are_said_after_an_error_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is claimed and not published is counted, however the projector ends."""
    said = asyncio.Event()

    async def fail(_: Watcher) -> None:
        raise ZeroDivisionError

    async def last_words(_: Watcher) -> None:
        said.set()

    monkeypatch.setattr(Watcher, "run", fail)
    monkeypatch.setattr(Watcher, "last_words", last_words)
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        await app.run(settings, asyncio.Event())
    assert said.is_set()


async def test_a_question_that_takes_too_long_is_asked_of_fewer(site: Site, redis_url: str) -> None:
    """Half as many each time, and one more each time it is answered."""

    class Slow:
        """Takes too long."""

        async def acquire(self) -> object:
            raise TimeoutError

    async with Redis.from_url(redis_url) as redis:
        watcher = watcher_of(redis, site.pools.projector, Broker())
        watcher._silence.unsure |= dict.fromkeys("abc")
        watcher._pool = cast("asyncpg.Pool[asyncpg.Record]", Slow())
        for questions in (25, 12, 6, 3, 1, 1):
            with pytest.raises(Retry):
                await watcher._ask()
            assert watcher._questions == questions
        watcher._pool = site.pools.projector
        for left in (2, 0):
            await watcher._ask()
            assert len(watcher._silence.unsure) == left
