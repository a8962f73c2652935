"""What is signed is believed, whole; anything else is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest

from contract.events import RawEvent, encode_events, unwrap, wrap
from contract.signature import KEY_BYTES, is_sealed, seal
from contract.topics import all_streams, devices_topic, limits_topic, stream_of, stream_topic
from projector.follow.belief import NotBelieved, read_row

KEY, OTHER = bytes(KEY_BYTES), bytes(range(KEY_BYTES))
AT = datetime(2026, 11, 23, 9, tzinfo=UTC)
TS = "2026-11-23T09:00:00.000000Z"


def signed(key: bytes | None = KEY, *, ts: str = TS, stream: int = 0) -> bytes:
    """Row 42 with one event."""
    payload = encode_events([RawEvent("a1", "north", ts, TS, "k", msgspec.Raw(b'{"t":21.5}'))])
    return wrap(payload, stream=stream, n=42, epoch="e", created_at=AT, key=key)


def reason_of(message: bytes, keys: dict[int, bytes], stream: int = 0) -> str:
    """Why a message is not believed."""
    with pytest.raises(NotBelieved) as caught:
        read_row(stream, message, keys)
    return caught.value.reason


def test_the_form() -> None:
    """A digest in hex, then what version 1 always was; whoever does not know of it reads the same row."""
    plain, message = signed(None), signed()
    assert plain.startswith(
        b'{"v":1,"stream":0,"n":42,"epoch":"e","created_at":"2026-11-23T09:00:00.000000Z",'
    )
    assert message == b'{"sig":"' + json.loads(message)["sig"].encode() + b'",' + plain[1:]
    assert len(bytes.fromhex(json.loads(message)["sig"])) == 16
    assert unwrap(message) == unwrap(plain)
    assert read_row(0, message, {0: KEY}) == unwrap(plain)


def test_every_byte_is_signed() -> None:
    """No byte can be changed, left out or added, nor the row be signed with another key."""
    message = signed()
    assert is_sealed(KEY, message)
    assert not is_sealed(OTHER, message)
    for at in range(len(message)):
        assert not is_sealed(KEY, message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :])
        assert not is_sealed(KEY, message[:at] + message[at + 1 :])
        assert not is_sealed(KEY, message[:at])
    assert not is_sealed(KEY, message + b" ")
    assert not is_sealed(KEY, b" " + message)


@pytest.mark.parametrize(
    ("message", "keys", "reason"),
    [
        (signed(), {}, "no_key"),
        (signed(), {1: KEY}, "no_key"),
        (signed(None), {0: KEY}, "unsigned"),
        (b"", {0: KEY}, "unsigned"),
        (b"[" * 1_000_000, {0: KEY}, "unsigned"),
        (b'{"sig":"', {0: KEY}, "wrong_signature"),
        (signed(OTHER), {0: KEY}, "wrong_signature"),
        (signed(stream=1), {0: KEY}, "undecodable"),
        (signed(ts="today"), {0: KEY}, "undecodable"),
        (signed(ts="2026-11-23T09:00:00Z"), {0: KEY}, "undecodable"),
        (signed(ts="2026-13-23T09:00:00.000000Z"), {0: KEY}, "undecodable"),
        (seal(KEY, b"}") + b"}", {0: KEY}, "undecodable"),
        (seal(KEY, b'"v":2}') + b'"v":2}', {0: KEY}, "undecodable"),
    ],
)
def test_what_is_not_believed(message: bytes, keys: dict[int, bytes], reason: str) -> None:
    """A row needs its stream's key; what a gateway signed and nobody understands is not believed either."""
    assert reason_of(message, keys) == reason


@pytest.mark.parametrize(
    ("topic", "stream"),
    [
        (stream_topic("e/v1", 0), 0),
        (stream_topic("e/v1", 32_768), 32_768),
        (stream_topic("e/v1", 2_147_483_647), 2_147_483_647),
        (devices_topic("e/v1"), None),
        (limits_topic("e/v1"), None),
        (all_streams("e/v1"), None),
        *[
            (f"e/v1/{level}", None)
            for level in ("", "00", "01", "-1", "+1", "1.0", " 1", "\u0661", "\u00b2", "1" * 4999)
        ],
    ],
)
def test_the_stream_of_a_topic(topic: str, stream: int | None) -> None:
    """Only the number as it is written names a stream, so that each has one topic."""
    assert stream_of(topic) == stream
