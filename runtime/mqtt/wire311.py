"""The packets of MQTT 3.1.1, written and read: what `wire` leaves over. Does no I/O and knows no connection.

A packet is a byte of type and flags, a length, and a body (MQTT 3.1.1 §2). A PUBLISH comes out as
`wire.Publish`, whatever its topic's bytes are; everything else as its first byte and its body. The reader is
one loop without calls, because in Python a call costs as much as the rest of a message.

A client of this version has no say in how large a message may be. One that is too large for us is left to the
decoder, because refusing it would only make the broker deliver it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from runtime.mqtt import wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.mqtt.port import Message

CONNACK: Final = 0x20
PUBACK: Final = 0x40
PUBREC: Final = 0x50
PUBREL: Final = 0x62
PUBCOMP: Final = 0x70
SUBACK: Final = 0x90
UNSUBACK: Final = 0xB0
PINGRESP: Final = 0xD0

_CONNECT: Final = 0x10
_SUBSCRIBE: Final = 0x82
_UNSUBSCRIBE: Final = 0xA2
_LEVEL: Final = 4
_TEXT_BYTES: Final = 65535
_PACKET_BYTES: Final = 268_435_455


class Packet(NamedTuple):
    """A packet that is no PUBLISH."""

    kind: int
    body: bytes


def connect(
    client_id: str,
    *,
    username: str | None,
    password: str | None,
    clean_session: bool,
    keepalive_s: int,
    will: Message | None = None,
) -> bytes:
    """CONNECT (§3.1).

    Raises:
        ValueError: a password without a user name, which this version cannot say (MQTT-3.1.2-22), or a text
            that is too long.
    """
    if password is not None and username is None:
        raise ValueError("MQTT 3.1.1 takes no password without a user name")
    flags = clean_session << 1 | (password is not None) << 6 | (username is not None) << 7
    last_words = b""
    if will is not None:
        flags |= 1 << 2 | will.qos << 3 | will.retain << 5
        last_words = _text(will.topic) + _sized(will.payload)
    login = b"".join(_text(each) for each in (username, password) if each is not None)
    body = _text("MQTT") + bytes((_LEVEL, flags)) + keepalive_s.to_bytes(2)
    return _packet(_CONNECT, body + _text(client_id) + last_words + login)


def subscribe(packet_id: int, filters: Iterable[tuple[str, int]]) -> bytes:
    """SUBSCRIBE (§3.8), of filters with their quality of service."""
    body = b"".join(_text(topic_filter) + bytes((qos,)) for topic_filter, qos in filters)
    return _packet(_SUBSCRIBE, packet_id.to_bytes(2) + body)


def unsubscribe(packet_id: int, topic_filters: Iterable[str]) -> bytes:
    """UNSUBSCRIBE (§3.10)."""
    return _packet(_UNSUBSCRIBE, packet_id.to_bytes(2) + b"".join(map(_text, topic_filters)))


def publish(topic: str, payload: bytes, qos: int, packet_id: int, *, retain: bool) -> bytes:
    """PUBLISH (§3.3).

    Raises:
        ValueError: nobody may publish to such a topic, or the packet is too long.
    """
    if not topic or any(sign in topic for sign in "+#\0"):
        raise ValueError("Invalid topic")
    name = _text(topic) + (packet_id.to_bytes(2) if qos else b"")
    return _packet(wire.PUBLISH | qos << 1 | retain, name + payload)


class Reader:
    """The packets of one connection."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._needed = 0

    def feed(self, data: bytes, packets: list[wire.Publish | Packet]) -> None:  # noqa: C901  # see the module
        """Append the packets that the data completes, those before an error included.

        Raises:
            ValueError: the bytes are no MQTT; nothing after them can be read.
        """
        if self._partial:
            self._partial += data
            if len(self._partial) < self._needed:
                return
            data, self._partial = bytes(self._partial), bytearray()
        append, publish = packets.append, wire.Publish
        position, end = 0, len(data)
        while end - position > 1:
            first, remaining, start = data[position], data[position + 1], position + 2
            if remaining > 0x7F:  # noqa: PLR2004  # the continuation bit
                if start == end:
                    break
                remaining, start = remaining & 0x7F | data[start] << 7, start + 1
                if data[start - 1] > 0x7F:  # noqa: PLR2004  # the same bit
                    length = wire.packet_length(memoryview(data)[position : position + 5])
                    if length is None or position + length > end:
                        break
                    remaining = len(wire.packet_body(memoryview(data)[position:])[0])
                    start = position + length - remaining
            stop = start + remaining
            if stop > end:
                break
            if first & 0xF0 != wire.PUBLISH:
                append(Packet(first, data[start:stop]))
            else:
                qos = first >> 1 & 3
                name_end = start + 2 + (data[start] << 8 | data[start + 1]) if remaining > 1 else end + 1
                payload = name_end + 2 if qos else name_end
                if payload > stop or qos == 3:  # noqa: PLR2004  # MQTT-3.3.1-4
                    raise ValueError("PUBLISH is shorter than its fields or has no valid quality of service")
                append(
                    publish(
                        str(data[start + 2 : name_end], "utf-8", "backslashreplace"),
                        data[payload:stop],
                        qos,
                        first & 1 == 1,
                        first & 8 == 8,  # noqa: PLR2004  # DUP
                        data[name_end] << 8 | data[name_end + 1] if qos else 0,
                    )
                )
            position = stop
        if position < end:
            rest = data[position:]
            self._needed = wire.packet_length(memoryview(rest)) or len(rest) + 1
            self._partial = bytearray(rest)


def _text(text: str) -> bytes:
    return _sized(text.encode())


def _sized(data: bytes) -> bytes:
    if len(data) > _TEXT_BYTES:
        raise ValueError(f"text of {len(data)} bytes, over the limit of {_TEXT_BYTES}")
    return len(data).to_bytes(2) + data


def _packet(first: int, body: bytes) -> bytes:
    remaining = len(body)
    if remaining > _PACKET_BYTES:
        raise ValueError(f"packet of {remaining} bytes, over the limit of {_PACKET_BYTES}")
    length = bytearray()
    while remaining > 0x7F:  # noqa: PLR2004  # seven bits a byte
        length.append(remaining & 0x7F | 0x80)
        remaining >>= 7
    length.append(remaining)
    return bytes((first,)) + length + body
