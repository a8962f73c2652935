"""What has been delivered and waits for `receive`.

QoS 1 and 2 deliveries are bounded by what the broker may send unacknowledged; QoS 0 has no such bound, so
when more of it waits than the limit allows, the oldest is dropped and counted. Both bounds are numbers of
messages, which can be large: the session stops reading while more bytes than it wants wait here.

When a connection goes, its deliveries that need an ack are set aside, because they can no longer be
acknowledged. The next connection decides: a broker that still has the session delivers them again, and they
are forgotten here; one that lost it never will, and they come back first in line. QoS 0 deliveries just stay.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.mqtt.connection import ReceivedChunk
    from runtime.mqtt.port import SessionStatus


class Inbox:
    """A queue of chunks.

    Args:
        max_qos0: QoS 0 deliveries kept.
        status: where drops are counted.

    Attributes:
        size_bytes: what is held now takes, about.
    """

    def __init__(self, max_qos0: int, status: SessionStatus) -> None:
        self._max_qos0 = max_qos0
        self._status = status
        self._chunks: deque[ReceivedChunk] = deque()
        self._set_aside: list[ReceivedChunk] = []
        self.size_bytes = 0
        self._qos0 = 0
        self._open = True
        self._arrived = asyncio.Event()

    def put(self, chunk: ReceivedChunk) -> None:
        """Add what one read brought."""
        if not self._open:
            self._status.dropped_qos0 += chunk.qos0
            return
        self._chunks.append(chunk)
        self.size_bytes += chunk.size_bytes
        self._qos0 += chunk.qos0
        self._arrived.set()
        if self._qos0 > self._max_qos0:
            self._drop_oldest()

    def take(self) -> ReceivedChunk | None:
        """Remove and return the oldest chunk; None when there is none."""
        if not self._chunks:
            self._arrived.clear()
            return None
        chunk = self._chunks.popleft()
        self.size_bytes -= chunk.size_bytes
        self._qos0 -= chunk.qos0
        return chunk

    async def wait(self) -> None:
        """Wait until `take` may have something, or until `wake`."""
        await self._arrived.wait()

    def wake(self) -> None:
        """Let `wait` return."""
        self._arrived.set()

    def close(self) -> list[ReceivedChunk]:
        """Keep nothing from now on; returns what had arrived and nobody else has, which is QoS 0.

        What needs an ack stays with the broker. QoS 0 that comes after this counts as dropped.
        """
        self._open = False
        self.connection_lost()
        left, self._chunks = list(self._chunks), deque()
        self._set_aside.clear()
        self.size_bytes = self._qos0 = 0
        return left

    def connection_lost(self) -> None:
        """Set aside what can no longer be acknowledged."""
        parts = [chunk.split() for chunk in self._chunks]
        self._chunks = deque(qos0 for qos0, _ in parts if qos0 is not None)
        self._set_aside += [unacked for _, unacked in parts if unacked is not None]
        self.size_bytes = sum(chunk.size_bytes for chunk in self._chunks)

    def connection_made(self, *, session_present: bool) -> None:
        """Decide what becomes of the deliveries set aside."""
        if not session_present:
            self._chunks.extendleft(reversed(self._set_aside))
            self.size_bytes += sum(chunk.size_bytes for chunk in self._set_aside)
            if self._chunks:
                self._arrived.set()
        self._set_aside.clear()

    def _drop_oldest(self) -> None:
        excess = self._qos0 - self._max_qos0
        kept: list[ReceivedChunk] = []
        while excess:
            chunk = self._chunks.popleft()
            dropped = min(excess, chunk.qos0)
            if dropped:
                self.size_bytes -= chunk.size_bytes
                chunk.drop_oldest_qos0(dropped)
                self.size_bytes += chunk.size_bytes
            if chunk.deliveries:
                kept.append(chunk)
            excess -= dropped
            self._qos0 -= dropped
            self._status.dropped_qos0 += dropped
        self._chunks.extendleft(reversed(kept))
