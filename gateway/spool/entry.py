"""What stands in the spool: messages as they came, with what it takes to read them as if it were then.

The unit of the order is a record: what one read of the socket brought. Reading it again gives the same
readings with the same times of arrival, and so the same identities, because it says what the clock said, and,
where it was read before, after which time of arrival. Records that became durable together are one entry,
compressed, with a checksum, for SQLite has none of its pages. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import zstandard

if TYPE_CHECKING:
    from runtime.mqtt.port import Delivery

_LEVEL: Final = 1
_LARGEST: Final = 256_000_000  # of an entry; payloads have at most 64 MB


class Kept(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A delivery, as `runtime.mqtt.port.Delivery` has it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False
    duplicate: bool = False
    user_properties: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, delivery: Delivery) -> Kept:
        """The same, to be kept."""
        properties = tuple(delivery.user_properties)
        return cls(
            delivery.topic,
            bytes(delivery.payload),
            delivery.qos,
            delivery.retain,
            delivery.duplicate,
            properties,
        )


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What came together.

    Attributes:
        at: what the clock said then, ISO 8601, UTC.
        deliveries: in order of arrival.
        connection: which of the process's connections to the broker brought it.
        sessions_lost: how often the broker had forgotten the session by then.
        after: the time of arrival that was given last before it was read; None when it never was.
        last: that when it had been read.
        since: the row of the stream from which on it may be stored, without a word of its place.
    """

    at: str
    deliveries: list[Kept]
    connection: int = 0
    sessions_lost: int = 0
    after: str | None = None
    last: str = ""
    since: int | None = None


class Packed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What an entry holds.

    Attributes:
        run: whose it is: a process's, for as long as it writes to one file.
        place: of the last of the records among those of its run.
        records: in order of arrival.
    """

    run: str
    place: int
    records: list[Record]


class Damaged(ValueError):  # noqa: N818  # no error of ours: it is passed over
    """An entry is not what was written."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Packed).decode


def pack(packed: Packed) -> bytes:
    """The body of an entry."""
    return compress(_encode(packed))


def unpack(body: bytes) -> Packed:
    """What a body holds.

    Raises:
        Damaged: the checksum, or anything else, is not as it was.
    """
    try:
        return _decode(decompress(body))
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise Damaged(str(error)) from error


def compress(data: bytes) -> bytes:
    """Make bytes fewer, with a checksum."""
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(data)


def decompress(body: bytes) -> bytes:
    """What they were.

    Raises:
        zstandard.ZstdError: they are others.
    """
    return zstandard.ZstdDecompressor().decompress(body, max_output_size=_LARGEST)
