"""Messages of an edge node that wait for a birth which names their metrics. Pure.

They wait also when there are births, as long as none of these names them for certain (`births`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.sparkplug.messages import Lost, Read
from gateway.sparkplug.naming import Unnamed, complete
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.sparkplug.messages import Message, Step
    from gateway.sparkplug.nodes.tables import Metric


class Held:
    """Of one edge node.

    Attributes:
        messages: the oldest first.
        moves: messages that are held from now on, for whatever they wait, or no more.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.moves: list[tuple[Message, bool]] = []

    def add(self, message: Message, now: float) -> None:
        """Hold a message, however long it has waited for others."""
        self.moves.append((message, True))
        message.heard = now
        self.messages.append(message)

    def take_oldest(self) -> Message:
        """The one that has waited longest; it is held no more."""
        message = self.messages.pop(0)
        self.moves.append((message, False))
        return message

    def release(self, named: Callable[[Message], Step | None]) -> Iterator[Step]:
        """What becomes of those that have a name, or need none any more, in the order in which they came."""
        waiting, self.messages = self.messages, []
        for message in waiting:
            step = named(message)
            if step is None:
                self.messages.append(message)
            else:
                self.moves.append((message, False))
                yield step


def read_by(message: Message, find: Callable[[int | str], Metric | None]) -> Read | Lost | None:
    """A message with the names that are found; None when one is not."""
    try:
        return Read(message, complete(message.value, find))
    except Unnamed:
        return None
    except Reject as reject:
        return Lost(message, reject.reason, reject.detail)


def itself(message: Message) -> Read | Lost | None:
    """A message that says all of itself; None of any other."""
    return read_by(message, lambda _: None)
