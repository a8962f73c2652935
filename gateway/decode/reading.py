"""What decoding makes of a delivery: readings to store, rejections to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.decode import json_format

if TYPE_CHECKING:
    from contract.events import RawEvent
    from runtime.mqtt.port import Delivery


class Source(NamedTuple):
    """Where a reading came from.

    Attributes:
        place: its place in an array payload, or -1 when the payload is the reading.
    """

    delivery: Delivery
    place: int

    def payload(self) -> bytes:
        """The bytes of this reading as they came."""
        if self.place < 0:
            return self.delivery.payload
        return json_format.element(self.delivery.payload, self.place)


class Reading(NamedTuple):
    """One reading, ready for the three places it goes to.

    Attributes:
        event: the measurement, as the outbox will say it.
        identity: what makes two messages the same: device, key and, where the route says so, device time.
        content: what must then be equal: a change in it is a conflict. Times that the gateway made are left
            out.
        line: its row of `measurements` in COPY text form, all but the last column, `received_at`.
        keyed: whether the device named a key; otherwise the key was made here.
    """

    event: RawEvent
    identity: str
    content: str
    line: str
    keyed: bool
    source: Source


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
