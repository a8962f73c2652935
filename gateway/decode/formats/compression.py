"""Compressed payloads: gzip, zlib and zstd, by the bytes with which they begin, never larger than is allowed.

An archive is read whole or refused: one that ends too soon, or that something follows, is none. zlib has two
bytes of header only, and texts begin with them as well (`x^2 …`), so that what is no archive and is text
stays as it is.
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
_WINDOWS: Final = frozenset(range(0x08, 0x79, 0x10))  # with one of 256 bytes to 32 kB
_CHECK: Final = 31  # divides the two bytes of a header (RFC 1950 §2.2)
_DICTIONARY: Final = (
    0x20  # of one that nobody sends along, but "x " begins so too: a measurement of line protocol
)
_GZIP_WINDOW: Final = 31
_ZSTD_WINDOW: Final = 1 << 23  # what every decoder should have (RFC 8878 §3.1.1.1.2)
_zstd = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)  # each new one costs 14 µs
_PIECE: Final = 32  # bytes of zstd read at once: a block is 4 at least, and 128 kB at most when unpacked
_MEMBERS: Final = 100  # each of them costs a window

# Bytes of these can begin alike and be no archive: there a route has to say so.
_AMBIGUOUS: Final = frozenset({"bytes", "protobuf", "sparkplug"})


class Unpacking(NamedTuple):
    """What is done with payloads that may be compressed.

    Attributes:
        first: the bytes with which one may begin.
        unpack: gives what is in one, of so many bytes at most; the payload itself when it is none. Raises
            `Reject`.
    """

    first: frozenset[int]
    unpack: Callable[[bytes, int], bytes]


def unpacking_of(route: Route) -> Unpacking:
    """What a route says of it."""
    if route.compression == "auto":
        return NOT_PACKED if route.format in _AMBIGUOUS else ANY_PACKED
    return _BY_NAME[route.compression]


def _unpack(payload: bytes, most: int) -> bytes:
    if payload.startswith(_GZIP):
        return _unpack_gzip(payload, most)
    if payload.startswith(_ZSTD):
        return _unpack_zstd(payload, most)
    return _unpack_zlib(payload, most) if payload[0] == _ZLIB else payload


def _unpack_gzip(payload: bytes, most: int) -> bytes:
    if not payload.startswith(_GZIP):
        return payload
    found = b""
    for _ in range(_MEMBERS):  # an archive may have several (RFC 1952 §2.2)
        member = zlib.decompressobj(_GZIP_WINDOW)
        found += _inflated(member, payload, most, len(found), "gzip")
        payload = member.unused_data.lstrip(b"\x00")  # some fill up their last block
        if not payload:
            return _not_empty(found, "gzip")
        if not payload.startswith(_GZIP[:2]):
            raise _followed(len(payload), "gzip")
    raise _too_many("gzip", "members")


def _unpack_zlib(payload: bytes, most: int) -> bytes:
    if not _is_zlib(payload):
        return payload
    archive = zlib.decompressobj()
    try:
        found = _inflated(archive, payload, most, 0, "zlib")
        if archive.unused_data:
            raise _followed(len(archive.unused_data), "zlib")
    except Reject as reject:
        if reject.reason == _MALFORMED and _is_text(payload[2:]):
            return payload
        raise
    return _not_empty(found, "zlib")


def _is_zlib(payload: bytes) -> bool:
    if len(payload) < 2 or payload[0] not in _WINDOWS:  # noqa: PLR2004  # bytes of a header
        return False
    return not (payload[0] << 8 | payload[1]) % _CHECK and not payload[1] & _DICTIONARY


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _inflated(archive: zlib._Decompress, payload: bytes, most: int, before: int, name: str) -> bytes:
    try:
        found = archive.decompress(payload, most - before + 1)
    except zlib.error as error:
        raise _broken(name, error) from None
    _check_size(before + len(found), most)
    if not archive.eof:
        raise _too_short(name)
    return found


def _unpack_zstd(payload: bytes, most: int) -> bytes:
    if not payload.startswith(_ZSTD):
        return payload
    found = bytearray()
    for _ in range(_MEMBERS):  # frames (RFC 8878 §3)
        frame = _zstd.decompressobj()
        at = 0
        try:
            while not frame.eof:
                if at >= len(payload):
                    raise _too_short("zstd")
                found += frame.decompress(payload[at : at + _PIECE])
                at += _PIECE
                _check_size(len(found), most)
        except zstandard.ZstdError as error:
            raise _broken("zstd", error) from None
        payload = frame.unused_data + payload[at:]
        if not payload:
            return _not_empty(bytes(found), "zstd")
        if not payload.startswith(_ZSTD):
            raise _followed(len(payload), "zstd")
    raise _too_many("zstd", "frames")


_MALFORMED: Final = "malformed_compression"


def _broken(name: str, error: Exception) -> Reject:
    return Reject(_MALFORMED, f"it begins as {name} does, and is none or damaged: {error}")


def _too_short(name: str) -> Reject:
    return Reject(
        _MALFORMED, f"the {name} ends too soon: the payload was cut, or not finished when it was sent"
    )


def _followed(size: int, name: str) -> Reject:
    return Reject(_MALFORMED, f"{size} bytes stand behind the end of the {name}, and are no part of it")


def _too_many(name: str, parts: str) -> Reject:
    return Reject(_MALFORMED, f"the {name} has more than {_MEMBERS} {parts}")


def _not_empty(found: bytes, name: str) -> bytes:
    if not found:
        raise Reject("empty_message", f"there is nothing in the {name}")
    return found


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise Reject(
            "payload_too_large",
            f"more than {most} bytes when unpacked, gateway.max_payload_bytes allows no more",
        )


NOT_PACKED: Final = Unpacking(frozenset(), lambda payload, _: payload)
ANY_PACKED: Final = Unpacking(frozenset({_GZIP[0], _ZLIB, _ZSTD[0]}), _unpack)
_BY_NAME: Final = {
    "none": NOT_PACKED,
    "gzip": Unpacking(frozenset({_GZIP[0]}), _unpack_gzip),
    "zlib": Unpacking(_WINDOWS, _unpack_zlib),
    "zstd": Unpacking(frozenset({_ZSTD[0]}), _unpack_zstd),
}
