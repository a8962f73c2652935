"""On which terms a broker takes a connection, and what is done with a message that is beyond them. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.mqtt.port import Message, Qos


@dataclass(frozen=True, slots=True)
class Terms:
    """As CONNACK has them (MQTT5 §3.2.2.3), or as if there were none: MQTT 3.1.1 tells nothing.

    Attributes:
        told: whether the broker could tell.
        session_expiry_s: how long the session is kept, when that is less than was asked for.
        maximum_qos: of what is published to the broker.
        retains: whether it keeps retained messages.
        shares: whether there are shared subscriptions.
        identifiers: whether there are subscription identifiers.
        receive_maximum: QoS 1 and 2 messages that may be under way to it.
        packet_bytes: the largest packet that it takes; 0 when it does not tell.
        topic_aliases: how many it takes.
    """

    told: bool = False
    session_expiry_s: int | None = None
    maximum_qos: Qos = 2
    retains: bool = True
    shares: bool = True
    identifiers: bool = True
    receive_maximum: int = 65535
    packet_bytes: int = 0
    topic_aliases: int = 0

    def fit(self, message: Message) -> Message:
        """The message as the broker takes it: with less quality of service, unretained, or as it is."""
        if message.qos <= self.maximum_qos and (self.retains or not message.retain):
            return message
        return dataclasses.replace(
            message, qos=min(message.qos, self.maximum_qos), retain=message.retain and self.retains
        )

    def short(self) -> dict[str, int | bool]:
        """What there is less of than a gateway asks for, by name."""
        lacking: dict[str, int | bool] = {}
        if self.session_expiry_s is not None:
            lacking["session_expiry_s"] = self.session_expiry_s
        if not self.maximum_qos:
            lacking["maximum_qos"] = 0
        if not self.retains:
            lacking["retains"] = False
        return lacking
