"""What makes it cheap to look through all devices for one word after the other, or for one region.

A device is found by its id and by what people call it.

Made once, when somebody looks, and of one ranking: most of its parts are passed by at a glance, as their
names, put together, do not have the word.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from projector.live.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TOGETHER: Final = 500  # names: about as long to look through as to find that there is nothing
_AT_ONCE: Final = 10
_BETWEEN: Final = "\0"  # in no name; should it be in the word, names are looked at one by one


def has(called: Mapping[str, str], id_: str, folded: str) -> bool:
    """Whether a device has this in its id or its name."""
    return folded in id_.casefold() or (id_ in called and folded in called[id_].casefold())


class Index:
    """Finds devices of a list, in its order; others have their turn in between."""

    def __init__(self, ids: Sequence[str], called: Mapping[str, str] | None = None) -> None:
        self._ids = ids
        self._called = {} if called is None else called
        self._making = asyncio.Lock()
        self._parts: list[tuple[Sequence[str], str]] = []
        self._regions: dict[str | None, list[str]] = {}

    async def having(self, part: str) -> list[str]:
        """Those with this in their id or their name, whatever the case."""
        folded = part.casefold()
        found: list[str] = []
        async with self._making:
            if not self._parts:
                self._parts = await self._read()
        for start in range(0, len(self._parts), _AT_ONCE):
            for ids, text in self._parts[start : start + _AT_ONCE]:
                if folded in text:
                    found += [id_ for id_ in ids if has(self._called, id_, folded)]
            await asyncio.sleep(0)
        return found

    async def within(self, region: str, regions: Mapping[str, str | None]) -> list[str]:
        """Those of a region.

        Args:
            region: its name.
            regions: device → its region, as it is known when somebody first asks.
        """
        async with self._making:
            if not self._regions:
                self._regions = await self._place(regions)
        return self._regions.get(region, [])

    async def _read(self) -> list[tuple[Sequence[str], str]]:
        parts: list[tuple[Sequence[str], str]] = []
        for start in range(0, len(self._ids), _TOGETHER):
            ids = self._ids[start : start + _TOGETHER]
            texts = (f"{id_}{_BETWEEN}{self._called[id_]}" if id_ in self._called else id_ for id_ in ids)
            parts.append((ids, _BETWEEN.join(texts).casefold()))
            if len(parts) % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return parts

    async def _place(self, regions: Mapping[str, str | None]) -> dict[str | None, list[str]]:
        known: dict[str | None, list[str]] = {}
        for piece in pieces(self._ids):
            for id_ in piece:
                known.setdefault(regions.get(id_), []).append(id_)
            await asyncio.sleep(0)
        return known
