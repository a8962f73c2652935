"""Compressed payloads: gzip, zlib and zstd, by the bytes with which they begin, and never larger than is allowed.

Sources: RFC 1952, RFC 1950, RFC 8878.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

import zstandard

from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.settings import Route

_GZIP: Final = b"\x1f\x8b\x08"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZLIB: Final = 0x78  # deflate with a window of 32 kB, as everybody has it
_CHECK: Final = 31  # divides the two bytes of a header (RFC 1950 §2.2)
_DICTIONARY: Final = 0x20  # of one that nobody sends along, but "x " begins so too: a measurement of line protocol
_GZIP_WINDOW: Final = 31
_CHUNK: Final = 16_384

# Bytes of these can begin alike and be no archive: there a route has to say so.
_AMBIGUOUS: Final = frozenset({"bytes", "protobuf", "value", "sparkplug"})


class Unpacking(NamedTuple):
    """What is done with payloads that may be compressed.

    Attributes:
        first: the bytes with which one may begin.
        unpack: gives what is in one, of so many bytes at most; the payload itself when it is none. Raises `Reject`.
    """

    first: frozenset[int]
    unpack: Callable[[bytes, int], bytes]


def unpacking_of(route: Route) -> Unpacking:
    """What a route says of it."""
    if route.compression == "auto":
        return NOT_PACKED if route.format in _AMBIGUOUS else _ANY
    return _BY_NAME[route.compression]


def _unpack(payload: bytes, most: int) -> bytes:
    if payload.startswith(_GZIP):
        return _unpack_gzip(payload, most)
    return _unpack_zstd(payload, most) if payload.startswith(_ZSTD) else _unpack_zlib(payload, most)


def _unpack_gzip(payload: bytes, most: int) -> bytes:
    if not payload.startswith(_GZIP):
        return payload
    found = b""
    while payload:  # an archive may have several members (RFC 1952 §2.2)
        member = zlib.decompressobj(_GZIP_WINDOW)
        found += _inflated(member, payload, most - len(found), "gzip")
        payload = member.unused_data
    return found


def _unpack_zlib(payload: bytes, most: int) -> bytes:
    if len(payload) < 2 or payload[0] != _ZLIB or (payload[0] << 8 | payload[1]) % _CHECK:  # noqa: PLR2004  # bytes of a header
        return payload
    if payload[1] & _DICTIONARY:
        return payload
    return _inflated(zlib.decompressobj(), payload, most, "zlib")


def _inflated(archive: zlib._Decompress, payload: bytes, most: int, name: str) -> bytes:
    try:
        found = archive.decompress(payload, most + 1)
    except zlib.error as error:
        raise Reject("malformed_compression", f"this is no {name} after all: {error}") from None
    _check_size(len(found), most)
    if not archive.eof:
        raise Reject("malformed_compression", f"the {name} ends too soon")
    return found


def _unpack_zstd(payload: bytes, most: int) -> bytes:
    if not payload.startswith(_ZSTD):
        return payload
    found = b""
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 23).stream_reader(
            payload, read_across_frames=True
        ) as archive:
            while piece := archive.read(_CHUNK):
                found += piece
                _check_size(len(found), most)
    except zstandard.ZstdError as error:
        raise Reject("malformed_compression", f"this is no zstd after all: {error}") from None
    return found


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise Reject(
            "payload_too_large", f"more than {most} bytes when unpacked, gateway.max_payload_bytes allows no more"
        )


NOT_PACKED: Final = Unpacking(frozenset(), lambda payload, _: payload)
_ANY: Final = Unpacking(frozenset({_GZIP[0], _ZLIB, _ZSTD[0]}), _unpack)
_BY_NAME: Final = {
    "none": NOT_PACKED,
    "gzip": Unpacking(frozenset({_GZIP[0]}), _unpack_gzip),
    "zlib": Unpacking(frozenset({_ZLIB}), _unpack_zlib),
    "zstd": Unpacking(frozenset({_ZSTD[0]}), _unpack_zstd),
}
