"""All edge nodes that are kept in mind, and what of them is to be stored, asked and looked at. Pure.

How much is kept is bounded. An edge node that was not heard for longest is forgotten, which costs a rebirth
should it be back, and is told.
"""

from __future__ import annotations

import uuid
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog

from gateway.sparkplug.changes import Changes, Row
from gateway.sparkplug.nodes.doubt import WILL_S
from gateway.sparkplug.nodes.ordered import Ordered
from gateway.sparkplug.nodes.shared import Shared
from gateway.sparkplug.nodes.tables import Tables
from gateway.sparkplug.topics import address_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.sparkplug.addresses import Addresses
    from gateway.sparkplug.messages import Message, Step
    from gateway.sparkplug.nodes.node import Node
    from gateway.sparkplug.topics import Address

log = structlog.get_logger()

_MOST_NODES: Final = 50_000
_MOST_NAMES: Final = 1_100_000  # that differ, of all of them, and devices: some 380 MB
_MOST_HELD: Final = 10_000
_MOST_HELD_BYTES: Final = 32_000_000
_MOST_TICKS: Final = 5_000  # edge nodes that are looked at in one tick
_SPARE: Final = 64  # a part of the bounds, which is made free at once
_TOLD_EVERY_S: Final = 60.0

COUNTS: Final = (
    "births", "deaths", "late_wills", "out_of_order", "gaps", "unknown_aliases", "not_born", "rebirths_asked",
    "forgotten",
)  # fmt: skip


