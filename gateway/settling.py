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

The chore rests as long as it works: it takes half a core of the server at most. After each day it asks again
which are left, so neither late rows nor newer days wait for all of them.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from gateway.days import Days, in_pieces, rest
from gateway.stride import LONGEST_S, Stride
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from datetime import datetime

    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")

SETTLED_AFTER: Final = timedelta(hours=6)  # from the end of a day; what comes later costs more than it did

_PIECE_ROWS: Final = 50_000


async def settle(connection: Connection, now: datetime, retention: timedelta | None) -> int:
    """Settle what days are over, the newest first, and fold what came late.

    Args:
        connection: of nobody else meanwhile; one gateway at a time.
        now: by the gateway's clock; the server's counts when it is behind.
        retention: of measurements; days that are older are left to it.

    Returns:
        How many days were settled now.

    Raises:
        Retry: some could not be, which the log names; all others were.
    """
    began = time.monotonic()
    days = Days("settling")
    for row in await connection.fetch(queries.forgotten_days):
        await days.work(row["name"], in_pieces(connection, queries.forget_day, row["name"], _PIECE_ROWS))
    settled = 0
    tried: list[str] = []
    while True:
        for row in await connection.fetch(queries.days_with_late_rows):
            if row["name"] not in days.failed:
                fold = in_pieces(connection, queries.fold_late_measurements, row["name"], _PIECE_ROWS)
                await days.work(row["name"], fold)
        at = now + timedelta(seconds=time.monotonic() - began)
        day = await connection.fetchrow(queries.day_to_settle, at, SETTLED_AFTER, retention, tried)
        if day is None:
            break
        tried.append(day["name"])
        settled += await days.work(day["name"], _settle(connection, day["name"], begun=day["begun"]))
    days.end()
    return settled


async def _settle(connection: Connection, name: str, *, begun: bool) -> int:
    """Add up a day from where it was left; 1 when it has been settled now."""
    state: str | None = "begun"
    if not begun:
        state = await connection.fetchval(queries.begin_day, name)
    stride = Stride()
    while state == "begun":
        began = time.monotonic()
        try:
            state = await connection.fetchval(queries.settle_blocks, name, stride.blocks, timeout=LONGEST_S)
        except TimeoutError:
            if not stride.shorten():
                raise
            continue
        stride.took(time.monotonic() - began)
        await rest(began)
    if state is None:
        return 0
    log.info("day_settled" if state == "settled" else "day_left_as_it_is", partition=name)
    return 1
