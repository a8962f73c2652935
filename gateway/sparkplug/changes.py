"""What is to be stored of edge nodes with a batch: what is known of them, and what is held. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gateway.sparkplug.births import Birth, Names
from gateway.sparkplug.node import Entity

if TYPE_CHECKING:
    from gateway.sparkplug.messages import Message
    from gateway.sparkplug.node import Node
    from gateway.sparkplug.topics import Address


class _Stored(msgspec.Struct, omit_defaults=True):
    """A birth as it is stored."""

    born_at: str
    since: str
    metrics: list[tuple[str, int | None, int]]
    sent: int | None = None
    until: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[_Stored]).decode


class Row(NamedTuple):
    """An edge node, or a device of it, as a row of `sparkplug_births`.

    Attributes:
        topic: of a birth of it.
        births: as JSON.
    """

    node: str
    device: str
    topic: str
    online: bool | None
    bd_seq: int | None
    born: int | None
    ended_at: str
    births: str

    @classmethod
    def of(cls, node: Node, device: str, address: Address) -> Row:
        """The row of an entity."""
        entity = node.entities[device]
        births = [
            _Stored(each.born_at, each.since, list(each.metrics), each.sent, each.until)
            for each in entity.names.births
        ]
        topic = address.topic("DBIRTH" if device else "NBIRTH", device)
        of_node = (node.bd_seq, node.born) if not device else (None, None)
        return cls(
            node.key, device, topic, entity.online, *of_node, entity.ended_at, _encode(births).decode()
        )

    @property
    def names(self) -> Names:
        """What it says of metrics."""
        return Names(
            Birth(each.born_at, each.since, each.metrics, each.sent, each.until)
            for each in _decode(self.births)
        )

    def give(self, node: Node) -> None:
        """Let an edge node know it, unless it knows better by now."""
        entity = node.entities.setdefault(self.device, Entity())
        entity.names.join(self.names)
        if entity.online is None:
            entity.online = self.online
            entity.ended_at = max(entity.ended_at, self.ended_at)
        if not self.device and node.born is None:
            node.bd_seq, node.born = self.bd_seq, self.born


class Changes:
    """What one chunk of deliveries has changed.

    Attributes:
        rows: by node and device.
        held: by id; None of those that are held no more.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self.held: dict[str, Message | None] = {}

    def __bool__(self) -> bool:
        return bool(self.rows or self.held)

    def row(self, row: Row) -> None:
        """An entity is to be stored as it is now."""
        self.rows[row.node, row.device] = row

    def hold(self, message: Message) -> None:
        """A message is to be stored, for it is held."""
        self.held[message.id] = message

    def free(self, id_: str) -> None:
        """It is held no more."""
        self.held[id_] = None

    def add(self, later: Changes) -> None:
        """Take what has changed later into this."""
        self.rows.update(later.rows)
        self.held.update(later.held)
