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
    from runtime.mqtt.wire import Publish

REFUSED = 0x80
"""Reason codes from here on are refusals (MQTT5 §2.4)."""


class NotMqtt5(Disconnected):
    """The broker does not take an MQTT 5 CONNECT: it said so, closed the connection, or kept silent."""


class ReceivedChunk:
    """The deliveries of one read and what acknowledges them; a `port.Chunk`.

    Args:
        deliveries: at least one, in order of arrival.
        write: writes acks on the connection that brought the deliveries, or does nothing when that is gone.

    Attributes:
        size_bytes: of the payloads.
    """

    __slots__ = ("_acks", "_write", "deliveries", "size_bytes")

    def __init__(self, deliveries: list[Publish], write: Callable[[list[int]], None]) -> None:
        self.deliveries = deliveries
        self.size_bytes = sum([len(each.payload) for each in deliveries])
        self._acks = [FIRST_ACK[each.qos] | each.packet_id for each in deliveries if each.qos]
        self._write = write

    @property
    def qos0(self) -> int:
        """How many of the deliveries need no ack. Asked before `ack` and not after it."""
        return len(self.deliveries) - len(self._acks)

    def ack(self) -> None:
        """Acknowledge every QoS 1 and 2 delivery, in one write."""
        if self._acks:
            acks, self._acks = self._acks, []
            self._write(acks)

    def split(self) -> tuple[ReceivedChunk | None, ReceivedChunk | None]:
        """Part what needs no ack from what does; None for an empty part."""
        if not self._acks:
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
                self.size_bytes -= len(delivery.payload)
            else:
                kept.append(delivery)
        self.deliveries = kept


class Connection(Protocol):
    """One connection, open: the broker has accepted it.

    Attributes:
        driver: its name, as `SessionStatus.driver` tells it.
        session_present: whether the broker still had the session.
        subscribing_repeats_retained: whether subscribing again brings the retained messages again (MQTT 3.1.1
            §3.8.4; MQTT 5 has Retain Handling against it).
        taken_over: whether the broker ended it because another client uses the client id.
        lost: resolves with the reason when the connection is over, ours included; never raises.
    """

    driver: str
    session_present: bool
    subscribing_repeats_retained: bool
    taken_over: bool
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

    def pause_reading(self) -> None:
        """Read no more for now, so that the broker has to hold back; keep-alive goes on meanwhile."""

    def resume_reading(self) -> None:
        """Read again."""

    async def close(self) -> None:
        """Write what is pending and DISCONNECT, close, and wait until that is done. Safe to call again."""


def check_granted(subscriptions: Sequence[Subscription], answers: Sequence[tuple[int, str]]) -> list[int]:
    """Turn the reason codes of a SUBACK, each with its name, into granted qualities of service.

    Raises:
        Disconnected: one of them is a refusal.
    """
    for subscription, (code, name) in zip(subscriptions, answers, strict=True):
        if code >= REFUSED:
            raise Disconnected(f"subscription to {subscription.topic_filter!r} refused: {name}")
    return [code for code, _ in answers]
