"""Which levels have been told, in Redis: whoever writes one there first tells of it, once.

A hash: what it is of → the level, `0` for what is over, and since when, microseconds since 1970. Several
projectors come to the same conclusions; each change is claimed by a script that writes it for the first who
comes with it, and for nobody who is behind (`levels.lua`). So it is told once, and a restart tells nothing
again. What is over is kept for a day against who is behind, and forgotten at a start. Where the hash was
lost, what a process told counts.
"""

from __future__ import annotations

import re
from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from projector.claims import Claims
from projector.views import answering

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from redis.asyncio import Redis

T = TypeVar("T")

_PAGE: Final = 1000
_DAY_US: Final = 86_400_000_000
_FOLDER: Final = resources.files("projector")
_CLAIM: Final = _FOLDER.joinpath("levels.lua").read_text(encoding="utf-8")
_FORGET: Final = _FOLDER.joinpath("levels_forget.lua").read_text(encoding="utf-8")
_LEVEL: Final = re.compile(rb"([0-2]) ([0-9]{1,17})")


class ToldLevel(NamedTuple):
    """What was told: the level, and since when, microseconds since 1970."""

    level: int
    at: int


def read_level(value: bytes | None) -> ToldLevel | None:
    """What stands in a field; None for nothing, or what is none of ours."""
    found = _LEVEL.fullmatch(value or b"")
    return ToldLevel(int(found[1]), int(found[2])) if found else None


class LevelChange(NamedTuple):
    """A change to be claimed.

    Attributes:
        field: what it is of.
        at: since when, microseconds since 1970.
        told: the level that was told before as far as the process knows.
    """

    field: bytes
    level: int
    at: int
    told: int


class Levels:
    """The levels that have been told of one kind of things of a site.

    Args:
        prefix: goes before the keys.
        name: of the hash.
    """

    def __init__(self, redis: Redis, prefix: str, name: str) -> None:
        self._redis = redis
        self._key = f"{prefix}{name}"
        self._claims = Claims(redis, prefix, _CLAIM, [self._key])
        self._forget = redis.register_script(_FORGET)

    async def read(self, now: int) -> dict[bytes, ToldLevel]:
        """What was told, but for what has been over for a day.

        Args:
            now: epoch seconds.

        Raises:
            Retry: Redis is away.
        """
        known: dict[bytes, ToldLevel] = {}
        over: list[bytes] = []
        with answering():
            async for field, value in self._redis.hscan_iter(self._key, count=_PAGE):
                told = read_level(value)
                if told is None:
                    continue
                level, at = told
                if level == 0 and at < now * 1_000_000 - _DAY_US:
                    over += (field, value)
                    continue
                if at > now * 1_000_000 + _DAY_US:
                    at = now * 1_000_000  # of a clock that was ahead, which holds up nothing
                known[field] = ToldLevel(level, at)
            for first in range(0, len(over), 2 * _PAGE):
                await self._forget([self._key], over[first : first + 2 * _PAGE])
        return known

    async def claim(self, changes: Sequence[T], described: Iterable[LevelChange], now: int) -> list[T]:
        """Write changes, each described; returns those that nobody has told of.

        Args:
            changes: at most some hundreds.
            described: one of each.
            now: epoch seconds.

        Raises:
            Retry: Redis is away; which were written is not known until the same is asked again.
        """
        arguments: list[str | int | bytes] = [now * 1_000_000]
        for each in described:
            arguments += each
        return await self._claims.claim(changes, arguments)

    async def write(self, told: Mapping[str, tuple[int, int]]) -> None:
        """Write again what was told, field → level and since when, epoch seconds, where nothing stands.

        Raises:
            Retry: Redis is away.
        """
        with answering():
            for first in range(0, len(told), _PAGE):
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for field, (level, since) in islice(told.items(), first, first + _PAGE):
                        pipeline.hsetnx(self._key, field, f"{level} {since * 1_000_000}")
                    await pipeline.execute()

    async def leave(self, fields: Sequence[str | bytes]) -> None:
        """Forget what was told of these, as if it never had been.

        Raises:
            Retry: Redis is away.
        """
        if fields:
            with answering():
                await self._redis.hdel(self._key, *fields)
