"""Which devices a viewer chose, in the order in which all of them were ranked.

Each viewer asks again every two seconds, and who is meant is looked for among all devices: so what was found
is kept until they are ranked anew. Pages ask right after that, all at once: who asks for what is being looked
for waits for that, and whoever leaves leaves it to the others.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from projector.live.index import Index
from projector.live.pieces import those

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from projector.live.census import Census
    from projector.live.places import Places
    from projector.live.roster import Roster
    from projector.live.tags import Tags

KEPT_IDS: Final = 2_000_000  # of all choices: sixteen megabytes
_KEPT: Final = 500
_GOOD_FOR_MS: Final = 2500  # should nobody rank them


class Ranking(NamedTuple):
    """Devices in order of attention.

    Attributes:
        ids: silent ones, those rejected a moment ago, then all others.
        silent: who fell silent, the first first.
    """

    ids: list[str]
    silent: list[str]


class Choice(NamedTuple):
    """What the list is narrowed by.

    Attributes:
        part: of the ids, whatever their case; empty for all.
        region: None for all.
        tag: `name:value`; None for all.
        ahead: only those whose clock is.
        recent: only those that are silent, who fell silent last first.
        among: only these; None for all.
    """

    part: str = ""
    region: str | None = None
    tag: str | None = None
    ahead: bool = False
    recent: bool = False
    among: frozenset[str] | None = None


class Choices:
    """Finds those that were chosen among the devices of a roster."""

    def __init__(self, roster: Roster, census: Census, places: Places, tags: Tags) -> None:
        self._roster = roster
        self._census = census
        self._places = places
        self._tags = tags
        self._ranking: Ranking | None = None
        self._index = Index(())
        self._since_ms = 0
        self._kept: dict[Choice, list[str]] = {}
        self._sought: dict[Choice, asyncio.Task[list[str]]] = {}
        self._learning = asyncio.Lock()

    async def find(self, choice: Choice, ranking: Ranking, now_ms: int) -> list[str]:
        """The devices of a choice.

        Raises:
            Retry: Redis is away.
        """
        if choice == Choice():
            return ranking.ids
        if ranking is not self._ranking or now_ms - self._since_ms > _GOOD_FOR_MS:
            self._ranking, self._since_ms = ranking, now_ms
            self._kept, self._sought, self._index = {}, {}, Index(ranking.ids)
        if choice in self._kept:
            return self._kept[choice]
        if choice not in self._sought:
            seeking = self._seek(choice, ranking, now_ms)
            self._sought[choice] = asyncio.create_task(seeking, name="live-seek")
        return await asyncio.shield(self._sought[choice])

    def _seek(self, choice: Choice, ranking: Ranking, now_ms: int) -> Coroutine[None, None, list[str]]:
        """Find and keep, with what there is of this ranking; another may come meanwhile."""
        index, kept, sought = self._index, self._kept, self._sought

        async def seek() -> list[str]:
            try:
                found = kept[choice] = await self._find(choice, ranking, index, now_ms)
            finally:
                del sought[choice]
            while len(kept) > _KEPT or sum(map(len, kept.values())) > KEPT_IDS:
                del kept[next(iter(kept))]
            return found

        return seek()

    async def _find(self, choice: Choice, ranking: Ranking, index: Index, now_ms: int) -> list[str]:
        part, region, tag, ahead, recent, among = choice
        ids = ranking.ids
        if recent:
            ids = ranking.silent[::-1]
        if ahead:
            wanted = dict.fromkeys(await self._census.clocks_ahead())
            some = await those(ids, wanted.__contains__)
            ids = some if recent else list(dict.fromkeys([*some, *wanted]))
        if part:
            if ids is ranking.ids:
                ids = await index.having(part)
            else:
                folded = part.casefold()
                ids = await those(ids, lambda id_: folded in id_.casefold())
            if not recent and part not in self._roster.seen and await self._census.find(part):
                ids = [part, *ids]  # so new that it has no place yet
        if region is not None:
            async with self._learning:
                await self._places.learn(ids)
            regions = self._places.regions
            if ids is ranking.ids:
                ids = await index.within(region, regions)
            else:
                ids = await those(ids, lambda id_: regions.get(id_) == region)
        if among is not None:
            ids = await those(ids, among.__contains__)
        return ids if tag is None else await self._tags.having(ids, tag, now_ms)
