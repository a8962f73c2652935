"""The bytes of MQTT 3.1.1: written, read, cut anywhere, and refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.mqtt import wire, wire311

topics = st.text(st.characters(codec="utf-8", exclude_characters="+#\0"), min_size=1, max_size=40)


@st.composite
def publishes(draw: st.DrawFn) -> tuple[bytes, wire.Publish]:
    """A packet and what it says."""
    qos = draw(st.integers(0, 2))
    publish = wire.Publish(
        draw(topics),
        draw(st.binary(max_size=300)) * draw(st.sampled_from((1, 1, 1, 100))),
        qos,
        draw(st.booleans()),
        False,  # noqa: FBT003  # the first attempt
        draw(st.integers(1, 65535)) if qos else 0,
    )
    packet = wire311.publish(publish.topic, publish.payload, qos, publish.packet_id, retain=publish.retain)
    return packet, publish


@given(st.lists(publishes(), min_size=1, max_size=8), st.data())
def test_a_stream_cut_anywhere_gives_the_same_packets(
    packets: list[tuple[bytes, wire.Publish]], data: st.DataObject
) -> None:
    """What is written is read, wherever the socket's reads end, and other packets between the messages."""
    ack = wire.encode_acks([wire.PUBACK | 7])
    stream = b"".join(packet + ack for packet, _ in packets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reader = wire311.Reader()
    read: list[wire.Publish | wire311.Packet] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end], read)
    assert read[::2] == [publish for _, publish in packets]
    assert set(read[1::2]) == {(wire311.PUBACK, b"\x00\x07")}


@given(publishes(), st.integers(0, 3), st.booleans())
def test_both_readers_of_a_publish_agree(packet: tuple[bytes, wire.Publish], flags: int, dup: bool) -> None:  # noqa: FBT001  # drawn
    """The loop and `parse_publish` read the same, and refuse the same."""
    data = bytes([packet[0][0] & 0xF1 | flags << 1 | dup << 3]) + packet[0][1:]
    body, _ = wire.packet_body(memoryview(data))
    read: list[wire.Publish | wire311.Packet] = []
    try:
        expected = wire.parse_publish(data[0], body, with_properties=False)
    except ValueError:
        with pytest.raises(ValueError, match="PUBLISH"):
            wire311.Reader().feed(data, read)
    else:
        wire311.Reader().feed(data, read)
        assert read == [expected]


@given(st.binary(max_size=60))
def test_any_bytes_are_packets_or_a_value_error(data: bytes) -> None:
    """Nothing else comes out of the reader, and nothing hangs."""
    with contextlib.suppress(ValueError):
        wire311.Reader().feed(data, [])


def test_a_topic_that_is_no_utf8_is_shown() -> None:
    """Its bytes are readable and its payload is whole."""
    read: list[wire.Publish | wire311.Packet] = []
    wire311.Reader().feed(b"\x30\x07\x00\x03a/\xffhi", read)
    assert read == [wire.Publish(r"a/\xff", b"hi", 0, retain=False, duplicate=False, packet_id=0)]


def test_connect_as_the_standard_writes_it() -> None:
    """MQTT 3.1.1 §3.1: protocol name and level, flags, keep alive, then the fields in their order."""
    packet = wire311.connect("id", username="u", password="p", clean_session=True, keepalive_s=30)
    assert packet == b"\x10\x14\x00\x04MQTT\x04\xc2\x00\x1e\x00\x02id\x00\x01u\x00\x01p"
    packet = wire311.connect("id", username=None, password=None, clean_session=False, keepalive_s=0)
    assert packet == b"\x10\x0e\x00\x04MQTT\x04\x00\x00\x00\x00\x02id"


@pytest.mark.parametrize("topic", ["", "a/+", "a/#", "a\0b", "x" * 65_536])
def test_impossible_topics_are_refused_here(topic: str) -> None:
    """Sent, they would end the connection for everybody else's messages."""
    with pytest.raises(ValueError, match=r"topic|text"):
        wire311.publish(topic, b"", 1, 1, retain=False)


def test_a_password_needs_a_user_name() -> None:
    """MQTT-3.1.2-22."""
    with pytest.raises(ValueError, match="user name"):
        wire311.connect("id", username=None, password="p", clean_session=True, keepalive_s=0)
