"""Reads what people say of devices, says what comes to its end by itself, and claims what is to be told.

PostgreSQL has the newest word on each device, so that neither a restart nor a lost Redis ends a mute. Each
projector reads what is new since the version it knows; whoever sets `told` first has it to tell. In Redis
`projector:care` is a copy for those who show devices without it: device → `muted` or `retired`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

from projector.outbox import answering as asking
from projector.outbox import queries
from projector.views import answering
from projector.watch.care import Care

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg
    from redis.asyncio import Redis

    from projector.watch.care import Cares
    from projector.watch.silence import Silence

CARE: Final = "projector:care"
_PAGE: Final = 5000
_AT_ONCE: Final = 1000


class Carer:
    """Follows the words on the devices of one site.

    Args:
        prefix: goes before the key in Redis.
        cares: what holds.

    Attributes:
        untold: words that somebody has to tell.
    """

    def __init__(self, redis: Redis, pool: asyncpg.Pool[asyncpg.Record], prefix: str, cares: Cares) -> None:
        self.untold: list[Care] = []
        self._redis = redis
        self._pool = pool
        self._key = f"{prefix}{CARE}"
        self._cares = cares
        self._shown = -1

    async def hear(self, silence: Silence, now: datetime) -> None:
        """Take what has been said of devices, and say what has come to its end.

        Raises:
            Retry: PostgreSQL is away.
        """
        await self._read(silence)
        if returned := silence.returned:
            await self._take_back({id_: datetime.fromtimestamp(at, UTC) for id_, at in returned.items()})
            returned.clear()
        elif not self._cares.is_any_over(now):
            return
        await self._expire()
        await self._read(silence)

    async def claim(self, most: int) -> list[Care]:
        """Some of what is to be told, of which nobody else tells.

        Raises:
            Retry: PostgreSQL is away; then some may never be told.
        """
        words = self.untold[:most]
        with asking():
            claimed = await self._pool.fetch(queries.tell_care, [care.version for care in words])
        del self.untold[: len(words)]
        versions = {record["version"] for record in claimed}
        return [care for care in words if care.version in versions]

    async def show(self) -> None:
        """Copy what holds to Redis, and nothing else, when it has changed.

        Raises:
            Retry: Redis is away.
        """
        version = self._cares.version
        if self._shown == version:
            return
        held = [(care.device_id, care.state) for care in self._cares.held()]
        with answering():
            shown = cast("list[bytes]", await self._redis.hkeys(self._key))
            over = [id_ for id_ in shown if id_.decode(errors="replace") not in self._cares]
            for first in range(0, len(over), _AT_ONCE):
                await self._redis.hdel(self._key, *over[first : first + _AT_ONCE])
            for first in range(0, len(held), _AT_ONCE):
                await self._redis.hset(self._key, mapping=dict(held[first : first + _AT_ONCE]))
        self._shown = version

    def show_again(self) -> None:
        """Redis has lost it."""
        self._shown = -1

    async def _read(self, silence: Silence) -> None:
        with asking():
            while records := await self._pool.fetch(queries.care_since, self._cares.version, _PAGE):
                words = [Care(*record) for record in records]
                for care in words:
                    silence.take_care(care)
                self.untold += [care for care in words if not care.told]

    async def _expire(self) -> None:
        """End the mutes whose time is over, by PostgreSQL's clock."""
        with asking():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(queries.lock_care)
                await connection.execute(queries.expire_mutes)

    async def _take_back(self, returned: Mapping[str, datetime]) -> None:
        """Put devices into service again that were retired before they were heard, device → when."""
        with asking():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(queries.lock_care)
                await connection.execute(queries.return_devices, list(returned), list(returned.values()))
