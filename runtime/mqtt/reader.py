"""From the bytes of a socket to MQTT 5 packets: framing, the size limit, and packets that the codec refuses.

Does no I/O and knows no connection. A read may end anywhere in a packet; what is incomplete waits for the
next one, and is looked at again only when its last byte is there, so that a large packet costs no more than
its size.

A PUBLISH comes out as `wire.Publish`: the codec's own object has a quality of service that is true even when
it is 0 and can neither be ordered nor used as an index, although its types say IntEnum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mqtt5
from mqtt5 import PublishPacket

from runtime.mqtt import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    Packet = mqtt5.Packet | wire.Publish


class PacketTooLargeError(ValueError):
    """A packet announces more bytes than we told the broker that we take."""


class PacketReader:
    """The packets of one connection.

    Args:
        max_packet_bytes: what a packet may have, its header included.
        identified: whether subscription identifiers are read, which few need.
    """

    def __init__(self, max_packet_bytes: int, *, identified: bool = False) -> None:
        self._max_packet_bytes = max_packet_bytes
        self._partial = bytearray()
        self._needed = 0
        self._identified = identified

    def feed(self, data: bytes, packets: list[Packet]) -> None:
        """Append the packets that the data completes, those before an error included.

        Raises:
            PacketTooLargeError: a packet is over the limit.
            ValueError: the bytes are no MQTT; nothing after them can be read.
        """
        buffer: bytes | bytearray = data
        if self._partial:
            self._partial += data
            if len(self._partial) < self._needed:
                return
            buffer, self._partial = self._partial, bytearray()
        view = memoryview(buffer)
        read, append = mqtt5.read, packets.append
        position, end = 0, len(view)
        packet: Packet
        while position < end:
            try:
                packet, length = read(view[position:])
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    raise
                rest = view[
                    position:
                ]  # any other: the codec panics on bad UTF-8, and a panic is no Exception
                if not self._is_complete(rest):
                    return
                packet, length = _reread(rest, error)
            if type(packet) is PublishPacket:
                packet = _plain(packet, packet.subscription_ids if self._identified else ())
            append(packet)
            position += length

    def _is_complete(self, rest: memoryview) -> bool:
        length = wire.packet_length(rest)
        if length is not None and length > self._max_packet_bytes:
            raise PacketTooLargeError(
                f"packet of {length} bytes is over the limit of {self._max_packet_bytes}"
            )
        if length is not None and length <= len(rest):
            return True
        self._needed = length or len(rest) + 1
        self._partial = bytearray(rest)
        return False


def _plain(packet: PublishPacket, subscription_ids: Sequence[int]) -> wire.Publish:
    return wire.Publish(
        packet.topic,
        packet.payload,
        packet.qos.value,
        packet.retain,
        packet.duplicate,
        packet.packet_id or 0,
        packet.user_properties,
        subscription_ids,
    )


def _reread(rest: memoryview, error: BaseException) -> tuple[wire.Publish, int]:
    if rest[0] & 0xF0 != wire.PUBLISH:
        raise ValueError(f"malformed packet: {error}") from error
    body, length = wire.packet_body(rest)
    return wire.parse_publish(rest[0], body, with_properties=True), length
