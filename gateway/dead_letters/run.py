"""Makes what a replay needs, runs it and takes it apart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gateway.dead_letters import REPLAY_STREAM
from gateway.dead_letters.letters import database
from gateway.dead_letters.replay import Replay
from gateway.decode import Decoder, Limits
from gateway.decode.routes import compile_routes
from gateway.lease import Lease
from gateway.slot import Slot, letters_of
from gateway.sparkplug import keeper
from gateway.sparkplug.replayed import NamingDecoder
from gateway.sparkplug.topics import is_spoken
from gateway.store import SESSION_SETTINGS
from runtime.errors import Stop
from runtime.http import Health

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.dead_letters.selection import Selection
    from gateway.dead_letters.tally import Tally
    from runtime.settings import Settings

log = structlog.get_logger()


class ReplayUnderWay(Stop):
    """Somebody else is at it, and has the stream that replays have."""


async def replay(
    settings: Settings,
    selection: Selection,
    limit: int | None,
    stop: asyncio.Event,
    progress: Callable[[Tally], None],
) -> Tally:
    """Replay a selection, as `Replay.run` does, on the stream that replays have.

    Raises:
        Retry: PostgreSQL is away at the start; later it is waited for.
        ReplayUnderWay: another one.
        Stop: the schema is not this program's.
    """
    health = Health()
    routes = compile_routes(settings.route)
    decoder = Decoder(routes, Limits.of(settings.gateway).unhurried)
    slot = Slot(REPLAY_STREAM, "dead-letters replay")
    lease = Lease(settings.postgres.dsn, slot=slot, health=health)
    session = {**SESSION_SETTINGS, **letters_of(settings.broker.client_id)}
    async with database(settings.postgres.dsn, session) as pool:
        try:
            await lease.acquire()
        except Stop as held:
            raise ReplayUnderWay(f"another replay is under way, wait for it: {held}") from held
        births = await keeper.known(pool) if is_spoken(settings.route) else []
        replaying = Replay(
            pool,
            lease=lease,
            routes=routes,
            decoder=NamingDecoder(decoder, births) if is_spoken(settings.route) else decoder,
            health=health,
            page_letters=settings.gateway.batch_messages,
            page_bytes=settings.gateway.batch_bytes,
            holds=settings.gateway.unknown_devices == "hold",
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                holding = tasks.create_task(lease.hold(), name="lease")
                tally = await replaying.run(selection, limit=limit, stop=stop, progress=progress)
                holding.cancel()
        finally:
            await lease.release()
    log.info("replay_done", replayed=tally.replayed, stored=tally.stored, failing=tally.failing.total())
    return tally
