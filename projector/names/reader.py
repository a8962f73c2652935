"""Follows what people say devices are, in PostgreSQL, and copies it to Redis.

What changed is found by the transactions that changed it (`devices.changed`): those that had not ended in the
snapshot of one look are the next one's, and nobody waits for a lock. Where that may be another history of the
table, and each ten minutes, because a row that was removed leaves no trace, everything is read anew.

In Redis `projector:names` is a copy for those who show devices without a projector: device → an array of
name, labels, expected seconds, and whether it is blocked and was never heard.
"""

from __future__ import annotations

import time
from itertools import islice
from sys import intern
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from projector.names.book import NOBODY, Known
from projector.outbox import answering as asking
from projector.outbox import queries
from projector.views import answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import asyncpg
    from redis.asyncio import Redis

    from projector.names.book import Names

NAMES: Final = "projector:names"

_PAGE: Final = 5000
_WRITTEN: Final = 1000
_ANEW_S: Final = 600.0

log = structlog.get_logger()

_decoder: Final = msgspec.json.Decoder(Known)


class Reader:
    """Follows what is said of the devices of one site.

    Args:
        prefix: goes before the key in Redis.
        names: what is said.
    """

    def __init__(
        self,
        redis: Redis,
        pool: asyncpg.Pool[asyncpg.Record],
        prefix: str,
        names: Names,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._pool = pool
        self._key = f"{prefix}{NAMES}"
        self._names = names
        self._monotonic = monotonic
        self._history = ""
        self._snapshot = ""
        self._read_at = 0.0
        self._is_shown = False
        self._changed: dict[str, None] = {}
        self._unshown: dict[str, None] = {}

    async def hear(self) -> list[str]:
        """Take what is said now; returns the devices of which that is something else.

        Raises:
            Retry: PostgreSQL is away; what was taken of it is returned by the next call.
        """
        with asking():
            row = await self._pool.fetchrow(queries.names_snapshot)
            assert row is not None
            now = self._monotonic()
            if row["history"] != self._history or now - self._read_at >= _ANEW_S:
                await self._read_all()
                self._history, self._read_at = row["history"], now
            else:
                await self._read_changed()
        self._snapshot = row["snapshot"]
        changed, self._changed = self._changed, {}
        return list(changed)

    async def show(self) -> None:
        """Copy to Redis what has changed; at first, and when that was lost, all there is and nothing else.

        Raises:
            Retry: Redis is away.
        """
        if not self._is_shown:
            await self._forget_others()
            self._unshown = dict.fromkeys(self._names)
            self._is_shown = True
        while some := list(islice(self._unshown, _WRITTEN)):
            await self._write(some)
            for id_ in some:
                del self._unshown[id_]

    def show_again(self) -> None:
        """Redis has lost it."""
        self._is_shown = False

    async def _read_all(self) -> None:
        names = self._names
        names.left_out = 0
        gone = dict.fromkeys(names)
        after = ""
        while page := await self._pool.fetch(queries.names_all, after, _PAGE):
            for device_id, *said in page:
                gone.pop(device_id, None)
                self._take(device_id, said)
            after = page[-1]["device_id"]
        for device_id in gone:
            self._take(device_id, NOBODY)
        if names.left_out:
            log.warning("names_left_out", devices=names.left_out, kept=len(names))

    async def _read_changed(self) -> None:
        place = "0", ""
        while page := await self._pool.fetch(queries.names_changed, self._snapshot, *place, _PAGE):
            for device_id, *said, _ in page:
                self._take(device_id, said)
            place = page[-1]["changed"], page[-1]["device_id"]

    def _take(self, device_id: str, said: Iterable[Any]) -> None:
        name, labels, expected_s, blocked, never_heard = said
        known = Known(name, intern(labels or ""), expected_s, blocked, never_heard)
        if self._names.take(device_id, known):
            self._changed[device_id] = None
            self._unshown[device_id] = None

    async def _forget_others(self) -> None:
        over = []
        with answering():
            async for field, _ in self._redis.hscan_iter(self._key, count=_WRITTEN):
                if self._names.of(field.decode(errors="replace")) == NOBODY:
                    over.append(field)
            for first in range(0, len(over), _WRITTEN):
                await self._redis.hdel(self._key, *over[first : first + _WRITTEN])

    async def _write(self, ids: list[str]) -> None:
        said = {id_: self._names.of(id_) for id_ in ids}
        held: Mapping[Any, Any] = {
            id_: msgspec.json.encode(known) for id_, known in said.items() if known != NOBODY
        }
        with answering():
            if over := [id_ for id_ in ids if id_ not in held]:
                await self._redis.hdel(self._key, *over)
            if held:
                await self._redis.hset(self._key, mapping=held)


def read_known(raw: bytes | None) -> Known:
    """What the copy in Redis says of a device."""
    try:
        return NOBODY if raw is None else _decoder.decode(raw)
    except msgspec.DecodeError:
        return NOBODY  # not ours
