"""The limiter of the limits that are set now; when others are set, another takes its place as at a start."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from runtime.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from contract.events import EventBatch
    from projector.limits.limiter import Limiter
    from runtime.settings import Limit

_LAST_WORDS_S: Final = 5.0

log = structlog.get_logger()


class Limiters:
    """One after the other.

    Args:
        make: makes that of some limits.
        limits: that are set.
    """

    def __init__(self, make: Callable[[Sequence[Limit]], Limiter], limits: Sequence[Limit]) -> None:
        self._make = make
        self._limits = limits
        self._limiter = make(limits)
        self._changed = asyncio.Event()

    def take(self, rows: Sequence[EventBatch]) -> None:
        """Take consecutive rows of one stream."""
        self._limiter.take(rows)

    def change(self, limits: Sequence[Limit]) -> None:
        """Others are set."""
        self._limits = limits
        self._changed.set()

    async def run(self) -> NoReturn:
        """Watch until cancelled."""
        while True:
            await self._until_changed()
            with contextlib.suppress(Retry, TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._limiter.last_words()
            self._limiter = self._make(self._limits)
            log.info("limits_changed", limits=len(self._limits))

    async def last_words(self) -> None:
        """Tell what has been claimed.

        Raises:
            Retry: Redis is away.
        """
        await self._limiter.last_words()

    async def _until_changed(self) -> None:
        watching = asyncio.create_task(self._limiter.run(), name="limiter")
        changing = asyncio.create_task(self._changed.wait(), name="limits-changed")
        try:
            await asyncio.wait({watching, changing}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()  # of none it ends by itself
                await changing
            self._changed.clear()
        finally:
            watching.cancel()
            changing.cancel()
            await asyncio.wait({watching, changing})
