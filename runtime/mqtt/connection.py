"""What a driver gives the session: one network connection, from CONNECT to its loss.

A connection is used once. It hands each read's deliveries over as a `ReceivedChunk`, says by `lost` that it
is over and why, and answers nothing after that: acks of its chunks then do nothing, publishes raise
`Disconnected`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from runtime.mqtt.port import Disconnected
from runtime.mqtt.wire import FIRST_ACK

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from runtime.mqtt.port import Message, Subscription
    from runtime.mqtt.terms import Terms
    from runtime.mqtt.wire import Publish

_DELIVERY_BYTES = 100  # of one, however short its topic and its payload are

REFUSED = 0x80
"""Reason codes from here on are refusals (MQTT5 §2.4)."""


class Refused(Disconnected):
    """The broker is there, and takes us or one of our filters not.

    Attributes:
        code: the reason code of CONNACK (MQTT5 §3.2.2.2); 0 when it was none.
    """

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.code = code


class NotMqtt5(Disconnected):
    """The broker does not take an MQTT 5 CONNECT: it said so, closed the connection, or kept silent.

    Attributes:
        told: whether it refused the version in words. A silence or a close may be anybody's on the way.
    """

    def __init__(self, reason: str, *, told: bool = False) -> None:
        super().__init__(reason)
        self.told = told


class ReceivedChunk:
    """The deliveries of one read and what acknowledges them; a `port.Chunk`.

    Args:
        deliveries: at least one unless there are copies, in order of arrival.
        write: writes acks on the connection that brought the deliveries, or does nothing when that is gone.
        acked: what the ack is for when that is more than the deliveries: copies of them too. Then there may
            be no delivery.

    Attributes:
        size_bytes: of what they hold, about.
        copies: how many more messages the read brought, which are copies.
    """

    __slots__ = ("_acks", "_write", "copies", "deliveries", "qos0", "size_bytes")

    def __init__(
        self,
        deliveries: list[Publish],
        write: Callable[[list[int]], None],
        *,
        acked: list[Publish] | None = None,
    ) -> None:
        self.deliveries = deliveries
        self.size_bytes = _size(deliveries)
        self.copies = len(acked) - len(deliveries) if acked else 0
        self._acks = [FIRST_ACK[each.qos] | each.packet_id for each in acked or deliveries if each.qos]
        self._write = write
        self.qos0 = (
            len([each for each in deliveries if not each.qos])
            if self.copies
            else len(deliveries) - len(self._acks)
        )

    @property
    def settled(self) -> bool:
        """Whether nothing in it waits for an acknowledgement."""
        return not self._acks

    def ack(self) -> None:
        """Acknowledge every QoS 1 and 2 delivery, in one write."""
        if self._acks:
            acks, self._acks = self._acks, []
            self._write(acks)

    def split(self) -> tuple[ReceivedChunk | None, ReceivedChunk | None]:
        """Part what needs no ack from what does; None for an empty part."""
        if self.qos0 == len(self.deliveries):
            return self, None
        unacked = [delivery for delivery in self.deliveries if delivery.qos]
        qos0 = [delivery for delivery in self.deliveries if not delivery.qos]
        return (
            ReceivedChunk(qos0, self._write) if qos0 else None,
            ReceivedChunk(unacked, self._write) if unacked else None,
        )

    def drop_oldest_qos0(self, count: int) -> None:
        """Forget the first `count` deliveries that need no ack, or all of them if there are fewer."""
        kept = []
        for delivery in self.deliveries:
            if count and not delivery.qos:
                count -= 1
                self.qos0 -= 1
                self.size_bytes -= _size([delivery])
            else:
                kept.append(delivery)
        self.deliveries = kept


def _size(deliveries: Sequence[Publish]) -> int:
    names_and_payloads = [len(each.topic) + len(each.payload) for each in deliveries]
    return sum(names_and_payloads) + _DELIVERY_BYTES * len(deliveries)


class Connection(Protocol):
    """One connection, open: the broker has accepted it.

    Attributes:
        driver: its name, as `SessionStatus.driver` tells it.
        session_present: whether the broker still had the session.
        subscribing_repeats_retained: whether subscribing again brings the retained messages again (MQTT 3.1.1
            §3.8.4; MQTT 5 has Retain Handling against it).
        tells_copies: whether copies of one message that overlapping filters bring are told apart.
        certificate_ends: epoch seconds of the end of the certificate that the broker showed; None without.
        taken_over: whether the broker ended it because another client uses the client id.
        terms: what the broker allows on it.
        lost: resolves with the reason when the connection is over, ours included; never raises.
    """

    driver: str
    session_present: bool
    subscribing_repeats_retained: bool
    tells_copies: bool
    taken_over: bool
    certificate_ends: float | None
    terms: Terms
    lost: asyncio.Future[str]

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> list[int]:
        """Subscribe and return the granted quality of service of each.

        Raises:
            Disconnected: the broker refused one of them, named in the reason, or the connection went.
        """

    async def unsubscribe(self, topic_filters: Sequence[str]) -> None:
        """Unsubscribe; filters that are not subscribed are no error."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """See `port.Session.publish`."""

    @property
    def publishing(self) -> bool:
        """Whether a publish is not settled yet."""

    def pause_reading(self) -> None:
        """Read no more for now, so that the broker has to hold back; keep-alive goes on meanwhile."""

    def resume_reading(self) -> None:
        """Read again."""

    async def close(self) -> None:
        """Write what is pending and DISCONNECT, close, and wait until that is done. Safe to call again."""


def check_granted(subscriptions: Sequence[Subscription], answers: Sequence[tuple[int, str]]) -> list[int]:
    """Turn the reason codes of a SUBACK, each with its name, into granted qualities of service.

    Raises:
        Refused: one of them is a refusal.
    """
    for subscription, (code, name) in zip(subscriptions, answers, strict=True):
        if code >= REFUSED:
            raise Refused(f"subscription to {subscription.topic_filter!r} refused: {name}")
    return [code for code, _ in answers]
