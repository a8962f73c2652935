"""Regions in which no device is any more make room, once there are more than `projector.max_regions`.

A tenth more of them goes than must, so that they do not go one by one.

A message may name a region that nobody has ever heard of, and one device may so make up a new one with each:
where it is now is one region, and those that it left have no devices. Of these the ones that were named last
the longest ago go. Regions that have devices stay, however many, and so do those of devices that have
expired, which count there as before: so many as devices were ever heard of, at most.

A region that comes back begins anew. Of which ones that is so nothing is kept, for that would grow with
them; among the epochs stands how many have gone. Once there are any, a verification compares of a region
with another number of messages than it should have, which may be back, only how many devices it has.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from importlib import resources
from typing import TYPE_CHECKING, Final, NoReturn, cast
from uuid import uuid4

import structlog

from projector.query.regions import RegionNames
from projector.views import answering
from runtime.lifecycle import keep_trying

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

    from projector.meters import Meters
    from projector.views import Keys
    from runtime.http import Health

LOOK_S: Final = 60.0
AT_ONCE: Final = 500  # a few milliseconds of Redis
PAUSE_S: Final = 1.0  # between two calls, each of which has every projector read again what it writes
_SCRIPT: Final = resources.files("projector.expiry").joinpath("regions.lua").read_text(encoding="utf-8")

log = structlog.get_logger()


class Vacancies:
    """Keeps the regions of one set of views to a number.

    Args:
        most: so many regions, those without devices among them; beyond it these go.
        pause_s: between two calls.
    """

    def __init__(
        self, redis: Redis, keys: Keys, *, most: int, pause_s: float = PAUSE_S, meters: Meters | None = None
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._most = most
        self._pause_s = pause_s
        self._meters = meters
        self._names = RegionNames(redis, keys)
        self._script = redis.register_script(_SCRIPT)

    async def run(self, health: Health) -> NoReturn:
        """Make room until cancelled."""
        while True:
            await keep_trying("redis", self.turn, health)
            await asyncio.sleep(LOOK_S)

    async def turn(self) -> int:
        """Look once; returns how many regions have gone.

        Raises:
            Retry: Redis is away.
        """
        with answering():
            many = int(await self._redis.hlen(self._keys.region_marks))
        gone = 0
        if many > self._most:
            empty = await self._empty()
            left = min(len(empty), many - self._most + self._most // 10)
            while left:
                regions = [heappop(empty) for _ in range(min(left, AT_ONCE))]
                left -= len(regions)
                gone += await self._remove(regions)
                await asyncio.sleep(self._pause_s if left else 0)
            if gone:
                log.info("regions_dropped", regions=gone, most=self._most)
        if self._meters is not None:
            self._meters.regions.set(many - gone)
            self._meters.regions_dropped.inc(gone)
        return gone

    async def _empty(self) -> list[tuple[int, bytes]]:
        """A heap of when each region without a device was last seen, in epoch milliseconds, and its name."""
        empty: list[tuple[int, bytes]] = []
        async for piece in self._names.pieces():
            with answering():
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for name in piece:
                        pipeline.hmget(self._keys.regions.encode() + name, ("device_count", "last_seen_ms"))
                    found = await pipeline.execute()
            for name, (devices, at) in zip(piece, found, strict=True):
                if devices == b"0":
                    heappush(empty, (int(at or 0), name))
        return empty

    async def _remove(self, regions: list[tuple[int, bytes]]) -> int:
        keys: list[str | bytes] = [self._keys.epoch, self._keys.region_marks]
        keys += [self._keys.regions.encode() + name for _, name in regions]
        arguments: list[str | bytes] = [f"regions:{uuid4().hex}"]
        for at, name in regions:
            arguments += (name, str(at))
        with answering():
            return int(await cast("Awaitable[int]", self._script(keys, arguments)))
