"""The composition root of the read side: the only place where pools, sessions and servers are made.

The query API answers from the start, whatever else is still waited for. Stopping is easy: applying a run is
atomic and guarded, so whatever is under way may be cut off; only the cursors are reported once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry

from contract.topics import all_streams
from projector.api import query_routes
from projector.consumer import Consumer
from projector.meters import Meters
from projector.outbox import Outbox
from projector.query import Queries
from projector.views import Keys, Views
from runtime.errors import Retry
from runtime.http import Health, create_app, health_routes, serve
from runtime.lifecycle import keep_trying, unless
from runtime.mqtt import MqttSession, SessionOptions, Subscription, options_from
from runtime.postgres import open_pool
from runtime.redis import open_redis

if TYPE_CHECKING:
    from runtime.settings import Settings

PROJECTION: Final = "redis"
CHUNKS_UNDER_WAY: Final = 100
MAX_PACKET_BYTES: Final = (
    32 * 1024 * 1024
)  # a row beyond it would not be delivered, and be read from PostgreSQL
_LAST_WORDS_S = 2.0

log = structlog.get_logger()


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the projector until `stop` is set.

    Raises:
        Stop: something that no waiting can mend; it says what.
    """
    registry, health = CollectorRegistry(), Health()
    keys = Keys(settings.redis.prefix)
    health.set("projector", "starting")
    async with open_redis(settings.redis.url) as redis, asyncio.TaskGroup() as tasks:
        app = create_app([*query_routes(Queries(redis, keys)), *health_routes(health, registry)])
        http_stop = asyncio.Event()
        tasks.create_task(
            serve(app, settings.projector.http, http_stop, setting="projector.http"), name="http"
        )
        try:
            await _project(settings, Views(redis, keys), Meters(registry), health, stop)
        finally:
            http_stop.set()
    log.info("projector_stopped")


async def _project(
    settings: Settings, views: Views, meters: Meters, health: Health, stop: asyncio.Event
) -> None:
    name = settings.projector.client_id
    pool = await unless(
        stop, keep_trying("postgres", lambda: open_pool(settings.postgres.dsn, name=name, max_size=2), health)
    )
    if pool is None:
        return
    async with pool, MqttSession(_session_options(settings)) as session:
        consumer = Consumer(
            session,
            views,
            Outbox(pool, PROJECTION),
            health=health,
            meters=meters,
            now=lambda: datetime.now(UTC),
        )
        await unless(stop, consumer.run())
        with contextlib.suppress(Retry, TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await consumer.report()


def _session_options(settings: Settings) -> SessionOptions:
    """A session of this process alone, so that two projectors never take each other's."""
    broker = settings.events_broker(f"{settings.projector.client_id}-{uuid4().hex[:8]}")
    subscription = Subscription(all_streams(settings.events.topic))
    return dataclasses.replace(
        options_from(broker, subscriptions=[subscription], clean_start=True),
        receive_maximum=CHUNKS_UNDER_WAY,
        max_packet_bytes=MAX_PACKET_BYTES,
    )
