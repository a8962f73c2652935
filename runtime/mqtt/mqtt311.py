"""Driver of one MQTT 3.1.1 connection: the words of the version, for brokers without MQTT 5.

This version gives a client no say in how much is under way to it: that is the broker's
`max_inflight_messages`. It tells no refusal of a publish, no taking over, and not why a connection ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runtime.mqtt import wire, wire311
from runtime.mqtt.connection import Refused, check_granted
from runtime.mqtt.port import Disconnected
from runtime.mqtt.stream import REQUEST_ID, StreamConnection, open_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.mqtt.connection import ReceivedChunk
    from runtime.mqtt.port import Message, SessionOptions, Subscription

_WINDOW: Final = (
    20  # mosquitto's default max_inflight_messages: beyond it, it drops what a 3.1.1 client sends with QoS 2
)
_REFUSALS: Final = {  # §3.2.2.3
    1: "unacceptable protocol version",
    2: "identifier rejected",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorized",
}
_SHORTEST: Final = {wire311.CONNACK: 2, wire311.SUBACK: 3, wire311.PINGRESP: 0}


async def open_mqtt311(
    options: SessionOptions, deliver: Callable[[ReceivedChunk], None]
) -> Mqtt311Connection:
    """Connect and wait until the broker has accepted.

    Raises:
        Disconnected: the broker cannot be reached or refused, which the error names.
    """
    try:
        connection = Mqtt311Connection(options, deliver)
    except ValueError as error:
        raise Disconnected(f"cannot connect: {error}") from error
    return await open_stream(connection, options)


class Mqtt311Connection(StreamConnection):
    """One connection; see `connection.Connection`."""

    driver = "mqtt311"
    subscribing_repeats_retained = True
    tells_copies = False

    def __init__(self, options: SessionOptions, deliver: Callable[[ReceivedChunk], None]) -> None:
        super().__init__(options, deliver, reader=wire311.Reader(), window=_WINDOW)
        self._connect = wire311.connect(
            options.client_id,
            username=options.username,
            password=options.password,
            clean_session=options.clean_start or options.session_expiry_s == 0,
            keepalive_s=options.keepalive_s,
            will=options.will,
        )

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> list[int]:
        """Subscribe; the broker sends what it retains once more."""
        filters = [(each.topic_filter, each.qos) for each in subscriptions]
        return check_granted(subscriptions, await self.request(wire311.subscribe(REQUEST_ID, filters)))

    async def unsubscribe(self, topic_filters: Sequence[str]) -> None:
        """Unsubscribe."""
        await self.request(wire311.unsubscribe(REQUEST_ID, topic_filters))

    def connect_packet(self) -> bytes:
        """CONNECT."""
        return self._connect

    def publish_packet(self, message: Message, packet_id: int) -> bytes:
        """PUBLISH; there are no user properties."""
        return wire311.publish(message.topic, message.payload, message.qos, packet_id, retain=message.retain)

    def handle(self, packet: wire311.Packet) -> None:
        """Act on a packet that is no PUBLISH."""
        kind, body = packet
        if len(body) < _SHORTEST.get(kind, 2) or (kind != wire311.CONNACK) != self.open:
            self.break_off(f"unexpected packet {kind:#04x} of {len(body)} bytes from the broker")
        elif kind == wire311.CONNACK:
            self._on_connack(body)
        elif kind == wire311.SUBACK:
            self.answer([(code, f"{code:#04x}") for code in body[2:]])
        elif kind == wire311.UNSUBACK:
            self.answer([])
        else:
            self._on_step(kind, int.from_bytes(body[:2]))

    def _on_step(self, kind: int, packet_id: int) -> None:
        if kind in {wire311.PUBACK, wire311.PUBCOMP}:
            self.acknowledge(packet_id)
        elif kind == wire311.PUBREC:
            self.write_acks([wire.PUBREL | packet_id])
        elif kind == wire311.PUBREL:
            self.release(packet_id)
        elif kind != wire311.PINGRESP:
            self.break_off(f"unexpected packet {kind:#04x} from the broker")

    def _on_connack(self, body: bytes) -> None:
        session_present, code = body[0] & 1, body[1]
        if code:
            words = _REFUSALS.get(code, "for no known reason")
            self.refuse(Refused(f"refused: {words} ({code:#04x})"))
            return
        self.session_present = bool(session_present)
        self.accept()
