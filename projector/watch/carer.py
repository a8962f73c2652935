"""Reads what people say of devices, says what comes to its end by itself, and claims what is to be told.

PostgreSQL has the newest word on each device, so that neither a restart nor a lost Redis ends a mute. Each
projector reads what is new since the version it knows; whoever sets `told` first has it to tell. In Redis
`projector:care` is a copy for those who show devices without it: device → `muted` or `retired`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from projector.outbox import answering as asking
from projector.outbox import queries
from projector.views import answering
from projector.watch.care import Care

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import asyncpg
    from redis.asyncio import Redis

    from projector.watch.care import Cares

CARE: Final = "projector:care"
_PAGE: Final = 5000
_AT_ONCE: Final = 1000


class Carer:
    """Follows the words on the devices of one site.

    Args:
        prefix: goes before the key in Redis.
    """

    def __init__(self, redis: Redis, pool: asyncpg.Pool[asyncpg.Record], prefix: str) -> None:
        self._redis = redis
        self._pool = pool
        self._key = f"{prefix}{CARE}"

    async def read(self, version: int) -> list[Care]:
        """The words that are newer than a version, the oldest first; some, as long as there are many.

        Raises:
            Retry: PostgreSQL is away.
        """
        with asking():
            return [Care(*record) for record in await self._pool.fetch(queries.care_since, version, _PAGE)]

    async def expire(self) -> None:
        """End the mutes whose time is over, by PostgreSQL's clock.

        Raises:
            Retry: PostgreSQL is away.
        """
        with asking():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(queries.lock_care)
                await connection.execute(queries.expire_mutes)

    async def take_back(self, returned: Mapping[str, datetime]) -> None:
        """Put retired devices into service again.

        Args:
            returned: device → when it was heard; one that was retired later stays so.

        Raises:
            Retry: PostgreSQL is away.
        """
        with asking():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(queries.lock_care)
                await connection.execute(queries.return_devices, list(returned), list(returned.values()))

    async def claim(self, words: Sequence[Care]) -> list[Care]:
        """Those of some words that nobody else tells of.

        Raises:
            Retry: PostgreSQL is away; then they may never be told.
        """
        if not words:
            return []
        with asking():
            claimed = await self._pool.fetch(queries.tell_care, [care.version for care in words])
        versions = {record["version"] for record in claimed}
        return [care for care in words if care.version in versions]

    async def show(self, cares: Cares) -> None:
        """Copy all that holds to Redis, and nothing else.

        Raises:
            Retry: Redis is away.
        """
        held = [(care.device_id, care.state) for care in cares.held()]
        with answering():
            shown = cast("list[bytes]", await self._redis.hkeys(self._key))
            over = [id_ for id_ in shown if id_.decode(errors="replace") not in cares]
            for first in range(0, len(over), _AT_ONCE):
                await self._redis.hdel(self._key, *over[first : first + _AT_ONCE])
            for first in range(0, len(held), _AT_ONCE):
                await self._redis.hset(self._key, mapping=dict(held[first : first + _AT_ONCE]))
