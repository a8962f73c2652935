"""Which devices a viewer chose, in the order in which all of them were ranked.

Each viewer asks again every two seconds, and who is meant is looked for among all devices: so what was found
is kept until they are ranked anew. Pages ask right after that, all at once: who asks for what is being looked
for waits for that, and whoever leaves leaves it to the others.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from projector.live.index import Index, has
from projector.live.pieces import those

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

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
        ids: silent ones, those rejected a moment ago, those that said they are offline, then all others that
            are in service.
        silent: who fell silent, the first first.
        clocks: those whose clock is wrong, the first to be found out first.
        retired: those that are out of service.
        never_heard: those that the registry names and that never sent.
        called: device → what people call it.
        offline: those that said so, the first to be found out first.
    """

    ids: list[str]
    silent: list[str]
    clocks: Sequence[str] = ()
    retired: Sequence[str] = ()
    never_heard: Sequence[str] = ()
    called: Mapping[str, str] = {}
    offline: Sequence[str] = ()


class Choice(NamedTuple):
    """What the list is narrowed by.

    Attributes:
        part: of ids or names, whatever their case; empty for all.
        region: None for all.
        tag: `name:value`; None for all.
        clock: only those whose clock is wrong.
        recent: only those that are silent, who fell silent last first.
        among: only these; None for all.
        retired: only those that are out of service, who are not found without it but by their whole id.
        never_heard: only those that never sent; others they follow where a part or a tag is asked for.
        offline: only those that said so.
    """

    part: str = ""
    region: str | None = None
    tag: str | None = None
    clock: bool = False
    recent: bool = False
    among: frozenset[str] | None = None
    retired: bool = False
    never_heard: bool = False
    offline: bool = False


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
            self._kept, self._sought = {}, {}
            self._index = Index(ranking.ids, ranking.called)
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
        ids = _narrowed(choice, ranking)
        if choice.clock:
            ids = await those(ids, frozenset(ranking.clocks).__contains__)
        if choice.offline:
            ids = await those(ids, frozenset(ranking.offline).__contains__)
        if choice.part:
            ids = await self._having(choice, ids, ranking, index)
        if choice.region is not None:
            async with self._learning:
                await self._places.learn(ids)
            regions = self._places.regions
            if ids is ranking.ids:
                ids = await index.within(choice.region, regions)
            else:
                ids = await those(ids, lambda id_: regions.get(id_) == choice.region)
        if choice.among is not None:
            ids = await those(ids, choice.among.__contains__)
        if choice._replace(part="", tag=None) == Choice():  # else it is of something that they do not have
            ids = [*ids, *await _named(choice.part, ranking.never_heard, ranking)]
        return ids if choice.tag is None else await self._tags.having(ids, choice.tag, now_ms)

    async def _having(self, choice: Choice, ids: list[str], ranking: Ranking, index: Index) -> list[str]:
        part = choice.part
        if ids is ranking.ids:
            found = await index.having(part)
        else:
            found = await _named(part, ids, ranking)
        is_all = not (choice.recent or choice.retired or choice.never_heard)
        return [part, *found] if is_all and await self._is_beside(part, ranking) else found

    async def _is_beside(self, id_: str, ranking: Ranking) -> bool:
        """Whether a device has no place in the order: it is so new, or it is retired."""
        if id_ in self._roster.seen:
            return id_ in ranking.retired
        return await self._census.find(id_)


def _narrowed(choice: Choice, ranking: Ranking) -> list[str]:
    if choice.never_heard:
        return list(ranking.never_heard)
    if choice.retired:
        return list(ranking.retired)
    return ranking.silent[::-1] if choice.recent else ranking.ids


async def _named(part: str, ids: Sequence[str], ranking: Ranking) -> list[str]:
    folded = part.casefold()
    return await those(ids, lambda id_: has(ranking.called, id_, folded))
