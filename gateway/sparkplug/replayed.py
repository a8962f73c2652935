"""A decoder for messages without a session: those of dead letters, and of `gateway decode`. Pure.

It names metrics by births that are known, of which it is known when they held; see `births`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gateway.decode.examples import Message as Delivered
from gateway.sparkplug.front import Front
from gateway.sparkplug.letters import explain
from gateway.sparkplug.messages import Lost, Message
from gateway.sparkplug.naming import Unnamed, complete
from gateway.sparkplug.nodes.births import Birth, Names, metrics_of
from gateway.sparkplug.topics import address_of
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.decode import Decoder, Reading, Received, Rejection
    from gateway.sparkplug.changes import Row
    from gateway.sparkplug.topics import Address
    from runtime.mqtt.port import Delivery

_BIRTHS: Final = frozenset({"NBIRTH", "DBIRTH"})
_DEATHS: Final = frozenset({"NDEATH", "DDEATH"})


class NamingDecoder(Front):
    """Stands where a decoder stands.

    Args:
        decoder: of everything.
        rows: what is stored of edge nodes.
        advice: what to do where a birth is missing, beside what a gateway says.
    """

    def __init__(self, decoder: Decoder, rows: Iterable[Row] = (), *, advice: str = "") -> None:
        super().__init__(decoder)
        self._advice = advice
        self._names: dict[tuple[str, str], Names] = {(row.node, row.device): row.names for row in rows}

    def learn(self, topic: str, birth: bytes) -> None:
        """Take a birth for the one that was in force whenever messages of a topic came.

        Raises:
            ValueError: the topic has no births.
            Reject: it is none.
        """
        address, delivery = address_of(topic), Delivered(topic, birth)
        if address is None or not self._is_read(delivery):
            raise ValueError(
                f"--birth: {topic[:80]!r} is no topic of Sparkplug, or its route has another format"
            )
        names = Names([Birth("", "", metrics_of(self._decoder.value_of(delivery)))])
        self._names[address.key, address.device] = names

    def decode(self, delivery: Delivery, received: Received) -> list[Reading | Rejection]:
        """What a delivery comes to."""
        address = address_of(delivery.topic)
        if address is None or address.kind in _DEATHS or not self._is_read(delivery):
            return self._decoder.decode(delivery, received)
        try:
            value = self._decoder.value_of(delivery)
        except Reject:
            return self._decoder.decode(delivery, received)
        if address.kind in _BIRTHS:
            return self._decoder.read(delivery, value, received)
        return self._named(address, delivery, value, received)

    def _is_read(self, delivery: Delivery) -> bool:
        matched = self._decoder.matched(delivery.topic)
        return bool(delivery.payload) and matched is not None and matched.route.format == "sparkplug"

    def _named(
        self,
        address: Address,
        delivery: Delivery,
        value: dict[str, Any],
        received: Received,
    ) -> list[Reading | Rejection]:
        names = self._names.get((address.key, address.device)) or Names()
        at = received.next()
        message = Message(
            delivery.topic, delivery.payload, address.kind, address.device, value, at, 0.0, certain=False
        )
        try:
            named = complete(value, lambda key: names.find(key, at, message.sent))
        except Unnamed:
            reason, error = explain(message, born=bool(names.births), advice=self._advice)
        except Reject as reject:
            reason, error = reject.reason, reject.detail
        else:
            return self._decoder.read(delivery, named, received)
        return [self._letter(Lost(message, reason, error))]
