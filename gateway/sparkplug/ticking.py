"""A session in which time passes: chunks as they come, and between them one that stands for the time.

What is held becomes due whether anything else comes or not, and its readings go the way of all others,
through the batch. It also notices, before the first chunk of another connection is read, that messages may
have been missed.

Time passes only while somebody listens: while the pipeline is full, as it is when PostgreSQL is away, what
others wait for may be here already, and nobody has looked.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from gateway.sparkplug.host import TICK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.sparkplug.host import Host
    from runtime.mqtt import Chunk, Delivery, Message, Session, SessionStatus

_TICK_S: Final = 0.2
_PAUSE_S: Final = 0.5  # in which a chunk is decoded; whatever is longer is a wait for room


class _Tick:
    """A chunk of nothing but time."""

    deliveries: Sequence[Delivery] = (TICK,)
    size_bytes = 0

    def ack(self) -> None:
        """Nobody waits for it."""


class Listening:
    """A clock that stands still while nobody listens for long. Seconds, from anywhere.

    Args:
        monotonic: seconds for measuring.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._behind = 0.0
        self._stopped_at: float | None = None

    def __call__(self) -> float:
        """The time now."""
        now = self._monotonic() if self._stopped_at is None else self._stopped_at
        return now - self._behind

    def stop(self) -> None:
        """Nobody listens from now on."""
        self._stopped_at = self._monotonic()

    def go(self) -> None:
        """Somebody does."""
        if self._stopped_at is not None:
            self._behind += max(0.0, self._monotonic() - self._stopped_at - _PAUSE_S)
            self._stopped_at = None


class TickingSession:
    """The part of a session that the pipeline uses; see `runtime.mqtt.Session`.

    Args:
        session: from which chunks come.
        host: of the edge nodes.
        clock: of the host, which goes only while somebody waits for a chunk.
    """

    def __init__(self, session: Session, host: Host, clock: Listening | None = None) -> None:
        self._session = session
        self._host = host
        self._clock = clock or Listening()
        self._tick_at = 0.0
        self._taking: asyncio.Task[Chunk] | None = None
        self._connections = self._sessions_lost = 0
        self._was_away = True

    @property
    def status(self) -> SessionStatus:
        """The session's state now."""
        return self._session.status

    async def receive(self) -> Chunk:
        """Wait for deliveries, or for something that the time leads to."""
        self._clock.go()
        try:
            while True:
                if self._clock() >= self._tick_at:
                    self._tick_at = self._clock() + _TICK_S
                    if self._host.tick():
                        return _Tick()
                if self._taking is None:
                    self._taking = asyncio.create_task(self._session.receive(), name="sparkplug-receive")
                await asyncio.wait([self._taking], timeout=_TICK_S)
                if self._taking.done():
                    taking, self._taking = self._taking, None
                    self._look()
                    return taking.result()
        finally:
            self._clock.stop()

    def stop_receiving(self) -> Sequence[Chunk]:
        """Take no more deliveries; returns those that nobody else has."""
        left = list(self._session.stop_receiving())
        if self._taking is not None:
            if self._taking.done() and not self._taking.exception():
                left.insert(0, self._taking.result())
            self._taking.cancel()
            self._taking = None
        return left

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish, as the session does."""
        await self._session.publish(messages)

    def _look(self) -> None:
        """Whether what has come is of the connection that all since the last was."""
        status = self._session.status
        away = not status.connected
        if status.connections != self._connections or (away and not self._was_away):
            self._host.broke(kept=status.sessions_lost == self._sessions_lost)
        self._connections, self._was_away = status.connections, away
        self._sessions_lost = status.sessions_lost
