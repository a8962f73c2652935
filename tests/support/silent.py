"""Devices that fell silent while a projector watched that is not there any more."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import asyncpg
from redis.asyncio import Redis

if TYPE_CHECKING:
    from collections.abc import Mapping


async def leave_silent(
    devices: Mapping[str, int], *, postgres_dsn: str, redis_url: str, prefix: str = ""
) -> None:
    """Leave devices as the watch leaves silent ones; to be called before a projector starts.

    Args:
        devices: that have sent, and are stored or about to be → minutes since their last message.
        postgres_dsn: where they are stored.
        redis_url: where the watch writes down who is silent.
        prefix: of its keys there.
    """
    connection = await asyncpg.connect(postgres_dsn)
    known = "SELECT count(*) FROM devices WHERE device_id = ANY($1::text[])"
    async with asyncio.timeout(20):
        while await connection.fetchval(known, list(devices)) < len(devices):  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.05)
    await connection.close()
    now = int(time.time())
    async with Redis.from_url(redis_url) as redis:
        for device, minutes in {"": 1440, **devices}.items():
            await redis.hset(f"{prefix}projector:silent", device, str(now - 60 * minutes))
