"""The last 60 minutes of each device in Redis, for pages that show many devices at once.

`device:spark:<device_id>` is a hash with one field a metric: the newest minute, as counted since 1970, in
four bytes, and 60 means as 32-bit floats, oldest first, NaN where nothing was measured; all little-endian.
A device takes 2 KB of Redis at most, names and all: that is six metrics, fewer when their names are long, the
first that came. A device that is silent for two hours has none.

They are written after the minutes that they show, with their absolute values, so that writing them twice is
harmless and losing them costs a look: whatever was not written, at a start or because Redis was away or
flushed, is written anew from `open_minutes`. One task writes them all, in the order in which they were
committed. History waits for it when much is due, but not when Redis is away. What somebody else keeps under
such a key is left alone.
"""

from __future__ import annotations

import asyncio
import math
import struct
from importlib import resources
from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import msgspec
import structlog

from projector.history.store import Mean
from projector.outbox import answering as postgres_answering
from projector.outbox import queries
from projector.views import answering
from runtime.backoff import Backoff
from runtime.errors import Retry
from runtime.postgres import lent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

    import asyncpg
    from redis.asyncio import Redis

MINUTES: Final = 60
MEANS_A_CALL: Final = 2000  # some milliseconds of Redis
PAGE_ROWS: Final = 10_000
# Minutes, about 2 MB. Beyond that nothing is added, but what is added comes as a whole, at most about
# `memory.MOST_SIZE`: 300,000 minutes, 30 MB, may be due, and as many more are being written meanwhile.
MOST_DUE: Final = 20_000

_BACKOFF_INITIAL_S: Final = 1.0
_BACKOFF_MAX_S: Final = 60.0
_LONGEST_S: Final = 120.0  # an hour of ten thousand devices is sorted in a few seconds

_SCRIPT: Final = resources.files("projector.history").joinpath("sparklines.lua").read_text(encoding="utf-8")
_LINE: Final = struct.Struct(f"<I{MINUTES}f")
_LARGEST: Final = 3.4e38  # of a 32-bit float
_by_minute: Final = attrgetter("minute")
_encoder: Final = msgspec.msgpack.Encoder()

log = structlog.get_logger()


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
        self._due: list[Mean] = []
        self._wake = asyncio.Event()
        self._taken = asyncio.Event()
        self._failing = False
        self._stale = True
        self._told_of_foreign = False

    async def show(self, means: Sequence[Mean]) -> None:
        """Have minutes shown that have been committed. Waits while much is due, unless Redis is away."""
        while len(self._due) > MOST_DUE and not self._failing:
            self._taken.clear()
            await self._taken.wait()
        if self._failing:
            self._due.clear()
            self._stale = True
        else:
            self._due += means
        self._wake.set()

    async def run(self) -> NoReturn:
        """Write what is to be shown, until cancelled."""
        backoff = Backoff(_BACKOFF_INITIAL_S, _BACKOFF_MAX_S)
        while True:
            try:
                await self.turn()
            except Retry as error:
                if not self._failing:
                    log.warning("sparklines_waiting", what=error.what, reason=error.reason)
                self._failing = True
                self._taken.set()
                await asyncio.sleep(backoff.next_s())
                continue
            if self._failing:
                log.info("sparklines_written")
            self._failing = False
            backoff.reset()
            await self._wake.wait()

    async def turn(self) -> None:
        """Write what is due; everything, if anything may be missing.

        Raises:
            Retry: Redis or PostgreSQL is away. The next turn writes everything.
        """
        self._wake.clear()
        due, self._due = self._due, []
        self._taken.set()
        stale, self._stale = self._stale, False
        try:
            if stale or not await self._write(due):
                await self._write_all()
        except Retry:
            self._stale = True
            raise

    async def _write_all(self) -> None:
        """What was due is among it: it had been committed."""
        with answering():
            await self._redis.set(self._marker, "1")
        with postgres_answering():
            async with lent(self._pool) as connection, connection.transaction():
                cursor = await connection.cursor(queries.read_minutes, timeout=_LONGEST_S)
                while rows := await cursor.fetch(PAGE_ROWS):
                    if not await self._write([Mean(*row) for row in rows]):
                        raise Retry("redis", "sparklines were lost while they were written")

    async def _write(self, means: Iterable[Mean]) -> bool:
        """False when Redis has lost what was written before."""
        left = iter(means)
        while some := list(islice(left, MEANS_A_CALL)):
            if not await self._call([list(its) for _, its in groupby(some, key=attrgetter("device_id"))]):
                return False
        return True

    async def _call(self, devices: Sequence[Sequence[Mean]]) -> bool:
        names = [self._marker, *(self._keys + means[0].device_id for means in devices)]
        values = [
            [
                each
                for mean in sorted(means, key=_by_minute)
                for each in (mean.metric, mean.minute, _held(mean.mean))
            ]
            for means in devices
        ]
        with answering():
            marked, *foreign = await cast(
                "Awaitable[list[Any]]", self._script(names, [_encoder.encode(values)])
            )
        if foreign and not self._told_of_foreign:
            log.warning("sparkline_key_foreign", key=foreign[0].decode(errors="backslashreplace"))
            self._told_of_foreign = True
        return bool(marked)


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


def _held(mean: float) -> float:
    return mean if -_LARGEST <= mean <= _LARGEST else math.copysign(_LARGEST, mean)


def _unpack(line: bytes) -> Sparkline:
    newest, *means = _LINE.unpack(line)
    return Sparkline(newest * 60_000, [mean if math.isfinite(mean) else None for mean in means])
