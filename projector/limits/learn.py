"""Reads from the views what devices sent last, once these are as far as the streams were when it began."""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING, Final

from projector.outbox import Outbox
from projector.views import answering, as_marks
from projector.views.state import View, place_of, unpack_marks

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg
    from redis.asyncio import Redis

    from projector.limits.states import Limits
    from projector.outbox import Position
    from projector.views import Keys

_PAGE: Final = 500
_AT_ONCE: Final = 50  # devices; ten milliseconds, with twenty metrics that have limits on both sides
_NUMBER: Final = re.compile(rb"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")


class Learner:
    """Last values of the devices of a site."""

    def __init__(self, redis: Redis, pool: asyncpg.Pool[asyncpg.Record], keys: Keys) -> None:
        self._redis = redis
        self._outbox = Outbox(pool, "limits")
        self._keys = keys
        self._positions: Mapping[int, Position] = {}

    async def begin(self) -> None:
        """Note where the streams stand: whatever came before is to be in the views.

        Raises:
            Retry: PostgreSQL is away.
        """
        self._positions = await self._outbox.positions()

    async def learn(self, limits: Limits) -> bool:
        """Tell all last values that limits name; returns whether the views were as far as that.

        Raises:
            Retry: Redis is away, or holds what is none of ours.
        """
        if not await self._are_current():
            return False
        page: dict[bytes, bytes] = {}
        with answering():
            async for device, packed in self._redis.hscan_iter(self._keys.device_marks, count=_PAGE):
                page[device] = packed
                if len(page) == _AT_ONCE:
                    await self._read(page, limits)
                    page = {}
            await self._read(page, limits)
        return True

    async def _are_current(self) -> bool:
        with answering():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hgetall(self._keys.cursor)
                pipeline.hgetall(self._keys.epoch)
                cursors, epochs = await pipeline.execute()
        marks = as_marks(cursors, epochs, views=True)
        return not marks.staged and all(
            marks[stream].epoch == position.epoch and marks[stream].n >= position.head
            for stream, position in self._positions.items()
            if position.head
        )

    async def _read(self, page: Mapping[bytes, bytes], limits: Limits) -> None:
        asked: list[tuple[View, list[str]]] = []
        pipeline = self._redis.pipeline(transaction=False)
        for device, packed in page.items():
            view = View(device.decode(errors="replace"))
            try:
                unpack_marks(packed, view)
            except ValueError:
                continue  # the views will say so
            names = [name for name in limits.groups if name in view.names or name in view.others]
            if names:
                fields = [field for name in names for field in (f"last_{name}", f"count_{name}")]
                pipeline.hmget(self._keys.device(view.id), ["region", *fields])
                asked.append((view, names))
        for (view, names), (region, *values) in zip(asked, await pipeline.execute(), strict=True):
            where = None if region is None else region.decode(errors="replace")
            for name, last, count in zip(names, values[::2], values[1::2], strict=True):
                value = None if last is None or count is None else _number(last)
                if value is not None:
                    limits.learn(view.id, where, name, value, place_of(view.others.get(name, view.mark)))


def _number(last: bytes) -> float | None:
    """What the views write of a number; text that looks the same is not told from one."""
    value = float(last) if _NUMBER.fullmatch(last) else None
    return value if value is not None and isfinite(value) else None
