"""Waiting for what other programs come to: the one place where a state is asked for again and again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

INTERVAL_S = 0.1


async def until(ask: Callable[[], Awaitable[str]], *, within_s: float) -> float:
    """Ask until the answer is empty; anything else says what is still missing.

    Returns:
        How long it took, in seconds.

    Raises:
        AssertionError: it was not so in time; with the last answer.
    """
    started = time.monotonic()
    while missing := await ask():
        waited = time.monotonic() - started
        assert waited < within_s, f"after {waited:.1f} s still: {missing}"
        await asyncio.sleep(max(INTERVAL_S, waited / 20))
    return time.monotonic() - started
