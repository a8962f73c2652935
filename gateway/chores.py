"""Chores: periodic work beside the path, each with its interval and time-out, each failing by itself.

A chore that fails is told once, and once a minute while its reason stays, and tried again at its next turn.
It makes nobody wait and nothing unready: what the path needs of PostgreSQL the path itself finds out. While
the path waits for PostgreSQL chores are silent. Only `Stop` leaves.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from runtime.errors import EdgeError, Retry, Stop
from runtime.lifecycle import every
from runtime.logs import one_line
from runtime.postgres import ERRORS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from runtime.http import Health

log = structlog.get_logger()

_REMIND_S: Final = 60.0


class Chore(NamedTuple):
    """One of them.

    Attributes:
        name: a word, for log and metrics.
        interval_s: from one turn's start to the next's.
        timeout_s: of a turn.
        turn: does it once.
        at_once: whether the first turn is at the start, not an interval later.
    """

    name: str
    interval_s: float
    timeout_s: float
    turn: Callable[[], Awaitable[object]]
    at_once: bool = False


@dataclass
class Record:
    """How a chore has been doing.

    Attributes:
        failures: turns that failed.
        failing_since: of a monotonic clock; None when its last turn went well.
        reason: why the last failure was; empty when there was none since.
    """

    failures: int = 0
    failing_since: float | None = None
    reason: str = ""
    told_at: float = 0.0

    def failing_s(self, now: float) -> float:
        """For how long it has not been done."""
        return 0.0 if self.failing_since is None else now - self.failing_since


class Chores:
    """Does chores until cancelled.

    Attributes:
        records: by chore.
    """

    def __init__(
        self,
        chores: Sequence[Chore],
        health: Health,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.records = {chore.name: Record() for chore in chores}
        self._chores = chores
        self._health = health
        self._monotonic = monotonic

    async def run(self) -> None:
        """Do each at its interval."""
        stop = asyncio.Event()  # never set: whoever runs this cancels it
        async with asyncio.TaskGroup() as tasks:
            for chore in self._chores:
                turns = every(
                    chore.interval_s,
                    partial(self.turn, chore),
                    stop=stop,
                    name=chore.name,
                    at_once=chore.at_once,
                )
                tasks.create_task(turns, name=chore.name)

    async def turn(self, chore: Chore) -> None:
        """Do one once, however it ends.

        Raises:
            Stop: from the chore.
        """
        record = self.records[chore.name]
        try:
            async with asyncio.timeout(chore.timeout_s) as limit:
                await chore.turn()
        except Stop:
            raise
        except Exception as error:  # noqa: BLE001  # a defect of a chore stops no intake either
            reason = f"not done within {chore.timeout_s:g} s" if limit.expired() else _reason(error)
            self._failed(chore, record, reason, error)
        else:
            if record.failing_since is not None:
                log.info("chore_works_again", chore=chore.name)
            record.failing_since, record.reason = None, ""

    def _failed(self, chore: Chore, record: Record, reason: str, error: Exception) -> None:
        if self._health.is_away("postgres"):
            return  # the path says so
        now = self._monotonic()
        record.failures += 1
        if record.failing_since is None:
            record.failing_since = now
        if reason != record.reason or now - record.told_at >= _REMIND_S:
            known = isinstance(error, (EdgeError, *ERRORS))
            log.warning("chore_failed", chore=chore.name, reason=reason, exc_info=None if known else error)
            record.reason, record.told_at = reason, now


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, Retry) else one_line(error)
