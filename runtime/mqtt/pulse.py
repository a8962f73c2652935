"""Keep-alive of one connection: pings, and the end of one on which nothing comes any more.

A ping leaves every half keepalive, and three of those without any packet are the end. Counting intervals
instead of seconds keeps a busy event loop from looking like a dead broker.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_SILENT_TICKS: Final = 3


class Pulse:
    """Beats from `start` to `stop`.

    Args:
        keepalive_s: 0 is none.
        ping: writes PINGREQ.
        dead: called with the reason when nothing has come for too long.

    Attributes:
        keepalive_s: the broker may set it before the start (MQTT5 §3.2.2.3.14).
        deaf: we do not read, so silence means nothing.
    """

    def __init__(self, keepalive_s: int, ping: Callable[[], None], dead: Callable[[str], None]) -> None:
        self.keepalive_s = keepalive_s
        self.deaf = False
        self._ping = ping
        self._dead = dead
        self._silent_ticks = 0
        self._timer: asyncio.TimerHandle | None = None

    def heard(self) -> None:
        """Something has come."""
        self._silent_ticks = 0

    def start(self) -> None:
        """Begin, or wait for the next beat."""
        if self.keepalive_s:
            self._timer = asyncio.get_running_loop().call_later(self.keepalive_s / 2, self._tick)

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._silent_ticks = 0 if self.deaf else self._silent_ticks + 1
        if self._silent_ticks >= _SILENT_TICKS:
            self._dead(f"no packet for {self.keepalive_s * _SILENT_TICKS / 2:g} s")
        else:
            self._ping()
            self.start()
