"""Both sides of the house, played: rows committed as the gateway does, and applied as the projector does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import msgspec

from contract.events import Event, Scalar, format_time
from projector.repair.rebuild import Rebuilder
from projector.repair.verify import Verification, Verifier
from projector.views import Keys, Outcome, Run, Views
from tests.support.committed import Committed

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from contract.events import EventBatch
    from projector.repair.replica import Progress
    from tests.support.roles import Pools

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEYS = Keys("p*:")  # a prefix that a pattern would take for something else


class Side(Committed):
    """A database and the views of it.

    Attributes:
        now: the time by which views are changed.
    """

    def __init__(self, pools: Pools, redis: Redis, keys: Keys = KEYS) -> None:
        super().__init__(pools)
        self.redis = redis
        self.views = Views(redis, keys)
        self.rebuilder = Rebuilder(redis, pools.projector, keys, lambda: self.now)
        self._set = keys
        self.now = NOW

    async def apply(self, *events: Event) -> None:
        """Commit a row and apply it."""
        await self.apply_row(await self.commit(*events))

    async def apply_row(self, row: EventBatch) -> Outcome:
        """Apply a row."""
        run = Run(row.stream, row.epoch, row.n, row.n, row.events, format_time(self.now))
        return await self.views.apply(run, self.now)

    async def verify(self, folding: Progress | None = None, limit: int = 20) -> Verification:
        """Verify the views."""
        verifier = Verifier(self.redis, self.pools.projector, self._set, lambda: self.now, limit=limit)
        return await verifier.verify(folding or quiet, quiet)

    async def keys(self) -> set[str]:
        """Every key but those of the live views."""
        live = (KEYS.devices, KEYS.regions, *KEYS.fixed)
        found = {raw.decode() for raw in cast("list[bytes]", await self.redis.keys())}
        return {key for key in found if not key.startswith(live)}


def said(device: str, second: int, *, online: bool) -> Event:
    """A message at a second past nine that says whether its device is online."""
    return msgspec.structs.replace(event(device, second, online=online), online=online)


def event(device: str, second: int, *, region: str | None = "north", **metrics: Scalar) -> Event:
    """An event at a second past nine."""
    ts = f"2026-11-23T09:00:{second:02d}.250000Z"
    return Event(device, region, ts, "2026-11-23T09:01:00.000000Z", f"k\\{second}", metrics)


def quiet(_done: int, _of: int) -> None:
    """Show no progress."""
