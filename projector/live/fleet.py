"""The devices: in what order all of them stand, and the rows that are on a screen.

However many there are, all of them are known; what a look costs is bounded (`census`), and what has to go
through all of them, to rank or to search, does so in pieces between which others have their turn. Who is
silent the watch says. The sparklines of the first rows are read again each ten seconds; they change once a
minute.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final

from projector.history.sparklines import read_sparklines
from projector.live.census import Census
from projector.live.choices import Choice, Choices, Ranking
from projector.live.columns import Columns
from projector.live.pieces import by, in_order, those
from projector.live.places import Places
from projector.live.roster import Roster
from projector.live.rows import make_row, never_heard_row
from projector.live.sparks import spark
from projector.live.state import Devices, Row, Window
from projector.live.tags import Tags
from projector.views import answering

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from projector.live.orders import Order
    from projector.live.state import Letter, Spark
    from projector.views import Keys
    from projector.watch.said import Watch

SHOWN: Final = 60
PLACED: Final = 5000  # a look, of silent ones whose region is not known
_RANK_EVERY: Final = 2  # looks
_SPARKS_EVERY: Final = 10


class Fleet:
    """The devices of one set of views, and in `columns` what they measure."""

    def __init__(self, redis: Redis, keys: Keys, watch: Watch) -> None:
        self._redis = redis
        self._keys = keys
        self._watch = watch
        self.forget()

    def forget(self) -> None:
        """Nobody looks any more."""
        self._looks = 0
        self._roster = Roster()
        self._census = Census(self._redis, self._keys, self._roster)
        self._places = Places(self._redis, self._keys)
        tags = Tags(self._redis, self._keys, self._watch.names)
        self._choices = Choices(self._roster, self._census, self._places, tags)
        self._sparks: dict[str, Spark] = {}
        self.columns = Columns(self._redis, self._keys)
        self._letters: dict[str, list[Letter]] = {}
        self._ranking = Ranking([], [])
        self._retired: list[str] = []  # by name, as of so many
        self._retirements = 0
        self._unheard: list[str] = []  # likewise
        self._unheard_at = 0

    async def look(self, now_ms: int, letters: Iterable[Letter]) -> None:
        """Look who is there, and rank the devices anew when it is time.

        Args:
            now_ms: the time.
            letters: those that came a moment ago, newest first.

        Raises:
            Retry: Redis is away; the ranking is as it was.
        """
        self._looks += 1
        await self._places.learn(await self._census.look(), anew=True)
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
        counts, retired = self._watch.counts(), len(self._ranking.retired)
        total = self._census.total - retired
        if counts is None:
            return Devices(total, len(self._roster.seen), None, 0, self._ranking.ids[:SHOWN], unknown=total)
        return Devices(
            total,
            len(self._roster.seen) - retired,
            counts.silent,
            counts.clock_wrong,
            order=self._ranking.ids[:SHOWN],
            unknown=max(counts.unknown, total - counts.ok - counts.silent - counts.offline - counts.muted),
            muted=counts.muted,
            retired=retired,
            offline=counts.offline,
            never_heard=len(self._ranking.never_heard),
        )

    def silent_by_region(self) -> Counter[str | None]:
        """Region → devices that are silent."""
        regions = self._places.regions
        return Counter(regions[id_] for id_ in self._ranking.silent if id_ in regions)

    def retired_by_region(self) -> Mapping[str | None, int]:
        """Region → devices that are out of service."""
        return self._watch.retired_by_region()

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
                said, letters = self._watch.of(id_), self._letters.get(id_, [])
                rows.append(make_row(id_, reply, said, letters, wanted=wanted))
                self._places.place(id_, reply.get(b"region"))
            elif (said := self._watch.of(id_)).known.never_heard:
                rows.append(never_heard_row(id_, said))
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
            ids = await self.columns.arranged(ids, order, self._places, now_ms, asked=choice)
        rows = await self.rows(ids[start : start + count], metrics)
        return Window(len(ids), rows, sparks=await self._read_sparks([row.id for row in rows], now_ms))

    async def _rank(self, now_ms: int) -> None:
        watch, regions, seen = self._watch, self._places.regions, self._roster.seen
        silent = await those(watch.silent(), seen.__contains__)
        await self._places.learn(islice((id_ for id_ in silent if id_ not in regions), PLACED))
        urgent = await by(silent, lambda id_: watch.of(id_).urgency(now_ms // 1000))
        first = dict.fromkeys(urgent)
        retired = watch.retired()
        refused = {id_: len(letters) for id_, letters in self._letters.items() if id_ not in retired}
        first |= dict.fromkeys(self._roster.refused(refused, first))
        offline = await those(watch.offline(), seen.__contains__)
        first |= dict.fromkeys(await those(offline, lambda id_: id_ not in first))
        others = await those(await self._names(), lambda id_: id_ not in first and id_ not in retired)
        clocks = await those(watch.clocks_wrong(), seen.__contains__)
        if self._retirements != (retirements := watch.retirements):
            self._retired, self._retirements = await in_order(list(retired)), retirements
        out = await those(self._retired, seen.__contains__)
        if self._unheard_at != (unheard_at := watch.names.unheard):
            self._unheard, self._unheard_at = await in_order(list(watch.names.never_heard)), unheard_at
        unheard = await those(self._unheard, lambda id_: id_ not in seen and id_ not in retired)
        self._ranking = Ranking([*first, *others], silent, clocks, out, unheard, watch.names.called, offline)
        self._places.keep(seen)

    async def _names(self) -> list[str]:
        for _ in self._roster.sort():
            await asyncio.sleep(0)
        return self._roster.names

    async def _read_sparks(self, ids: list[str], now_ms: int) -> dict[str, Spark]:
        lines = await read_sparklines(self._redis, self._keys.prefix, ids)
        return {id_: found for id_, each in zip(ids, lines, strict=True) if (found := spark(each, now_ms))}
