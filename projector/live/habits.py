"""What is usual for a device, learned when it matters: its pace, and its region.

Only a device that may be silent is asked about, at most `LOOKUPS` of them a look, who fell quiet last
first; then not again for ten minutes, however often it is heard meanwhile. Whose pace was not found is
asked about again, for what is known of it may not have been written yet, each time after twice as long. So a
fleet that reports seldom, or is silent as a whole, costs little and soon next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from projector.history.sparklines import read_sparklines
from projector.live.attention import suspects, usual_ms
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
_PIECE: Final = 1000


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
        self._habits: dict[str, _Habit] = {}
        self.regions: dict[str, str | None] = {}

    def forget(self) -> None:
        """Nobody looks any more."""
        self._habits.clear()
        self.regions.clear()

    def usual_ms(self, id_: str) -> int | None:
        """How long a device usually takes from one message to the next; None when that is not known."""
        habit = self._habits.get(id_)
        return habit.usual_ms if habit else None

    def keep(self, seen: Mapping[str, int]) -> None:
        """Forget devices that are not among these."""
        for gone in self._habits.keys() - seen.keys():
            del self._habits[gone]
        for gone in self.regions.keys() - seen.keys():
            del self.regions[gone]

    async def learn(self, seen: Mapping[str, int], now_ms: int) -> None:
        """Ask about some of the devices that may be silent.

        Args:
            seen: device → its newest reading, epoch milliseconds.
            now_ms: the time.

        Raises:
            Retry: Redis is away.
        """
        new = [id_ for id_ in suspects(seen, now_ms) if self._unsure(id_, seen[id_], now_ms)][:LOOKUPS]
        if not new:
            return
        lines = await read_sparklines(self._redis, self._keys.prefix, new)
        with answering():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for id_ in new:
                    pipeline.hmget(self._keys.device(id_), ("region", "sample_count"))
                pipeline.hmget(self._keys.expired, new)
                *replies, expired = await pipeline.execute()
        first_seen = await self._first_seen(new)
        for id_, line, (region, samples), once in zip(new, lines, replies, expired, strict=True):
            self.regions[id_] = text(region) if region else None
            usual = usual_ms(
                minutes(line),
                first_seen_ms=None if once else first_seen.get(id_),  # its samples are counted anew
                last_seen_ms=seen[id_],
                samples=number(samples),
            )
            self._habits[id_] = _Habit(usual, now_ms, seen[id_], self._good_for_ms(id_, usual))

    async def learn_regions(self, ids: Iterable[str]) -> None:
        """Ask for the regions of all of these that are not known.

        Raises:
            Retry: Redis is away.
        """
        new = [id_ for id_ in ids if id_ not in self.regions]
        for start in range(0, len(new), _PIECE):
            piece = new[start : start + _PIECE]
            with answering():
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for id_ in piece:
                        pipeline.hget(self._keys.device(id_), "region")
                    replies = await pipeline.execute()
            for id_, region in zip(piece, replies, strict=True):
                self.regions[id_] = text(region) if region else None

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
