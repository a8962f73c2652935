"""Stores what was held for devices that have become known since.

Whoever makes a device known does it right after; a gateway that holds does it too, some seconds later:
a message that came before that gateway knew of the device may have been held after the first look.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.dead_letters.run import replay
from gateway.dead_letters.selection import Selection
from gateway.dead_letters.tally import Tally
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from runtime.settings import Settings

queries = load_queries("gateway")


async def release(
    pool: asyncpg.Pool[asyncpg.Record],
    settings: Settings,
    stop: asyncio.Event | None = None,
    progress: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Replay all letters of unknown devices that are known now, in order of receipt, each once.

    Args:
        pool: to ask whether there are any.
        settings: of the routes by which they came.
        stop: ends it after the page under way.
        progress: called after each page.

    Raises:
        Retry: PostgreSQL is away at the start; later it is waited for.
        ReplayUnderWay: another one; those letters may be among its.
    """
    mine = (settings.broker.client_id,)  # another's came by other routes, and it looks after them itself
    if not await pool.fetchval(queries.is_any_let_in, mine):
        return Tally(0)
    selection = Selection(reasons=("unknown_device",), devices=None, gateways=mine)
    return await replay(settings, selection, None, stop or asyncio.Event(), progress)
