"""Something has changed: for tasks that wait until a state is as they need it."""

from __future__ import annotations

import asyncio


class Signal:
    """Wakes everybody who waits, and nobody who comes later."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def tell(self) -> None:
        """Something has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self) -> None:
        """Wait until something changes."""
        await self._changed.wait()
