"""The devices: who is silent, in what order all of them stand, and the rows that are on a screen.

However many there are, all of them are known; what a look costs is bounded (`roster`, `census`), and what
has to go through all of them, to rank or to search, does so in pieces between which others have their turn.
The sparklines of the first rows are read again each ten seconds; they change once a minute.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final

from projector.history.sparklines import read_sparklines
from projector.live.attention import FLOOR_MS
from projector.live.census import ASKED, Census
from projector.live.choices import Choice, Choices, Ranking
from projector.live.columns import Columns
from projector.live.habits import Habits
from projector.live.pieces import by, pieces, those
from projector.live.roster import Roster
from projector.live.rows import make_row
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

SHOWN: Final = 60
JUDGE_S: Final = 0.2  # a look, for those that may have fallen silent
PLACED: Final = 5000  # a look, of silent ones whose region is not known
ASKED_AGAIN: Final = 5000  # a look, of those that are silent
_RANK_EVERY: Final = 2  # looks
_SPARKS_EVERY: Final = 10


class Fleet:
    """The devices of one set of views, and in `columns` what they measure."""

    def __init__(self, redis: Redis, keys: Keys, truth: Truth) -> None:
        self._redis = redis
        self._keys = keys
        self._truth = truth
        self.forget()

    def forget(self) -> None:
        """Nobody looks any more."""
        self._looks = 0
        self._roster = Roster()
        self._census = Census(self._redis, self._keys, self._roster)
        self._habits = Habits(self._redis, self._keys, self._truth)
        tags = Tags(self._redis, self._keys)
        self._choices = Choices(self._roster, self._census, self._habits, tags)
        self._sparks: dict[str, Spark] = {}
        self.columns = Columns(self._redis, self._keys)
        self._letters: dict[str, list[Letter]] = {}
        self._ranking = Ranking([], 0, frozenset())
        self._again: list[str] = []

    async def look(self, now_ms: int, letters: Iterable[Letter]) -> None:
        """Look who is silent, and rank the devices anew when it is time.

        Args:
            now_ms: the time.
            letters: those that came a moment ago, newest first.

        Raises:
            Retry: Redis is away; the ranking is as it was.
        """
        self._looks += 1
        await self._habits.learn_regions(await self._census.look(), anew=True)
        await self._judge_due(now_ms)
        await self._judge_silent(now_ms)
        for id_ in await self._habits.learn(self._roster.seen, now_ms):
            self._judge(id_, now_ms)
        if self._looks % _RANK_EVERY == 0:
            return
        self._letters = {}
        for letter in letters:
            if letter.device is not None:
                self._letters.setdefault(letter.device, []).append(letter)
        await self.columns.learn(self._roster.seen, now_ms)
        await self._rank(now_ms)

    def devices(self) -> Devices:
        """The fleet, counted, and the ids of its first rows."""
        ids, silent, _ = self._ranking
        return Devices(
            self._census.total, len(self._roster.seen), silent, self._census.ahead, order=ids[:SHOWN]
        )

    def silent_by_region(self) -> Counter[str | None]:
        """Region → devices that are silent."""
        ids, silent, _ = self._ranking
        regions = self._habits.regions
        return Counter(regions[id_] for id_ in ids[:silent] if id_ in regions)

    async def rows(self, ids: list[str], metrics: Sequence[str] = ()) -> list[Row]:
        """The rows of devices with these metrics, or the most common; one that has gone is left out.

        Raises:
            Retry: Redis is away.
        """
        with answering():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for id_ in ids:
                    pipeline.hgetall(self._keys.device(id_))
                replies = await pipeline.execute()
        wanted = metrics or self.columns.first
        rows = []
        for id_, reply in zip(ids, replies, strict=True):
            if reply:
                letters = self._letters.get(id_, [])
                standing, usual = self._standing(id_), self._habits.usual_ms(id_)
                rows.append(make_row(id_, reply, standing, usual, letters, wanted=wanted))
                self._habits.place(id_, reply.get(b"region"))
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
        choice: Choice,
        start: int,
        count: int,
        now_ms: int,
        *,
        order: Order | None = None,
        metrics: Sequence[str] = (),
    ) -> Window:
        """Part of the list.

        Args:
            choice: what it is narrowed by.
            start: index of the first row among those that match.
            count: how many rows.
            now_ms: the time.
            order: None is what needs attention first.
            metrics: whose values to show.

        Raises:
            Retry: Redis is away.
        """
        ids = await self._choices.find(choice, self._ranking, now_ms)
        if order is not None:
            ids = await self.columns.arranged(ids, order, self._habits, now_ms, asked=choice)
        rows = await self.rows(ids[start : start + count], metrics)
        return Window(len(ids), rows, sparks=await self._read_sparks([row.id for row in rows], now_ms))

    async def _judge_due(self, now_ms: int) -> None:
        """Who would be silent by now is, unless something has come from it since."""
        late: list[str] = []
        loop = asyncio.get_running_loop()
        until = loop.time() + JUDGE_S
        while loop.time() < until and (due := self._roster.due(now_ms, ASKED)):
            try:
                await self._census.confirm(due)
            except BaseException:
                self._roster.put_back(due, now_ms)
                raise
            late += [id_ for id_ in due if self._judge(id_, now_ms)]
        for piece in pieces(late[::-1]):  # who fell silent last is asked about first
            for id_ in piece:
                self._habits.want(id_, self._roster.seen.get(id_, now_ms), now_ms)
            await asyncio.sleep(0)

    async def _judge_silent(self, now_ms: int) -> None:
        """Who is silent may have been heard again; some of them are asked in each look."""
        if not self._again:
            self._again = list(self._roster.silent)
        seen = self._roster.seen
        ids = {id_: seen[id_] for id_ in self._again[-ASKED_AGAIN:] if id_ in seen}
        await self._census.confirm(list(ids))
        del self._again[-ASKED_AGAIN:]
        for id_, last_seen_ms in ids.items():
            if seen.get(id_, last_seen_ms) != last_seen_ms:
                self._judge(id_, now_ms)

    def _judge(self, id_: str, now_ms: int) -> bool:
        """Say whether a device is silent, and whether its pace matters by now."""
        last_seen_ms = self._roster.seen.get(id_)
        if last_seen_ms is None:
            return False
        late = now_ms - last_seen_ms > FLOOR_MS
        again_ms = self._habits.again_ms(id_, now_ms) if late else last_seen_ms + FLOOR_MS
        self._roster.judge(id_, self._habits.limit_ms(id_), now_ms, again_ms=again_ms)
        return late

    async def _rank(self, now_ms: int) -> None:
        roster = self._roster
        regions = self._habits.regions
        ids = list(roster.silent)
        await self._habits.learn_regions(islice((id_ for id_ in ids if id_ not in regions), PLACED))
        silent = await by(ids, lambda id_: roster.urgency(id_, now_ms))
        roster.silent = {id_: roster.silent[id_] for id_ in silent}  # nearly sorted the next time
        refused = roster.refused({id_: len(letters) for id_, letters in self._letters.items()})
        urgent = frozenset(refused)
        others = await those(await self._names(), lambda id_: id_ not in roster.silent and id_ not in urgent)
        self._ranking = Ranking([*silent, *refused, *others], len(silent), urgent)
        self._habits.keep(roster.seen)

    async def _names(self) -> list[str]:
        for _ in self._roster.sort():
            await asyncio.sleep(0)
        return self._roster.names

    def _standing(self, id_: str) -> Standing:
        if id_ in self._roster.silent:
            return "silent"
        return "rejected" if id_ in self._ranking.rejected else "ok"

    async def _read_sparks(self, ids: list[str], now_ms: int) -> dict[str, Spark]:
        lines = await read_sparklines(self._redis, self._keys.prefix, ids)
        return {id_: found for id_, each in zip(ids, lines, strict=True) if (found := spark(each, now_ms))}
