"""The composition root of the write side: the only place where pools, sessions and servers are made.

Start-up order: database (migrated), stream, sessions, pipeline. Stopping goes the way of a message: intake
stops, what was taken is stored and acknowledged, what was stored is published, and then everything is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from contract.rights import GATEWAY
from gateway.arrivals import arrivals_after
from gateway.batcher import BatchPolicy
from gateway.beside import Beside
from gateway.broker_watch import BrokerWatch
from gateway.devices import DeviceTracker
from gateway.door import Door
from gateway.doorman import Doorman
from gateway.intake import Intake
from gateway.lease import Lease
from gateway.ledger import Ledger
from gateway.meters import Meters
from gateway.migrate import migrate, require
from gateway.pipeline import Pipeline
from gateway.presence import MOST, Presence
from gateway.relay import Relay
from gateway.reload import Running
from gateway.slot import Slot, letters_of
from gateway.sparkplug import keeper
from gateway.sparkplug.host import Host
from gateway.sparkplug.meters import SparkplugMeters
from gateway.sparkplug.ticking import Listening, TickingSession
from gateway.sparkplug.topics import is_spoken, state_topic
from gateway.sparkplug.voice import Voice
from gateway.spool.places import Left
from gateway.store import SESSION_SETTINGS, Store
from gateway.subscriptions import plan
from gateway.trip import MOST as MOST_AT_ONCE
from gateway.upkeep import Upkeep
from runtime.certificates import Certificates, files_of
from runtime.closing import closing
from runtime.errors import Retry
from runtime.http import Front, Health, create_app, health_routes, serve
from runtime.lifecycle import keep_trying, unless
from runtime.logs import RateLimit
from runtime.mqtt import MqttSession, Subscription, options_from
from runtime.postgres import keep_asking, load_queries, open_pool, retryable
from runtime.rights import Rights
from runtime.settings import duration_s
from runtime.supervisor import keep_told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import asyncpg

    from gateway.decode import Received
    from gateway.subscriptions import Plan
    from runtime.mqtt import Session
    from runtime.reload import Reload
    from runtime.settings import Settings

log = structlog.get_logger()
queries = load_queries("gateway")

_WRITERS = MOST_AT_ONCE
_DEVICES_INTERVAL_S = 30.0
_LAST_WORDS_S = 2.0


class _Process(NamedTuple):
    """What exists before anything is connected."""

    settings: Settings
    health: Health
    registry: CollectorRegistry
    ledger: Ledger


async def run(
    settings: Settings,
    stop: asyncio.Event,
    report: Callable[[Ledger], None],
    reload: Reload | None = None,
    *,
    drain: bool = False,
) -> None:
    """Run the gateway until `stop` is set.

    Args:
        settings: checked.
        stop: ends it softly.
        report: called with the books when everything has ended, however it did.
        drain: whether only what is in the spool is stored, and then this ends.
        reload: has the configuration read again when it is asked to.

    Raises:
        Stop: something that no waiting can mend; it says what.
    """
    wanted = plan(settings)
    registry = CollectorRegistry()
    front = Front(settings.gateway, "gateway", registry)
    process = _Process(settings, Health(), registry, Ledger(registry, now=_now))
    health = process.health
    health.set("gateway", "starting")
    http_stop, listening = asyncio.Event(), asyncio.Event()
    broker = settings.broker
    slot = Slot(settings.gateway.stream, broker.client_id, f"{broker.host}:{broker.port}")
    lease = Lease(settings.postgres.dsn, slot=slot, health=health)
    try:
        async with asyncio.TaskGroup() as tasks:
            app = create_app(health_routes(health, registry, "gateway", front.access), access=front.access)
            tasks.create_task(
                serve(
                    app,
                    settings.gateway.http,
                    http_stop,
                    setting="gateway.http",
                    listening=listening,
                    front=front,
                ),
                name="http",
            )
            tasks.create_task(keep_told(health, listening, http_stop), name="supervisor")
            voice = Voice(settings.sparkplug.host_id)
            intake = Intake(
                settings,
                tasks,
                subscriptions=wanted.subscriptions,
                make_will=voice.make_will,
                health=health,
                ledger=process.ledger,
                registry=registry,
                drained=stop if drain else None,
            )
            try:
                opening = tasks.create_task(unless(stop, _open(settings, health)), name="postgres")
                await intake.begin_early(opening)
                pool = await opening
                if pool is not None:
                    async with closing(pool):
                        rights = tasks.create_task(Rights(pool, GATEWAY, health).run(), name="rights")
                        prepared = await unless(stop, _prepare(settings, pool, lease, health))
                        if prepared is not None:
                            await _work(process, wanted, prepared, lease, intake, voice, stop, reload)
                        rights.cancel()
                await intake.flush()
            finally:
                http_stop.set()
                await intake.close()
                await lease.release()
    finally:
        report(process.ledger)


class _Prepared(NamedTuple):
    """What PostgreSQL gives before anything else begins."""

    pool: asyncpg.Pool[asyncpg.Record]
    known: list[Subscription]
    received: Received
    presence: Presence


async def _open(settings: Settings, health: Health) -> asyncpg.Pool[asyncpg.Record]:
    """Wait for PostgreSQL."""
    dsn, client_id = settings.postgres.dsn, settings.broker.client_id
    session = {**SESSION_SETTINGS, **letters_of(client_id)}
    return await keep_trying(
        "postgres",
        lambda: open_pool(dsn, name=client_id, max_size=_WRITERS + 3, settings=session),
        health,
    )


async def _prepare(
    settings: Settings, pool: asyncpg.Pool[asyncpg.Record], lease: Lease, health: Health
) -> _Prepared:
    """Migrate PostgreSQL, take the stream and ask what is known."""
    dsn, client_id = settings.postgres.dsn, settings.broker.client_id
    if settings.gateway.migrate:
        await keep_trying("postgres", lambda: migrate(dsn, health=health), health)
    else:
        await keep_trying("postgres", lambda: require(pool), health)
    await lease.acquire()
    rows = await keep_asking(lambda: pool.fetch(queries.known_subscriptions, client_id), health)
    newest = await keep_asking(lambda: pool.fetchval(queries.newest_events, lease.slot.stream), health)
    known = [Subscription(row["topic_filter"], row["qos"]) for row in rows]
    presence = Presence(told=any(route.presence or route.format == "sparkplug" for route in settings.route))
    offline = await keep_asking(lambda: pool.fetch(queries.offline_devices, MOST), health)
    presence.learn((row["device_id"], row["said_at"]) for row in reversed(offline))
    return _Prepared(pool, known, arrivals_after(newest, _now()), presence)


async def _work(  # noqa: PLR0915, PLR0917  # the whole path is put together here
    process: _Process,
    wanted: Plan,
    prepared: _Prepared,
    lease: Lease,
    intake: Intake,
    voice: Voice,
    stop: asyncio.Event,
    reload: Reload | None,
) -> None:
    pool = prepared.pool
    settings, health, ledger = process.settings, process.health, process.ledger
    slot = lease.slot
    stream, client_id = slot.stream, slot.client_id
    filters = [each.topic_filter for each in wanted.subscriptions]

    devices = DeviceTracker(_DEVICES_INTERVAL_S)
    door = Door(holds=settings.gateway.unknown_devices == "hold")
    doorman = Doorman(door)
    rejected = RateLimit(log.warning)
    listening = Listening()
    host = None
    if is_spoken(settings.route):
        host = Host(
            wanted.decoder,
            reorder_s=duration_s(settings.sparkplug.reorder_timeout),
            monotonic=listening,
            door=door,
            state_topic=state_topic(settings.sparkplug.host_id) if settings.sparkplug.host_id else "",
            stated=voice.hear,
        )
        await unless(stop, keeper.recall(host, pool, stream, prepared.received, health))
        process.registry.register(SparkplugMeters(host))
    intake.make(prepared.known)
    session, entrance = intake.session, intake.entrance
    source = session if entrance is None else entrance
    outlet = MqttSession(options_from(settings.events_broker(slot.relay_id), clean_start=True))
    relay = Relay(outlet, pool, lease=lease, topic_prefix=settings.events.topic, ledger=ledger, health=health)
    relay.start_after(lease.published, lease.head)
    lease.publishing = lambda: relay.published
    store = Store(
        pool,
        lease=lease,
        devices=devices,
        health=health,
        presence=prepared.presence,
        keeper=Beside(keeper.Keeper(stream), stream, lambda: entrance.left if entrance else Left()),
        went_back=relay.go_back,
    )
    pipeline = Pipeline(
        source if host is None else TickingSession(cast("Session", source), host, listening),
        decoder=wanted.decoder if host is None else host,
        policy=BatchPolicy(
            settings.gateway.batch_messages,
            settings.gateway.batch_bytes,
            settings.gateway.batch_linger_ms / 1000,
        ),
        store=store,
        relay=relay,
        ledger=ledger,
        rejected=rejected,
        received=prepared.received,
        now=_now,
        writers=_WRITERS,
        door=door,
        take_changes=host.take_changes if host else lambda: None,
        gather=session.gather,
        entrance=entrance,
    )
    upkeep = Upkeep(
        pool,
        settings,
        store=store,
        devices=devices,
        relay=relay,
        ledger=ledger,
        rejected=rejected,
        health=health,
        doorman=doorman,
    )
    await unless(stop, keep_asking(upkeep.prepare, health))
    await unless(stop, keep_asking(lambda: doorman.look(pool), health))
    await unless(stop, intake.learn(pool, stream, lambda: store.next_n))
    if stop.is_set():
        return
    watch = BrokerWatch(msgspec.structs.replace(settings.broker, client_id=slot.watch_id))
    process.registry.register(Meters(session, relay, upkeep, watch, pipeline))
    certificates = Certificates("gateway", files_of(settings, "gateway"))
    certificates.watch("broker", session.status)
    certificates.watch("events broker", outlet.status)
    process.registry.register(certificates)
    health.watch("broker", session.status.why_not)
    health.watch("events broker", outlet.status.why_not)
    health.set("gateway", None)  # not before: a broker drops what nobody has subscribed

    async def remember(subscriptions: Sequence[Subscription]) -> None:
        await intake.remember(subscriptions)
        names, qos = [each.topic_filter for each in subscriptions], [each.qos for each in subscriptions]
        await keep_asking(lambda: pool.execute(queries.remember_subscriptions, client_id, names, qos), health)
        log.debug("subscriptions_remembered", filters=names)

    async def remember_subscriptions() -> None:
        await session.connected()
        await remember(wanted.subscriptions)

    await intake.enter()
    async with outlet, asyncio.TaskGroup() as tasks:
        beside = [
            tasks.create_task(lease.hold(), name="lease"),
            tasks.create_task(upkeep.run(), name="upkeep"),
            tasks.create_task(relay.run(), name="relay"),
            tasks.create_task(watch.run(), name="broker-watch"),
            tasks.create_task(remember_subscriptions(), name="subscriptions"),
        ]
        if host is not None:
            speaking = voice.run(session, host, pool, health)
            beside.append(tasks.create_task(speaking, name="sparkplug-voice"))
        if reload is not None and isinstance(session, MqttSession):
            running = Running(
                settings,
                session=session,
                pipeline=pipeline,
                presence=prepared.presence,
                upkeep=upkeep,
                remember=remember,
            )
            beside.append(tasks.create_task(reload.run(running.change), name="reload"))
        log.info(
            "gateway_started",
            stream=stream,
            filters=filters,
            retention=settings.gateway.retention or "for ever",
        )
        await pipeline.run(stop)
        await intake.flush()
        await voice.leave(session)
        if entrance is None or not entrance.is_stuck:  # else the server does not answer
            await _last_words(relay, upkeep, ledger)
        for task in beside:
            task.cancel()
    rejected.close()


async def _last_words(relay: Relay, upkeep: Upkeep, ledger: Ledger) -> None:
    """Write held-back sightings, and give relay and projector a moment: what is left stays in the outbox."""
    with contextlib.suppress(TimeoutError, Retry), retryable():
        async with asyncio.timeout(_LAST_WORDS_S):
            await upkeep.write_sightings()
            await relay.drained()
            while await upkeep.note_projected() and ledger.projected < ledger.committed:  # noqa: ASYNC110  # a table
                await asyncio.sleep(_LAST_WORDS_S / 20)


def _now() -> datetime:
    return datetime.now(UTC)
