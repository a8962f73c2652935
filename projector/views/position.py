"""Where a set of views is: its keys in Redis, and how far it has come on every stream."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from contract.events import format_time
from contract.views import (
    CURSORS,
    DAMAGED,
    EPOCHS,
    EXPIRED,
    FORMAT,
    OUTDATED,
    REGIONS_DROPPED,
    STAGED,
    UNFINISHED,
    VIEWS_FORMAT,
    device_key,
)
from runtime.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Mapping


class Keys:
    """Names of the keys of one set of views.

    Args:
        prefix: goes before every key; a hash tag such as `{edge}:` keeps them in one slot of a Redis Cluster.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.cursor = f"{prefix}{CURSORS}"
        self.epoch = f"{prefix}{EPOCHS}"
        self.device_marks = f"{prefix}projector:marks:devices"
        self.region_marks = f"{prefix}projector:marks:regions"
        self.last_seen = f"{prefix}devices:last_seen"
        self.clock_ahead = f"{prefix}devices:clock_ahead"
        self.expired = f"{prefix}{EXPIRED}"
        self.staged = f"{prefix}projector:staged"
        self.devices = device_key(prefix, "")
        self.regions = f"{prefix}region:stats:"

    @property
    def fixed(self) -> tuple[str, ...]:
        """The keys that a set has once, in the order in which the scripts take them."""
        return (
            *(self.cursor, self.epoch, self.device_marks, self.region_marks),
            *(self.last_seen, self.clock_ahead, self.expired, self.staged),
        )

    def device(self, device_id: str) -> str:
        """The hash with a device's statistics."""
        return self.devices + device_id

    def region(self, region: str) -> str:
        """The hash with a region's statistics."""
        return self.regions + region


class Seen(NamedTuple):
    """A row that was read: its position, and when it was written, in the contract's form.

    No two histories of a stream have a row in common once they part, because they wrote it at different
    times. So whoever finds one of its rows unchanged knows that all before it are.
    """

    n: int
    created_at: str


class Cursor(NamedTuple):
    """How far the views have come on a stream; n is 0 and the epoch None when they know nothing of it.

    Attributes:
        written_at: when the row was written, in the contract's form; None when that is not known.
        confirmed: the last row that PostgreSQL was known to have when asked; None when that is not known.
    """

    n: int
    epoch: str | None
    written_at: str | None = None
    confirmed: Seen | None = None


class Marks(dict[int, Cursor]):
    """How far a set of views has come, by stream; what it has nothing of is at row 0.

    While the set is being replaced (`projector/repair/swap.py`), or was not to the end, or has been given
    up, every epoch is `UNFINISHED`; `OUTDATED`, when the set was written by another version, whose marks
    mean something else, and `DAMAGED`, when a stream has an epoch and no cursor, or there are views and
    neither.

    Args:
        views: whether there are views.

    Attributes:
        staged: whether some views lag behind the cursors (`setting.py`).
        regions_dropped: how many regions have made room for others (`projector/expiry/regions.py`).
    """

    def __init__(self, cursors: Mapping[bytes, bytes], epochs: Mapping[bytes, bytes], *, views: bool) -> None:
        unusable: str | None = None
        if UNFINISHED.encode() in epochs:
            unusable = UNFINISHED
        elif cursors and epochs.get(FORMAT.encode()) != VIEWS_FORMAT.encode():
            unusable = OUTDATED
        elif any(stream.isdigit() and stream not in cursors for stream in epochs) or (
            views and not cursors and FORMAT.encode() not in epochs
        ):
            unusable = DAMAGED
        self._missing = Cursor(0, unusable)
        self.staged = STAGED.encode() in epochs
        self.regions_dropped = int(epochs.get(REGIONS_DROPPED.encode(), 0))
        for stream, n in cursors.items():
            epoch = epochs[stream].decode() if stream in epochs else None
            written_at = _time(epochs.get(b"%s:written_at" % stream, b""))
            row, _, at = epochs.get(b"%s:confirmed" % stream, b"").partition(b" ")
            confirmed = Seen(int(row), _time(at) or "") if at else None
            self[int(stream)] = Cursor(int(n), self._missing.epoch or epoch, written_at, confirmed)

    def __missing__(self, stream: int) -> Cursor:
        """Nothing of the stream is in the views."""
        return self._missing


def _time(text: bytes) -> str | None:
    """A time in the contract's form; None when there is none.

    Raises:
        ValueError: it is something else.
    """
    if not text:
        return None
    time = text.decode()
    if time != format_time(datetime.fromisoformat(time)):
        raise ValueError(f"{time!r} is no time of ours")
    return time


def as_marks(cursors: Mapping[bytes, bytes], epochs: Mapping[bytes, bytes], *, views: bool) -> Marks:
    """Read the hashes `projector:cursor` and `projector:epoch`, beside which there are views, or not.

    Raises:
        Retry: they hold something else.
    """
    try:
        return Marks(cursors, epochs, views=views)
    except ValueError as error:
        raise Retry(
            "redis", f"projector:cursor or projector:epoch holds what is none of ours: {error}"
        ) from error
