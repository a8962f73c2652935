"""The host application, in front of the decoder: what comes of edge nodes is read when its names are known.

Stands where the decoder stands, and passes on whatever is no Sparkplug. What a message changes is taken by
the pipeline with its batch (`take_changes`), so that a birth is stored by the transaction that its readings
are stored by, and a message that is held as well, before either is acknowledged. Messages that a broker
retained are none of any sequence: they are read by what is known, and teach nothing. Of who is kept in mind
the `fleet` decides; a message that cannot be held any more is a dead letter.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import structlog

from gateway.decode.examples import Message as Delivered
from gateway.sparkplug.addresses import Addresses
from gateway.sparkplug.fleet import Fleet
from gateway.sparkplug.front import Front
from gateway.sparkplug.letters import lost
from gateway.sparkplug.messages import Lost, Message, Read
from gateway.sparkplug.naming import Unnamed, complete
from gateway.sparkplug.nodes.births import Names
from gateway.sparkplug.nodes.entity import Entity
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator

    from gateway.decode import Decoder, Reading, Received, Rejection
    from gateway.door import Door
    from gateway.sparkplug.changes import Changes, Row
    from gateway.sparkplug.messages import Step, Told
    from gateway.sparkplug.nodes.node import Node
    from gateway.sparkplug.topics import Address
    from runtime.mqtt.port import Delivery

    Item = Reading | Rejection

log = structlog.get_logger()

_DATA: Final = frozenset({"NDATA", "DDATA"})

TICK: Final = Delivered("", b"")
"""Stands for time that has passed, among deliveries."""


class Host(Front):
    """A decoder that knows edge nodes.

    Args:
        decoder: of everything.
        door: lets readings in; also those that were held.
        reorder_s: how long a message waits for those before it.
        monotonic: seconds for measuring.
        stated: called with what somebody publishes on a topic of STATE.
        state_topic: that topic; empty for none.

    Attributes:
        fleet: of edge nodes.
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
        super().__init__(decoder)
        self._door = door
        self._monotonic = monotonic
        self._state_topic = state_topic
        self._stated = stated
        self._addresses = Addresses(decoder)
        self.fleet = Fleet(self._addresses, reorder_s=reorder_s, monotonic=monotonic)

    @property
    def nodes(self) -> dict[str, Node]:
        """Edge nodes by key; who was heard last is last."""
        return self.fleet.nodes

    @property
    def counts(self) -> Counter[str]:
        """What happened, by name."""
        return self.fleet.counts

    @property
    def held(self) -> int:
        """How many messages wait."""
        return self.fleet.held

    @property
    def online(self) -> int:
        """How many edge nodes are, as far as is known."""
        return sum(node.online for node in self.nodes.values())

    @property
    def unanswered(self) -> int:
        """How many edge nodes were asked for a rebirth again and again, and were not born."""
        return sum(node.asking.unanswered for node in self.nodes.values())

    def decode(self, delivery: Delivery, received: Received) -> list[Item]:
        """What a delivery comes to, and with it what was held and can be read now."""
        topic = delivery.topic
        if delivery is TICK:
            waiting = self.fleet.take_waiting()
            return [item for node, steps in waiting for item in self._carry_out(node, steps, received)]
        address = self._addresses.of(topic)
        if address is None:
            if topic == self._state_topic and topic:
                self._stated(delivery.payload)
            return self._decoder.decode(delivery, received)
        if not delivery.payload:
            return self._decoder.decode(delivery, received)
        try:
            value = self._decoder.value_of(delivery, glance=address.kind in _DATA)
        except Reject as reject:
            return self._decoder.refuse(delivery, reject, received)
        now = self._monotonic()
        message = Message(
            topic, delivery.payload, address.kind, address.device, value, received.next(), now,
            qos=delivery.qos, retain=delivery.retain, duplicate=delivery.duplicate,
        )  # fmt: skip
        if delivery.retain:
            return self._retained(address, message, received)
        return self._taken(address, message, now, received)

    def prepare(self, delivery: Delivery) -> Iterator[None]:
        """Do what a long message of an edge node takes, in steps, before `decode` is asked for it."""
        address = self._addresses.of(delivery.topic)
        if address is not None and delivery.payload:
            yield from self._decoder.prepare(delivery, whole=address.kind in {"NBIRTH", "DBIRTH"})

    def tick(self) -> bool:
        """Let time pass; whether anything comes of it, which `decode` of a `TICK` is to be asked for."""
        self.fleet.tick()
        return bool(self.fleet.waiting) or self.fleet.is_changed

    def broke(self, *, kept: bool = False) -> None:
        """Our connection was lost, or is another one: messages of any node may have been missed.

        Args:
            kept: whether the broker has kept our session, and with it every will.
        """
        self.fleet.broke(kept=kept)

    def rouse(self) -> None:
        """Ask every edge node that is online for a rebirth: what it said meanwhile was not heard."""
        self.fleet.rouse()

    def take_asks(self, most: int) -> list[Address]:
        """The edge nodes that are to be asked for a rebirth now."""
        return self.fleet.take_asks(most)

    def take_changes(self) -> Changes | None:
        """What is to be stored with what was decoded since the last time; None when nothing is."""
        return self.fleet.take_changes()

    def take_curious(self) -> list[str]:
        """Edge nodes of which others may have heard what messages wait for."""
        return self.fleet.take_curious()

    def learn(self, rows: Iterable[Row]) -> None:
        """Take over what is stored of edge nodes: at the start, or what another gateway has heard."""
        self.fleet.learn(rows)

    def resume(self, messages: Iterable[tuple[str, str, bytes, str]], received: Received) -> None:
        """Go on holding what was held when this gateway ended: id, topic, payload and arrival of each."""
        for id_, topic, payload, at in messages:
            address = self._addresses.of(topic)
            try:
                value = {} if address is None else self._decoder.value_of(Delivered(topic, payload))
            except Reject:
                address = None
            if address is None:  # its route is gone
                log.warning("sparkplug_held_without_route", topic=topic[:80])
                continue
            heard = self._monotonic()
            message = Message(topic, payload, address.kind, address.device, value, at, heard, id=id_)
            self.fleet.resume(address, message, since=received.next())

    def _taken(self, address: Address, message: Message, now: float, received: Received) -> list[Item]:
        node = self.fleet.node(address, message)
        try:
            steps = node.take(message, now)
        except Exception as error:  # noqa: BLE001  # a bug of ours must not stop a gateway, and again after each restart
            node.fail(message.at)
            steps = [Lost(message, "undecodable", f"the host of edge nodes failed: {error!r}")]
        items = self._carry_out(node, steps, received)
        if self.fleet.is_full:
            items += self._carry_out(node, node.give_up_all(now), received)
        self.fleet.bound()
        return items

    def _carry_out(self, node: Node, steps: list[Step], received: Received) -> list[Item]:
        items: list[Item] = []
        for step in steps:
            if isinstance(step, Read):
                items += self._let_in(step.message, self._read(step, received))
            elif isinstance(step, Lost):
                items.append(self._letter(step))
            else:
                items += self._told(node, step, received)
        self.fleet.note(node)
        return items

    def _read(self, step: Read, received: Received) -> list[Item]:
        message, value = step
        if isinstance(value, dict) and message.id and message.sent is None:  # as old as its arrival
            value = {**value, "timestamp": message.at}
        return self._decoder.read(message, value, received)

    def _let_in(self, delivery: Delivery, items: list[Item]) -> list[Item]:
        return items if self._door is None or not self._door.refuses else self._door.sift(delivery, items)

    def _told(self, node: Node, step: Told, received: Received) -> list[Item]:
        device, online, life, cause = step
        kind = f"{'D' if device else 'N'}{'BIRTH' if online else 'DEATH'}"
        place = self.fleet.places[node.key].topic(kind, device)
        delivery = Delivered(place, cause.payload if cause else b"")
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
