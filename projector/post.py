"""Publishes what is told, and keeps what the broker does not take.

Who tells asks for `room` first, and leaves what there is none for where it is: so nothing is lost while the
broker is away, however long that takes, but what is kept when the process ends. What the broker refuses is
lost at once.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from runtime.mqtt import Disconnected, Message, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.mqtt import Session

KEPT: Final = 10_000
AT_ONCE: Final = 500


class Post:
    """Messages on one topic, in order, QoS 1.

    Args:
        lost: told how many messages nobody will get, why in a word, and the detail, if there is any.
    """

    def __init__(self, session: Session, topic: str, *, lost: Callable[[int, str, str], None]) -> None:
        self._session = session
        self._topic = topic
        self._lost = lost
        self._outgoing: deque[Message] = deque()

    @property
    def room(self) -> int:
        """How many more messages may be added."""
        return max(0, KEPT - len(self._outgoing))

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return len(self._outgoing)

    def add(self, payload: bytes) -> None:
        """Put a message at the end."""
        self._outgoing.append(Message(self._topic, payload))

    async def publish(self) -> bool:
        """Publish some; returns whether the broker took all of that, or refused it."""
        messages = list(islice(self._outgoing, AT_ONCE))
        if not messages:
            return True
        sent = len(messages)
        try:
            await self._session.publish(messages)
        except Disconnected as error:
            sent = error.acknowledged
        except Refused as error:
            self._lost(error.messages, error.reason, error.detail)
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
                self._lost(len(self._outgoing), "stopped", "")
                self._outgoing.clear()
