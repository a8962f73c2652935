"""The regions as Redis has them, the busiest first.

A look asks for the numbers of those that were the busiest, and of `READ` others by turns; their names are
read anew when there are more or fewer of them, and once a minute. Beyond `MOST` they are only counted.
"""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING, Final, NamedTuple

from projector.live.fields import Fields
from projector.live.rows import number, text
from projector.live.state import Region
from projector.query.regions import RegionNames
from projector.views import answering

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

    from projector.views import Keys

SHOWN: Final = 50
READ: Final = 1000
MOST: Final = 50_000
WINDOW_S: Final = 5.0
_NAMES_EVERY_S: Final = 60.0
_FIELDS: Final = ("device_count", "sample_count")


class _Busy(NamedTuple):
    """What was read of a region, now and about a window earlier, and how fast it was in between."""

    devices: int
    at_s: float
    samples: int
    before_s: float
    before: int
    per_s: float | None


class Regions:
    """Reads regions and remembers how fast they were.

    Attributes:
        total: regions that there are.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._names = RegionNames(redis, keys)
        self._fields = Fields(redis, keys, keys.regions)
        self.forget()

    def forget(self) -> None:
        """Nobody looks any more."""
        self.total = 0
        self._busy: dict[str, _Busy | None] = {}
        self._named = 0
        self._named_s = 0.0
        self._turn: list[str] = []
        self._shown: list[str] = []

    async def look(
        self, at_s: float, silent: Mapping[str | None, int], retired: Mapping[str | None, int]
    ) -> list[Region]:
        """The busiest regions, busiest first.

        Args:
            at_s: of a clock that never goes back.
            silent: region → devices of it that are silent.
            retired: region → devices of it that are out of service, which count no more.

        Raises:
            Retry: Redis is away.
        """
        await self._learn_names(at_s)
        if not self._turn:
            self._turn = list(self._busy)
        turn = {name: None for name in (*self._shown, *self._turn[-READ:]) if name in self._busy}
        del self._turn[-READ:]
        async for name, (devices, samples) in self._fields.read(list(turn), _FIELDS):
            if devices is not None and samples is not None:
                self._busy[name] = _since(self._busy.get(name), number(devices), number(samples), at_s)
        known = {name: each for name, each in self._busy.items() if each}
        total = sum(each.per_s or 0 for each in known.values())
        most = max((each.per_s or 0 for each in known.values()), default=0) or 1
        # About as busy is equally busy, so that the list stands still.
        self._shown = nsmallest(
            SHOWN, known, key=lambda name: (-round(10 * (known[name].per_s or 0) / most), name)
        )
        return [
            Region(
                region=name,
                devices=max(0, known[name].devices - retired.get(name, 0)),
                per_s=known[name].per_s,
                share=round((known[name].per_s or 0) / total, 3) if total else 0,
                silent=silent.get(name, 0),
            )
            for name in self._shown
        ]

    async def _learn_names(self, at_s: float) -> None:
        with answering():
            self.total = await self._redis.hlen(self._keys.region_marks)
            if self.total == self._named and at_s - self._named_s < _NAMES_EVERY_S:
                return
        names: dict[str, None] = {}
        async for piece in self._names.pieces():
            names |= dict.fromkeys(map(text, piece))
            if len(names) >= MOST:
                break
        self._named_s, self._named = at_s, self.total
        self._busy = {name: self._busy.get(name) for name in names}
        self._turn = [*self._turn, *(name for name, each in self._busy.items() if each is None)]


def _since(before: _Busy | None, devices: int, samples: int, at_s: float) -> _Busy:
    """What is known of a region now; a count that went back begins anew."""
    if before is None or samples < before.samples:
        return _Busy(devices, at_s, samples, at_s, samples, None)
    if at_s <= before.at_s:
        return before
    first_s, first = before.before_s, before.before
    if at_s - first_s > 2 * WINDOW_S:
        first_s, first = before.at_s, before.samples
    return _Busy(devices, at_s, samples, first_s, first, round((samples - first) / (at_s - first_s), 1))