class Fleet:
    """Edge nodes.

    Args:
        addresses: of the routes that there are.
        reorder_s: how long a message waits for those before it.
        monotonic: seconds for measuring.

    Attributes:
        nodes: by key; who was heard last is last.
        places: by key, a topic of each.
        counts: what happened, by name.
        held: how many messages wait.
        held_bytes: of their payloads.
        waiting: edge nodes, each with what time has led to.
    """

    def __init__(self, addresses: Addresses, *, reorder_s: float, monotonic: Callable[[], float]) -> None:
        self._addresses = addresses
        self._reorder_s = reorder_s
        self._monotonic = monotonic
        self.nodes: dict[str, Node] = {}
        self.places: dict[str, Address] = {}
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        self.held = self.held_bytes = 0
        self.waiting: list[tuple[Node, list[Step]]] = []
        self._tables = Tables()
        self._devices = 0
        self._epochs: dict[str, int] = {}  # node → of its last message
        self._epoch = 0
        self._forgotten_epoch = 0  # since which the broker has kept our session
        self._told_at = float("-inf")
        self._busy: dict[str, None] = {}  # who was looked at last is last
        self._changes = Changes()
        self._asks: dict[str, None] = {}
        self._curious: set[str] = set()

    @property
    def is_full(self) -> bool:
        """Whether more is held than there is room for."""
        return self.held > _MOST_HELD or self.held_bytes > _MOST_HELD_BYTES

    def node(self, address: Address, message: Message) -> Node:
        """The edge node that a message is of."""
        key = address.key
        node = self.nodes.pop(key, None)
        if node is None:
            node = self._begin(address, message.at, epoch=self._epoch)
        elif (heard := self._epochs[key]) != self._epoch:
            self._epochs[key] = self._epoch
            kept = heard >= self._forgotten_epoch
            node.broke(message.at, believed_at=message.heard + WILL_S if kept else None)
        self.nodes[key] = node
        return node

    def tick(self) -> None:
        """Let time pass: what it leads to waits."""
        now = self._monotonic()
        for key in list(islice(self._busy, _MOST_TICKS)):
            del self._busy[key]
            node = self.nodes[key]
            if steps := node.tick(now):
                self.waiting.append((node, steps))
            self.note(node)

    def take_waiting(self) -> list[tuple[Node, list[Step]]]:
        """What time has led to, to be carried out at once."""
        waiting, self.waiting = self.waiting, []
        return waiting

    def broke(self, *, kept: bool) -> None:
        """Our connection was lost; see `Host.broke`."""
        self._epoch += 1
        if not kept:
            self._forgotten_epoch = self._epoch

    def rouse(self) -> None:
        """Ask every edge node that is online for a rebirth."""
        now = self._monotonic()
        for node in self.nodes.values():
            node.rouse(now)
            self.note(node)

    def take_asks(self, most: int) -> list[Address]:
        """The edge nodes that are to be asked for a rebirth now."""
        keys = list(islice(self._asks, most))
        for key in keys:
            del self._asks[key]
            log.info("sparkplug_rebirth_asked", node=key, reason=self.nodes[key].asking.why)
        self.counts["rebirths_asked"] += len(keys)
        return [self.places[key] for key in keys]

    def take_changes(self) -> Changes | None:
        """What is to be stored since the last time; None when nothing is."""
        if not self._changes:
            return None
        changes, self._changes = self._changes, Changes()
        return changes

    def take_curious(self) -> list[str]:
        """Edge nodes of which others may have heard what messages wait for."""
        keys, self._curious = list(self._curious), set()
        return keys

    @property
    def is_changed(self) -> bool:
        """Whether something is to be stored."""
        return bool(self._changes)

    def learn(self, rows: Iterable[Row]) -> None:
        """Take over what is stored of edge nodes: at the start, or what another gateway has heard."""
        for row in rows:
            address = address_of(row.topic)
            if address is None or not (row.node in self.nodes or self._addresses.is_heard(address)):
                continue
            node = self.nodes.get(row.node) or self._begin(address, "", epoch=-1)
            node.know(row)
            self.note(node)
            self.bound()

    def resume(self, address: Address, message: Message, *, since: str) -> None:
        """Go on holding a message that was held when this gateway ended."""
        node = self.nodes.get(address.key) or self._begin(address, since, epoch=-1)
        node.resume(message)
        self._count_held(message, 1)
        self.note(node)

    def note(self, node: Node) -> None:
        """What an edge node has to be stored, to be asked for, or to be looked at again."""
        for message, held in node.moves:
            if held:
                message.id = message.id or uuid.uuid4().hex
                self._changes.hold(message)
            else:
                self._changes.free(message.id)
            self._count_held(message, 1 if held else -1)
        node.moves.clear()
        self._devices += len(node.entities) - node.counted
        node.counted = len(node.entities)
        for device in node.changed:
            self._changes.row(Row.of(node, device, self.places[node.key]))
        node.changed.clear()
        if node.asking.due:
            node.asking.due = False
            self._asks[node.key] = None
        if node.busy:
            self._busy[node.key] = None
        else:
            self._busy.pop(node.key, None)
        if node.curious:
            self._curious.add(node.key)

    def bound(self) -> None:
        """Forget who was not heard for longest, some at once, when there are too many."""
        if len(self.nodes) <= _MOST_NODES and self._names <= _MOST_NAMES:
            return
        nodes, names = _MOST_NODES - _MOST_NODES // _SPARE, _MOST_NAMES - _MOST_NAMES // _SPARE
        waiting = {node.key for node, _ in self.waiting}
        for key in [key for key, node in self.nodes.items() if not node.held and key not in waiting]:
            self._devices -= self.nodes.pop(key).counted
            del self.places[key], self._epochs[key]
            self._busy.pop(key, None)
            self._asks.pop(key, None)
            self._curious.discard(key)
            self.counts["forgotten"] += 1
            if len(self.nodes) <= nodes and self._names <= names:
                break
        if (now := self._monotonic()) >= self._told_at + _TOLD_EVERY_S:
            self._told_at = now
            log.warning(
                "sparkplug_nodes_forgotten",
                kept=len(self.nodes),
                names=self._names,
                so_far=self.counts["forgotten"],
                reason="there are more than one gateway keeps in mind; those that come back are asked for a "
                "rebirth: divide them among gateways by their groups",
            )

    @property
    def _names(self) -> int:
        """How many names are kept, an edge node or device being one as well."""
        return self._tables.names + self._devices

    def _begin(self, address: Address, since: str, *, epoch: int) -> Node:
        ordered = self._addresses.is_ordered(address)
        node = (Ordered if ordered else Shared)(
            address.key, since, reorder_s=self._reorder_s, counts=self.counts, tables=self._tables
        )
        if not ordered:
            log.warning(
                "sparkplug_sequence_not_checked",
                node=address.key,
                reason="not all of its messages are subscribed by this gateway alone; "
                "what has aliases only waits for births that others store",
            )
        self.nodes[address.key] = node
        self.places[address.key] = address
        self._epochs[address.key] = epoch
        return node

    def _count_held(self, message: Message, by: int) -> None:
        self.held += by
        self.held_bytes += by * len(message.payload)
