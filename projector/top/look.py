"""One look at the views and at a running projector, bounded whatever the number of devices.

Silent is who the projector's watch has told of as silent; these come first, those that were heard the longest
ago before others, as far as the views have them. All others come from the sorted set, as many as are to be
shown, from its old or its fresh end. Of each it looks at some `WALK` devices at most: where more are silent,
those that were heard the longest ago may not be among them. Of regions, the first `REGIONS`.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

from projector.levels import read_level
from projector.names.book import NOBODY, Known
from projector.names.reader import NAMES, read_known
from projector.query import Queries
from projector.views import Views, answering
from projector.watch.carer import CARE
from projector.watch.drift import CLOCKS
from projector.watch.told import BEGUN, CLOCKS_TOLD, SILENT, read_silent

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

    from projector.lag import Lag
    from projector.query import RegionStats
    from projector.top.asking import Asking
    from projector.views import Cursor, Keys
    from projector.watch.drift import ClockState

Order = Literal["silent", "fresh"]

WALK: Final = 20_000
REGIONS: Final = 200
_PAGE: Final = 1000
_RETIRED: Final = b"retired"


class Wanted(NamedTuple):
    """What to look at.

    Attributes:
        order: which end of the devices.
        part: of their ids or names, upper or lower case; empty: any.
        limit: devices to list.
    """

    order: Order
    part: str
    limit: int


class Device(NamedTuple):
    """A device as the list shows it.

    Attributes:
        silent_since_s: of one that is silent, when its last message came, epoch seconds, 0 when nobody knows;
            None for others.
        clock: `ahead` or `behind`; None when it is right.
        is_muted: whether somebody has muted it.
        online: what it said of itself last, or showed by sending since; None when it never said.
        online_since: since when that is so, as its view has it.
        known: what people say it is.
    """

    device_id: str
    region: str | None
    last_seen_ms: int
    messages: int
    silent_since_s: int | None
    clock: ClockState | None
    is_muted: bool
    known: Known = NOBODY
    online: bool | None = None
    online_since: str | None = None


class Look(NamedTuple):
    """What was seen.

    Attributes:
        clock_s: when, for rates.
        silent: how many devices are; None as long as no projector has ever watched.
        walked: how many devices the filter looked at, when there were more; else None.
        silent_walked: how many silent ones were looked at, likewise.
        lag: what the projector says; None when it does not answer, and `no_lag` says why.
    """

    at: datetime
    clock_s: float
    total: int
    silent: int | None
    devices: list[Device]
    walked: int | None
    silent_walked: int | None
    regions: list[RegionStats]
    cursors: dict[int, Cursor]
    lag: Lag | None
    no_lag: str | None


class Looker:
    """Looks.

    Args:
        projector: who says how far behind it is.
    """

    def __init__(self, redis: Redis, keys: Keys, projector: Asking) -> None:
        self._redis = redis
        self._keys = keys
        self._silent = f"{keys.prefix}{SILENT}"
        self._clocks = f"{keys.prefix}{CLOCKS_TOLD}"
        self._care = f"{keys.prefix}{CARE}"
        self._names = f"{keys.prefix}{NAMES}"
        self._queries = Queries(redis, keys)
        self._views = Views(redis, keys)
        self._projector = projector

    async def look(self, wanted: Wanted) -> Look:
        """Look once.

        Raises:
            Retry: Redis is away, or holds what is not ours.
        """
        asking = asyncio.create_task(asyncio.to_thread(self._projector.lag), name="ask-lag")
        try:
            now = datetime.now(UTC)
            with answering():
                total, silent = await self._counts()
                silent_ids, read = await self._silent_ids(wanted)
                ids, walked = await self._ids(wanted, silent_ids)
                devices = await self._devices(ids)
            regions = (await self._queries.regions(limit=REGIONS)).regions
            cursors = await self._views.marks()
            clock_s = time.monotonic()
            lag, no_lag = await asking
        finally:
            asking.cancel()
        more = walked if walked < total and len(ids) < wanted.limit else None
        not_all = read if wanted.order == "silent" and read < (silent or 0) else None
        return Look(now, clock_s, total, silent, devices, more, not_all, regions, cursors, lag, no_lag)

    async def _counts(self) -> tuple[int, int | None]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zcard(self._keys.last_seen)
            pipeline.hlen(self._silent)
            pipeline.hexists(self._silent, BEGUN)
            total, silent, watched = await pipeline.execute()
        return total, silent - 1 if watched else None

    async def _silent_ids(self, wanted: Wanted) -> tuple[list[str], int]:
        """Ids of the silent devices wanted that the views have, and how many were looked at for it."""
        silent: dict[str, int] = {}
        if wanted.order == "silent":
            silent = await read_silent(self._redis, self._silent, most=WALK)
            silent.pop(BEGUN, None)
        every = sorted(silent, key=lambda id_: (silent[id_], id_))
        found: list[str] = []
        for start in range(0, len(every), _PAGE):
            page = await self._having(wanted.part, every[start : start + _PAGE])
            if not page:
                continue
            scores = await self._redis.zmscore(self._keys.last_seen, page)
            found += [id_ for id_, score in zip(page, scores, strict=True) if score is not None]
            if len(found) >= wanted.limit:
                break
        return found[: wanted.limit], len(silent)

    async def _ids(self, wanted: Wanted, silent: list[str]) -> tuple[list[str], int]:
        """Ids of the devices wanted, and how many of those that are not silent were looked at for it.

        Without those that are retired.
        """
        part = wanted.part
        found, first = silent.copy(), frozenset(silent)
        size = _PAGE if part else wanted.limit
        walked = 0
        while len(found) < wanted.limit and walked < WALK:
            page = await cast(
                "Awaitable[list[bytes]]",
                self._redis.zrange(
                    self._keys.last_seen, walked, walked + size - 1, desc=wanted.order == "fresh"
                ),
            )
            walked += len(page)
            ids = await self._having(part, [member.decode(errors="backslashreplace") for member in page])
            cares = await self._redis.hmget(self._care, ids) if ids else []
            found += [
                id_ for id_, care in zip(ids, cares, strict=True) if id_ not in first and care != _RETIRED
            ]
            if len(page) < size:
                break
        return found[: wanted.limit], walked

    async def _having(self, part: str, ids: list[str]) -> list[str]:
        """Those of these that have it in their id or name."""
        if not part or not ids:
            return ids
        folded = part.casefold()
        said = cast("list[bytes | None]", await self._redis.hmget(self._names, ids))
        names = [read_known(raw).name or "" for raw in said]
        return [
            id_
            for id_, name in zip(ids, names, strict=True)
            if folded in id_.casefold() or folded in name.casefold()
        ]

    async def _devices(self, ids: list[str]) -> list[Device]:
        """Those of the devices that the views have."""
        if not ids:
            return []
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zmscore(self._keys.last_seen, ids)
            pipeline.hmget(self._silent, ids)
            pipeline.hmget(self._clocks, ids)
            pipeline.hmget(self._care, ids)
            pipeline.hmget(self._names, ids)
            for device_id in ids:
                pipeline.hmget(
                    self._keys.device(device_id), "region", "sample_count", "online", "online_since"
                )
            scores, silent, clocks, cares, names, *hashes = await pipeline.execute()
        return [
            Device(
                device_id,
                region.decode() if region else None,
                int(score),
                int(messages or 0),
                int(since) if since else None,
                _clock(clock),
                care is not None,
                read_known(name),
                None if online is None else online == b"true",
                online_since.decode() if online_since else None,
            )
            for device_id, score, since, clock, care, name, (region, messages, online, online_since) in zip(
                ids, scores, silent, clocks, cares, names, hashes, strict=True
            )
            if score is not None
        ]


def _clock(told: bytes | None) -> ClockState | None:
    level = read_level(told)
    return CLOCKS[level.level] if level and level.level else None
