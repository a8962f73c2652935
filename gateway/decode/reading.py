"""What decoding makes of a delivery: readings to store, rejections to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from contract.events import format_time

if TYPE_CHECKING:
    from datetime import datetime

    from contract.events import RawEvent


class Received(NamedTuple):
    """When a chunk was received.

    Attributes:
        at: UTC; device times are checked against it.
        text: the same in the contract's form.
    """

    at: datetime
    text: str

    @classmethod
    def of(cls, moment: datetime) -> Received:
        """What was received at a moment."""
        return cls(moment, format_time(moment))


class Reading(msgspec.Struct, frozen=True, gc=False):
    """One reading, ready for the three places it goes to.

    Attributes:
        event: the measurement, as the outbox will say it.
        identity: what makes two messages the same: device, key and, where the route says so, device time.
        content: what must then be equal: a change in it is a conflict. Times that the gateway made are left
            out.
        line: its row of `measurements` in COPY text form, all but the last column, `received_at`.
        keyed: whether the device named a key; otherwise the key was made here.
        topic: what it came by.
        raw: its bytes as they came: the payload, or of an array payload its element.
    """

    event: RawEvent
    identity: str
    content: str
    line: str
    keyed: bool
    topic: str
    raw: bytes

    def reject(self, reason: str, error: str) -> Rejection:
        """Refuse it after all."""
        event = self.event
        return Rejection(event.received_at, self.topic, event.device_id, reason, error, self.raw)


class Rejection(NamedTuple):
    """A message, or an element of one, that goes to `dead_letters`.

    Attributes:
        reason: a stable word, see `Reject.reason`.
        error: what was wrong, for a person.
        payload: the bytes as they came.
    """

    received_at: str
    topic: str
    device_id: str | None
    reason: str
    error: str
    payload: bytes
