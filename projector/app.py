"""The composition root of the read side: the only place where pools, sessions and servers are made.

`run` is the projector; `verify` and `rebuild` are commands that run beside it, or without it. The query API
answers from the start, whatever else is still waited for. Stopping is easy: applying a run is atomic and
guarded, so whatever is under way may be cut off; only what is left of a run is set, and the cursors are
reported once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry

from contract.rights import PROJECTOR
from contract.topics import all_streams
from contract.views import PROJECTION
from projector.api import openapi, query_routes
from projector.api.history import history_routes, window_routes
from projector.api.limits import limit_routes
from projector.expiry.devices import Expiry
from projector.expiry.regions import Vacancies
from projector.follow.consumer import Consumer
from projector.history.audit import Auditor
from projector.history.packing import Packer
from projector.history.recorder import Recorder
from projector.history.series import History
from projector.history.sparklines import Sparklines
from projector.history.store import Store
from projector.history.windows import Windows
from projector.limits.beyond import Beyond
from projector.limits.gauges import Gauges as LimitGauges
from projector.limits.limiter import Limiter
from projector.limits.limiters import Limiters
from projector.limits.rules import Rules
from projector.live.board import Board
from projector.live.details import detail_routes
from projector.live.feed import Feed
from projector.live.routes import live_routes
from projector.live.sign_in import sign_in_routes
from projector.meters import Meters
from projector.names.book import Names
from projector.outbox import Outbox
from projector.query import Queries
from projector.reload import Running
from projector.repair.rebuild import Rebuilder
from projector.repair.verify import Verifier
from projector.views import Keys, Views
from projector.watch.care import Cares
from projector.watch.gauges import Gauges
from projector.watch.said import Watch
from projector.watch.watcher import Watcher
from runtime.certificates import Certificates, files_of
from runtime.errors import Retry
from runtime.http import Front, Health, Hosts, create_app, health_routes, serve
from runtime.lifecycle import keep_trying, unless
from runtime.mqtt import MqttSession, SessionOptions, Subscription, options_from
from runtime.postgres import open_pool
from runtime.redis import open_redis
from runtime.rights import Rights
from runtime.settings import duration_s, host_port
from runtime.supervisor import keep_told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

    import asyncpg
    from redis.asyncio import Redis

    from contract.events import EventBatch
    from projector.history.audit import Audit
    from projector.repair.rebuild import Rebuilt
    from projector.repair.replica import Progress
    from projector.repair.verify import Verification
    from runtime.reload import Reload
    from runtime.settings import Settings

CHUNKS_UNDER_WAY: Final = 100
MAX_PACKET_BYTES: Final = 32 * 1024 * 1024  # a larger row is not delivered, and read from PostgreSQL
_LAST_WORDS_S = 5.0  # history's open minute of ten thousand devices

log = structlog.get_logger()


async def run(settings: Settings, stop: asyncio.Event, reload: Reload | None = None) -> None:
    """Run the projector until `stop` is set.

    Args:
        settings: checked.
        stop: ends it softly.
        reload: has the configuration read again when it is asked to.

    Raises:
        Stop: something that no waiting can mend; it says what.
    """
    registry, health = CollectorRegistry(), Health()
    meters = Meters(registry)
    keys, watch = Keys(settings.redis.prefix), Watch(Names())
    front, running = Front(settings.projector, "projector", registry), Running(settings)
    certificates = Certificates("projector", files_of(settings, "projector"))
    registry.register(certificates)
    health.set("projector", "starting")
    async with (
        open_redis(settings.redis.url, settings.redis.prefix) as redis,
        open_redis(settings.redis.api_url or settings.redis.url, settings.redis.prefix) as reader,
        contextlib.aclosing(History(settings.postgres.dsn, settings.projector.client_id)) as history,
        asyncio.TaskGroup() as tasks,
    ):
        queries = Queries(reader, keys, lag=meters.lag)
        board = Board(reader, keys, queries=queries, meters=meters, health=health, watch=watch, now=_now)
        feed = Feed(board, meters)
        beyond = Beyond(Rules(settings.limit))
        board.use_limits(beyond)
        windows = Windows(history, _now)
        routes = [
            query_routes(queries, meters, watch),
            history_routes(history, meters),
            window_routes(queries, windows),
            limit_routes(beyond, meters),
            *live_routes(board, feed, front.access),
            *sign_in_routes(front.access),
            *detail_routes(board, running.site),
            *health_routes(health, registry, "projector", front.access),
        ]
        names = (host_port(settings.projector.http)[0], *settings.projector.hosts)
        hosts = Hosts(names, setting="projector.hosts")
        app = create_app(routes, openapi=openapi(), hosts=hosts, access=front.access)
        http_stop, listening = asyncio.Event(), asyncio.Event()
        tasks.create_task(feed.run(http_stop), name="live")
        tasks.create_task(
            serve(
                app,
                settings.projector.http,
                http_stop,
                setting="projector.http",
                listening=listening,
                front=front,
            ),
            name="http",
        )
        tasks.create_task(keep_told(health, listening, http_stop), name="supervisor")
        reloading = tasks.create_task(reload.run(running.change), name="reload") if reload else None
        try:
            await _project(
                settings,
                redis,
                keys,
                board=board,
                beyond=beyond,
                limit_gauges=LimitGauges(registry),
                meters=meters,
                gauges=Gauges(registry),
                certificates=certificates,
                watch=watch,
                windows=windows,
                health=health,
                running=running,
                stop=stop,
            )
        finally:
            if reloading is not None:
                reloading.cancel()
            http_stop.set()
    log.info("projector_stopped")


async def verify(settings: Settings, *, limit: int, folding: Progress, comparing: Progress) -> Verification:
    """Compare the views with PostgreSQL, keeping the first `limit` differences.

    Raises:
        Stop: they cannot be compared now, or a verification is under way; it says why.
        Retry: a server is away.
    """
    async with _servers(settings) as (redis, pool):
        verifier = Verifier(
            redis,
            pool,
            Keys(settings.redis.prefix),
            _now,
            limit=limit,
            most_metrics=settings.projector.max_metrics,
        )
        return await verifier.verify(folding, comparing)


async def verify_history(settings: Settings, *, limit: int, progress: Progress) -> Audit:
    """Compare history with the measurements, keeping the first `limit` differences.

    Raises:
        Stop: it cannot be compared; it says why.
        Retry: PostgreSQL is away.
    """
    async with await _pool(settings) as pool:
        return await Auditor(pool).verify(progress, limit=limit)


async def rebuild_history(settings: Settings, *, progress: Progress) -> Audit:
    """Put right what differs between history and the measurements, and say how much it was.

    Raises:
        Retry: PostgreSQL is away; nothing has changed.
    """
    async with await _pool(settings) as pool:
        return await Auditor(pool).rebuild(progress)


async def rebuild(settings: Settings, *, settled: bool, progress: Progress) -> Rebuilt:
    """Make the views anew from PostgreSQL.

    Raises:
        Stop: a rebuild is under way.
        Retry: a server is away; nothing has changed.
    """
    async with _servers(settings) as (redis, pool):
        return await _rebuilder(settings, redis, pool).rebuild(progress, settled=settled)


def _rebuilder(settings: Settings, redis: Redis, pool: asyncpg.Pool[asyncpg.Record]) -> Rebuilder:
    async def make_room(keys: Keys) -> None:
        await Vacancies(redis, keys, most=settings.projector.max_regions, pause_s=0).turn()

    keys = Keys(settings.redis.prefix)
    return Rebuilder(
        redis, pool, keys, _now, most_metrics=settings.projector.max_metrics, make_room=make_room
    )


@asynccontextmanager
async def _servers(settings: Settings) -> AsyncIterator[tuple[Redis, asyncpg.Pool[asyncpg.Record]]]:
    async with open_redis(settings.redis.url, settings.redis.prefix) as redis, await _pool(settings) as pool:
        yield redis, pool


async def _pool(settings: Settings) -> asyncpg.Pool[asyncpg.Record]:
    return await open_pool(settings.postgres.dsn, name=settings.projector.client_id, max_size=3)


async def _project(
    settings: Settings,
    redis: Redis,
    keys: Keys,
    *,
    board: Board,
    beyond: Beyond,
    limit_gauges: LimitGauges,
    meters: Meters,
    gauges: Gauges,
    certificates: Certificates,
    watch: Watch,
    windows: Windows,
    health: Health,
    running: Running,
    stop: asyncio.Event,
) -> None:
    after_s = duration_s(after) if (after := settings.projector.expire_devices_after) else None
    name = settings.projector.client_id
    pool = await unless(
        stop, keep_trying("postgres", lambda: open_pool(settings.postgres.dsn, name=name, max_size=6), health)
    )
    if pool is None:
        return
    board.use(pool)
    async with pool, MqttSession(_session_options(settings)) as session:
        certificates.watch("events broker", session.status)
        sparklines = Sparklines(redis, pool, keys.prefix)
        recorder = Recorder(
            Store(pool),
            Outbox(pool, "history"),
            auditor=Auditor(pool),
            shown=sparklines.show,
            health=health,
            meters=meters,
            now=_now,
        )
        windows.use(recorder.memory)
        cares = Cares()
        watcher = Watcher(
            redis,
            pool,
            session,
            prefix=keys.prefix,
            topic=settings.events.topic,
            forget_after_s=after_s,
            health=health,
            gauges=gauges,
            watch=watch,
            now=_now,
            tolerance_s=duration_s(settings.projector.clock_tolerance),
            believes_claims=any(route.clock == "prefer" for route in settings.route),
            cares=cares,
            names=watch.names,
        )
        make_limiter = partial(
            Limiter,
            redis=redis,
            pool=pool,
            session=session,
            keys=keys,
            topic=settings.events.topic,
            beyond=beyond,
            forget_after_s=after_s,
            health=health,
            gauges=limit_gauges,
            now=_now,
            cares=cares,
        )
        running.limiters = limiter = Limiters(make_limiter, running.limits)
        views = Views(
            redis, keys, most_metrics=settings.projector.max_metrics, dropped=meters.metrics_dropped.inc
        )
        consumer = Consumer(
            session,
            views,
            Outbox(pool, PROJECTION),
            rebuilder=_rebuilder(settings, redis, pool),
            health=health,
            meters=meters,
            now=_now,
            heard=partial(_hand_on, (recorder.take, watcher.take, limiter.take)),
        )
        vacancies = Vacancies(redis, keys, most=settings.projector.max_regions, meters=meters)
        parts = {
            "rights": Rights(pool, PROJECTOR, health).run(),
            "views": consumer.run(),
            "history": recorder.run(),
            "packing": Packer(pool, meters.packing_behind_seconds.set).run(),
            "sparklines": sparklines.run(),
            "watch": watcher.run(),
            "limits": limiter.run(),
            "regions": vacancies.run(health),
        }
        if after_s is not None:
            expiry = Expiry(
                redis,
                keys,
                after_s=after_s,
                health=health,
                meters=meters,
                now=_now,
            )
            parts["expiry"] = expiry.run()
        try:
            await unless(stop, _together(parts))
        except Exception:
            await asyncio.gather(_last_words(watcher.last_words), _last_words(limiter.last_words))
            raise
        await asyncio.gather(
            _last_words(views.settle),
            _last_words(consumer.report, partial(recorder.turn, flush=True)),
            _last_words(watcher.last_words),
            _last_words(limiter.last_words),
        )


async def _last_words(*words: Callable[[], Coroutine[None, None, object]]) -> None:
    with contextlib.suppress(Retry, TimeoutError):
        async with asyncio.timeout(_LAST_WORDS_S):
            for say in words:
                await say()


def _hand_on(takers: Sequence[Callable[[list[EventBatch]], None]], rows: list[EventBatch]) -> None:
    for take in takers:
        take(rows)


async def _together(parts: Mapping[str, Coroutine[None, None, None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for name, part in parts.items():
            tasks.create_task(part, name=name)


def _session_options(settings: Settings) -> SessionOptions:
    """A session of this process alone, so that two projectors never take each other's."""
    broker = settings.events_broker(f"{settings.projector.client_id}-{uuid4().hex[:8]}")
    subscription = Subscription(all_streams(settings.events.topic))
    return dataclasses.replace(
        options_from(broker, subscriptions=[subscription], clean_start=True),
        receive_maximum=CHUNKS_UNDER_WAY,
        max_packet_bytes=MAX_PACKET_BYTES,
    )


def _now() -> datetime:
    return datetime.now(UTC)
