"""Driver of one MQTT 5 connection: the words of the version, by the `mqtt5` codec, which does no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mqtt5
from mqtt5 import DisconnectReasonCode, PublishPacket, QoS

from runtime.mqtt import wire
from runtime.mqtt.connection import REFUSED, NotMqtt5, ReceivedChunk, Refused, check_granted
from runtime.mqtt.copies import Copies
from runtime.mqtt.reader import PacketReader, PacketTooLargeError
from runtime.mqtt.stream import REQUEST_ID, StreamConnection, open_stream
from runtime.mqtt.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from enum import IntEnum

    from runtime.mqtt.port import Message, SessionOptions, Subscription

_CONNACK_3 = b"\x20\x02"  # in MQTT 5 it is never this short
_UNACCEPTABLE_VERSION = (0x01, 0x84)  # in the words of MQTT 3.1.1 and of MQTT 5
_MAX_SESSION_EXPIRY = 0xFFFFFFFF  # for ever, MQTT5 §3.1.2.11.2
_QOS = (QoS.AT_MOST_ONCE, QoS.AT_LEAST_ONCE, QoS.EXACTLY_ONCE)


async def open_mqtt5(options: SessionOptions, deliver: Callable[[ReceivedChunk], None]) -> Mqtt5Connection:
    """Connect and wait until the broker has accepted.

    Raises:
        NotMqtt5: the broker does not speak MQTT 5.
        Disconnected: it cannot be reached, or it refused for another reason, which the error names.
    """
    return await open_stream(Mqtt5Connection(options, deliver), options)


class Mqtt5Connection(StreamConnection):
    """One connection; see `connection.Connection`."""

    driver = "mqtt5"
    silence = NotMqtt5

    def __init__(self, options: SessionOptions, deliver: Callable[[ReceivedChunk], None]) -> None:
        overlaps = any(each.overlaps for each in options.subscriptions)
        reader = PacketReader(options.max_packet_bytes, identified=overlaps)
        super().__init__(options, deliver, reader=reader, window=1)
        self._copies = Copies() if overlaps else None
        self.tells_copies = True
        self._handlers: dict[type, Callable[[Any], None]] = {
            mqtt5.PubAckPacket: self._on_published,
            mqtt5.PubRecPacket: self._on_pubrec,
            mqtt5.PubRelPacket: lambda packet: self.release(packet.packet_id),
            mqtt5.PubCompPacket: self._on_published,
            mqtt5.SubAckPacket: self._on_answer,
            mqtt5.UnsubAckPacket: self._on_answer,
            mqtt5.PingRespPacket: lambda _: None,
            mqtt5.DisconnectPacket: self._on_disconnect,
        }

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> list[int]:
        """Subscribe, without a repetition of retained messages (Retain Handling 1).

        Not Retain As Published: only what comes from the broker's store is marked as retained (MQTT5
        §3.3.1.3), as by MQTT 3.1.1, and so told from what is published now. Filters that overlap carry an
        identifier each, which tells the copies of one message apart; an identifier stands for all of a
        SUBSCRIBE, so they go one by one.
        """
        for each in subscriptions:
            if each.topic_filter.startswith("$share/") and not self.terms.shares:
                raise Refused(f"subscription to {each.topic_filter!r} refused: no shared subscriptions there")
        marked = [each for each in subscriptions if each.overlaps and self.tells_copies]
        granted: dict[Subscription, int] = {}
        for number, each in enumerate(marked, 1):
            granted[each] = (await self._subscribe([each], number))[0]
        rest = [each for each in subscriptions if each not in granted]
        if rest:
            granted |= zip(rest, await self._subscribe(rest, None), strict=True)
        return [granted[each] for each in subscriptions]

    async def unsubscribe(self, topic_filters: Sequence[str]) -> None:
        """Unsubscribe."""
        await self.request(mqtt5.UnsubscribePacket(REQUEST_ID, list(topic_filters)).write())

    def connect_packet(self) -> bytes:
        """CONNECT."""
        options = self._options
        return mqtt5.ConnectPacket(
            options.client_id,
            username=options.username,
            password=options.password.encode() if options.password is not None else None,
            clean_start=options.clean_start,
            keep_alive=options.keepalive_s,
            session_expiry_interval=min(options.session_expiry_s, _MAX_SESSION_EXPIRY),
            will=_will(options.will),
            receive_max=options.receive_maximum,
            max_packet_size=options.max_packet_bytes,
        ).write()

    def publish_packet(self, message: Message, packet_id: int) -> bytes:
        """PUBLISH."""
        packet = PublishPacket(
            message.topic,
            message.payload,
            qos=_QOS[message.qos],
            retain=message.retain,
            packet_id=packet_id or None,
            user_properties=list(message.user_properties),
        ).write()
        if (most := self.terms.packet_bytes) and len(packet) > most:
            raise ValueError(f"{len(packet)} bytes are more than the broker takes ({most})")
        return packet

    def data_received(self, data: bytes) -> None:
        """Take what has come, unless it is the answer of a broker that speaks MQTT 3.1.1."""
        if not self.accepted.done() and data[:2] == _CONNACK_3:
            reason = f"answers as MQTT 3.1.1, return code {data[3]:#04x}"
            self.accepted.set_exception(NotMqtt5(reason, told=data[3] in _UNACCEPTABLE_VERSION))
            self.abort()
        super().data_received(data)

    def deliver(self, deliveries: list[wire.Publish]) -> None:
        """Hand a chunk over, without the copies that overlapping filters brought."""
        if self._copies is None:
            super().deliver(deliveries)
        else:
            originals = self._copies.originals(deliveries)
            self._deliver(ReceivedChunk(originals, self.write_acks, acked=deliveries))

    def goodbye(self, error: ValueError) -> bytes:
        """DISCONNECT with the reason."""
        code = (
            DisconnectReasonCode.PACKET_TOO_LARGE
            if isinstance(error, PacketTooLargeError)
            else DisconnectReasonCode.MALFORMED_PACKET
        )
        return mqtt5.DisconnectPacket(reason_code=code).write()

    def handle(self, packet: mqtt5.Packet) -> None:
        """Act on a packet that is no PUBLISH."""
        handler = self._handlers.get(type(packet))
        if handler is not None and self.open:
            handler(packet)
        elif isinstance(packet, mqtt5.ConnAckPacket) and not self.accepted.done():
            self._on_connack(packet)
        else:
            words = mqtt5.DisconnectPacket(reason_code=DisconnectReasonCode.PROTOCOL_ERROR).write()
            self.break_off(f"unexpected {type(packet).__name__} from the broker", words)

    def _on_connack(self, packet: mqtt5.ConnAckPacket) -> None:
        if packet.reason_code.value >= REFUSED:
            why = f"refused: {_explain(packet)}"
            unsupported = packet.reason_code == packet.reason_code.UNSUPPORTED_PROTOCOL_VERSION
            self.refuse(NotMqtt5(why, told=True) if unsupported else Refused(why, packet.reason_code.value))
            return
        self.session_present = packet.session_present
        self.terms = _terms(packet, self._options.session_expiry_s)
        self.tells_copies = packet.subscription_id_available
        self._outgoing.window = min(packet.receive_max, REQUEST_ID - 1)
        if packet.server_keep_alive is not None:
            self._pulse.keepalive_s = packet.server_keep_alive
        self.accept()

    def _on_published(self, packet: mqtt5.PubAckPacket | mqtt5.PubCompPacket) -> None:
        refused = packet.reason_code.value >= REFUSED and isinstance(packet, mqtt5.PubAckPacket)
        self.acknowledge(packet.packet_id, _explain(packet) if refused else "")

    def _on_pubrec(self, packet: mqtt5.PubRecPacket) -> None:
        if packet.reason_code.value >= REFUSED:
            self.acknowledge(packet.packet_id, _explain(packet))
        else:
            self.write_acks([wire.PUBREL | packet.packet_id])

    def _on_answer(self, packet: mqtt5.SubAckPacket | mqtt5.UnsubAckPacket) -> None:
        self.answer([(code.value, _name(code)) for code in packet.reason_codes])

    def _on_disconnect(self, packet: mqtt5.DisconnectPacket) -> None:
        self.taken_over = packet.reason_code == DisconnectReasonCode.SESSION_TAKEN_OVER
        self.break_off(f"broker disconnected: {_explain(packet)}")

    async def _subscribe(self, subscriptions: Sequence[Subscription], number: int | None) -> list[int]:
        filters = [
            mqtt5.TopicFilter(
                each.topic_filter,
                max_qos=_QOS[each.qos],
                retain_as_published=False,
                retain_handling=mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
            )
            for each in subscriptions
        ]
        packet = mqtt5.SubscribePacket(REQUEST_ID, filters, subscription_id=number)
        return check_granted(subscriptions, await self.request(packet.write()))


def _terms(packet: mqtt5.ConnAckPacket, asked_s: int) -> Terms:
    granted_s = packet.session_expiry_interval
    return Terms(
        told=True,
        session_expiry_s=granted_s if granted_s is not None and granted_s < asked_s else None,
        maximum_qos=packet.max_qos.value,
        retains=packet.retain_available,
        shares=packet.shared_subscription_available,
        identifiers=packet.subscription_id_available,
        receive_maximum=packet.receive_max,
        packet_bytes=packet.max_packet_size or 0,
        topic_aliases=packet.topic_alias_max,
    )


def _will(message: Message | None) -> mqtt5.Will | None:
    if message is None:
        return None
    return mqtt5.Will(message.topic, payload=message.payload, qos=_QOS[message.qos], retain=message.retain)


def _name(code: IntEnum) -> str:
    return f"{code.name.lower().replace('_', ' ')} ({code.value:#04x})"


def _explain(
    packet: mqtt5.ConnAckPacket
    | mqtt5.PubAckPacket
    | mqtt5.PubRecPacket
    | mqtt5.PubCompPacket
    | mqtt5.DisconnectPacket,
) -> str:
    words = _name(packet.reason_code)
    return f"{words}: {packet.reason_str}" if packet.reason_str else words
