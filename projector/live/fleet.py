"""The devices: which are watched, in what order they stand, and the rows that are on a screen.

Every other look reads the newest readings of the `SCOPE` devices that have been silent for longest, in one
command. The sparklines of the first rows are read again each ten seconds, which is about when they change.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain, repeat
from math import isfinite
from typing import TYPE_CHECKING, Final, cast

from projector.history.sparklines import read_sparklines
from projector.live.attention import Ranking, rank
from projector.live.columns import SHOWN as COLUMNS
from projector.live.columns import Columns
from projector.live.habits import Habits
from projector.live.rows import make_row, text
from projector.live.sparks import spark
from projector.live.state import Devices, Row, Window
from projector.live.tags import Tags
from projector.views import answering

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis

    from projector.live.orders import Order
    from projector.live.state import Letter, Spark, Standing
    from projector.live.truth import Truth
    from projector.views import Keys

SCOPE: Final = 20_000
SHOWN: Final = 60
_RANK_EVERY: Final = 2  # looks
_SPARKS_EVERY: Final = 10
_NOBODY: Final = Ranking([], 0, 0)


class Fleet:
    """The devices of one set of views."""

    def __init__(self, redis: Redis, keys: Keys, truth: Truth) -> None:
        self._redis = redis
        self._keys = keys
        self._habits = Habits(redis, keys, truth)
        self._tags = Tags(redis, keys)
        self._columns = Columns(redis, keys)
        self.forget()

    def forget(self) -> None:
        """Nobody looks any more."""
        self._looks = 0
        self._total = self._ahead = 0
        self._seen: dict[str, int] = {}
        self._sparks: dict[str, Spark] = {}
        self._habits.forget()
        self._tags.forget()
        self._columns.forget()
        self._letters: dict[str, list[Letter]] = {}
        self._ranking = _NOBODY
        self._standings: dict[str, Standing] = {}

    async def look(self, now_ms: int, letters: Iterable[Letter]) -> None:
        """Rank the devices anew, when it is time.

        Args:
            now_ms: the time.
            letters: those that came a moment ago, newest first.

        Raises:
            Retry: Redis is away; the ranking is as it was.
        """
        self._looks += 1
        if self._looks % _RANK_EVERY == 0:
            await self._habits.learn(self._seen, now_ms)
            return
        self._letters = {}
        for letter in letters:
            if letter.device is not None:
                self._letters.setdefault(letter.device, []).append(letter)
        await self._read()
        await self._habits.learn(self._seen, now_ms)
        await self._columns.learn(self._seen, now_ms)
        rejected = {id_: len(letters) for id_, letters in self._letters.items()}
        self._ranking = ranking = rank(self._seen, self._habits.usual_ms, rejected, now_ms)
        words: Iterable[Standing] = chain(
            repeat("silent", ranking.silent), repeat("rejected", ranking.rejected)
        )
        self._standings = dict(zip(ranking.ids, words, strict=False))

    def devices(self) -> Devices:
        """The fleet, counted, and the ids of its first rows."""
        ranking = self._ranking
        return Devices(self._total, len(self._seen), ranking.silent, self._ahead, order=ranking.ids[:SHOWN])

    def metrics(self) -> list[str]:
        """Metrics of the fleet, the most common first."""
        return self._columns.common

    def silent_by_region(self) -> Counter[str | None]:
        """Region → devices that are silent; as far as their regions are known."""
        silent = self._ranking.ids[: self._ranking.silent]
        regions = self._habits.regions
        return Counter(regions[id_] for id_ in silent if id_ in regions)

    async def rows(self, ids: list[str], metrics: Sequence[str] = ()) -> list[Row]:
        """The rows of these devices; one that has gone meanwhile is left out.

        Args:
            ids: the devices.
            metrics: to show; the most common ones when none are named.

        Raises:
            Retry: Redis is away.
        """
        with answering():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for id_ in ids:
                    pipeline.hgetall(self._keys.device(id_))
                replies = await pipeline.execute()
        wanted = metrics or self._columns.common[:COLUMNS]
        rows = []
        for id_, reply in zip(ids, replies, strict=True):
            if reply:
                standing, letters = self._standings.get(id_, "ok"), self._letters.get(id_, [])
                rows.append(
                    make_row(id_, reply, standing, self._habits.usual_ms(id_), letters, wanted=wanted)
                )
                self._habits.regions[id_] = rows[-1].region
        return rows

    async def first_sparks(self, rows: list[Row], now_ms: int) -> dict[str, Spark]:
        """The last hour of the first rows, by device.

        Raises:
            Retry: Redis is away.
        """
        old = {} if self._looks % _SPARKS_EVERY == 1 else self._sparks
        new = await self._read_sparks([row.id for row in rows if row.id not in old], now_ms)
        self._sparks = {row.id: found for row in rows if (found := new.get(row.id) or old.get(row.id))}
        return self._sparks

    async def device(self, id_: str, now_ms: int) -> tuple[Row | None, Spark | None]:
        """One device, be it in sight or not.

        Raises:
            Retry: Redis is away.
        """
        rows = await self.rows([id_])
        sparks = await self._read_sparks([id_], now_ms)
        return rows[0] if rows else None, sparks.get(id_)

    async def window(
        self,
        part: str,
        region: str | None,
        start: int,
        count: int,
        now_ms: int,
        *,
        tag: str | None,
        ahead: bool,
        order: Order | None = None,
        metrics: Sequence[str] = (),
    ) -> Window:
        """Part of the list.

        Args:
            part: of the ids, whatever their case; empty for all.
            region: None for all.
            start: index of the first row among those that match.
            count: how many rows.
            now_ms: the time.
            tag: `name:value`; None for all.
            ahead: only those whose clock is, be they in sight or not.
            order: None is what needs attention first.
            metrics: whose values to show.

        Raises:
            Retry: Redis is away.
        """
        ids = self._ranking.ids
        if ahead:
            with answering():
                members = await self._redis.zrange(self._keys.clock_ahead, 0, SCOPE - 1, desc=True)
            wanted = dict.fromkeys(map(text, cast("list[bytes]", members)))
            # Their times are the newest there are: in a large fleet they are not among the watched.
            ids = list(dict.fromkeys(chain((id_ for id_ in ids if id_ in wanted), wanted)))
        if region is not None:
            await self._habits.learn_regions(ids)
            ids = [id_ for id_ in ids if self._habits.regions.get(id_) == region]
        if part:
            ids = [id_ for id_ in ids if part.casefold() in id_.casefold()]
        if tag is not None:
            ids = await self._tags.having(ids, tag, now_ms)
        if order is not None:
            ids = await self._columns.arranged(
                ids, order, seen=self._seen, habits=self._habits, now_ms=now_ms
            )
        rows = await self.rows(ids[start : start + count], metrics)
        return Window(len(ids), rows, sparks=await self._read_sparks([row.id for row in rows], now_ms))

    async def _read(self) -> None:
        with answering():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.zcard(self._keys.last_seen)
                pipeline.zrange(self._keys.last_seen, 0, SCOPE - 1, withscores=True)
                pipeline.zcard(self._keys.clock_ahead)
                self._total, found, self._ahead = await pipeline.execute()
        self._seen = {text(raw): int(score) for raw, score in found if isfinite(score)}
        self._habits.keep(self._seen)

    async def _read_sparks(self, ids: list[str], now_ms: int) -> dict[str, Spark]:
        lines = await read_sparklines(self._redis, self._keys.prefix, ids)
        return {id_: found for id_, each in zip(ids, lines, strict=True) if (found := spark(each, now_ms))}
