"""The few bytes of MQTT that every driver writes or reads by itself.

Everything that answers a delivery is four bytes in MQTT 3.1.1 and in MQTT 5 alike: the packet type with its
flags, the length 2 and the packet identifier (MQTT 5 leaves out a reason code of 0 and empty properties,
MQTT5 §3.4.2.1). So such a packet is kept as one 32-bit number and a batch of them is one `struct.pack`.

`parse_publish` is the reader for a PUBLISH that a strict codec refuses. A broker that does not check UTF-8
passes on whatever a device sent, and closing the connection, as MQTT-1.5.4-1 asks, makes it deliver the same
packet again, for ever: one device would stop all others. So the packet is taken and left to the decoder,
which can refuse it and keep it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence  # noqa: TC003  # msgspec reads it at run time

import msgspec

PUBLISH = 0x30
PUBACK = 0x40020000
PUBREC = 0x50020000
PUBREL = 0x62020000
PUBCOMP = 0x70020000

FIRST_ACK = (0, PUBACK, PUBREC)
"""What answers a PUBLISH, by its quality of service."""

_LENGTH_BYTES = 4


class Publish(msgspec.Struct, frozen=True, gc=False):
    """An application message as it was delivered; a `port.Delivery`.

    Attributes:
        packet_id: what its acknowledgement names; 0 without one.
        subscription_ids: of the filters it is for; read only where filters overlap.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    duplicate: bool
    packet_id: int
    user_properties: Sequence[tuple[str, str]] = ()
    subscription_ids: Sequence[int] = ()


def encode_acks(acks: Sequence[int]) -> bytes:
    """Write acknowledgements, each given as its packet type constant plus packet identifier."""
    return struct.pack(f">{len(acks)}I", *acks)


def packet_length(buffer: memoryview) -> int | None:
    """Length of the packet that starts the buffer, its header included; None when that is not there yet.

    Raises:
        ValueError: the length field is longer than four bytes (MQTT5 §1.5.5).
    """
    try:
        remaining, size = _variable_integer(buffer, 1)
    except IndexError:
        return None
    return 1 + size + remaining


def packet_body(buffer: memoryview) -> tuple[memoryview, int]:
    """What follows the fixed header of the complete packet that starts the buffer, and its length."""
    remaining, size = _variable_integer(buffer, 1)
    length = 1 + size + remaining
    return buffer[1 + size : length], length


def parse_publish(flags: int, body: bytes | bytearray | memoryview, *, with_properties: bool) -> Publish:
    r"""Read a PUBLISH, a topic of any bytes included: those that are no UTF-8 are shown as `\xff`.

    Args:
        flags: the first byte of the packet.
        body: everything behind the fixed header.
        with_properties: whether MQTT 5 properties stand before the payload; they are skipped.

    Raises:
        ValueError: the packet's fields do not fit into it.
    """
    qos = flags >> 1 & 3
    start = 2 + int.from_bytes(body[:2])
    payload = start + (2 if qos else 0)
    if with_properties:
        try:
            length, size = _variable_integer(body, payload)
        except IndexError as error:
            raise ValueError("PUBLISH ends before its properties") from error
        payload += size + length
    if payload > len(body) or qos >= len(FIRST_ACK):
        raise ValueError("PUBLISH is shorter than its fields or has no valid quality of service")
    return Publish(
        topic=str(body[2:start], "utf-8", "backslashreplace"),
        payload=bytes(body[payload:]),
        qos=qos,
        retain=bool(flags & 1),
        duplicate=bool(flags & 8),
        packet_id=int.from_bytes(body[start : start + 2]) if qos else 0,
    )


def _variable_integer(buffer: bytes | bytearray | memoryview, start: int) -> tuple[int, int]:
    value = 0
    for size in range(_LENGTH_BYTES):
        byte = buffer[start + size]
        value |= (byte & 0x7F) << 7 * size
        if byte < 0x80:  # noqa: PLR2004  # the continuation bit
            return value, size + 1
    raise ValueError("length field is longer than four bytes")
