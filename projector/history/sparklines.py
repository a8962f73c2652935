"""The last 60 minutes of each device in Redis, for pages that show many devices at once.

`device:spark:<device_id>` is a hash with one field a metric: the newest minute, as counted since 1970, in
four bytes, and 60 means as 32-bit floats, oldest first, NaN where nothing was measured; all little-endian.
That is 244 bytes a metric, and at most seven of them, the first that came: about 2 KB a device. A device that
is silent for two hours has none.

They are written after the minutes that they show, with their absolute values, so that writing them twice is
harmless and losing them costs a look: whatever was not written, at a start or because Redis was away or
flushed, is written anew from `measurements_1m`.
"""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from importlib import resources
from typing import TYPE_CHECKING, Final, cast

import msgspec

from projector.history.store import Mean
from projector.outbox import answering as postgres_answering
from projector.outbox import queries
from projector.views import answering
from runtime.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

    import asyncpg
    from redis.asyncio import Redis

MINUTES: Final = 60
DEVICES_A_CALL: Final = 250  # a few milliseconds of Redis
PAGE_ROWS: Final = 10_000

_SCRIPT: Final = resources.files("projector").joinpath("sparklines.lua").read_text(encoding="utf-8")
_LINE: Final = struct.Struct(f"<I{MINUTES}f")
_LARGEST: Final = 3.4e38  # of a 32-bit float


class Sparkline(msgspec.Struct, frozen=True):
    """A metric's last hour.

    Attributes:
        newest_ms: when the last of the minutes began, in epoch milliseconds.
        means: one a minute, oldest first; None where nothing was measured.
    """

    newest_ms: int
    means: list[float | None]


class Sparklines:
    """One set of sparklines.

    Args:
        pool: connections to where the minutes are.
        prefix: goes before every key.
    """

    def __init__(self, redis: Redis, pool: asyncpg.Pool[asyncpg.Record], prefix: str) -> None:
        self._redis = redis
        self._pool = pool
        self._keys = f"{prefix}device:spark:"
        self._marker = f"{prefix}projector:sparklines"
        self._script = redis.register_script(_SCRIPT)
        self._stale = True

    async def write(self, means: Iterable[Mean]) -> None:
        """Show minutes; when Redis is away, or has lost what it had, `refresh` will."""
        devices: defaultdict[str, list[Mean]] = defaultdict(list)
        for mean in means:
            devices[mean.device_id].append(mean)
        ids = list(devices)
        try:
            for i in range(0, len(ids), DEVICES_A_CALL):
                part = ids[i : i + DEVICES_A_CALL]
                self._stale |= not await self._call([devices[device_id] for device_id in part])
        except Retry:
            self._stale = True

    async def refresh(self) -> None:
        """Write everything anew, if that is necessary and both servers are there; else do nothing."""
        if not self._stale:
            return
        last = "", "", 0
        try:
            with answering():
                await self._redis.set(self._marker, "1")
            self._stale = False
            while True:
                with postgres_answering():
                    rows = await self._pool.fetch(queries.read_minutes, *last, PAGE_ROWS)
                if not rows:
                    return
                means = [Mean(*row) for row in rows]
                await self.write(means)
                last = means[-1][:3]
        except Retry:
            self._stale = True

    async def _call(self, devices: Sequence[Sequence[Mean]]) -> bool:
        names = [self._marker, *(self._keys + means[0].device_id for means in devices)]
        arguments: list[str | int | float] = []
        for means in devices:
            arguments.append(len(means))
            for mean in sorted(means, key=lambda each: each.minute):
                arguments += (mean.metric, mean.minute, max(-_LARGEST, min(_LARGEST, mean.mean)))
        with answering():
            return bool(await cast("Awaitable[int]", self._script(names, arguments)))


async def read_sparklines(redis: Redis, prefix: str, device_ids: Sequence[str]) -> list[dict[str, Sparkline]]:
    """Read devices' sparklines by metric, in the order of the ids; empty where there are none.

    What is no sparkline, because somebody else wrote it, is left out.

    Raises:
        Retry: Redis is away.
    """
    with answering():
        async with redis.pipeline(transaction=False) as pipeline:
            for device_id in device_ids:
                pipeline.hgetall(f"{prefix}device:spark:{device_id}")
            found: list[dict[bytes, bytes]] = await pipeline.execute()
    return [
        {
            name.decode(errors="backslashreplace"): _unpack(line)
            for name, line in sorted(lines.items())
            if len(line) == _LINE.size
        }
        for lines in found
    ]


def _unpack(line: bytes) -> Sparkline:
    newest, *means = _LINE.unpack(line)
    return Sparkline(newest * 60_000, [mean if math.isfinite(mean) else None for mean in means])
