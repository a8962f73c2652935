"""The bytes of MQTT: reading, framing, acknowledging."""

from __future__ import annotations

import contextlib

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.mqtt import wire
from runtime.mqtt.reader import PacketReader, PacketTooLargeError

topics = st.text(st.characters(codec="utf-8", exclude_characters="+#\0"), min_size=1, max_size=40)
properties = st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.just("v")), max_size=3)


@st.composite
def publishes(draw: st.DrawFn) -> mqtt5.PublishPacket:
    qos = draw(st.sampled_from((mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE, mqtt5.QoS.EXACTLY_ONCE)))
    return mqtt5.PublishPacket(
        draw(topics),
        draw(st.binary(max_size=300)),
        qos=qos,
        retain=draw(st.booleans()),
        packet_id=draw(st.integers(1, 65535)) if qos.value else None,
        duplicate=bool(qos.value) and draw(st.booleans()),
        user_properties=draw(properties),
    )


@given(publishes())
def test_the_lenient_reader_agrees_with_the_codec(packet: mqtt5.PublishPacket) -> None:
    """What a well-formed PUBLISH says is the same, read by the codec or by `parse_publish`."""
    data = memoryview(packet.write())
    body, length = wire.packet_body(data)
    read = wire.parse_publish(data[0], body, with_properties=True)
    assert length == len(data)
    assert (read.topic, read.payload, read.qos) == (packet.topic, packet.payload, packet.qos.value)
    assert (read.retain, read.duplicate) == (packet.retain, packet.duplicate)
    assert read.packet_id == (packet.packet_id or 0)


@given(st.binary(max_size=40), st.integers(0x30, 0x3F), st.booleans())
def test_the_lenient_reader_only_raises_value_errors(body: bytes, flags: int, with_properties: bool) -> None:  # noqa: FBT001  # drawn
    """Any bytes are a message or a ValueError."""
    with contextlib.suppress(ValueError):
        wire.parse_publish(flags, body, with_properties=with_properties)


@given(st.lists(publishes(), min_size=1, max_size=8), st.data())
def test_a_stream_cut_anywhere_gives_the_same_packets(
    packets: list[mqtt5.PublishPacket], data: st.DataObject
) -> None:
    """Where the socket's reads end makes no difference to what arrives."""
    stream = b"".join(packet.write() for packet in packets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reader = PacketReader(100_000)
    read: list[mqtt5.Packet | wire.Publish] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end], read)
    seen = [
        (each.topic, each.payload, each.qos, list(each.user_properties))
        for each in read
        if isinstance(each, wire.Publish)
    ]
    assert seen == [(each.topic, each.payload, each.qos.value, each.user_properties) for each in packets]


def test_a_length_over_the_limit_is_refused_before_it_arrives() -> None:
    """The header alone is enough, and packets before it are kept."""
    good = mqtt5.PublishPacket("t", b"good").write()
    read: list[mqtt5.Packet | wire.Publish] = []
    with pytest.raises(PacketTooLargeError):
        PacketReader(1000).feed(good + b"\x30\xe9\x07", read)
    assert len(read) == 1


@pytest.mark.parametrize(
    "data", [b"\x00\x00", b"\xf0\x00", b"\x40\x03\x00\x01\x70", b"\x30\xff\xff\xff\xff\x01"]
)
def test_malformed_packets(data: bytes) -> None:
    """What is no MQTT is a ValueError, never a panic and never a wait for more."""
    with pytest.raises(ValueError, match=r"packet|length"):
        PacketReader(1000).feed(data, [])


def test_acks_keep_their_order() -> None:
    """PUBACK and PUBREC are four bytes each, in the order given."""
    acks = [wire.PUBACK | 1, wire.PUBREC | 0xFFFF, wire.PUBACK | 3]
    assert wire.encode_acks(acks) == bytes.fromhex("40020001 5002ffff 40020003")
    for number in range(0, 12, 4):
        packet, length = mqtt5.read(memoryview(wire.encode_acks(acks))[number:])
        assert length == 4
        assert isinstance(packet, mqtt5.PubAckPacket | mqtt5.PubRecPacket)
