"""What decoding makes of a delivery: readings to store, rejections to keep; and when each of them came.

Order of arrival (promise 3): MQTT keeps a publisher's order, and `received_at` keeps it for good. It grows
with each reading of a gateway, by a microsecond at least, and does not go back when the clock does.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from contract.events import format_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contract.events import RawEvent

COPY_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})

_MILLISECOND: Final = timedelta(milliseconds=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_ENDS: Final = tuple(f"{micros:03d}Z" for micros in range(1000))


class Received:
    """Times of arrival, each later than the one before.

    Attributes:
        at: what the clock said of the readings under way, UTC; device times are checked against it.
        next: gives the next time, in the contract's form.
        last: the last one that was given; empty when none was.
    """

    __slots__ = ("at", "last", "next")

    def __init__(self, at: datetime) -> None:
        self.at = at
        self.last = ""
        self.next = self._from(at).__next__

    @classmethod
    def of(cls, moment: datetime) -> Received:
        """What was received from a moment on."""
        return cls(moment.astimezone(UTC))

    def reach(self, now: datetime) -> timedelta:
        """Go on from now; returns by how much the times are ahead of it, as when the clock went back."""
        self.at = now
        if format_utc(now) > self.last:
            self.next = self._from(now).__next__
            return timedelta()
        return datetime.fromisoformat(self.last) - now

    def resume(self, at: datetime, after: str | None) -> timedelta:
        """Go on from a moment that is over, as it was then; returns the same as `reach`.

        Args:
            at: what the clock said.
            after: the time that had been given last; None when that is the last one now.
        """
        if after is not None:
            self.last = after
            if format_utc(at) <= after:
                self.next = self._from(datetime.fromisoformat(after) + _MICROSECOND).__next__
        return self.reach(at)

    def _from(self, moment: datetime) -> Iterator[str]:
        while True:  # a thousand at a time: every message asks for one
            beginning = format_utc(moment)[:-4]
            for end in _ENDS[moment.microsecond % 1000 :]:
                self.last = beginning + end
                yield self.last
            moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000) + _MILLISECOND


class Reading(msgspec.Struct, frozen=True, gc=False):
    """One reading, ready for the three places it goes to.

    Attributes:
        event: the measurement, as the outbox will say it.
        identity: what makes two messages the same, unless their content differs: that is a conflict.
        line: its row of `measurements` in COPY text form.
        keyed: whether the device named a key; otherwise the key was made here.
        topic: what it came by.
        raw: its bytes as they came: the payload, or of an array payload its element.
        digest: of these, where other readings have the same payload; empty otherwise.
        kept: whether the broker had kept it, and sends a copy: nobody knows since when it is so.
    """

    event: RawEvent
    identity: str
    line: str
    keyed: bool
    topic: str
    raw: bytes
    digest: str = ""
    kept: bool = False

    @property
    def content(self) -> str:
        """All of its bytes, as a text that PostgreSQL can hold; their digest where several share them."""
        if self.digest:
            return self.digest
        try:
            text = self.raw.decode()
        except UnicodeDecodeError:
            text = "\x00"
        return text if "\x00" not in text else digest_of(self.raw)

    @property
    def former_content(self) -> str:
        """What the first version took for its content: keys that they claimed hold a digest of it."""
        event = self.event
        columns = (event.device_id, event.key, event.region, bytes(event.metrics).decode())
        stated = "" if event.ts == event.received_at else f"{event.ts}\t"
        return stated + "\t".join("\\N" if c is None else c.translate(COPY_ESCAPES) for c in columns)

    def reject(self, reason: str, error: str) -> Rejection:
        """Refuse it after all."""
        event = self.event
        return Rejection(event.received_at, self.topic, event.device_id, reason, error, self.raw, event.key)


def as_kept(items: Iterable[Reading | Rejection]) -> list[Reading | Rejection]:
    """What a copy came to that the broker had kept."""
    return [msgspec.structs.replace(item, kept=True) if isinstance(item, Reading) else item for item in items]


def digest_of(raw: bytes) -> str:
    """What stands for bytes; no text that a message can be."""
    return f"\x01{hashlib.blake2b(raw).hexdigest()}"


class Rejection(NamedTuple):
    """A message, or an element of one, that goes to `dead_letters`.

    Attributes:
        reason: a stable word, see `Reject.reason`.
        error: what was wrong, for a person.
        payload: the bytes as they came.
        key: of a reading that was refused after all.
        stands_for: of a message of several devices, those of them that it stands for; empty for all of it.
    """

    received_at: str
    topic: str
    device_id: str | None
    reason: str
    error: str
    payload: bytes
    key: str = ""
    stands_for: tuple[str, ...] = ()
