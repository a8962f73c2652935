"""Devices that have been silent for longer than `projector.expire_devices_after` leave the views.

Their hash and their place among the last-seen times go; the regions keep what they contributed and go on
counting them. What stays of a device is its entry in `projector:expired`, with its region and when it was
last seen, and its marks: when it sends again it is where it was, its last values keep their order, and only
its own statistics begin anew. The entry stays then, empty, as they do not say all that it ever sent.
PostgreSQL keeps everything, so a rebuild brings the whole statistics back, of all devices, until the silent
ones expire again.

Silent means that no message came, not that the times in them are old: a device with a wrong clock that goes
on sending stays. And it means that others did come: time is what the newest row in the views says, nobody
expires while the views are behind, and after half a period without any row the period begins anew. So an
outage of projector, gateway or broker makes nobody silent. Of several gateways one that is away is not told
from devices that are.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Final, NoReturn, cast
from uuid import uuid4

import structlog

from contract.events import format_time
from projector.views import Views, answering
from runtime.errors import Retry
from runtime.lifecycle import keep_trying

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from projector.meters import Meters
    from projector.views import Keys
    from runtime.http import Health

DEVICES_A_CALL: Final = 500  # a few milliseconds of Redis
PAUSE_S: Final = 1.0  # between two calls, each of which has the projector read again what it writes
BEHIND_S: Final = 60.0  # the views are behind from here on

_SHORTEST_S: Final = 10.0
_LONGEST_S: Final = 3600.0
_LOOKS: Final = 360  # while a device is silent for long enough, within these bounds

_FOR_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SCRIPT: Final = resources.files("projector.expiry").joinpath("devices.lua").read_text(encoding="utf-8")

log = structlog.get_logger()


class Expiry:
    """Expires the devices of one set of views.

    Args:
        after_s: for how long a device is silent before it goes, in seconds.
        meters: know how far the views are behind.
        now: the time by which the views are changed.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        after_s: float,
        health: Health,
        meters: Meters,
        now: Callable[[], datetime],
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._steady = f"{keys.prefix}projector:steady"
        self._views = Views(redis, keys)
        self._after = timedelta(seconds=after_s)
        self._health = health
        self._meters = meters
        self._now = now
        self._script = redis.register_script(_SCRIPT)

    async def run(self) -> NoReturn:
        """Expire until cancelled."""
        while True:
            await keep_trying("redis", self.turn, self._health)
            await asyncio.sleep(min(_LONGEST_S, max(_SHORTEST_S, self._after.total_seconds() / _LOOKS)))

    async def turn(self) -> int:
        """Look through the silent devices once; returns how many have gone.

        Raises:
            Retry: Redis is away.
        """
        gone = skipped = 0
        newest = await self._newest()
        if newest is None or newest - await self._steady_since(newest) < self._after:
            return 0
        before = newest - self._after
        before_ms = int(before.timestamp() * 1000)
        try:
            with answering():
                while ids := await self._silent(before_ms, skipped):
                    expired = await self._expire(before_ms, ids)
                    gone += expired
                    skipped += len(ids) - expired
                    await asyncio.sleep(PAUSE_S)
        finally:
            if gone:
                self._meters.expired.inc(gone)
                log.info("devices_expired", devices=gone, silent_since=format_time(before))
        return gone

    async def _newest(self) -> datetime | None:
        """When the newest row in the views was written, at most now; None when they are behind."""
        freshness, now = self._meters.freshness(), self._now()
        if freshness.as_of is None or freshness.behind_seconds > BEHIND_S:
            return None
        if now - datetime.fromisoformat(freshness.as_of) > timedelta(seconds=BEHIND_S):
            return None
        written = [cursor.written_at for cursor in (await self._views.marks()).values() if cursor.written_at]
        return min(now, datetime.fromisoformat(max(written))) if written else None

    async def _steady_since(self, newest: datetime) -> datetime:
        """Since when rows have come without a pause of half a period; for ever, where no pause was seen."""
        with answering():
            known = cast("list[bytes | None]", await self._redis.hmget(self._steady, ["seen", "since"]))
            try:
                seen, since = (datetime.fromisoformat(time.decode()) if time else None for time in known)
                paused = seen is not None and newest - seen > self._after / 2
            except (ValueError, TypeError) as error:
                raise Retry("redis", f"{self._steady} holds what is none of ours: {error}") from error
            if paused or since is None:
                since = newest if paused else _FOR_EVER
            times: list[str | int] = ["seen", format_time(newest), "since", format_time(since)]
            await self._redis.hset(self._steady, items=times)
        return since

    async def _silent(self, before_ms: int, skip: int) -> list[bytes]:
        """The next devices whose newest message is old, by rank: a walk by score counts from the start."""
        found = await self._redis.zrange(
            self._keys.last_seen, skip, skip + DEVICES_A_CALL - 1, withscores=True
        )
        return [id_ for id_, score in cast("list[tuple[bytes, float]]", found) if score < before_ms]

    async def _expire(self, before_ms: int, ids: list[bytes]) -> int:
        keys = self._keys
        names: list[str | bytes] = [keys.epoch, keys.last_seen, keys.clock_ahead, keys.expired]
        names += [keys.devices.encode() + id_ for id_ in ids]
        return int(
            await cast("Awaitable[int]", self._script(names, [str(before_ms), f"expiry:{uuid4().hex}", *ids]))
        )
