"""Days that are over: what each amounts to, worked out once, beside a running path.

A rebuild of the views then reads a few numbers for each device and day, and not every measurement. Which is
only right if nothing is read twice and nothing is missed. Before a day is added up a trigger is set on its
partition, and on no other: it notes what still comes, a copy of each row with its place. That takes a lock
for a moment, which waits for those who write to this very day, or gives up after 100 ms; so whatever is in
the partition is visible to all from then on, or noted. A piece of the day, a run of blocks, is added up by
one statement that also removes the copies of those rows that it sees. Whatever copies are left are of rows
that no piece has seen. With its last piece, in the same transaction, the day is settled.

So who reads `retired_statistics`, statistics and copies of settled days, and the rows of all others in one
snapshot has each measurement once, wherever a gateway was killed. Copies are folded into the statistics
later. Rows that are changed or removed by hand make a day begin anew, and so does a table that was rewritten.

The chore rests as long as it works: it takes half a core of the server at most.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from gateway.stride import LONGEST_S, Stride
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import datetime

    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")

SETTLED_AFTER: Final = timedelta(hours=6)  # from the end of a day; what comes later costs more than it did

_PIECE_ROWS: Final = 50_000
_REST: Final = 1.0  # of the time that a piece took


async def settle(connection: Connection, now: datetime, retention: timedelta | None) -> int:
    """Settle what days are over, the newest first, and fold what came late.

    Args:
        connection: of nobody else meanwhile; one gateway at a time.
        now: by the gateway's clock; the server's counts when it is behind.
        retention: of measurements; days that are older are left to it.

    Returns:
        How many days were settled now.
    """
    await connection.execute(queries.forget_days)
    for row in await connection.fetch(queries.days_with_late_rows):
        await _or_later(row["name"], _fold(connection, row["name"]))
    settled = 0
    for row in await connection.fetch(queries.days_to_settle, now, SETTLED_AFTER, retention):
        settled += await _or_later(row["name"], _settle(connection, row["name"], begun=row["begun"]))
    return settled


async def _or_later(name: str, work: Awaitable[int]) -> int:
    try:
        return await work
    except asyncpg.LockNotAvailableError:
        log.info("settling_postponed", partition=name, reason="it is in use")
        return 0


async def _fold(connection: Connection, name: str) -> int:
    """Fold what came late to a settled day, until there is nothing more."""
    folded = 0
    while rows := await connection.fetchval(
        queries.fold_late_measurements, name, _PIECE_ROWS, timeout=LONGEST_S
    ):
        folded += rows
    return folded


async def _settle(connection: Connection, name: str, *, begun: bool) -> int:
    """Add up a day from where it was left; 1 when it has been settled now."""
    if not begun:
        await connection.execute(queries.begin_day, name)
    stride = Stride()
    state: str | None = "begun"
    while state == "begun":
        began = time.monotonic()
        try:
            state = await connection.fetchval(queries.settle_blocks, name, stride.blocks, timeout=LONGEST_S)
        except TimeoutError:
            if not stride.shorten():
                raise
            continue
        stride.took(took_s := time.monotonic() - began)
        await asyncio.sleep(took_s * _REST)
    if state is None:
        return 0
    log.info("day_settled" if state == "settled" else "day_left_as_it_is", partition=name)
    return 1
