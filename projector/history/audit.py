"""Compares history with the measurements, and mends it, a row at a time where it is wrong.

Measurements, outbox and history lie in one database, so one snapshot of it settles the question while
everything goes on: history must be what the measurements amount to, but for the events of outbox rows after
its cursor, which are decoded and left out. The sums are made by PostgreSQL from the measurements, a day at a
time, apart from how the projector makes them from events.

Only what can be known is compared: days since the newest whose measurements have been retired, and of each
resolution what is kept. Older history stays as it is; nothing could make it anew.

Outbox rows that cannot be had, or hold no events, make a comparison impossible. A rebuild needs none of them:
measurements are the truth, and it puts the cursors at the heads.

A rebuild does the same and then replaces the rows that differ, in one transaction: readers see the old ones
until all are right, rows that are right are not written, and a rebuild that is killed has changed nothing.
Meanwhile the recorder waits for the lock, and then for nothing more than its cursor.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from projector.outbox import Outbox, answering, queries
from projector.repair.compare import Difference, Findings
from runtime import faults
from runtime.errors import Reject, Stop
from runtime.postgres import lent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import asyncpg

    from runtime.postgres import Connection

    Progress = Callable[[int, int], None]

PAGE_EVENTS: Final = 4000
_LONGEST_S: Final = 6 * 3600.0  # one statement over a day of a billion values

log = structlog.get_logger()


class Audit(Findings):
    """What was found, and with a rebuild put right.

    Attributes:
        rows: of minutes and hours that there should be.
        days: that were looked at.
    """

    rows: int = 0
    days: int = 0


class Auditor:
    """Audits the history of one database."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def verify(self, progress: Progress, *, limit: int) -> Audit:
        """Compare history with the measurements, keeping the first `limit` differences.

        Raises:
            Stop: history cannot go on from its cursor; it says why.
            Retry: PostgreSQL is away.
        """
        async with self._snapshot(locked=False) as connection:
            cursors = await _read_cursors(connection)
            if why := await _note_pending(connection, cursors):
                raise Stop(f"history cannot go on: {why}; `projector rebuild --only history` mends it")
            return await _audit(connection, cursors, progress, limit=limit, mend=False)

    async def rebuild(self, progress: Progress) -> Audit:
        """Put right what differs, and the cursors when history cannot go on from them.

        Raises:
            Retry: PostgreSQL is away; nothing has changed.
        """
        async with self._snapshot(locked=True) as connection:
            cursors = await _read_cursors(connection)
            if await _note_pending(connection, cursors):
                cursors = await _to_heads(connection)
            return await _audit(connection, cursors, progress, limit=0, mend=True)

    async def mend(self, reason: str) -> bool:
        """Rebuild if history cannot go on from its cursors; of several projectors one does it.

        Args:
            reason: why it seemed that it cannot, for the log.

        Raises:
            Retry: PostgreSQL is away; nothing has changed.
        """
        async with self._snapshot(locked=True) as connection:
            if not await _note_pending(connection, await _read_cursors(connection)):
                return False
            log.warning("history_mending", reason=reason)
            cursors = await _to_heads(connection)
            done = await _audit(connection, cursors, lambda _done, _of: None, limit=0, mend=True)
        log.info("history_rebuilt", rows=done.rows, days=done.days, seconds=done.seconds)
        return True

    @asynccontextmanager
    async def _snapshot(self, *, locked: bool) -> AsyncIterator[Connection]:
        with answering():
            async with (
                lent(self._pool) as connection,
                connection.transaction(isolation="repeatable_read"),
            ):
                if locked:
                    await connection.execute(queries.lock_history, timeout=_LONGEST_S)
                await connection.execute(queries.lock_history_truth)
                await connection.execute(queries.open_history_audit)
                yield connection


async def _read_cursors(connection: Connection) -> dict[int, int | None]:
    return {row["stream"]: row["n"] for row in await connection.fetch(queries.look_at_history)}


async def _to_heads(connection: Connection) -> dict[int, int | None]:
    await connection.execute(queries.forget_pending)
    await connection.execute(queries.set_history_cursors)
    return await _read_cursors(connection)


async def _note_pending(connection: Connection, cursors: dict[int, int | None]) -> str | None:
    """Note the events that history does not have yet; why that cannot be done when it cannot."""
    outbox = Outbox(connection, "history")
    positions = await outbox.positions()
    for stream, cursor in cursors.items():
        n, head = cursor or 0, positions[stream].head
        if n > head:
            return f"its cursor on stream {stream} is at {n}, beyond the last row, {head}"
        while n < head:
            try:
                rows = (await outbox.page(stream, n, PAGE_EVENTS)).rows
            except Reject as error:
                return error.detail
            if not rows or rows[0].n != n + 1:
                return f"rows of stream {stream} after its cursor, {n}, are not kept any more"
            events = [event for row in rows for event in row.events]
            await connection.execute(
                queries.add_pending,
                [event.device_id for event in events],
                [event.ts for event in events],
                [event.received_at for event in events],
                [event.key for event in events],
            )
            n = rows[-1].n
    return None


async def _audit(
    connection: Connection, cursors: dict[int, int | None], progress: Progress, *, limit: int, mend: bool
) -> Audit:
    loop = asyncio.get_running_loop()
    started = loop.time()
    result = Audit(cursors={stream: n or 0 for stream, n in cursors.items()})
    await connection.execute(queries.settle_pending)
    floor = await connection.fetchval(queries.history_floor)
    days = await connection.fetch(queries.history_days, floor)
    for result.days, day in enumerate(days, start=1):
        await connection.execute(queries.begin_audit_of_day)
        await connection.execute(queries.expect_history, *day, timeout=_LONGEST_S)
        await connection.execute(queries.compare_history, *day, timeout=_LONGEST_S)
        result.rows += await connection.fetchval(queries.count_expected)
        async for row in connection.cursor(queries.read_wrong):
            for difference in _differences(row):
                result.add(difference, limit)
        if mend:
            await connection.execute(queries.remove_wrong, timeout=_LONGEST_S)
            await connection.execute(queries.put_right, timeout=_LONGEST_S)
            await connection.execute(queries.without_jit)
            await connection.execute(queries.merge_late_minutes, timeout=_LONGEST_S)
            faults.point("rebuild")
        progress(result.days, len(days))
    if mend:
        await connection.execute(queries.forget_open_hours)
        await connection.execute(queries.make_hours, timeout=_LONGEST_S)
    result.seconds = round(loop.time() - started, 3)
    return result


def _differences(row: asyncpg.Record) -> list[Difference]:
    key = f"{row['place']} {row['id']} {row['metric']} {row['bucket']}"
    if row["found"] is None:
        return [Difference("missing", key, None, row["expected"], None)]
    if row["expected"] is None:
        return [Difference("extra", key, None, None, row["found"])]
    expected: dict[str, Any] = msgspec.json.decode(row["expected"])
    found: dict[str, Any] = msgspec.json.decode(row["found"])
    return [
        Difference("differs", key, name, _text(expected[name]), _text(found[name]))
        for name in expected
        if expected[name] != found[name]
    ]


def _text(value: Any) -> str | None:  # noqa: ANN401  # of JSON
    return None if value is None else str(value)
