"""Compressed payloads: read whole, refused when they are damaged, and never larger than is allowed."""

from __future__ import annotations

import gzip
import time
import tracemalloc
import zlib
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode.formats.compression import unpacking_of
from runtime.errors import Reject
from runtime.settings import Route

MOST = 262_144
TEXT = b'{"id": "a1", "temperature": 21.5, "humidity": 40.25}' * 3


def unpack(payload: bytes, compression: str = "auto", most: int = MOST, name: str = "json") -> bytes:
    """As the decoder does it."""
    unpacking = unpacking_of(Route(compression=compression, format=name))  # type: ignore[arg-type]
    return unpacking.unpack(payload, most) if payload[0] in unpacking.first else payload


def small_window(data: bytes, bits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    return packer.compress(data) + packer.flush()


def streamed_zstd(data: bytes, level: int = 3) -> bytes:
    """Without the size in its header, as one writes that does not know it yet."""
    packer = zstandard.ZstdCompressor(level=level).compressobj()
    return packer.compress(data) + packer.flush()


ARCHIVES = {
    "gzip": gzip.compress(TEXT, mtime=0),
    "zlib": zlib.compress(TEXT),
    "zlib-fast": zlib.compress(TEXT, 1),
    "zlib-best": zlib.compress(TEXT, 9),
    "zlib-stored": zlib.compress(TEXT, 0),
    "zstd": zstandard.compress(TEXT),
    "zstd-streamed": streamed_zstd(TEXT),
    "zstd-best": streamed_zstd(TEXT, 19),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_known_by_its_first_bytes(name: str) -> None:
    """A payload that says by its bytes what it is needs no setting; a value alone neither."""
    assert unpack(ARCHIVES[name]) == TEXT
    assert unpack(ARCHIVES[name], name="value") == TEXT


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_a_route_names_is_read(name: str) -> None:
    """Formats of bytes that could begin alike take archives when the route says so."""
    assert unpack(ARCHIVES[name], name.partition("-")[0], name="bytes") == TEXT


@pytest.mark.parametrize("name", ["bytes", "protobuf", "sparkplug"])
@pytest.mark.parametrize("archive", ["gzip", "zlib", "zstd"])
def test_bytes_that_may_begin_like_an_archive_are_left_alone(name: str, archive: str) -> None:
    """Where any bytes are a message, nothing is unpacked that the route does not call packed."""
    assert unpack(ARCHIVES[archive], name=name) == ARCHIVES[archive]


@pytest.mark.parametrize("compression", ["gzip", "zlib", "zstd", "none"])
def test_what_is_not_packed_stays_as_it_is(compression: str) -> None:
    """A fleet in which some devices pack their messages is one route."""
    assert unpack(TEXT, compression) == TEXT


def test_none_leaves_archives_packed() -> None:
    """A route can say that nothing is unpacked."""
    assert unpack(ARCHIVES["gzip"], "none") == ARCHIVES["gzip"]


@pytest.mark.parametrize("bits", range(9, 16))
def test_a_route_takes_zlib_of_any_window(bits: int) -> None:
    """Small devices have small windows, and so another first byte."""
    assert unpack(small_window(TEXT, bits), "zlib") == TEXT


@pytest.mark.parametrize(
    "text",
    [
        b"x value=1",  # 78 20: as zlib with a dictionary
        b"x?,1",
        b"x}",
        b"x^2 value=1",  # 78 5e: as zlib
        b"x^",
        b"x\x01",
        b"x",
        b"(1,2)",
        b"\x1f is no separator",
        b"\x78\x5e" + b"a" * 94,  # a text of CBOR
    ],
)
@pytest.mark.parametrize("name", ["influx", "csv", "cbor", "json", "value"])
def test_texts_that_begin_like_an_archive_are_texts(text: bytes, name: str) -> None:
    """`x^2` is a measurement, and `(` begins many a line."""
    assert unpack(text, name=name) == text


def test_several_archives_one_behind_the_other_are_one() -> None:
    """Members of gzip and frames of zstd follow each other, and zeros fill up the last block."""
    assert unpack(gzip.compress(b"ab") + gzip.compress(b"") + gzip.compress(b"cd")) == b"abcd"
    assert unpack(gzip.compress(b"ab") + bytes(100)) == b"ab"
    assert unpack(zstandard.compress(b"ab") + streamed_zstd(b"cd" * 100)) == b"ab" + b"cd" * 100


@pytest.mark.parametrize("name", ["gzip", "zlib", "zstd", "zstd-streamed"])
def test_an_archive_that_is_cut_is_refused(name: str) -> None:
    """At whatever byte a payload was cut, nothing comes out as if it were whole."""
    whole = ARCHIVES[name]
    for end in range(4, len(whole)):
        with pytest.raises(Reject) as refused:
            unpack(whole[:end])
        assert refused.value.reason == "malformed_compression"


@pytest.mark.parametrize("name", ["gzip", "zlib", "zstd", "zstd-streamed"])
@pytest.mark.parametrize("rest", [b"rubbish", b"\x1f", b"\x00\x01", b"\xff" * 40])
def test_what_stands_behind_an_archive_is_not_lost(name: str, rest: bytes) -> None:
    """Bytes behind the end are no part of the message, and no reason to forget them silently."""
    with pytest.raises(Reject, match="stand behind the end") as refused:
        unpack(ARCHIVES[name] + rest)
    assert refused.value.reason == "malformed_compression"


@pytest.mark.parametrize("name", ["gzip", "zlib", "zstd"])
def test_a_damaged_archive_is_refused(name: str) -> None:
    """Their check sums are looked at."""
    whole = bytearray(
        zstandard.ZstdCompressor(write_checksum=True).compress(TEXT) if name == "zstd" else ARCHIVES[name]
    )
    for at in (len(whole) // 2, len(whole) - 2):
        whole[at] ^= 0x55
        with pytest.raises(Reject) as refused:
            unpack(bytes(whole))
        assert refused.value.reason == "malformed_compression"
        whole[at] ^= 0x55


@pytest.mark.parametrize("empty", [gzip.compress(b"", mtime=0), zlib.compress(b""), zstandard.compress(b"")])
def test_an_archive_of_nothing_says_so(empty: bytes) -> None:
    """An empty archive is no malformed message of its format."""
    with pytest.raises(Reject, match="there is nothing in") as refused:
        unpack(empty)
    assert refused.value.reason == "empty_message"


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, zstandard.compress, streamed_zstd])
def test_the_largest_message_is_read_and_one_byte_more_is_not(pack: object) -> None:
    """The bound is that of a message that comes unpacked."""
    assert callable(pack)
    assert unpack(pack(b"a" * MOST)) == b"a" * MOST
    with pytest.raises(Reject, match="allows no more") as refused:
        unpack(pack(b"a" * (MOST + 1)))
    assert refused.value.reason == "payload_too_large"


def test_a_damaged_archive_leaves_the_next_one_alone() -> None:
    """One is read after the other, by the same reader."""
    for _ in range(3):
        for broken in (ARCHIVES["zstd"][:-4], ARCHIVES["zstd-streamed"][:20] + b"\xff" * 20):
            with pytest.raises(Reject):
                unpack(broken)
            assert unpack(ARCHIVES["zstd"]) == TEXT
            assert unpack(ARCHIVES["zstd-best"]) == TEXT


def test_members_share_the_bound() -> None:
    """Several small archives are no way around it."""
    with pytest.raises(Reject) as refused:
        unpack(gzip.compress(b"a" * 200_000) * 2)
    assert refused.value.reason == "payload_too_large"


@pytest.mark.parametrize(
    "bomb",
    [
        gzip.compress(bytes(20_000_000), 1, mtime=0),
        zlib.compress(bytes(20_000_000), 1),
        zstandard.compress(bytes(20_000_000)),
        streamed_zstd(bytes(20_000_000)),
        gzip.compress(b"", mtime=0) * 13_000,
        zstandard.compress(b"") * 20_000,
        b"\x28\xb5\x2f\xfd\x60" + b"\x00" * 50_000,  # frames of blocks that hold nothing
    ],
    ids=["gzip", "zlib", "zstd", "zstd-streamed", "gzip-members", "zstd-frames", "zstd-blocks"],
)
def test_a_bomb_costs_nobody_anything(bomb: bytes) -> None:
    """What would be 20 MB, or 13,000 archives, is refused in 50 ms and few megabytes."""
    bomb = bomb[:MOST]
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(Reject):
        unpack(bomb)
    spent = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spent < 1  # seconds; a bound on hangs, not on speed
    assert peak < 12_000_000


@given(st.binary(min_size=1, max_size=200), st.sampled_from(["auto", "gzip", "zlib", "zstd"]))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_unpacked_or_refused(payload: bytes, compression: str) -> None:
    """Whatever comes, there is a message or a reason."""
    for start in (b"", b"\x1f\x8b\x08", b"\x78\x9c", b"\x78\x01", b"\x28\xb5\x2f\xfd"):
        with suppress(Reject):
            unpack(start + payload, compression)


@given(
    st.binary(min_size=1, max_size=2000),
    st.sampled_from([gzip.compress, zlib.compress, zstandard.compress, streamed_zstd]),
    st.integers(0, 2000),
    st.integers(1, 255),
)
@settings(max_examples=100, deadline=None)
def test_what_was_packed_comes_out_and_a_changed_byte_breaks_nothing(
    data: bytes, pack: object, at: int, change: int
) -> None:
    """Packing and unpacking gives the same; with a byte changed, a message or a reason."""
    assert callable(pack)
    packed = bytearray(pack(data))
    assert unpack(bytes(packed)) == data
    packed[at % len(packed)] ^= change
    with suppress(Reject):
        unpack(bytes(packed))
