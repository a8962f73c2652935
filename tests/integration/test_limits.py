"""Limits told by real projectors: once, in the log, on their topic, by gauges and by the API."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from structlog.testing import capture_logs

from contract.changes import LimitChange, decode_limit_change
from contract.events import GATEWAY_STREAMS as REPLAY_STREAM
from contract.events import Event, Scalar, format_time
from contract.topics import limits_topic
from contract.views import STAGED
from projector import post as post_module
from projector.limits.beyond import Beyond, Hot
from projector.limits.book import Change, Known
from projector.limits.gauges import Gauges
from projector.limits.learn import Learner
from projector.limits.limiter import Limiter
from projector.limits.rules import CRIT, OK, WARN, Rules
from projector.limits.states import Limits
from projector.limits.told import Told
from projector.views import Keys, Run, Views
from projector.watch.care import Care, Cares
from runtime.http import Health
from runtime.mqtt import Disconnected, MqttSession, Subscription, options_from
from runtime.settings import Limit
from tests.support.committed import Committed
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    import asyncpg

    from contract.events import EventBatch
    from projector.limits.book import Key
    from projector.limits.rules import Level
    from runtime.mqtt import Message, Session
    from runtime.settings import Settings
    from tests.support.commands import RunningCommand
    from tests.support.roles import Pools

    RunCommand = Callable[..., Awaitable[RunningCommand]]

START = datetime(2026, 11, 23, 9, tzinfo=UTC)
LIMITS = {
    "EDGE_LIMIT": json.dumps(
        [
            {"metric": "t", "device": "freezer-*", "crit": -10},
            {"metric": "t", "warn": 30, "crit": 40},
            {"metric": "level", "when": "below", "warn": 20, "for": "1m"},
        ]
    )
}
SECOND = {**LIMITS, "EDGE_PROJECTOR_HTTP": "127.0.0.1:0"}


class Site(Committed):
    """What gateways committed, and what is told of limits."""

    def __init__(self, pools: Pools, session: MqttSession) -> None:
        super().__init__(pools)
        self._session = session

    async def read(
        self, second: int, device: str, *, measured: int | None = None, stream: int = 0, **metrics: Scalar
    ) -> None:
        """A device's readings come so many seconds past nine."""
        ts = text(second if measured is None else measured)
        await self.commit(
            Event(device, "north", ts, text(second), f"{second}", {"x": 1, **metrics}), stream=stream
        )

    async def told(self, count: int) -> list[tuple[str, str, str, float | None, float | None]]:
        """Wait for so many messages; there must be no more that came with them."""
        found: list[LimitChange] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                chunk = await self._session.receive()
                found += [decode_limit_change(delivery.payload) for delivery in chunk.deliveries]
                chunk.ack()
        assert len(found) == count, found
        return [(each.device_id, each.metric, each.state, each.value, each.limit) for each in found]


def text(second: int) -> str:
    return format_time(START + timedelta(seconds=second))


@pytest.fixture
async def site(settings: Settings) -> AsyncIterator[Site]:
    """A database, and a session that hears what is told of limits."""
    subscription = Subscription(limits_topic(settings.events.topic))
    broker = settings.events_broker(f"{settings.broker.client_id}-hears")
    options = options_from(broker, subscriptions=[subscription], clean_start=True)
    async with (
        open_pools(settings.postgres.dsn) as pools,
        MqttSession(options) as session,
    ):
        await session.connected()
        yield Site(pools, session)


@asynccontextmanager
async def projectors(
    run_command: RunCommand, *environments: dict[str, str]
) -> AsyncIterator[list[RunningCommand]]:
    """Projectors that know what came before; they end as they should, and find nothing undecodable."""
    running = [await run_command("projector", "run", "--log-level", "debug", **each) for each in environments]
    for each in running:
        await each.event("limits_begin")
        await each.event("connected")
    yield running
    for each in running:
        assert await each.terminate() == 0
        assert not [line for line in each.events if line["event"] == "topic_message_not_believed"]


