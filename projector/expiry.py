"""Devices that have been silent for longer than `projector.expire_devices_after` leave the views.

Their hash and their place among the last-seen times go; the regions keep what they contributed and go on
counting them. What stays of a device is its entry in `projector:expired`, with its region and when it was
last seen, and its marks: when it sends again it is where it was, its last values keep their order, and only
its own statistics begin anew. PostgreSQL keeps everything, so a rebuild brings the whole statistics back, of
all devices, until the silent ones expire again.

Silent means that no message came, not that the times in them are old: a device with a wrong clock that goes
on sending stays.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Final, NoReturn, cast

import structlog

from projector.views import answering
from runtime.lifecycle import keep_trying

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from projector.meters import Meters
    from projector.views import Keys
    from runtime.http import Health

DEVICES_A_CALL: Final = 500  # a few milliseconds of Redis
EVERY_S: Final = 60.0

_SCRIPT: Final = resources.files("projector").joinpath("expire.lua").read_text(encoding="utf-8")

log = structlog.get_logger()


class Expiry:
    """Expires the devices of one set of views.

    Args:
        after_s: for how long a device is silent before it goes, in seconds.
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
        self._after = timedelta(seconds=after_s)
        self._health = health
        self._meters = meters
        self._now = now
        self._script = redis.register_script(_SCRIPT)

    async def run(self) -> NoReturn:
        """Expire until cancelled."""
        while True:
            await keep_trying("redis", self.turn, self._health)
            await asyncio.sleep(EVERY_S)

    async def turn(self) -> int:
        """Look through the silent devices once; returns how many have gone.

        Raises:
            Retry: Redis is away.
        """
        before_ms = int((self._now() - self._after).timestamp() * 1000)
        gone = skipped = 0
        with answering():
            while ids := await self._silent(before_ms, skipped):
                expired = await self._expire(before_ms, ids)
                gone += expired
                skipped += len(ids) - expired
        if gone:
            self._meters.expired.inc(gone)
            before = datetime.fromtimestamp(before_ms / 1000, UTC).isoformat()
            log.info("devices_expired", devices=gone, silent_since_before=before)
        return gone

    async def _silent(self, before_ms: int, skip: int) -> list[bytes]:
        return cast(
            "list[bytes]",
            await self._redis.zrange(
                self._keys.last_seen,
                cast("int", "-inf"),
                cast("int", f"({before_ms}"),
                byscore=True,
                offset=skip,
                num=DEVICES_A_CALL,
            ),
        )

    async def _expire(self, before_ms: int, ids: list[bytes]) -> int:
        keys = self._keys
        names: list[str | bytes] = [keys.epoch, keys.last_seen, keys.expired]
        names += [keys.devices.encode() + id_ for id_ in ids]
        return int(await cast("Awaitable[int]", self._script(names, [str(before_ms), *ids])))
