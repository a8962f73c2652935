"""What people have said of devices: that one is muted for a while, or retired, which is out of service.

That stands in PostgreSQL (`projector/sql/care.sql`), the newest word on each device, numbered in the order in
which all of them were committed. Each projector has them all in memory, so whoever tells can ask. Pure.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

What = Literal["muted", "unmuted", "expired", "retired", "unretired", "returned"]
"""The last word: `expired` is a mute that came to its end, `returned` a retired device that sent again."""


_NEVER: Final = datetime.max.replace(tzinfo=UTC)


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
        retired: the devices that are out of service; `retirements` is another whenever these are.
        changed: called with each word by which nothing is told of a device any more, or something again.
    """

    def __init__(self) -> None:
        self.is_known = False
        self.version = 0
        self.retired: set[str] = set()
        self.retirements = 0
        self.changed: list[Callable[[Care], None]] = []
        self._held: dict[str, Care] = {}
        self._next: datetime | None = None

    def __contains__(self, device_id: object) -> bool:
        return device_id in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def get(self, device_id: str) -> Care | None:
        """The word that holds for a device."""
        return self._held.get(device_id)

    def take(self, care: Care) -> None:
        """Take a word, newer than all before."""
        self.version = max(self.version, care.version)
        before = self._held.pop(care.device_id, None)
        if care.holds:
            self._held[care.device_id] = care
        if before is not None and before.until == self._next:
            self._next = None
        if care.holds and care.until is not None and self._next is not None:
            self._next = min(self._next, care.until)
        is_retired = care.what == "retired"
        if is_retired != (care.device_id in self.retired):
            self.retirements += 1
            (self.retired.add if is_retired else self.retired.remove)(care.device_id)
        if care.holds != (before is not None):
            for tell in self.changed:
                tell(care)

    def is_any_over(self, now: datetime) -> bool:
        """Whether a mute has come to its end; goes through all when it is not known which is the next."""
        if self._next is None:
            ends = (care.until for care in self._held.values() if care.until is not None)
            self._next = min(ends, default=_NEVER)
        return self._next <= now