async def answer(settings: Settings, path: str) -> Any:  # noqa: ANN401  # JSON
    async with httpx.AsyncClient(trust_env=False) as client:
        answered = await client.get(f"http://{settings.projector.http}{path}")
    assert answered.status_code == 200, answered.text
    return answered.json()


async def found(settings: Settings, count: int) -> Any:  # noqa: ANN401  # JSON
    """Wait until so many are beyond."""
    async with asyncio.timeout(20):
        while len((page := await answer(settings, "/limits"))["limits"]) != count:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.1)
    return page


async def gauges(settings: Settings) -> dict[str, float]:
    """What `/metrics` says of limits."""
    async with httpx.AsyncClient(trust_env=False) as client:
        lines = (await client.get(f"http://{settings.projector.http}/metrics")).text.splitlines()
    parts = (line.rpartition(" ") for line in lines if line.startswith("projector_limits{"))
    return {name: float(value) for name, _, value in parts}


async def test_beyond_is_told_once(run_command: RunCommand, site: Site, settings: Settings) -> None:
    """By one of two projectors, and not again by those after them, which learn what came meanwhile."""
    await site.read(0, "before", t=50)
    async with projectors(run_command, LIMITS, SECOND) as running:
        assert await site.told(1) == [("before", "t", "crit", 50, 40)]
        await site.read(10, "a", t=31, level=50)
        await site.read(11, "freezer-1", t=-5, stream=1)
        await site.read(12, "a", measured=5, t=7)
        assert sorted(await site.told(2)) == [("a", "t", "warn", 31, 30), ("freezer-1", "t", "crit", -5, -10)]
        page = await found(settings, 3)  # by the projector that is asked, whoever told of it
        assert [(each["device_id"], each["state"], each["since"]) for each in page["limits"]] == [
            ("a", "warn", text(10)),
            ("before", "crit", text(0)),
            ("freezer-1", "crit", text(11)),
        ]
        assert page["counts"][0] == {"metric": "t", "when": "above", "ok": 0, "warn": 1, "crit": 2}

    await site.read(20, "before", t=30)
    await site.read(21, "a", t=45)
    async with projectors(run_command, LIMITS, SECOND):
        assert sorted(await site.told(2)) == [("a", "t", "crit", 45, 40), ("before", "t", "ok", 30, None)]
        await site.read(30, "freezer-1", t=-20)
        assert await site.told(1) == [("freezer-1", "t", "ok", -20, None)]
    await site.read(40, "freezer-1", t=-25)
    async with projectors(run_command, LIMITS, SECOND):
        await site.read(50, "freezer-1", t=-2)
        assert await site.told(1) == [("freezer-1", "t", "crit", -2, -10)], "and nothing of the others"
    lines = [line for each in running for line in each.events if line["event"] == "limit_warn"]
    assert [(line["device"], line["metric"], line["value"]) for line in lines] == [("a", "t", 31)]


async def test_a_value_has_to_stay_beyond(run_command: RunCommand, site: Site, settings: Settings) -> None:
    """Told when the stream has gone on for a minute; API and gauges agree, and filters work."""
    async with projectors(run_command, LIMITS):
        await site.read(0, "a", level=10)
        await site.read(1, "b", level=10)
        await site.read(2, "c", level=20)
        await site.read(30, "b", level=25)
        await site.read(59, "c", t=1)
        await site.read(62, "c", t=50)
        assert sorted(await site.told(2)) == [("a", "level", "warn", 10, 20), ("c", "t", "crit", 50, 40)]
        await found(settings, 2)
        page = await answer(settings, "/limits?limit=1")
        assert ([each["since"] for each in page["limits"]], page["next"]) == ([text(60)], "a")
        (other,) = (await answer(settings, "/limits?limit=1&after=a"))["limits"]
        assert (other["device_id"], other["value"], other["measured_at"]) == ("c", 50, text(62))
        for query, device in (("state=warn", "a"), ("metric=t", "c"), ("region=north&state=crit", "c")):
            (only,) = (await answer(settings, f"/limits?{query}"))["limits"]
            assert only["device_id"] == device
        assert (await answer(settings, "/limits?region=south"))["limits"] == []
        counted = {
            f'projector_limits{{metric="{each["metric"]}",state="{state}",when="{each["when"]}"}}': each[
                state
            ]
            for each in page["counts"]
            for state in ("ok", "warn", "crit")
        }
        async with asyncio.timeout(20):
            while await gauges(settings) != counted:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.1)
        assert page["counts"][1] == {"metric": "level", "when": "below", "ok": 2, "warn": 1, "crit": 0}


