"""Devices that fell silent while a projector watched that is not there any more."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import asyncpg
from redis.asyncio import Redis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtime.settings import Settings


async def leave_silent(settings: Settings, devices: Mapping[str, int]) -> None:
    """Leave devices as the watch leaves silent ones; to be called before a projector starts.

    Args:
        settings: say where.
        devices: that have sent, or are about to be stored → minutes since their last message.
    """
    connection = await asyncpg.connect(settings.postgres.dsn)
    known = "SELECT count(*) FROM devices WHERE device_id = ANY($1::text[])"
    async with asyncio.timeout(20):
        while await connection.fetchval(known, list(devices)) < len(devices):  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.05)
    await connection.close()
    now = int(time.time())
    async with Redis.from_url(settings.redis.url) as redis:
        for device, minutes in {"": 1440, **devices}.items():
            await redis.hset(f"{settings.redis.prefix}projector:silent", device, str(now - 60 * minutes))
