"""What people have said of devices: that one is muted for a while, or retired, which is out of service.

That stands in PostgreSQL (`projector/sql/care.sql`), the newest word on each device, numbered in the order in
which all of them were committed. Each projector has them all in memory, so whoever tells can ask. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

What = Literal["muted", "unmuted", "expired", "retired", "unretired", "returned"]
"""The last word: `expired` is a mute that came to its end, `returned` a retired device that sent again."""


class Care(NamedTuple):
    """The newest word on a device.

    Attributes:
        at: since when it holds.
        until: when a mute ends by itself.
        by: who said so, or said what has come to its end by itself.
        version: greater than that of every word before.
        told: whether somebody has told of it.
    """

    device_id: str
    what: What
    at: datetime
    until: datetime | None
    by: str
    reason: str
    version: int
    told: bool

    @property
    def holds(self) -> bool:
        """Whether nobody is told of the device."""
        return self.what in {"muted", "retired"}

    def has_come_back(self, at: int) -> bool:
        """Whether a message that came then, epoch seconds, puts a retired device into service again."""
        return self.what == "retired" and at > self.at.timestamp()

    @property
    def state(self) -> Literal["muted", "retired"]:
        """What the device is, while that holds."""
        return "retired" if self.what == "retired" else "muted"


class Cares:
    """The words that hold, by device.

    Attributes:
        is_known: False until all of them have been read.
        version: of the newest that was read.
    """

    def __init__(self) -> None:
        self.is_known = False
        self.version = 0
        self._held: dict[str, Care] = {}

    def __contains__(self, device_id: object) -> bool:
        return device_id in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def held(self) -> list[Care]:
        """All of them."""
        return list(self._held.values())

    def get(self, device_id: str) -> Care | None:
        """The word that holds for a device."""
        return self._held.get(device_id)

    def retired(self) -> frozenset[str]:
        """The devices that are out of service."""
        return frozenset(id_ for id_, care in self._held.items() if care.what == "retired")

    def take(self, care: Care) -> None:
        """Take a word, newer than all before."""
        self.version = max(self.version, care.version)
        if care.holds:
            self._held[care.device_id] = care
        else:
            self._held.pop(care.device_id, None)

    def is_any_over(self, now: datetime) -> bool:
        """Whether a mute has come to its end."""
        return any(care.until is not None and care.until <= now for care in self._held.values())