async def test_without_limits_there_is_nothing(
    run_command: RunCommand, site: Site, settings: Settings
) -> None:
    """The address answers, and nothing is told."""
    await site.read(0, "a", t=50)
    projector = await run_command("projector", "run", "--log-level", "debug")
    await projector.event("run_applied")
    page = await answer(settings, "/limits")
    assert (page["limits"], page["counts"], page["next"]) == ([], [], None)
    assert await gauges(settings) == {}


async def test_what_is_replayed_is_heard(run_command: RunCommand, site: Site) -> None:
    """A dead letter that was mended may hold the newest reading of a device, or an old one."""
    async with projectors(run_command, LIMITS):
        await site.read(10, "a", t=50)
        assert await site.told(1) == [("a", "t", "crit", 50, 40)]
        await site.read(5, "a", t=7, stream=REPLAY_STREAM)
        await site.read(20, "a", t=20, stream=REPLAY_STREAM)
        assert await site.told(1) == [("a", "t", "ok", 20, None)]


async def test_the_last_limit_that_is_taken_out_is_over(run_command: RunCommand, site: Site) -> None:
    """Who was told that something is beyond is told that this counts no more."""
    async with projectors(run_command, LIMITS):
        await site.read(0, "a", t=50)
        assert await site.told(1) == [("a", "t", "crit", 50, 40)]
    projector = await run_command("projector", "run")
    assert await site.told(1) == [("a", "t", "ok", None, None)]
    assert await projector.terminate() == 0


def change(level: Level, at: int, *, device: str = "a") -> Change:
    key: Key = (device, "t", "above")
    return Change(key, None, level, 50, 40, at, at)


async def test_a_claim_that_is_made_again_is_the_same(redis_url: str) -> None:
    """Whose answer is lost asks again and has the same changes to tell, and nobody else has them."""
    async with Redis.from_url(redis_url) as redis:
        one, other = Told(redis, ""), Told(redis, "")
        changes = [change(WARN, 100), change(CRIT, 200, device="b")]
        assert await one.claim(changes, 1) == changes
        one._levels._claims._call -= 1
        assert await other.claim(changes, 1) == []
        assert await one.claim(changes, 1) == changes
        assert await one.claim(changes, 1) == []
        assert await other.read(1) == {
            ("a", "t", "above"): Known(WARN, 100),
            ("b", "t", "above"): Known(CRIT, 200),
        }


async def test_who_is_behind_claims_nothing(redis_url: str) -> None:
    """A projector that wakes tells nothing that others told; a clock that was ahead holds up nothing."""
    async with Redis.from_url(redis_url) as redis:
        awake, frozen = Told(redis, ""), Told(redis, "")
        for each in (change(CRIT, 100), change(OK, 500)):
            assert await awake.claim([each], 1) == [each]
        assert await frozen.claim([change(CRIT, 100), change(WARN, 400)], 1) == []
        assert await frozen.claim([change(CRIT, 600)], 1) == [change(CRIT, 600)]
        assert await awake.claim([change(OK, 9_000_000)], 1) == [change(OK, 9_000_000)]
        assert await awake.claim([change(CRIT, 2_000_000)], 2) == [change(CRIT, 2_000_000)]


