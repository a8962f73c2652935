"""What keeps message keys, outbox and dead letters in bounds: each a piece at a time, each piece kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg
import structlog

from runtime.postgres import load_queries

if TYPE_CHECKING:
    from datetime import timedelta

    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")

_PIECE_ROWS: Final = 500  # of the outbox, up to a megabyte each
_PIECE_LETTERS: Final = 5_000
_PIECE_CHANGES: Final = 50_000


class Evicted(NamedTuple):
    """Dead letters removed for want of room."""

    letters: int
    bytes: int


async def turn_dedup(connection: Connection, window: timedelta) -> bool:
    """Turn the dedup window when it is time, and tell whether it did.

    Whoever reads the keys, a dump for instance, postpones it: every batch would wait behind the turn.
    """
    try:
        turned = bool(await connection.fetchval(queries.turn_dedup, window))
    except asyncpg.LockNotAvailableError:
        log.info("dedup_turn_postponed", reason="message keys are in use")
        return False
    if turned:
        log.info("dedup_window_turned")
    return turned


async def trim_outbox(connection: Connection, retention: timedelta) -> int:
    """Remove outbox rows of every stream that all projections have and that are old enough.

    Returns:
        How many streams had some.
    """
    trimmed = 0
    for row in await connection.fetch(queries.outbox_streams):
        after = 0
        while n := await connection.fetchval(
            queries.trim_outbox, row["stream"], retention, after, _PIECE_ROWS
        ):
            after = n
        trimmed += bool(after)
    return trimmed


async def evict_dead_letters(connection: Connection, max_letters: int, max_bytes: int) -> Evicted:
    """Remove dead letters beyond the bounds: of the sender that has most, its oldest."""
    while await connection.fetchval(queries.fold_dead_letter_changes, _PIECE_CHANGES) == _PIECE_CHANGES:
        pass
    letters = size = 0
    while (
        piece := await connection.fetchrow(queries.evict_dead_letters, max_letters, max_bytes, _PIECE_LETTERS)
    ) and piece["letters"]:
        letters += piece["letters"]
        size += piece["bytes"]
    if letters:
        log.warning("dead_letters_evicted", letters=letters, bytes=size)
    return Evicted(letters, size)
