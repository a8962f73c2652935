"""The regions as Redis has them, the busiest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from projector.live.rates import Rate
from projector.live.rows import number, text
from projector.live.state import Region
from projector.views import answering

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

    from projector.views import Keys

SHOWN: Final = 50
READ: Final = 500
_FIELDS: Final = ("device_count", "sample_count")


class Regions:
    """Reads regions and remembers how fast they were."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._rates: dict[str, Rate] = {}

    async def look(self, at_s: float, silent: Mapping[str | None, int]) -> list[Region]:
        """The busiest regions, busiest first.

        Args:
            at_s: of a clock that never goes back.
            silent: region → devices of it that are silent.

        Raises:
            Retry: Redis is away.
        """
        found = await self._read()
        for gone in self._rates.keys() - found.keys():
            del self._rates[gone]
        for region, (_, samples) in found.items():
            self._rates.setdefault(region, Rate()).add(at_s, samples)
        per_s = {region: self._rates[region].per_s for region in found}
        total = sum(rate or 0 for rate in per_s.values())
        regions = [
            Region(
                region=region,
                devices=devices,
                per_s=per_s[region],
                share=round((per_s[region] or 0) / total, 3) if total else 0,
                silent=silent.get(region, 0),
            )
            for region, (devices, _) in found.items()
        ]
        most = max((region.share for region in regions), default=0) or 1
        # About as busy is equally busy, so that the list stands still.
        return sorted(regions, key=lambda region: (-round(10 * region.share / most), region.region))[:SHOWN]

    def forget(self) -> None:
        """Nobody looks any more."""
        self._rates.clear()

    async def _read(self) -> dict[str, tuple[int, int]]:
        with answering():
            names = [text(cast("bytes", name)) for name in await self._redis.hkeys(self._keys.region_marks)]
            async with self._redis.pipeline(transaction=False) as pipeline:
                for name in names[:READ]:
                    pipeline.hmget(self._keys.region(name), _FIELDS)
                replies = await pipeline.execute()
        return {
            name: (number(reply[0]), number(reply[1]))
            for name, reply in zip(names, replies, strict=False)
            if None not in reply
        }
