"""Parts of the write side for tests that look at one step."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg

from gateway.beside import Beside
from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.routes import compile_routes
from gateway.devices import DeviceTracker
from gateway.lease import Lease
from gateway.slot import Slot
from gateway.sparkplug.keeper import Keeper
from gateway.store import SESSION_SETTINGS, Store
from runtime.http import Health
from runtime.postgres import open_pool
from runtime.settings import Route
from tests.support.roles import as_kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOW = datetime(2026, 11, 23, 9, 0, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Delivered:
    """A delivery as the decoder sees one."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    duplicate: bool = False
    user_properties: tuple[tuple[str, str], ...] = ()


def decode(
    *payloads: bytes, device: str = "a1", route: Route | None = None
) -> tuple[list[Reading], list[Rejection]]:
    """Decode payloads of one device at a fixed time."""
    decoder = Decoder(compile_routes([route or Route()]), Limits())
    readings: list[Reading] = []
    rejections: list[Rejection] = []
    for payload in payloads:
        for item in decoder.decode(Delivered(f"devices/{device}/telemetry", payload), Received.of(NOW)):
            if isinstance(item, Rejection):
                rejections.append(item)
            else:
                readings.append(item)
    return readings, rejections


@dataclass
class WriteSide:
    """A store on a database, with what a test may want to hold.

    Attributes:
        pool: the store's, whose role has a gateway's rights and no others.
        owner: for what a test does as the owner of the tables.
    """

    pool: asyncpg.Pool[asyncpg.Record]
    owner: asyncpg.Pool[asyncpg.Record]
    lease: Lease
    store: Store
    devices: DeviceTracker


@asynccontextmanager
async def write_side(
    dsn: str, stream: int = 0, *, calls: bool | None = None, max_size: int = 4
) -> AsyncIterator[WriteSide]:
    """A store that holds a stream of a migrated database, and has a gateway's rights there.

    Args:
        dsn: the database, as its owner.
        stream: to hold.
        calls: whether each batch is one call or none is; by itself the store chooses.
        max_size: most connections.
    """
    health = Health()
    own = as_kind(dsn, "gateway")
    lease = Lease(own, slot=Slot(stream, f"test-{stream}", "b:1"), health=health)
    await lease.acquire()
    devices = DeviceTracker(10.0)
    async with (
        await open_pool(own, name="test", max_size=max_size, settings=SESSION_SETTINGS) as pool,
        asyncpg.create_pool(dsn, min_size=0, max_size=2) as owner,
    ):
        keeper = Beside(Keeper(stream), stream)
        store = Store(pool, lease=lease, devices=devices, health=health, keeper=keeper)
        if calls is not None:
            store.in_one_call = lambda _: calls
        yield WriteSide(pool, owner, lease, store, devices)
    await lease.release()
