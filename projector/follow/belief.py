"""What of the topic is believed: rows that their stream's gateway has signed, and nothing else.

Whoever may publish at the broker may be somebody else. A message that is not signed with the key that
PostgreSQL has of its stream changes nothing and is not even decoded. It is a hint that there may be a row to
be read: from a gateway of before, or from one that signs with a newer key than was known a moment ago. What
is signed is as the outbox has it, and its times are looked at all the same, so that what comes this way is no
less sound than what is read there. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from contract.events import unwrap
from contract.order import check_times, is_time
from contract.signature import has_seal, is_sealed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contract.events import EventBatch

Reason = Literal["no_key", "unsigned", "wrong_signature", "undecodable"]

REASONS: Final[dict[Reason, str]] = {
    "no_key": "its gateway is older, or may not write stream_keys: rows are read from PostgreSQL meanwhile",
    "unsigned": "somebody else publishes on the internal topic: close it to all but gateways "
    "(mosquitto.acl); or its gateway lost its rights on stream_keys, and says rows_unsigned",
    "wrong_signature": "somebody else publishes on the internal topic: close it to all but gateways "
    "(mosquitto.acl); a few after a failover are of the history before",
    "undecodable": "its gateway is of another version: rows are read from PostgreSQL meanwhile",
}
"""Why a message is not believed, and what to do about it."""


class NotBelieved(ValueError):  # noqa: N818  # no error: anybody may publish anything
    """A message that is no row of its stream, as far as can be told."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason: Reason = reason


def read_row(stream: int, message: bytes, keys: Mapping[int, bytes]) -> EventBatch:
    """The row that a message on a stream's topic is.

    Args:
        stream: whose topic it came by.
        message: as it came.
        keys: of streams.

    Raises:
        NotBelieved: it is none, or nobody can tell.
    """
    key = keys.get(stream)
    if key is None:
        raise NotBelieved("no_key")
    if not is_sealed(key, message):
        raise NotBelieved("wrong_signature" if has_seal(message) else "unsigned")
    try:
        return _decode(stream, message)
    except ValueError as error:  # msgspec's errors are ValueErrors too
        raise NotBelieved("undecodable", str(error)) from error


def _decode(stream: int, message: bytes) -> EventBatch:
    row = unwrap(message)
    check_times(row.events)
    if row.stream != stream or not is_time(row.created_at):
        raise ValueError(f"it is row {row.n} of stream {row.stream}, written at {row.created_at!r}")
    return row
