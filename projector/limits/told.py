"""Which changes of limits have been told, in Redis: whoever writes one there first tells of it, once.

`projector:limits` is a hash: device, metric and side as a JSON array → the level, `0` ok, `1` warn, `2` crit,
and since when, microseconds since 1970. Several projectors come to the same conclusions; each change is
claimed by a script that writes it for the first who comes with it, and for nobody who is behind
(`claim.lua`). So it is told once, and a restart tells nothing again. What is over is kept for a day against
who is behind, and forgotten at a start. Where the hash was lost, what a process told counts.

An answer that was lost is given once more to whoever asks again, as long as it is the same process, for a
day; after that what was claimed is told by nobody.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING, Final, cast

import msgspec

from projector.claims import Claims
from projector.limits.book import Key, Known
from projector.limits.rules import OK
from projector.views import answering

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from projector.limits.book import Change
    from projector.limits.rules import Level

_PAGE: Final = 1000
_DAY_US: Final = 86_400_000_000
_FOLDER: Final = resources.files("projector.limits")
_CLAIM: Final = _FOLDER.joinpath("claim.lua").read_text(encoding="utf-8")
_FORGET: Final = _FOLDER.joinpath("forget.lua").read_text(encoding="utf-8")

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Key)


class Told:
    """The changes of limits that have been told of one site.

    Args:
        prefix: goes before the keys.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._told = f"{prefix}projector:limits"
        self._claims = Claims(redis, prefix, _CLAIM, [self._told])
        self._forget = redis.register_script(_FORGET)

    async def read(self, now: int) -> dict[Key, Known]:
        """What was told, but for what has been over for a day.

        Args:
            now: epoch seconds.

        Raises:
            Retry: Redis is away.
        """
        known: dict[Key, Known] = {}
        over: list[bytes] = []
        with answering():
            async for field, value in self._redis.hscan_iter(self._told, count=_PAGE):
                found = re.fullmatch(rb"([012]) ([0-9]{1,17})", value)
                if found is None:
                    continue
                level, at = cast("Level", int(found[1])), int(found[2])
                if level == OK and at < now * 1_000_000 - _DAY_US:
                    over += (field, value)
                    continue
                if at > now * 1_000_000 + _DAY_US:
                    at = now * 1_000_000  # of a clock that was ahead, which holds up nothing
                try:
                    known[_decoder.decode(field)] = Known(level, at)
                except msgspec.DecodeError:
                    continue
            for first in range(0, len(over), 2 * _PAGE):
                await self._forget([self._told], over[first : first + 2 * _PAGE])
        return known

    async def claim(self, changes: Sequence[Change], now: int) -> list[Change]:
        """Write changes; returns those that nobody has told of.

        Args:
            changes: at most some hundreds.
            now: epoch seconds.

        Raises:
            Retry: Redis is away; which were written is not known until the same is asked again.
        """
        arguments: list[str | int | bytes] = [now * 1_000_000]
        for change in changes:
            arguments += (_encoder.encode(change.key), change.level, change.at, change.told)
        return await self._claims.claim(changes, arguments)
