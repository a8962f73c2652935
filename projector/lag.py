"""How long events take to each step of their path, and how far the views are behind. Pure.

The projector sees the whole path of a row: when its newest event happened by the device's clock, when the
gateway received it, when the row was committed, when it came through the topic, and when it was in the
views. Each step's lag is what it took from the step before. Clocks are those of device, gateway, PostgreSQL
and projector, so a lag can be negative by what they differ.
"""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import msgspec

from contract.events import format_time
from contract.order import is_time

if TYPE_CHECKING:
    from contract.events import EventBatch

STEPS: Final = ("received", "committed", "published", "projected")


class Times(msgspec.Struct, frozen=True):
    """When an event was where, in the contract's form.

    Attributes:
        event: by the device's clock.
        published: when its row came from the topic; None when the row was read from PostgreSQL.
        projected: when it was in the views.
    """

    event: str
    received: str
    committed: str
    published: str | None
    projected: str

    def lags(self) -> dict[str, float | None]:
        """Step → seconds since the step before; None for a step that was skipped."""
        lags: dict[str, float | None] = {}
        before = datetime.fromisoformat(self.event)
        for step in STEPS:
            text: str | None = getattr(self, step)
            if text is None:
                lags[step] = None
                continue
            at = datetime.fromisoformat(text)
            lags[step] = (at - before).total_seconds()
            before = at
        return lags


class HistoryLag(msgspec.Struct, frozen=True):
    """Where history (minutes and hours in PostgreSQL) stands on a stream, when last looked.

    Attributes:
        cursor: the last row in it.
        behind_rows: committed rows that it does not have.
        behind_seconds: for how long it has lacked the oldest of them; up to 75 is as it should be.
    """

    cursor: int
    behind_rows: int
    behind_seconds: float


class StreamLag(msgspec.Struct, frozen=True):
    """Where a stream stands.

    Attributes:
        head: the last row committed, when last looked.
        cursor: the last row in the views.
        behind_rows: committed rows that the views do not have.
        behind_seconds: for how long they have lacked the oldest of them; 0 without one.
        lag_seconds: step → seconds, of the newest event of the last row applied; None before the first.
        newest: when that event was where.
        history: None before it was first looked at.
        events: applied by this process since it started.
    """

    stream: int
    head: int
    cursor: int
    behind_rows: int
    behind_seconds: float
    lag_seconds: dict[str, float | None] | None
    newest: Times | None
    history: HistoryLag | None
    events: int


class Freshness(msgspec.Struct, frozen=True):
    """How current the views, or history, are; goes with every answer that comes from them.

    Attributes:
        as_of: when they were last compared with what PostgreSQL has committed, every stream of it, ISO 8601
            UTC; null before the first time. It stands still while PostgreSQL is away.
        behind_rows: committed rows of the outbox that they did not have then.
        behind_seconds: for how long they had lacked the oldest of these; 0 without one.
    """

    as_of: str | None
    behind_rows: int
    behind_seconds: float


class DeviceCounts(msgspec.Struct, frozen=True):
    """Devices by what the watch knows of them.

    Attributes:
        offline: those that said so themselves, as by a will; none of them is silent.
        clock_wrong: those neither muted nor retired whose clock is wrong.
        never_heard: devices that `gateway devices` has named and that never sent; in no other count.
    """

    ok: int
    silent: int
    unknown: int
    muted: int = 0
    retired: int = 0
    offline: int = 0
    clock_wrong: int = 0
    never_heard: int = 0


class Lag(msgspec.Struct, frozen=True):
    """Every stream of which it is known where the views stand, in order.

    Attributes:
        devices: null before the watch has begun; those for which it has no room are in none of these counts.
    """

    streams: list[StreamLag]
    views: Freshness
    devices: DeviceCounts | None = None


def times_of(row: EventBatch, arrived_at: datetime | None, now: datetime) -> Times | None:
    """When the newest event of a row that has just been applied was where; None when nobody can tell."""
    newest = max(row.events, key=attrgetter("ts"), default=None)
    if newest is None or not (is_time(newest.ts) and is_time(newest.received_at)):
        return None
    return Times(
        event=newest.ts,
        received=newest.received_at,
        committed=row.created_at,
        published=format_time(arrived_at) if arrived_at else None,
        projected=format_time(now),
    )
