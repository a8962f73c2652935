"""Publishes what is told, and keeps what the broker does not take, up to a number."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from runtime.errors import Reject
from runtime.mqtt import Disconnected, Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.mqtt import Session

KEPT: Final = 10_000
AT_ONCE: Final = 500


class Post:
    """Messages on one topic, in order, QoS 1.

    Args:
        lost: told how many messages nobody will get, and why.
        refused: told why the broker does not take one, a word and the detail.
    """

    def __init__(
        self,
        session: Session,
        topic: str,
        *,
        lost: Callable[[int, str], None],
        refused: Callable[[str, str], None],
    ) -> None:
        self._session = session
        self._topic = topic
        self._lost = lost
        self._refused = refused
        self._outgoing: deque[Message] = deque()

    def add(self, payload: bytes) -> None:
        """Put a message at the end; without room the first is lost."""
        if len(self._outgoing) == KEPT:
            self._outgoing.popleft()
            self._lost(1, "too_many")
        self._outgoing.append(Message(self._topic, payload))

    async def publish(self) -> bool:
        """Publish some; returns whether the broker took all of that."""
        messages = list(islice(self._outgoing, AT_ONCE))
        if not messages:
            return True
        sent = len(messages)
        try:
            await self._session.publish(messages)
        except Disconnected as error:
            sent = error.acknowledged
        except Reject as error:  # the others were sent
            self._refused(error.reason, error.detail)
        for _ in range(sent):
            self._outgoing.popleft()
        return sent == len(messages)

    async def close(self) -> None:
        """Publish all while the broker takes it; the rest is lost."""
        try:
            while self._outgoing and await self.publish():
                pass
        finally:
            if self._outgoing:
                self._lost(len(self._outgoing), "stopped")
                self._outgoing.clear()
