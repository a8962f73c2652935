"""What is made of a ranking, to look through it cheaply."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, ClassVar

from projector.live.index import Index

IDS = [f"D{number}" for number in range(20_000)]


class Counted(dict[str, str | None]):
    """Regions, and how often each device was looked up."""

    looked: ClassVar[Counter[str]] = Counter()

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401  # as a dict's
        """Count and look."""
        self.looked[key] += 1
        return super().get(key, default)


async def test_what_many_need_at_once_is_made_once() -> None:
    """Who asks while regions are gone through waits for that."""
    regions = Counted({id_: ("odd" if id_[-1] in "13579" else "even") for id_ in IDS})
    index = Index(IDS)
    found = await asyncio.gather(*(index.within(region, regions) for region in ("odd", "even", "no") * 5))
    assert [len(ids) for ids in found] == [10_000, 10_000, 0] * 5
    assert set(regions.looked.values()) == {1}
