"""An edge node and its devices: what of them is known, whoever listens. Pure.

All of its messages come this way (`ordered`), or others have a part of them (`shared`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Final

from gateway.sparkplug.letters import lost
from gateway.sparkplug.messages import Told
from gateway.sparkplug.nodes.asking import Asking
from gateway.sparkplug.nodes.births import KEPT
from gateway.sparkplug.nodes.doubt import Doubt
from gateway.sparkplug.nodes.entity import Entity
from gateway.sparkplug.nodes.held import Held
from gateway.sparkplug.nodes.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.sparkplug.changes import Row
    from gateway.sparkplug.messages import Message, Step

HELD_S: Final = 30.0  # until what no birth names is a letter
MOST_HELD: Final = 1000  # messages of one edge node


class Node(ABC):
    """An edge node with its devices.

    Args:
        key: its name among all.
        since: from when on this gateway has listened.
        reorder_s: how long a message waits for those before it.
        counts: what happens, by name.
        tables: of what births say.

    Attributes:
        ordered: whether all of its messages come this way.
        entities: by device; empty for itself.
        bd_seq: of the session that is known.
        born: when its birth was sent, by its own clock.
        changed: the entities of which something is to be stored.
        asking: for a rebirth.
        counted: how many entities are, by whoever bounds them.
    """

    ordered: ClassVar[bool]

    def __init__(
        self,
        key: str,
        since: str,
        *,
        reorder_s: float,
        counts: Counter[str] | None = None,
        tables: Tables | None = None,
    ) -> None:
        self.key = key
        self.entities: dict[str, Entity] = {"": Entity()}
        self.bd_seq: int | None = None
        self.born: int | None = None
        self.changed: set[str] = set()
        self.asking = Asking()
        self.counted = 0
        self._counts = Counter() if counts is None else counts
        self._tables = tables or Tables()
        self._since = since
        self._reorder_s = reorder_s
        self._held = Held()
        self._doubt = Doubt()

    @property
    def online(self) -> bool:
        """Whether it is, as far as is known."""
        return self.entities[""].online is True

    @property
    def moves(self) -> list[tuple[Message, bool]]:
        """Messages that are held from now on, or no more."""
        return self._held.moves

    @property
    def unnamed(self) -> list[Message]:
        """Those that are held for want of a birth."""
        return self._held.messages

    @property
    @abstractmethod
    def held(self) -> int:
        """How many messages wait for others or for a birth."""

    @property
    @abstractmethod
    def waiting(self) -> list[Message]:
        """The messages that wait for others."""

    @property
    def curious(self) -> bool:
        """Whether what other gateways have heard of it is asked for."""
        return False

    @property
    def busy(self) -> bool:
        """Whether something happens when time passes."""
        return bool(self._doubt.ends_at is not None or self.asking.waits or self.held)

    @abstractmethod
    def take(self, message: Message, now: float) -> list[Step]:
        """What the next message leads to, in order, at a time in seconds of the monotonic clock."""

    @abstractmethod
    def tick(self, now: float) -> list[Step]:
        """What the time that has passed leads to."""

    @abstractmethod
    def broke(self, at: str, *, believed_at: float | None = None) -> None:
        """Something may have been missed: our connection was lost, or this is the start.

        Args:
            at: from when on.
            believed_at: when births are believed again if no will has come that came meanwhile; None when
                the broker does not keep them for us.
        """

    @abstractmethod
    def give_up_all(self, now: float) -> list[Step]:
        """There is no more room: nothing waits any longer."""

    @abstractmethod
    def _last_word(self, message: Message) -> Step | None:
        """A message that waits no longer, with its names; None when no birth says them."""

    def know(self, row: Row) -> None:
        """Take over what is stored of it, or of a device, unless it is known better by now."""
        entity = self.entities.setdefault(row.device, Entity())
        entity.names.join(row.names_in(self._tables), KEPT)
        if entity.online is None:
            entity.online = row.online
            entity.ended_at = max(entity.ended_at, row.ended_at)
        if not row.device and self.born is None:
            self.bd_seq, self.born = row.bd_seq, row.born

    def fail(self, at: str) -> None:
        """A message was not taken whole: what is stored of others stays stored, and nothing is certain."""
        self._held.moves = [(message, held) for message, held in self.moves if held]
        self.broke(at)

    def rouse(self, now: float) -> None:
        """Ask for a rebirth because something may have been missed."""
        if self.online:
            self.asking.want(now, "something may have been missed")

    def resume(self, message: Message) -> None:
        """Go on holding a message that was held when this gateway ended."""
        message.certain = False
        self.unnamed.append(message)

    def give_up_oldest(self) -> list[Step]:
        """The message that has waited longest for a birth is named by what there is, or is a letter."""
        if not self.unnamed:
            return []
        message = self._held.take_oldest()
        return [self._last_word(message) or lost(message, self.entities.get(message.device))]

    def _hold_unnamed(self, message: Message, now: float) -> None:
        """Hold a message for want of a birth."""
        entity = self.entities.get(message.device)
        self._counts["unknown_aliases" if entity and entity.names.births else "not_born"] += 1
        self._held.add(message, now)

    def _is_of_before(self, message: Message) -> bool:
        """Whether a message was sent before the edge node's birth in force, by its own clock."""
        return self.born is not None and message.sent is not None and message.sent < self.born

    def _tell(self, device: str, message: Message | None, *, online: bool) -> Iterator[Step]:
        self.entities[device].online = online
        self.changed.add(device)
        yield Told(device, online, f"{self.bd_seq}:{self.born}", message)
