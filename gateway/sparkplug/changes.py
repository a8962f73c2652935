"""What is to be stored of edge nodes with a batch: what is known of them, and what is held. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gateway.sparkplug.nodes.births import Birth, Names

if TYPE_CHECKING:
    from gateway.sparkplug.messages import Message
    from gateway.sparkplug.nodes.node import Node
    from gateway.sparkplug.nodes.tables import Tables
    from gateway.sparkplug.topics import Address


class _Stored(msgspec.Struct, omit_defaults=True):
    """A birth as it is stored."""

    born_at: str
    since: str
    metrics: tuple[tuple[str, int | None, int], ...]
    sent: int | None = None
    until: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[_Stored]).decode


class Row(NamedTuple):
    """An edge node, or a device of it, as a row of `sparkplug_births`.

    Attributes:
        topic: of a birth of it.
        births: as JSON.
        shared: whether other gateways have a part of its messages.
    """

    node: str
    device: str
    topic: str
    online: bool | None
    bd_seq: int | None
    born: int | None
    ended_at: str
    births: str
    shared: bool = False

    @classmethod
    def of(cls, node: Node, device: str, address: Address) -> Row:
        """The row of an entity."""
        entity = node.entities[device]
        topic = address.topic("DBIRTH" if device else "NBIRTH", device)
        bd_seq, born = (node.bd_seq, node.born) if not device else (None, None)
        return cls(
            *(node.key, device, topic, entity.online, bd_seq, born, entity.ended_at, _stored(entity.names)),
            shared=not node.ordered,
        )

    @property
    def names(self) -> Names:
        """What it says of metrics."""
        return self.names_in(None)

    def names_in(self, tables: Tables | None) -> Names:
        """The same, kept once with what others say."""
        names = Names()
        names.join(
            Names(
                Birth(each.born_at, each.since, each.metrics, each.sent, each.until, tables)
                for each in _decode(self.births)
            )
        )
        return names

    def beside(self, other: Row) -> Row:
        """It, with what another gateway has stored: all births, and the newer session by the node's clock."""
        names = other.names
        names.replace(self.names)
        newest = max((self, other), key=lambda row: -1 if row.born is None else row.born)
        return self._replace(
            births=_stored(names),
            bd_seq=newest.bd_seq,
            born=newest.born,
            ended_at=max(self.ended_at, other.ended_at),
        )


def _stored(names: Names) -> str:
    return _encode(
        [_Stored(each.born_at, each.since, each.metrics, each.sent, each.until) for each in names.births]
    ).decode()


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
