"""What is usual for a device, learned when it matters: its pace, and its region.

Only a device that may be silent is asked about, at most `LOOKUPS` of them a look, who fell quiet last
first; then not again for ten minutes, however often it is heard meanwhile. Whose pace was not found is
asked about again, for what is known of it may not have been written yet, each time after twice as long. So a
fleet that reports seldom, or is silent as a whole, costs little and soon next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from projector.history.sparklines import read_sparklines
from projector.live.attention import silent_after_ms, usual_ms
from projector.live.fields import Fields
from projector.live.rows import number, text
from projector.live.sparks import minutes
from projector.views import answering
from runtime.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from redis.asyncio import Redis

    from projector.live.truth import Truth
    from projector.views import Keys

LOOKUPS: Final = 250
_GOOD_FOR_MS: Final = 600_000
_AGAIN_MS: Final = 4000


class _Habit(NamedTuple):
    """What was found, when, which reading was the newest then, and for how long it is not asked again."""

    usual_ms: int | None
    found_ms: int
    last_seen_ms: int
    good_for_ms: int


class Habits:
    """What is known of the devices of one set of views.

    Attributes:
        regions: device → region, of those that were asked about or shown.
    """

    def __init__(self, redis: Redis, keys: Keys, truth: Truth) -> None:
        self._redis = redis
        self._keys = keys
        self._truth = truth
        self._fields = Fields(redis, keys, keys.devices)
        self._habits: dict[str, _Habit] = {}
        self._wanted: dict[str, None] = {}  # the last one is asked about first
        self._regions: dict[str, str] = {}
        self.regions: dict[str, str | None] = {}

    def usual_ms(self, id_: str) -> int | None:
        """How long a device usually takes from one message to the next; None when that is not known."""
        habit = self._habits.get(id_)
        return habit.usual_ms if habit else None

    def limit_ms(self, id_: str) -> int:
        """How old its newest reading may be before it is called silent."""
        return silent_after_ms(self.usual_ms(id_))

    def again_ms(self, id_: str, now_ms: int) -> int:
        """When to look again at a device that may be silent, for its pace may be another by then."""
        habit = self._habits.get(id_)
        if habit and habit.usual_ms is None and habit.found_ms + habit.good_for_ms > now_ms:
            return habit.found_ms + habit.good_for_ms
        return now_ms + _GOOD_FOR_MS

    def want(self, id_: str, last_seen_ms: int, now_ms: int) -> None:
        """A device may be silent: ask about it soon, if what is known of it is not enough."""
        if self._unsure(id_, last_seen_ms, now_ms):
            self._wanted.pop(id_, None)
            self._wanted[id_] = None

    async def learn(self, seen: Mapping[str, int], now_ms: int) -> list[str]:
        """Ask about some of the devices that may be silent, and say about which.

        Args:
            seen: device → its newest reading, epoch milliseconds.
            now_ms: the time.

        Raises:
            Retry: Redis is away.
        """
        new: list[str] = []
        while self._wanted and len(new) < LOOKUPS:
            id_, _ = self._wanted.popitem()
            if id_ in seen and self._unsure(id_, seen[id_], now_ms):
                new.append(id_)
        if not new:
            return new
        try:
            await self._ask(new, seen, now_ms)
        except BaseException:
            self._wanted |= dict.fromkeys(reversed(new))
            raise
        return new

    async def learn_regions(self, ids: Iterable[str], *, anew: bool = False) -> None:
        """Ask for the regions of these, as far as they are not known.

        Args:
            ids: devices.
            anew: of those also that are known.

        Raises:
            Retry: Redis is away.
        """
        new = [id_ for id_ in ids if anew or id_ not in self.regions]
        async for id_, (region,) in self._fields.read(new, ("region",)):
            self.place(id_, region)

    def place(self, id_: str, region: bytes | None) -> None:
        """Note a device's region as its hash has it."""
        name = text(region) if region else None
        self.regions[id_] = name and self._regions.setdefault(name, name)  # one text for all of a region

    def keep(self, seen: Mapping[str, int]) -> None:
        """Forget devices that are not among these."""
        for known in (self._habits, self.regions):
            if len(known) > len(seen):
                for gone in known.keys() - seen.keys():
                    del known[gone]

    async def _ask(self, new: list[str], seen: Mapping[str, int], now_ms: int) -> None:
        lines = await read_sparklines(self._redis, self._keys.prefix, new)
        with answering():
            expired = await self._redis.hmget(self._keys.expired, new)
        first_seen = await self._first_seen(new)
        counts: dict[str, int] = {}
        async for id_, (region, samples) in self._fields.read(new, ("region", "sample_count")):
            self.place(id_, region)
            counts[id_] = number(samples)
        for id_, line, once in zip(new, lines, expired, strict=True):
            last_seen_ms = seen.get(id_, now_ms)
            usual = usual_ms(
                minutes(line),
                first_seen_ms=None if once else first_seen.get(id_),  # its samples are counted anew
                last_seen_ms=last_seen_ms,
                samples=counts[id_],
            )
            self._habits[id_] = _Habit(usual, now_ms, last_seen_ms, self._good_for_ms(id_, usual))

    def _unsure(self, id_: str, last_seen_ms: int, now_ms: int) -> bool:
        habit = self._habits.get(id_)
        if habit is None:
            return True
        if habit.usual_ms is not None and habit.last_seen_ms == last_seen_ms:
            return False
        return now_ms - habit.found_ms > habit.good_for_ms

    def _good_for_ms(self, id_: str, usual: int | None) -> int:
        if usual is not None:
            return _GOOD_FOR_MS
        before = self._habits.get(id_)
        return min(2 * before.good_for_ms, _GOOD_FOR_MS) if before and before.usual_ms is None else _AGAIN_MS

    async def _first_seen(self, ids: list[str]) -> dict[str, int]:
        try:
            return await self._truth.first_seen(ids)
        except Retry:  # who sends seldom has no usual interval then, until it is heard again
            return {}
