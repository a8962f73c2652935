"""Chores that go through days: in pieces, with a rest after each, and one day that fails stops no other."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from gateway.stride import LONGEST_S
from runtime.errors import Retry
from runtime.logs import one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from runtime.postgres import Connection

log = structlog.get_logger()

_REST: Final = 1.0  # of the time that a piece took


async def rest(since: float) -> None:
    """Rest as long as the work has taken that began then, by `time.monotonic`."""
    await asyncio.sleep((time.monotonic() - since) * _REST)


async def in_pieces(connection: Connection, query: str, name: str, piece: int) -> int:
    """Do what a query does to up to `piece` rows of a day, until there were fewer.

    Returns:
        How many there were.
    """
    done = 0
    while True:
        began = time.monotonic()
        rows: int = await connection.fetchval(query, name, piece, timeout=LONGEST_S)
        done += rows
        if rows < piece:
            return done
        await rest(began)


class Days:
    """One turn of a chore.

    Attributes:
        failed: day → why.

    Args:
        chore: what it does, as in `settling_postponed` and `settling_failed`.
    """

    def __init__(self, chore: str) -> None:
        self._postponed, self._failing = f"{chore}_postponed", f"{chore}_failed"
        self.failed: dict[str, str] = {}

    async def work(self, name: str, work: Awaitable[int]) -> int:
        """Do the work on a day, and say how much it was; 0 when somebody is in the way, or when it fails."""
        try:
            return await work
        except asyncpg.LockNotAvailableError:
            log.info(self._postponed, partition=name, reason="it is in use")
        except (asyncpg.PostgresError, TimeoutError) as error:
            self.failed[name] = one_line(error)
            log.warning(self._failing, partition=name, reason=self.failed[name])
        return 0

    def end(self) -> None:
        """Say what failed.

        Raises:
            Retry: something did.
        """
        for name, reason in self.failed.items():
            raise Retry("postgres", f"{name}: {reason} ({len(self.failed)} of the days failed)")
