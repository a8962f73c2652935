"""Driver of one MQTT 5 connection: an `asyncio.Protocol` over the `mqtt5` codec, which does no I/O itself.

Made for rate: one read of the socket becomes one chunk, one chunk's acks are one write, and a message costs
no object but the codec's own.

Quality of service 2: PUBREC is sent when the chunk is acknowledged, because it takes the message over
(MQTT-4.3.3-2); until then the broker keeps it. A repetition on the same connection is recognised by its
identifier; after a reconnect it is delivered again, because a broker that came back from an older state uses
identifiers anew, and a message passed over by mistake would be lost, while one stored twice is recognised by
its key.

Half-open connections: a ping leaves every half keepalive, and three of those without any packet end the
connection. Counting intervals instead of seconds keeps a busy event loop from looking like a dead broker.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, cast

import mqtt5
import structlog
from mqtt5 import DisconnectReasonCode, PublishPacket, QoS

from runtime.mqtt import wire
from runtime.mqtt.connection import REFUSED, NotMqtt5, ReceivedChunk, check_granted
from runtime.mqtt.outgoing import Outgoing
from runtime.mqtt.port import Disconnected
from runtime.mqtt.reader import PacketReader, PacketTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from enum import IntEnum

    from runtime.mqtt.port import Message, SessionOptions, Subscription
    from runtime.mqtt.reader import Packet

_REQUEST_ID = 65535  # of SUBSCRIBE and UNSUBSCRIBE, which go one at a time; publishes use those below
_CONNACK_3 = b"\x20\x02"  # in MQTT 5 it is never this short
_FLUSH_BYTES = 65536
_CLOSE_TIMEOUT_S = 2.0
_SILENT_TICKS = 3
_MAX_SESSION_EXPIRY = 0xFFFFFFFF  # for ever, MQTT5 §3.1.2.11.2
_QOS = (QoS.AT_MOST_ONCE, QoS.AT_LEAST_ONCE, QoS.EXACTLY_ONCE)

log: structlog.stdlib.BoundLogger = structlog.get_logger()


async def open_mqtt5(options: SessionOptions, deliver: Callable[[ReceivedChunk], None]) -> Mqtt5Connection:
    """Connect and wait until the broker has accepted.

    Raises:
        NotMqtt5: the broker does not speak MQTT 5.
        Disconnected: it cannot be reached, or it refused for another reason, which the error names.
    """
    loop = asyncio.get_running_loop()
    connection = Mqtt5Connection(options, deliver)
    refusal: type[Disconnected] = Disconnected
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            await loop.create_connection(lambda: connection, options.host, options.port, ssl=options.tls)
            refusal = NotMqtt5
            await connection.accepted
    except TimeoutError as error:
        raise refusal(f"no answer within {options.connect_timeout_s:g} s") from error
    except OSError as error:
        raise Disconnected(f"cannot connect: {error}") from error
    finally:
        if not connection.open:
            connection.abort()
    return connection


class Mqtt5Connection(asyncio.Protocol):
    """One connection; see `connection.Connection`.

    Attributes:
        accepted: resolves when the broker has accepted the connection, or raises `Disconnected`.
        open: whether it has and the connection still stands.
    """

    driver = "mqtt5"
    subscribing_repeats_retained = False

    def __init__(self, options: SessionOptions, deliver: Callable[[ReceivedChunk], None]) -> None:
        loop = asyncio.get_running_loop()
        self.session_present = False
        self.taken_over = False
        self.open = False
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.accepted.add_done_callback(_retrieve)  # nobody awaits it when the socket does not even open
        self.lost: asyncio.Future[str] = loop.create_future()
        self._gone = asyncio.Event()
        self._options = options
        self._deliver = deliver
        self._transport: asyncio.Transport | None = None
        self._reader = PacketReader(options.max_packet_bytes)
        self._unreleased: set[int] = set()
        self._answer: asyncio.Future[list[tuple[int, str]]] | None = None
        self._keepalive_s = options.keepalive_s
        self._timer: asyncio.TimerHandle | None = None
        self._silent_ticks = 0
        self._paused = False
        self._last_id = 0
        self._max_packet = 0
        self._max_qos = 2
        self._retain_available = True
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._outgoing = Outgoing(1, self._send, self._flush)
        self._handlers: dict[type, Callable[[Any], None]] = {
            mqtt5.PubAckPacket: self._on_published,
            mqtt5.PubRecPacket: self._on_pubrec,
            mqtt5.PubRelPacket: self._on_pubrel,
            mqtt5.PubCompPacket: self._on_published,
            mqtt5.SubAckPacket: self._on_answer,
            mqtt5.UnsubAckPacket: self._on_answer,
            mqtt5.PingRespPacket: lambda _: None,
            mqtt5.DisconnectPacket: self._on_disconnect,
        }

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> list[int]:
        """Subscribe, without a repetition of retained messages (Retain Handling 1)."""
        filters = [
            mqtt5.TopicFilter(
                each.topic_filter,
                max_qos=_QOS[each.qos],
                retain_as_published=False,
                retain_handling=mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
            )
            for each in subscriptions
        ]
        return check_granted(
            subscriptions, await self._request(mqtt5.SubscribePacket(_REQUEST_ID, filters).write())
        )

    async def unsubscribe(self, topic_filters: Sequence[str]) -> None:
        """Unsubscribe."""
        await self._request(mqtt5.UnsubscribePacket(_REQUEST_ID, list(topic_filters)).write())

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish within the broker's Receive Maximum."""
        await self._outgoing.publish(messages)

    def pause_reading(self) -> None:
        """Let the socket's buffer fill, which holds the broker back."""
        if self._transport is not None and not self._paused and not self.lost.done():
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._transport is not None and self._paused and not self.lost.done():
            self._paused = False
            self._silent_ticks = 0
            self._transport.resume_reading()

    async def close(self) -> None:
        """Send DISCONNECT, which leaves the session at the broker, and wait until the broker closes.

        Closing here would drop our last acks: what the broker still sends would be answered with a reset, and
        a reset discards what it has not read yet.
        """
        if self._transport is not None and self.open:
            self._transport.write(mqtt5.DisconnectPacket().write())
        self._end("closed")
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await self._gone.wait()
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once; what is not written yet is dropped."""
        self._end("aborted")
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send CONNECT."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        options = self._options
        connect = mqtt5.ConnectPacket(
            options.client_id,
            username=options.username,
            password=options.password.encode() if options.password is not None else None,
            clean_start=options.clean_start,
            keep_alive=options.keepalive_s,
            session_expiry_interval=min(options.session_expiry_s, _MAX_SESSION_EXPIRY),
            receive_max=options.receive_maximum,
            max_packet_size=options.max_packet_bytes,
        )
        self._transport.write(connect.write())

    def connection_lost(self, exc: Exception | None) -> None:
        """Say why the connection is over."""
        self._gone.set()
        if not self.accepted.done() and (exc is None or isinstance(exc, ConnectionError)):
            self.accepted.set_exception(NotMqtt5("closed without an answer to CONNECT"))
        self._end(f"connection lost: {exc}" if exc else "closed by the broker")

    def pause_writing(self) -> None:
        """The transport's buffer is full: publish no more for now."""
        self._outgoing.pause()

    def resume_writing(self) -> None:
        """The transport's buffer has emptied."""
        self._outgoing.resume()

    def data_received(self, data: bytes) -> None:
        """Take every packet that is complete, and deliver the messages among them as one chunk."""
        self._silent_ticks = 0
        if not self.accepted.done() and data[:2] == _CONNACK_3:
            self.accepted.set_exception(NotMqtt5(f"answers as MQTT 3.1.1, return code {data[3]:#04x}"))
            self.abort()
        if self.lost.done():
            return
        packets: list[Packet] = []
        try:
            self._reader.feed(data, packets)
        except PacketTooLargeError as error:
            self._take(packets)
            self._disconnect(DisconnectReasonCode.PACKET_TOO_LARGE, str(error))
        except ValueError as error:
            self._take(packets)
            self._disconnect(DisconnectReasonCode.MALFORMED_PACKET, str(error))
        else:
            self._take(packets)
            self._outgoing.pump()

    def _take(self, packets: list[Packet]) -> None:
        deliveries = []
        for packet in packets:
            if not isinstance(packet, wire.Publish):
                self._handle(packet)
            elif packet.qos < QoS.EXACTLY_ONCE.value:
                deliveries.append(packet)
            elif not (packet.duplicate and packet.packet_id in self._unreleased):
                self._unreleased.add(packet.packet_id)
                deliveries.append(packet)
        if deliveries:
            self._deliver(ReceivedChunk(deliveries, self._write_acks))

    def _handle(self, packet: mqtt5.Packet) -> None:
        handler = self._handlers.get(type(packet))
        if handler is not None and self.open:
            handler(packet)
        elif isinstance(packet, mqtt5.ConnAckPacket) and not self.accepted.done():
            self._on_connack(packet)
        else:
            name = type(packet).__name__
            self._disconnect(DisconnectReasonCode.PROTOCOL_ERROR, f"unexpected {name} from the broker")

    def _on_connack(self, packet: mqtt5.ConnAckPacket) -> None:
        if packet.reason_code.value >= REFUSED:
            refusal = (
                NotMqtt5
                if packet.reason_code == packet.reason_code.UNSUPPORTED_PROTOCOL_VERSION
                else Disconnected
            )
            self.accepted.set_exception(refusal(f"refused: {_explain(packet)}"))
            self._end("refused")
            return
        asked, granted = self._options.session_expiry_s, packet.session_expiry_interval
        if granted is not None and granted < asked:
            log.warning("session_expiry_lowered", asked_s=asked, granted_s=granted)
        self.session_present = packet.session_present
        self._max_packet = packet.max_packet_size or 0
        self._max_qos = packet.max_qos.value
        self._retain_available = packet.retain_available
        self._outgoing.window = min(packet.receive_max, _REQUEST_ID - 1)
        if packet.server_keep_alive is not None:
            self._keepalive_s = packet.server_keep_alive
        self.open = True
        self.accepted.set_result(None)
        self._start_timer()

    def _on_published(self, packet: mqtt5.PubAckPacket | mqtt5.PubCompPacket) -> None:
        refused = packet.reason_code.value >= REFUSED and isinstance(packet, mqtt5.PubAckPacket)
        self._outgoing.acknowledge(packet.packet_id, _explain(packet) if refused else "")

    def _on_pubrec(self, packet: mqtt5.PubRecPacket) -> None:
        if packet.reason_code.value >= REFUSED:
            self._outgoing.acknowledge(packet.packet_id, _explain(packet))
        else:
            self._write_acks([wire.PUBREL | packet.packet_id])

    def _on_pubrel(self, packet: mqtt5.PubRelPacket) -> None:
        self._unreleased.discard(packet.packet_id)
        self._write_acks([wire.PUBCOMP | packet.packet_id])

    def _on_answer(self, packet: mqtt5.SubAckPacket | mqtt5.UnsubAckPacket) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result([(code.value, _name(code)) for code in packet.reason_codes])

    def _on_disconnect(self, packet: mqtt5.DisconnectPacket) -> None:
        self.taken_over = packet.reason_code == DisconnectReasonCode.SESSION_TAKEN_OVER
        self._end(f"broker disconnected: {_explain(packet)}")
        if self._transport is not None:
            self._transport.close()

    async def _request(self, packet: bytes) -> list[tuple[int, str]]:
        if self._transport is None or self.lost.done():
            raise Disconnected(self.lost.result())
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(packet)
        return await self._answer

    def _write_acks(self, acks: list[int]) -> None:
        if self._transport is not None and not self.lost.done():
            self._transport.write(wire.encode_acks(acks))

    def _send(self, message: Message) -> int:
        if message.qos > self._max_qos:
            raise ValueError(f"the broker takes at most QoS {self._max_qos}")
        if message.retain and not self._retain_available:
            raise ValueError("the broker keeps no retained messages")
        packet_id = self._free_id() if message.qos else 0
        packet = PublishPacket(
            message.topic,
            message.payload,
            qos=_QOS[message.qos],
            retain=message.retain,
            packet_id=packet_id or None,
            user_properties=list(message.user_properties),
        ).write()
        if self._max_packet and len(packet) > self._max_packet:
            raise ValueError(f"{len(packet)} bytes are more than the broker takes ({self._max_packet})")
        self._out.append(packet)
        self._out_bytes += len(packet)
        if self._out_bytes >= _FLUSH_BYTES:
            self._flush()
        return packet_id

    def _free_id(self) -> int:
        while True:
            self._last_id = self._last_id % (_REQUEST_ID - 1) + 1
            if self._last_id not in self._outgoing:
                return self._last_id

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            packets, self._out, self._out_bytes = self._out, [], 0
            self._transport.write(b"".join(packets))

    def _start_timer(self) -> None:
        if self._keepalive_s:
            self._timer = asyncio.get_running_loop().call_later(self._keepalive_s / 2, self._tick)

    def _tick(self) -> None:
        self._silent_ticks = 0 if self._paused else self._silent_ticks + 1
        if self._silent_ticks >= _SILENT_TICKS:
            self._end(f"no packet for {self._keepalive_s * _SILENT_TICKS / 2:g} s")
            self.abort()
        elif self._transport is not None:
            self._transport.write(mqtt5.PingReqPacket().write())
            self._start_timer()

    def _disconnect(self, code: DisconnectReasonCode, reason: str) -> None:
        if self._transport is not None and not self.lost.done():
            if self.open:
                self._transport.write(mqtt5.DisconnectPacket(reason_code=code).write())
            self._end(reason)
            self._transport.close()

    def _end(self, reason: str) -> None:
        if self.lost.done():
            return
        self.open = False
        self.lost.set_result(reason)
        if self._timer is not None:
            self._timer.cancel()
        if not self.accepted.done():
            self.accepted.set_exception(Disconnected(reason))
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Disconnected(reason))
        self._outgoing.fail(reason)


def _retrieve(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()


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
