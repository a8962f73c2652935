"""A pool of connections to PostgreSQL is closed in time, also when the server does not answer."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

_CLOSE_S: Final = 1.0


@contextlib.asynccontextmanager
async def closing(pool: asyncpg.Pool[asyncpg.Record]) -> AsyncIterator[None]:
    """Close a pool on leaving; its own way waits for each connection for as long as that takes."""
    try:
        yield
    finally:
        try:
            async with asyncio.timeout(_CLOSE_S):
                await pool.close()
        except TimeoutError:
            pool.terminate()
