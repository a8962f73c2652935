"""Which changes of limits have been told, in Redis (`projector/levels.py`).

`projector:limits` is a hash: device, metric and side as a JSON array → the level, `0` ok, `1` warn, `2` crit,
and since when, microseconds since 1970.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import msgspec

from projector.levels import LevelChange, Levels
from projector.limits.book import Key, Known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from projector.limits.book import Change
    from projector.limits.rules import Level

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Key)


class Told:
    """The changes of limits that have been told of one site.

    Args:
        prefix: goes before the keys.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._levels = Levels(redis, prefix, "projector:limits")

    async def read(self, now: int) -> dict[Key, Known]:
        """What was told, but for what has been over for a day.

        Args:
            now: epoch seconds.

        Raises:
            Retry: Redis is away.
        """
        known: dict[Key, Known] = {}
        for field, (level, at) in (await self._levels.read(now)).items():
            try:
                known[_decoder.decode(field)] = Known(cast("Level", level), at)
            except msgspec.DecodeError:
                continue
        return known

    async def claim(self, changes: Sequence[Change], now: int) -> list[Change]:
        """Write changes; returns those that nobody has told of.

        Args:
            changes: at most some hundreds.
            now: epoch seconds.

        Raises:
            Retry: Redis is away; which were written is not known until the same is asked again.
        """
        described = [
            LevelChange(_encoder.encode(each.key), each.level, each.at, each.told) for each in changes
        ]
        return await self._levels.claim(changes, described, now)

    async def leave(self, keys: Sequence[Key]) -> None:
        """Forget what was told of these, as if it never had been.

        Raises:
            Retry: Redis is away; then it can be asked again.
        """
        await self._levels.leave([_encoder.encode(key) for key in keys])
