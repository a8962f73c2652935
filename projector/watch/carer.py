"""Reads what people say of devices, says what comes to its end by itself, and claims what is to be told.

PostgreSQL has the newest word on each device, so that neither a restart nor a lost Redis ends a mute. Each
projector reads what is new since the version it knows, and everything where that may be another history of
the table: a backup, a standby that was behind. Then a word that is gone holds no more. Whoever marks a word
as told first has it to tell; who asks again because the answer was lost has it still.

Nobody waits for the lock under which words are numbered: while somebody holds it, it is tried again later.

In Redis `projector:care` is a copy for those who show devices without it: device → `muted` or `retired`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from math import ceil
from sys import intern
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import uuid4

import asyncpg

from projector.outbox import answering as asking
from projector.outbox import queries
from projector.views import answering
from projector.watch.care import Care
from runtime.postgres import lent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

    from projector.watch.care import Cares, What
    from projector.watch.silence import Silence

CARE: Final = "projector:care"
_PAGE: Final = 1000


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
        self._name = uuid4().hex
        self._history = ""
        self._is_shown = False
        self._unshown: dict[str, str | None] = {}

    async def hear(self, silence: Silence, now: datetime) -> None:
        """Take what has been said of devices, and say what has come to its end.

        Raises:
            Retry: PostgreSQL is away.
        """
        await self._read(silence, now)
        is_said = False
        if sent := silence.returned.copy():
            heard_at = [datetime.fromtimestamp(at, UTC) for at in sent.values()]
            is_said = await self._say(queries.return_devices, list(sent), heard_at)
            if is_said:
                for id_, at in sent.items():
                    if silence.returned[id_] == at:
                        del silence.returned[id_]
        if self._cares.is_any_over(now) and await self._is_any_mute_over():
            is_said |= await self._say(queries.expire_mutes)
        if is_said:
            await self._read(silence, now)

    async def find_returned(self, silence: Silence) -> None:
        """Note which retired devices sent something while nobody listened.

        Raises:
            Retry: PostgreSQL is away.
        """
        retired = list(self._cares.retired)
        for first in range(0, len(retired), _PAGE):
            with asking():
                heard = await self._pool.fetch(queries.retired_heard, retired[first : first + _PAGE])
            for device_id, at in heard:
                silence.returned.setdefault(device_id, ceil(at.timestamp()))

    async def claim(self, most: int) -> list[Care]:
        """Some of what is to be told, of which nobody else tells.

        Raises:
            Retry: PostgreSQL is away; then the same can be asked again.
        """
        words = self.untold[:most]
        asked = [care.version for care in words], self._name
        claimed = await self._at_once(queries.try_to_tell, queries.tell_care, *asked)
        if claimed is None:
            return []
        del self.untold[: len(words)]
        versions = {record["version"] for record in claimed}
        return [care for care in words if care.version in versions]

    async def show(self) -> None:
        """Copy to Redis what has changed; at first, and when that was lost, what holds and nothing else.

        Raises:
            Retry: Redis is away.
        """
        if not self._is_shown:
            await self._show_all()
            self._is_shown = True
        while some := dict(islice(self._unshown.items(), _PAGE)):
            await self._write(some)
            for id_ in some:
                del self._unshown[id_]

    def show_again(self) -> None:
        """Redis has lost it."""
        self._is_shown = False

    async def _show_all(self) -> None:
        over: dict[str, None] = {}
        with answering():
            async for field, _ in self._redis.hscan_iter(self._key, count=_PAGE):
                if (id_ := field.decode(errors="replace")) not in self._cares:
                    over[id_] = None
        held = list(self._cares)
        for ids in (list(over), held):
            for first in range(0, len(ids), _PAGE):
                some = ids[first : first + _PAGE]
                await self._write(
                    {id_: care.state if (care := self._cares.get(id_)) else None for id_ in some}
                )
        self._unshown = {}

    async def _write(self, states: dict[str, str | None]) -> None:
        held: Mapping[Any, Any] = {id_: state for id_, state in states.items() if state is not None}
        over = [id_ for id_ in states if id_ not in held]
        with answering():
            if over:
                await self._redis.hdel(self._key, *over)
            if held:
                await self._redis.hset(self._key, mapping=held)

    async def _read(self, silence: Silence, now: datetime) -> None:
        cares = self._cares
        gone: dict[str, None] = {}
        with asking():
            history, newest = await self._pool.fetchrow(queries.care_history) or ("", 0)
            if history != self._history or newest < cares.version:
                gone = dict.fromkeys(cares)
                self._history, cares.version = "", 0
                self.untold.clear()
            while records := await self._pool.fetch(queries.care_since, cares.version, _PAGE):
                for record in records:
                    care = _care(record)
                    gone.pop(care.device_id, None)
                    self._take(care, silence)
                    if not care.told:
                        self.untold.append(care)
        for care in filter(None, map(cares.get, gone)):
            what: What = "unretired" if care.what == "retired" else "unmuted"
            self._take(care._replace(what=what, at=now, version=0, told=True), silence)
        self._history = history

    def _take(self, care: Care, silence: Silence) -> None:
        held = self._cares.get(care.device_id)
        if held is None or held._replace(told=care.told) != care:  # else it is read again
            silence.take_care(care)
            self._unshown[care.device_id] = care.state if care.holds else None
        self._cares.version = max(self._cares.version, care.version)

    async def _is_any_mute_over(self) -> bool:
        with asking():
            return bool(await self._pool.fetchval(queries.is_any_mute_over))

    async def _say(self, query: str, *arguments: object) -> bool:
        """Say something under the lock; returns False when somebody else has it."""
        return await self._at_once(queries.try_lock_care, query, *arguments) is not None

    async def _at_once(self, lock: str, query: str, *arguments: object) -> list[asyncpg.Record] | None:
        """What a query under a lock returns; None when somebody else has the lock."""
        with asking():
            try:
                async with lent(self._pool) as connection, connection.transaction():
                    await connection.execute(lock)
                    return await connection.fetch(query, *arguments)
            except asyncpg.LockNotAvailableError:
                return None


def _care(record: asyncpg.Record) -> Care:
    """Words that many have in common are kept once."""
    device_id, what, at, until, by, reason, version, told = record
    return Care(device_id, cast("What", intern(what)), at, until, intern(by), intern(reason), version, told)
