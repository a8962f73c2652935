"""One look at the views and at a running projector, bounded whatever the number of devices.

Devices come from the sorted set, as many as are to be shown, from its silent or its fresh end. A filter on
their ids walks along it, `WALK` devices at most. Of regions, the first `REGIONS` by name.
"""

from __future__ import annotations

import asyncio
import http.client
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

import msgspec

from projector.lag import Lag
from projector.query import Queries
from projector.views import Views, answering
from runtime.settings import host_port

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

    from projector.query import RegionStats
    from projector.views import Cursor, Keys

Order = Literal["silent", "fresh"]

WALK: Final = 20_000
REGIONS: Final = 200
_PAGE: Final = 1000
_LAG_TIMEOUT_S: Final = 1.0


class Wanted(NamedTuple):
    """What to look at.

    Attributes:
        order: which end of the devices.
        part: of their ids, upper or lower case; empty: any.
        limit: devices to list.
        silent_ms: whoever has not been seen for so long counts as silent.
    """

    order: Order
    part: str
    limit: int
    silent_ms: int


class Device(NamedTuple):
    """A device as the list shows it."""

    device_id: str
    region: str | None
    last_seen_ms: int
    messages: int
    ahead_ms: int | None


class Look(NamedTuple):
    """What was seen.

    Attributes:
        clock_s: when, for rates.
        silent: how many devices are.
        ahead: how many devices' clocks are.
        walked: how many devices the filter looked at, when there were more; else None.
        lag: what the projector says; None when it does not answer, and `no_lag` says why.
    """

    at: datetime
    clock_s: float
    total: int
    silent: int
    ahead: int
    devices: list[Device]
    walked: int | None
    regions: list[RegionStats]
    cursors: dict[int, Cursor]
    lag: Lag | None
    no_lag: str | None


class Looker:
    """Looks.

    Args:
        address: host and port of the projector's HTTP server.
    """

    def __init__(self, redis: Redis, keys: Keys, address: str) -> None:
        self._redis = redis
        self._keys = keys
        self._queries = Queries(redis, keys)
        self._views = Views(redis, keys)
        self._address = address

    async def look(self, wanted: Wanted) -> Look:
        """Look once.

        Raises:
            Retry: Redis is away, or holds what is not ours.
        """
        asking = asyncio.create_task(asyncio.to_thread(_ask_lag, self._address), name="ask-lag")
        try:
            now = datetime.now(UTC)
            now_ms = int(now.timestamp() * 1000)
            with answering():
                total, silent, ahead = await self._counts(now_ms - wanted.silent_ms)
                members, walked = await self._members(wanted)
                devices = await self._devices(members)
            regions = (await self._queries.regions(limit=REGIONS)).regions
            cursors = await self._views.marks()
            clock_s = time.monotonic()
            lag, no_lag = await asking
        finally:
            asking.cancel()
        more = walked if walked < total and len(devices) < wanted.limit else None
        return Look(now, clock_s, total, silent, ahead, devices, more, regions, cursors, lag, no_lag)

    async def _counts(self, silent_until_ms: int) -> tuple[int, int, int]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zcard(self._keys.last_seen)
            pipeline.zcount(self._keys.last_seen, "-inf", silent_until_ms)
            pipeline.zcard(self._keys.clock_ahead)
            total, silent, ahead = await pipeline.execute()
        return total, silent, ahead

    async def _members(self, wanted: Wanted) -> tuple[list[tuple[bytes, float]], int]:
        """Ids and times of the devices wanted, and how many were looked at for it."""
        part = wanted.part.lower()
        size = _PAGE if part else wanted.limit
        found: list[tuple[bytes, float]] = []
        walked = 0
        while len(found) < wanted.limit and walked < WALK:
            page = await cast(
                "Awaitable[list[tuple[bytes, float]]]",
                self._redis.zrange(
                    self._keys.last_seen,
                    walked,
                    walked + size - 1,
                    desc=wanted.order == "fresh",
                    withscores=True,
                ),
            )
            walked += len(page)
            found += [member for member in page if part in member[0].decode(errors="replace").lower()]
            if len(page) < size:
                break
        return found[: wanted.limit], walked

    async def _devices(self, members: list[tuple[bytes, float]]) -> list[Device]:
        ids = [member.decode(errors="backslashreplace") for member, _ in members]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for device_id in ids:
                pipeline.hmget(self._keys.device(device_id), "region", "sample_count", "clock_ahead_ms")
            hashes: list[Any] = await pipeline.execute()
        return [
            Device(
                device_id,
                region.decode() if region else None,
                int(score),
                int(messages or 0),
                int(ahead) if ahead else None,
            )
            for device_id, (_, score), (region, messages, ahead) in zip(ids, members, hashes, strict=True)
        ]


def _ask_lag(address: str) -> tuple[Lag | None, str | None]:
    host, port = host_port(address)
    connection = http.client.HTTPConnection(host, port, timeout=_LAG_TIMEOUT_S)
    try:
        connection.request("GET", "/lag")
        answer = connection.getresponse()
        return msgspec.json.decode(answer.read(), type=Lag), None
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        return None, f"{address}: {' '.join(str(error).split()) or type(error).__name__}"
    finally:
        connection.close()
