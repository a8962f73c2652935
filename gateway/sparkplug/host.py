"""All edge nodes, in front of the decoder: what comes of them is read when its names are known.

Stands where the decoder stands, and passes on whatever is no Sparkplug. What a message changes is taken by
the pipeline with its batch (`take_changes`), so that a birth is stored by the transaction that its readings
are stored by, and a message that is held as well, before either is acknowledged. Messages that a broker
retained are none of any sequence: they are read by what is known, and teach nothing.

How much is kept in mind is bounded. An edge node that was not heard for longest is forgotten, which costs a
rebirth should it be back; a message that cannot be held any more is a dead letter.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog

from gateway.decode import Rejection
from gateway.decode.examples import Message as Delivered
from gateway.sparkplug.births import Names
from gateway.sparkplug.changes import Changes, Row
from gateway.sparkplug.doubt import WILL_S
from gateway.sparkplug.letters import lost
from gateway.sparkplug.messages import Lost, Message, Read
from gateway.sparkplug.naming import Unnamed, complete
from gateway.sparkplug.node import Entity, Node
from gateway.sparkplug.topics import COUNTED, OF_NODES, Address, address_of
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.decode import Decoder, Reading, Received
    from gateway.decode.drops import Drops
    from gateway.door import Door
    from gateway.sparkplug.messages import Step, Told
    from gateway.sparkplug.topics import Kind
    from runtime.mqtt.port import Delivery

    Item = Reading | Rejection

log = structlog.get_logger()

TICK: Final = Delivered("", b"")
"""Stands for time that has passed, among deliveries."""

_MOST_NODES: Final = 50_000
_MOST_NAMES: Final = 1_000_000  # of all of them: some 300 MB
_MOST_HELD: Final = 10_000
_MOST_HELD_BYTES: Final = 32_000_000
_MOST_TOPICS: Final = 200_000
_LONGEST_TOPIC: Final = 600  # four names of as many characters as may be stored, and a prefix
_MOST_TICKS: Final = 5_000  # edge nodes that are looked at in one tick
_SHARED: Final = "$share/"

COUNTS: Final = (
    "births", "deaths", "late_wills", "out_of_order", "gaps", "unknown_aliases", "not_born", "rebirths_asked",
)  # fmt: skip


class Host:
    """A decoder that knows edge nodes.

    Args:
        decoder: of everything.
        door: lets readings in; also those that were held.
        reorder_s: how long a message waits for those before it.
        monotonic: seconds for measuring.
        stated: called with what somebody publishes on a topic of STATE.
        state_topic: that topic; empty for none.

    Attributes:
        nodes: by key; who was heard last is last.
        counts: what happened, by name.
        held: how many messages wait.
        held_bytes: of their payloads.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        reorder_s: float,
        monotonic: Callable[[], float],
        door: Door | None = None,
        state_topic: str = "",
        stated: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._decoder = decoder
        self._door = door
        self._reorder_s = reorder_s
        self._monotonic = monotonic
        self._state_topic = state_topic
        self._stated = stated
        self.nodes: dict[str, Node] = {}
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        self.held = self.held_bytes = 0
        self._addresses: dict[str, Address | None] = {}
        self._places: dict[str, Address] = {}  # node → a topic of it
        self._epochs: dict[str, int] = {}  # node → of its last message
        self._epoch = 0
        self._forgotten_epoch = 0  # since which the broker has kept our session
        self._sizes: dict[str, int] = {}
        self._names = 0
        self._busy: dict[str, None] = {}  # who was looked at last is last
        self._waiting: list[tuple[Node, list[Step]]] = []
        self._changes = Changes()
        self._asks: dict[str, Address] = {}
        self._unordered: set[str] = set()

    @property
    def drops(self) -> Drops:
        """Fields that were left out."""
        return self._decoder.drops

    @property
    def ignored(self) -> int:
        """Messages that a route leaves out."""
        return self._decoder.ignored

    @property
    def empty(self) -> int:
        """Messages without a payload."""
        return self._decoder.empty

    @property
    def online(self) -> int:
        """How many edge nodes are, as far as is known."""
        return sum(node.online for node in self.nodes.values())

    @property
    def unanswered(self) -> int:
        """How many edge nodes were asked for a rebirth again and again, and were not born."""
        return sum(node.asking.unanswered for node in self.nodes.values())

    def route_of(self, topic: str) -> str:
        """The template of the route that a topic is for; empty when there is none."""
        return self._decoder.route_of(topic)

    def decode(self, delivery: Delivery, received: Received) -> list[Item]:
        """What a delivery comes to, and with it what was held and can be read now."""
        topic = delivery.topic
        if delivery is TICK:
            waiting, self._waiting = self._waiting, []
            return [item for node, steps in waiting for item in self._carry_out(node, steps, received)]
        address = self._addresses[topic] if topic in self._addresses else self._address(topic)
        if address is None:
            if topic == self._state_topic and topic:
                self._stated(delivery.payload)
            return self._decoder.decode(delivery, received)
        if not delivery.payload:
            return self._decoder.decode(delivery, received)
        try:
            value = self._decoder.value_of(delivery)
        except Reject:
            return self._decoder.decode(delivery, received)  # which says so
        now = self._monotonic()
        message = Message(
            topic, delivery.payload, address.kind, address.device, value, received.next(), now,
            qos=delivery.qos, retain=delivery.retain,
        )  # fmt: skip
        if delivery.retain:
            return self._retained(address, message, received)
        node = self._node(address, message)
        try:
            steps = node.take(message, now)
        except Exception as error:  # noqa: BLE001  # a bug of ours must not stop a gateway, and again after each restart
            node.fail(message.at)
            steps = [Lost(message, "undecodable", f"the host of edge nodes failed: {error!r}")]
        items = self._carry_out(node, steps, received)
        if self.held > _MOST_HELD or self.held_bytes > _MOST_HELD_BYTES:
            items += self._carry_out(node, node.give_up_all(now), received)
        if self._names > _MOST_NAMES:
            self._forget()
        return items

    def tick(self) -> bool:
        """Let time pass; whether anything comes of it, which `decode` of a `TICK` is to be asked for."""
        now = self._monotonic()
        for key in list(islice(self._busy, _MOST_TICKS)):
            del self._busy[key]
            node = self.nodes[key]
            if steps := node.tick(now):
                self._waiting.append((node, steps))
            self._note(node)
        return bool(self._waiting) or bool(self._changes)

    def broke(self, *, kept: bool = False) -> None:
        """Our connection was lost, or is another one: messages of any node may have been missed.

        Args:
            kept: whether the broker has kept our session, and with it every will.
        """
        self._epoch += 1
        if not kept:
            self._forgotten_epoch = self._epoch

    def rouse(self) -> None:
        """Ask every edge node that is online for a rebirth: what it said meanwhile was not heard."""
        now = self._monotonic()
        for node in self.nodes.values():
            node.rouse(now)
            self._note(node)

    def take_asks(self, most: int) -> list[Address]:
        """The edge nodes that are to be asked for a rebirth now."""
        keys = list(islice(self._asks, most))
        for key in keys:
            log.info("sparkplug_rebirth_asked", node=key, reason=self.nodes[key].asking.why)
        self.counts["rebirths_asked"] += len(keys)
        return [self._asks.pop(key) for key in keys]

    def take_changes(self) -> Changes | None:
        """What is to be stored with what was decoded since the last time; None when nothing is."""
        if not self._changes:
            return None
        changes, self._changes = self._changes, Changes()
        return changes

    def take_unordered(self) -> list[str]:
        """Edge nodes of which others may have births that messages wait for."""
        keys, self._unordered = list(self._unordered), set()
        return keys

    def learn(self, rows: Iterable[Row]) -> None:
        """Take over what is stored of edge nodes: at the start, or what another gateway has heard."""
        for row in rows:
            address = address_of(row.topic)
            if address is None or not (row.node in self.nodes or self._is_heard(address)):
                continue
            node = self.nodes.get(row.node) or self._begin(address, "", epoch=-1)
            row.give(node)
            self._measure(node, (row.device,))

    def resume(self, messages: Iterable[tuple[str, str, bytes, str]], received: Received) -> None:
        """Go on holding what was held when this gateway ended: id, topic, payload and arrival of each."""
        for id_, topic, payload, at in messages:
            address = self._address(topic)
            try:
                value = {} if address is None else self._decoder.value_of(Delivered(topic, payload))
            except Reject:
                address = None
            if address is None:  # its route is gone
                log.warning("sparkplug_held_without_route", topic=topic[:80])
                continue
            heard = self._monotonic()
            message = Message(topic, payload, address.kind, address.device, value, at, heard, id=id_)
            node = self.nodes.get(address.key) or self._begin(address, received.next(), epoch=-1)
            node.resume(message)
            self._count_held(message, 1)
            self._note(node)

    def _address(self, topic: str) -> Address | None:
        if len(topic) > _LONGEST_TOPIC:  # the decoder refuses it
            return None
        address = address_of(topic)
        if address is not None and not self._is_ours(address):
            address = None
        if len(self._addresses) >= _MOST_TOPICS:
            self._addresses.clear()
        self._addresses[topic] = address
        return address

    def _is_ours(self, address: Address) -> bool:
        matched = self._decoder.matched(address.topic(address.kind, address.device))
        return matched is not None and matched.route.format == "sparkplug"

    def _is_heard(self, address: Address) -> bool:
        """Whether anything of an edge node, or of a device of it, may come to this gateway."""
        kinds: tuple[Kind, ...] = ("DBIRTH", "DDATA") if address.device else ("NBIRTH", "NDATA")
        return any(self._is_ours(address._replace(kind=kind)) for kind in kinds)

    def _is_ordered(self, address: Address) -> bool:
        """Whether all messages of a node that have a number come to this gateway."""
        for kind in COUNTED:
            device = "" if kind in OF_NODES else address.device or "x"
            matched = self._decoder.matched(address.topic(kind, device))
            if matched is None or matched.route.format != "sparkplug":
                return False
            if matched.route.topic.startswith(_SHARED):
                return False
        return True

    def _node(self, address: Address, message: Message) -> Node:
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

    def _begin(self, address: Address, since: str, *, epoch: int) -> Node:
        self._forget()
        ordered = self._is_ordered(address)
        node = Node(address.key, since, reorder_s=self._reorder_s, ordered=ordered, counts=self.counts)
        if not ordered:
            log.warning(
                "sparkplug_sequence_not_checked",
                node=address.key,
                reason="not all of its messages are subscribed by this gateway alone; "
                "what has aliases only waits for births that others store",
            )
        self.nodes[address.key] = node
        self._places[address.key] = address
        self._epochs[address.key] = epoch
        return node

    def _forget(self) -> None:
        """Make room for another edge node."""
        if len(self.nodes) < _MOST_NODES and self._names < _MOST_NAMES:
            return
        for key in list(self.nodes):
            if not self.nodes[key].held:
                del self.nodes[key], self._places[key], self._epochs[key]
                self._names -= self._sizes.pop(key, 0)
                self._busy.pop(key, None)
                self._asks.pop(key, None)
                self._unordered.discard(key)
                if len(self.nodes) < _MOST_NODES and self._names < _MOST_NAMES:
                    return

    def _carry_out(self, node: Node, steps: list[Step], received: Received) -> list[Item]:
        items: list[Item] = []
        for step in steps:
            if isinstance(step, Read):
                items += self._let_in(step.message, self._read(step, received))
            elif isinstance(step, Lost):
                items.append(self._letter(step))
            else:
                items += self._told(node, step, received)
        self._note(node)
        return items

    def _read(self, step: Read, received: Received) -> list[Item]:
        message, value = step
        if message.id and message.sent is None:  # its readings are as old as its arrival
            value = {**value, "timestamp": message.at}
        return self._decoder.read(message, value, received)

    def _let_in(self, delivery: Delivery, items: list[Item]) -> list[Item]:
        return items if self._door is None or not self._door.refuses else self._door.sift(delivery, items)

    def _letter(self, step: Lost) -> Rejection:
        message = step.message
        matched = self._decoder.matched(message.topic)
        device_id = matched.device_id if matched else None
        return Rejection(message.at, message.topic, device_id, step.reason, step.error, message.payload)

    def _told(self, node: Node, step: Told, received: Received) -> list[Item]:
        device, online, life, cause = step
        kind = f"{'D' if device else 'N'}{'BIRTH' if online else 'DEATH'}"
        delivery = Delivered(self._places[node.key].topic(kind, device), cause.payload if cause else b"")
        mark = hashlib.blake2b(delivery.payload, digest_size=8).hexdigest()
        key = f"{'birth' if online else 'death'}:{life}:{mark}"
        if cause is None or cause.sent is None:
            key = f"{key}:{cause.at if cause else received.next()}"
        if device:
            event = "sparkplug_device_born" if online else "sparkplug_device_died"
            log.info(event, node=node.key, device=device)
        else:
            log.info("sparkplug_node_born" if online else "sparkplug_node_died", node=node.key)
        reading = self._decoder.tell(delivery, key, received, online=online)
        return [] if reading is None else self._let_in(delivery, [reading])

    def _retained(self, address: Address, message: Message, received: Received) -> list[Item]:
        """What a broker has kept may be of any session."""
        node = self.nodes.get(address.key)
        entity = node.entities.get(message.device) if node else None
        names = entity.names if entity else Names()
        message.certain = False
        if address.kind in {"NDEATH", "DDEATH"}:
            return []
        try:
            value = complete(
                message.value, lambda key: names.find(key, message.at, message.sent or 0, alone=False)
            )
        except Unnamed:
            return [self._letter(lost(message, entity or Entity()))]
        except Reject as reject:
            return [self._letter(Lost(message, reject.reason, reject.detail))]
        return self._let_in(message, self._read(Read(message, value), received))

    def _note(self, node: Node) -> None:
        """What an edge node has to be stored, to be asked for, or to be looked at again."""
        for message, held in node.moves:
            if held:
                message.id = message.id or uuid.uuid4().hex
                self._changes.hold(message)
            else:
                self._changes.free(message.id)
            self._count_held(message, 1 if held else -1)
        node.moves.clear()
        if node.changed:
            for device in node.changed:
                self._changes.row(Row.of(node, device, self._places[node.key]))
            self._measure(node, node.changed)
            node.changed.clear()
        if node.asking.due:
            node.asking.due = False
            self._asks[node.key] = self._places[node.key]
        if node.busy:
            self._busy[node.key] = None
        else:
            self._busy.pop(node.key, None)
        if not node.ordered and node.unnamed:
            self._unordered.add(node.key)

    def _count_held(self, message: Message, by: int) -> None:
        self.held += by
        self.held_bytes += by * len(message.payload)

    def _measure(self, node: Node, devices: Iterable[str]) -> None:
        """How many names are kept, a device being one as well."""
        more = 0
        for device in devices:
            entity = node.entities[device]
            before, entity.size = entity.size, 1 + len(entity.names)
            more += entity.size - before
        self._names += more
        self._sizes[node.key] = self._sizes.get(node.key, 0) + more