async def test_what_redis_has_lost_counts_as_it_was_told(redis_url: str) -> None:
    """Else nobody would hear that it is over; of two projectors one tells."""
    async with Redis.from_url(redis_url) as redis:
        one, other = Told(redis, ""), Told(redis, "")
        assert await one.claim([change(CRIT, 100)], 1) != []
        await redis.delete("projector:limits")
        over = change(OK, 200)._replace(told=CRIT)
        assert await one.claim([over], 1) == [over]
        assert await other.claim([over], 1) == []


async def test_what_a_clock_ahead_told_is_read_without_its_time(redis_url: str) -> None:
    """It would make all that comes wait for it."""
    async with Redis.from_url(redis_url) as redis:
        told = Told(redis, "")
        await told.claim([change(CRIT, 200_000_000_000)], 1)
        assert await told.read(1) == {("a", "t", "above"): Known(CRIT, 1_000_000)}


async def test_what_is_over_is_forgotten_after_a_day(redis_url: str) -> None:
    """At a start; until then it keeps who is behind from telling of it."""
    async with Redis.from_url(redis_url) as redis:
        told = Told(redis, "")
        await told.claim([change(OK, 1), change(WARN, 2, device="b")], 1)
        await told.claim([change(WARN, 3), change(WARN, 4, device="c")], 1)
        await told.claim([change(OK, 5)], 1)
        await redis.hset("projector:limits", mapping={"none of ours": "1 2", "nor this": "x"})
        assert await told.read(86_400) == {
            ("a", "t", "above"): Known(OK, 5),
            ("b", "t", "above"): Known(WARN, 2),
            ("c", "t", "above"): Known(WARN, 4),
        }
        assert await redis.hlen("projector:limits") == 5
        assert set(await told.read(86_402)) == {("b", "t", "above"), ("c", "t", "above")}
        assert await redis.hlen("projector:limits") == 4


async def test_what_the_views_hold_is_learned(site: Site, redis_url: str) -> None:
    """Once they have what had been stored: numbers alone, each by its own place in the order."""
    await site.read(0, "a", t=50, level=5)
    await site.read(10, "a", level=30)
    await site.read(20, "text", t="50")
    await site.read(21, "turned", t=7)
    await site.read(22, "turned", t="5_0")
    await site.read(23, "tiny", t=-1.5e-07)
    await site.read(30, "other", x=7)
    await site.read(40, "gone", t=50)
    async with Redis.from_url(redis_url) as redis:
        keys = Keys("p:")
        views, learner = Views(redis, keys), Learner(redis, site.pools.projector, keys)
        limits = Limits(Rules([Limit("t", region="nor*", warn=30), Limit("level", when="below", warn=20)]))
        await learner.begin()
        for row in site.rows:
            assert not await learner.learn(limits)
            await views.apply(Run(0, row.epoch, row.n, row.n, row.events, row.created_at), START)
        await redis.delete("p:device:stats:gone")
        await redis.hset(keys.epoch, STAGED, "1")
        assert not await learner.learn(limits), "a part of them is to be set"
        await redis.hdel(keys.epoch, STAGED)
        assert await learner.learn(limits)
    assert limits.beyond.keys() == {"a"}
    state = limits.beyond["a"]["t", "above"]
    assert (state.value, state.region, state.at) == (50, "north", int(START.timestamp() * 1_000_000))
    assert list(limits.counts()) == [("t", "above", [1, 1, 0]), ("level", "below", [1, 0, 0])]
    limits.hear(0, 0, [Event("a", "north", text(-1), text(50), "late", {"t": 1})])
    assert limits.beyond, "measured before what was learned"


