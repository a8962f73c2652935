"""Ends the session that a gateway of another name has left at the broker.

A session outlives its gateway for `broker.session_expiry`, and the broker queues for it all that time: what
does not fit is dropped and counted, although nobody waits for it. A new connection with the old client id
that asks for a clean start ends it, and leaves none behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gateway.slot import Slot
from runtime.errors import Stop
from runtime.mqtt import options_from
from runtime.mqtt.opening import Opener
from runtime.postgres import load_queries, open_pool, retryable

if TYPE_CHECKING:
    from runtime.settings import Settings

queries = load_queries("gateway")


async def retire(settings: Settings, client_id: str) -> bool:
    """End the session of a client id at `[broker]`, and forget what it had subscribed.

    Returns:
        Whether anything was known of it.

    Raises:
        Stop: a gateway runs under that client id.
        Retry: PostgreSQL or the broker is away.
    """
    broker = msgspec.structs.replace(settings.broker, client_id=client_id)
    session = Slot(0, client_id, f"{broker.host}:{broker.port}").session
    async with await open_pool(settings.postgres.dsn, name="gateway-retire", max_size=1) as pool:
        with retryable():
            if not await pool.fetchval(queries.lock_client, session):
                raise Stop(f"a gateway runs as {client_id}: stop it first, or there is nothing to retire")
            connection = await Opener(options_from(broker, clean_start=True)).open(lambda _: None)
            await connection.close()
            return bool(await pool.fetch(queries.forget_subscriptions, client_id))