async def test_learning_stops_for_others(site: Site, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some dozens of devices at a time, whatever they send."""
    events = [Event(f"{number}", None, text(0), text(0), "k", {"t": 50}) for number in range(120)]
    sizes = []

    async def read(learner: Learner, page: Mapping[bytes, bytes], limits: Limits) -> None:
        sizes.append(len(page))
        await whole(learner, page, limits)

    whole = Learner._read
    monkeypatch.setattr(Learner, "_read", read)
    async with Redis.from_url(redis_url) as redis:
        keys = Keys("p:")
        await Views(redis, keys).apply(Run(0, "e", 1, 1, events, text(0)), START)
        limits = Limits(Rules([Limit("t", warn=30)]))
        assert await Learner(redis, site.pools.projector, keys).learn(limits)
    assert (sizes, len(limits)) == ([50, 50, 20], 120)


async def test_hearing_stops_for_others(site: Site, redis_url: str) -> None:
    """What is read at a time is bounded by readings: with ten limited metrics a tenth of the messages."""
    async with Redis.from_url(redis_url) as redis:
        limiter = Limiter(
            [Limit(f"m{number}", crit=40) for number in range(10)],
            redis,
            site.pool,
            cast("Session", Broker(is_there=True)),
            keys=Keys(),
            topic="events",
            beyond=Beyond(),
            health=Health(),
            gauges=Gauges(CollectorRegistry()),
            now=lambda: START,
        )
        await limiter._rows.catch_up()
        pieces = [0]

        def hear(_stream: int | None, _at: int, events: Sequence[Event]) -> None:
            pieces[-1] += len(events)

        limiter._limits = cast("Limits", SimpleNamespace(hear=hear))
        for _ in range(12):
            await site.commit(*[Event("a", None, text(0), text(0), "k", {"m1": 1})] * 100)
        take = limiter._rows.take

        def taken(rows: Sequence[EventBatch]) -> None:
            take(rows)
            pieces.append(0)

        limiter._rows.take = taken  # type: ignore[method-assign]  # what it is given is all that is asked
        for _ in range(3):  # it is met, its head is seen, it is read
            await limiter._rows.catch_up()
    assert pieces == [400, 400, 400, 0]


class Broker:
    """Takes what is published while it is there."""

    def __init__(self, *, is_there: bool) -> None:
        self.is_there = is_there
        self.taken: list[LimitChange] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        """Take all, or nothing."""
        if not self.is_there:
            raise Disconnected("away")
        self.taken += [decode_limit_change(message.payload) for message in messages]


def limiter_of(
    redis: Redis,
    pool: asyncpg.Pool[asyncpg.Record],
    broker: Broker,
    registry: CollectorRegistry,
    beyond: Beyond,
    cares: Cares | None = None,
    *,
    limits: Sequence[Limit] = (Limit("t", crit=40),),
) -> Limiter:
    """A limiter that nobody runs."""
    return Limiter(
        limits,
        redis,
        pool,
        cast("Session", broker),
        keys=Keys(),
        topic="events",
        beyond=beyond,
        health=Health(),
        gauges=Gauges(registry),
        now=lambda: START,
        cares=cares,
    )


async def test_nothing_is_told_of_who_is_muted(site: Site, redis_url: str) -> None:
    """Nor of anybody before that is known. It is seen, but in no gauge; once the mute is over it is told."""
    beyond, registry, broker = Beyond(), CollectorRegistry(), Broker(is_there=True)
    cares, crit = Cares(), {"metric": "t", "when": "above", "state": "crit"}
    cares.take(Care("a", "muted", START, START, "ann", "", 1, told=True))
    async with Redis.from_url(redis_url) as redis:
        limiter = limiter_of(redis, site.pools.projector, broker, registry, beyond, cares)
        await limiter.begin()
        await limiter.turn()
        readings = [Event(id_, None, text(1), text(1), "k", {"t": 50}) for id_ in ("a", "b")]
        limiter._hear(0, int(START.timestamp()) + 1, readings)
        await limiter.turn()
        assert broker.taken == []
        cares.is_known = True
        await limiter.turn()
        await limiter.turn()
        assert [(each.device_id, each.state) for each in broker.taken] == [("b", "crit")]
        assert registry.get_sample_value("projector_limits", crit) == 1
        assert beyond.hot() == Hot(1, 1)
        assert [(each.crit, each.ok) for each in beyond.counts()] == [(1, 0)]
        assert beyond.ids() == {"b"}
        cares.take(Care("a", "expired", START, START, "ann", "", 2, told=True))
        await limiter.turn()
        assert [(each.device_id, each.state) for each in broker.taken[1:]] == [("a", "crit")]
        assert registry.get_sample_value("projector_limits", crit) == 2
        cares.take(Care("a", "muted", START, None, "ann", "", 3, told=True))
        await limiter.turn()
        assert [device for device, _, _ in await Told(redis, "").read(0)] == ["b"], "what was told is over"
        cares.take(Care("a", "unmuted", START + timedelta(seconds=9), None, "ann", "", 4, told=True))
        await limiter.turn()
        assert [(each.device_id, each.at) for each in broker.taken[2:]] == [("a", text(9))]


async def test_the_last_limit_of_a_retired_device_that_is_taken_out_is_over(
    site: Site, redis_url: str
) -> None:
    """Whatever people have said of the device, and before that is known."""
    broker, cares = Broker(is_there=True), Cares()
    cares.take(Care("a", "retired", START, None, "ann", "", 1, told=True))
    async with Redis.from_url(redis_url) as redis, asyncio.timeout(10):
        await Told(redis, "").claim([change(CRIT, 100)], 1)
        limiter = limiter_of(
            redis, site.pools.projector, broker, CollectorRegistry(), Beyond(), cares, limits=[]
        )
        await limiter.run()
    assert [(each.device_id, each.state, each.value) for each in broker.taken] == [("a", "ok", None)]


async def test_nothing_is_shown_before_it_is_known(site: Site, redis_url: str) -> None:
    """A start, and rows that were passed over, leave gauges and page without a count until all is learned."""
    beyond, registry, crit = Beyond(), CollectorRegistry(), {"metric": "t", "when": "above", "state": "crit"}
    await site.read(0, "a", t=50)
    async with Redis.from_url(redis_url) as redis:
        limiter = limiter_of(redis, site.pools.projector, Broker(is_there=True), registry, beyond)
        await limiter.begin()
        await limiter.turn()
        assert registry.get_sample_value("projector_limits", crit) is None
        assert beyond.hot() == Hot(None, None)
        (row,) = site.rows
        await Views(redis, Keys()).apply(Run(0, row.epoch, row.n, row.n, row.events, row.created_at), START)
        await limiter.turn()
        assert registry.get_sample_value("projector_limits", crit) == 1
        assert beyond.hot() == Hot(1, 1)
        limiter._begin_anew(0)
        assert beyond.hot() == Hot(None, None)


@pytest.mark.parametrize("is_there", [True, False])
async def test_the_last_words(
    site: Site, redis_url: str, monkeypatch: pytest.MonkeyPatch, *, is_there: bool
) -> None:
    """What is claimed goes out at the stop, or is counted as lost; no more is than there is room for."""
    monkeypatch.setattr(post_module, "KEPT", 2)
    broker, registry = Broker(is_there=False), CollectorRegistry()
    async with Redis.from_url(redis_url) as redis:
        limiter = limiter_of(redis, site.pools.projector, broker, registry, Beyond())
        limiter._limits.hear(0, 1, [Event(id_, None, text(0), text(0), "k", {"t": 50}) for id_ in "abc"])
        for _ in range(2):
            await limiter.turn()
        assert await redis.hlen("projector:limits") == 2, "another may tell of the third"
        broker.is_there = is_there
        with capture_logs() as logs:
            await limiter.last_words()
    assert [told.device_id for told in broker.taken] == (["a", "b"] if is_there else [])
    lost = registry.get_sample_value("projector_limit_changes_lost_total")
    assert lost == (0 if is_there else 2)
    assert [line["changes"] for line in logs if line["event"] == "limit_changes_lost"] == (
        [] if is_there else [2]
    )
